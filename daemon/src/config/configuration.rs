// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration of this machine, with the policy programs that this build has.

use super::directories::ConfigRoot;
use super::fragment::Fragment;
use super::merge::Config;
use super::parameter::ParameterSpec;
use super::store::Store;
use super::watch::Watch;
use crate::fault::Fault;
use crate::systemd::files::Files;
use std::io;
use std::path::Path;

/// All that is configured below a root directory.
#[derive(Debug)]
pub struct Configuration {
    root: ConfigRoot,
    store: Store,
}

impl Configuration {
    /// What is configured below `root`; nothing is read yet.
    pub fn below(root: &Path) -> Self {
        Configuration {
            root: ConfigRoot::below(root),
            store: Store::new(bpf_oomd_bpf::policy_names().iter().copied(), parameters),
        }
    }

    /// Reads all files as they are now. Says whether the configuration or its faults are others than before.
    pub fn read(&mut self) -> bool {
        self.store.load(&self.root)
    }

    /// What is in force.
    pub fn config(&self) -> &Config {
        self.store.config()
    }

    /// What is wrong with the files.
    pub fn faults(&self) -> &[Fault] {
        self.store.faults()
    }

    /// Whether a file could not be read for want of a descriptor or of memory: it is worth trying again, though no file has changed.
    pub fn is_behind(&self) -> bool {
        self.store.is_behind()
    }

    /// Watches the files, as they are now. To be called before [`Self::read`]: what changes in between is reported once more, and
    /// nothing is missed.
    ///
    /// # Errors
    ///
    /// If the kernel has no more watches to give.
    pub fn watch(&self) -> io::Result<Watch> {
        Watch::new(&self.root)
    }
}

/// Everything that is wrong with one file.
pub fn check_file(path: &Path) -> Vec<Fault> {
    // A file that is named should be there.
    if let Err(error) = path.metadata() {
        return vec![Fault::of_file(path, error)];
    }
    let text = match Files::below("/").read(path) {
        Ok(text) => text,
        Err(error) => return vec![Fault::of_file(path, error)],
    };
    let programs = bpf_oomd_bpf::policy_names();
    Fragment::parse(path, &text, programs, &parameters)
        .err()
        .unwrap_or_default()
}

/// The parameters that a policy program of this build has.
fn parameters(policy: &str) -> Vec<ParameterSpec> {
    bpf_oomd_bpf::policy_parameters(policy)
        .into_iter()
        .map(|parameter| ParameterSpec {
            name: parameter.name,
            kind: parameter.kind.into(),
        })
        .collect()
}
