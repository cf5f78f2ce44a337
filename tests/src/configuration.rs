// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configuration files of a test's own, in a real place, gone when the test is over.
//!
//! The test machine masks the vendor's defaults, so that a test begins with nothing said about anything.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// Where an administrator would put them for this boot only.
const DIRECTORY: &str = "/run/bpf-oomd/conf.d";

/// What masks the vendor's defaults.
const MASK: &str = "/etc/bpf-oomd/conf.d/50-bpf-oomd.toml";

/// Configuration files; dropping them removes them.
#[derive(Default)]
pub struct Configuration {
    files: BTreeSet<PathBuf>,
    unmasked: bool,
}

impl Configuration {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the file `NAME.toml` in one go, as a package manager or an editor does, and returns its path.
    pub fn write(&mut self, name: &str, text: &str) -> PathBuf {
        fs::create_dir_all(DIRECTORY).expect("make the directory of configuration files");
        let path = path(name);
        let new = path.with_extension("new");
        fs::write(&new, text).expect("write a configuration file");
        fs::rename(&new, &path).expect("put a configuration file in its place");
        self.files.insert(path.clone());
        path
    }

    /// Removes a file.
    pub fn remove(&mut self, name: &str) {
        let path = path(name);
        fs::remove_file(&path).expect("remove a configuration file");
        self.files.remove(&path);
    }

    /// Lets the vendor's defaults be in force.
    pub fn unmask_vendors(&mut self) {
        fs::remove_file(MASK).expect("remove the mask");
        self.unmasked = true;
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{name}.toml"))
}

impl Drop for Configuration {
    fn drop(&mut self) {
        let mut all = Vec::new();
        if self.unmasked {
            all.push(std::os::unix::fs::symlink("/dev/null", MASK));
        }
        all.extend(self.files.iter().map(fs::remove_file));
        if !thread::panicking() {
            for result in all {
                result.expect("leave the configuration as it was");
            }
        }
    }
}
