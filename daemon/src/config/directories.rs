// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which configuration files there are, and what is in them.
//!
//! The rules are those of systemd's drop-ins (systemd.unit(5), CONF_FILES_DIRECTORIES in systemd's
//! src/basic/constants.h): of files with the same name only the one in the highest directory counts, and one that is empty
//! or leads to /dev/null hides the others.

use super::trail::{self, follow};
use crate::fault::Fault;
use crate::systemd::files::{Files, ReadError};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where configuration files are, highest first.
pub const DIRECTORIES: [&str; 4] = [
    "/etc/bpf-oomd/conf.d",
    "/run/bpf-oomd/conf.d",
    "/usr/local/lib/bpf-oomd/conf.d",
    "/usr/lib/bpf-oomd/conf.d",
];

/// The directory that all paths are taken as being below: `/`, or a tree of a test. Links do not lead out of it.
#[derive(Debug, Clone)]
pub struct ConfigRoot {
    pub(super) path: PathBuf,
}

/// What one configuration file contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text, or what should be.
    Text(Vec<u8>),
    /// The file says that there is none of this name, in lower directories neither.
    Masked,
    /// It cannot be read. It hides files of the same name in lower directories all the same.
    Fault(Fault),
}

/// One configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its path as an administrator knows it, without the root. A link's own, not its target's.
    pub path: PathBuf,
    /// Which of [`DIRECTORIES`] it is in.
    pub directory: usize,
    /// What is in it.
    pub content: Content,
}

/// All configuration files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// By name, in the order in which they apply.
    pub files: BTreeMap<OsString, ConfigFile>,
    /// Directories, by their place in [`DIRECTORIES`], of which it is unknown what is in them.
    pub unreadable: Vec<(usize, Fault)>,
    /// Whether something could not be read for want of a descriptor or of memory, which may be over in a moment.
    pub passing: bool,
}

impl ConfigRoot {
    /// All paths are taken as being below `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        ConfigRoot { path: root.into() }
    }

    /// Looks into all directories and reads the files that count. Directories that do not exist are empty.
    pub fn read(&self) -> Found {
        let mut found = Found::default();
        for (directory, path) in DIRECTORIES.into_iter().enumerate() {
            let path = Path::new(path);
            match self.names(path) {
                Ok(names) => {
                    for name in names {
                        // A higher directory was first.
                        if let std::collections::btree_map::Entry::Vacant(entry) =
                            found.files.entry(name)
                        {
                            let path = path.join(entry.key());
                            let content = self.content(&path, &mut found.passing);
                            entry.insert(ConfigFile {
                                path,
                                directory,
                                content,
                            });
                        }
                    }
                }
                Err(error) => {
                    let error = ReadError::from(error);
                    found.passing |= error.is_passing();
                    found
                        .unreadable
                        .push((directory, Fault::of_file(path, error)));
                }
            }
        }
        found
    }

    /// The names of configuration files in a directory.
    pub(super) fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let end = follow(&self.path, directory, &mut |_, _| {})?;
        let entries = match fs::read_dir(trail::below(&self.path, &end.path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if is_config_name(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn content(&self, path: &Path, passing: &mut bool) -> Content {
        let mut fault = |error: ReadError| {
            *passing |= error.is_passing();
            Content::Fault(Fault::of_file(path, error))
        };
        let end = match follow(&self.path, path, &mut |_, _| {}) {
            Ok(end) => end,
            Err(error) => return fault(error.into()),
        };
        if end.path == Path::new("/dev/null") {
            return Content::Masked;
        }
        if !end.exists {
            let message = format!(
                "the link leads to {}, which does not exist",
                end.path.display()
            );
            return Content::Fault(Fault::of_file(path, message));
        }
        // There are no links left in the path, so that the root of Files is as good as ours.
        match Files::below(&self.path).read(&end.path) {
            Ok(text) if text.is_empty() => Content::Masked,
            Ok(text) => Content::Text(text),
            Err(error) => fault(error),
        }
    }
}

/// Whether a file of this name is a configuration file. Editors leave others behind.
pub(super) fn is_config_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".toml") && !name.starts_with(b".")
}

#[cfg(test)]
mod tests;
