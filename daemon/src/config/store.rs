// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration that is in force: what is in the files now, or what was in them when it was last good.

use super::directories::{ConfigFile, ConfigRoot, Content};
use super::fragment::Fragment;
use super::merge::Config;
use super::parameter::ParameterSpec;
use crate::fault::Fault;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// Gives the parameters of a policy program.
type ParametersOf = Box<dyn Fn(&str) -> Vec<ParameterSpec> + Send>;

/// All configuration files, as they were when they were last looked at.
pub struct Store {
    programs: Vec<String>,
    parameters: ParametersOf,
    files: BTreeMap<OsString, Stored>,
    config: Config,
    faults: Vec<Fault>,
    is_behind: bool,
}

/// A file, and what is in force of it.
struct Stored {
    file: ConfigFile,
    faults: Vec<Fault>,
    /// What the file says, or said when it was last good. None if it never was, and of a file that masks.
    good: Option<Fragment>,
    /// Which directory `good` was read from.
    good_from: usize,
}

impl Store {
    /// No configuration yet. `programs` are the names of the policy programs there are, and `parameters` gives the parameters of
    /// one.
    pub fn new(
        programs: impl IntoIterator<Item = impl Into<String>>,
        parameters: impl Fn(&str) -> Vec<ParameterSpec> + Send + 'static,
    ) -> Self {
        Store {
            programs: programs.into_iter().map(Into::into).collect(),
            parameters: Box::new(parameters),
            files: BTreeMap::new(),
            config: Config::default(),
            faults: Vec::new(),
            is_behind: false,
        }
    }

    /// Looks at all files again. Says whether the configuration or its faults are others than before.
    ///
    /// A file with faults changes nothing: what it said when it was last good stays in force. That is also so if the file is
    /// a new one that hides a good one in a lower directory. A file that is removed or masked is forgotten at once.
    pub fn load(&mut self, root: &ConfigRoot) -> bool {
        let mut found = root.read();
        self.is_behind = found.passing;
        let mut before = std::mem::take(&mut self.files);
        let mut faults: Vec<Fault> = Vec::new();
        for (directory, fault) in found.unreadable {
            faults.push(fault);
            // What was in it counts as if it were still there.
            let lost: Vec<OsString> = before
                .iter()
                .filter(|(_, stored)| stored.file.directory == directory)
                .map(|(name, _)| name.clone())
                .collect();
            for name in lost {
                let is_hidden = found
                    .files
                    .get(&name)
                    .is_some_and(|file| file.directory < directory);
                if !is_hidden && let Some(stored) = before.get(&name) {
                    found.files.insert(name, stored.file.clone());
                }
            }
        }
        let programs: Vec<&str> = self.programs.iter().map(String::as_str).collect();
        for (name, file) in found.files {
            let before = before.remove(&name);
            let stored = match before {
                Some(stored) if stored.file == file => stored,
                before => stored(file, before, &programs, &self.parameters),
            };
            faults.extend_from_slice(&stored.faults);
            self.files.insert(name, stored);
        }
        let fragments = self.files.values().filter_map(|it| it.good.as_ref());
        let config = Config::merge(fragments);
        let changed = config != self.config || faults != self.faults;
        self.config = config;
        self.faults = faults;
        changed
    }

    /// What is wrong with the files.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Whether a file could not be read for a reason that may be over in a moment.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// What is in force.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("config", &self.config)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// A file that is new or another than `before`.
fn stored(
    file: ConfigFile,
    before: Option<Stored>,
    programs: &[&str],
    parameters: &ParametersOf,
) -> Stored {
    let read = match &file.content {
        Content::Text(text) => {
            Fragment::parse(&file.path, text, programs, parameters.as_ref()).map(Some)
        }
        Content::Masked => Ok(None),
        Content::Fault(fault) => Err(vec![fault.clone()]),
    };
    let directory = file.directory;
    match read {
        Ok(good) => Stored {
            file,
            faults: Vec::new(),
            good,
            good_from: directory,
        },
        Err(faults) => {
            // What was good in a higher directory is no longer there, or this file would be hidden.
            let before = before.filter(|before| before.good_from >= directory);
            let good_from = before.as_ref().map_or(directory, |before| before.good_from);
            Stored {
                file,
                faults,
                good: before.and_then(|before| before.good),
                good_from,
            }
        }
    }
}

#[cfg(test)]
mod tests;
