// SPDX-License-Identifier: MIT OR Apache-2.0
//! When to look at the configuration files again.
//!
//! Only directories are watched, for the names that the files were found by: of the files, of the directories above them, and
//! of everything that links lead through. A directory that does not exist is waited for in the nearest one above it that does.
//! So a file that is written in place, replaced, removed or masked is noticed, and so is any change of where a path leads.
//! What is not noticed: a mount over a directory, and a write through another hard link.

use super::directories::{ConfigRoot, DIRECTORIES, is_config_name};
use super::trail::{below, follow};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Watches the configuration files that there were when it was made.
///
/// A change may make other directories matter. So after each change there has to be a new watch, in this order:
///
/// 1. make a new watch and drop the old one,
/// 2. read the files.
///
/// What changes between the two is read and reported again, which does no harm. In the other order it would be missed.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    names: HashMap<WatchDescriptor, Names>,
}

/// Which names matter in a directory.
#[derive(Debug, Default)]
struct Names {
    some: HashSet<OsString>,
    /// All of configuration files matter too.
    config: bool,
}

/// Everything but reading, and single writes: a file counts when its writer closes it.
const CHANGES: WatchMask = WatchMask::ATTRIB
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

impl Watch {
    /// Starts to watch.
    ///
    /// # Errors
    ///
    /// If there are no more watches to be had. A directory that may not be looked into is no error here: reading tells it.
    pub fn new(root: &ConfigRoot) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mut making = Making {
            root,
            watches: inotify.watches(),
            names: HashMap::new(),
            error: None,
        };
        for directory in DIRECTORIES {
            making.directory(Path::new(directory));
        }
        let Making { names, error, .. } = making;
        match error {
            Some(error) => Err(error),
            None => Ok(Watch { inotify, names }),
        }
    }

    /// Takes everything that was reported, without waiting. Says whether something may have changed.
    pub fn drain(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let mut changed = false;
        loop {
            match self.inotify.read_events(&mut buffer) {
                Ok(events) => {
                    for event in events {
                        changed |= self.matters(event.wd, event.mask, event.name);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whatever it is, the next watch may be better.
                Err(_) => return true,
            }
        }
    }

    fn matters(&self, of: WatchDescriptor, mask: EventMask, name: Option<&OsStr>) -> bool {
        // Reports were lost.
        if mask.contains(EventMask::Q_OVERFLOW) {
            return true;
        }
        // Reports without a name are about the directory itself: it is gone, moved, or may no longer be looked into.
        let Some(name) = name else {
            return true;
        };
        let names = self.names.get(&of);
        names
            .is_none_or(|names| names.some.contains(name) || (names.config && is_config_name(name)))
    }
}

/// Readable when there is something to [`drain`](Watch::drain).
impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

struct Making<'a> {
    root: &'a ConfigRoot,
    watches: Watches,
    names: HashMap<WatchDescriptor, Names>,
    error: Option<io::Error>,
}

impl Making<'_> {
    /// Watches a directory of configuration files and everything that its files lead through.
    fn directory(&mut self, directory: &Path) {
        let Some(end) = self.way(directory) else {
            return;
        };
        // Before it is listed, so that no file can appear in between.
        if let Some(names) = self.add(&end) {
            names.config = true;
        }
        for name in self.root.names(directory).unwrap_or_default() {
            self.way(&end.join(name));
        }
    }

    /// Watches every name on the way of a path, each before it is looked up. The end is none if nothing is there.
    fn way(&mut self, path: &Path) -> Option<std::path::PathBuf> {
        let root = &self.root.path;
        let end = follow(root, path, &mut |directory, name| {
            if let Some(names) = self.add(directory) {
                names.some.insert(name.to_owned());
            }
        });
        // What goes wrong is told by reading. Whatever puts it right is a change of a name that was looked up.
        end.ok().filter(|end| end.exists).map(|end| end.path)
    }

    fn add(&mut self, directory: &Path) -> Option<&mut Names> {
        match self.watches.add(below(&self.root.path, directory), CHANGES) {
            Ok(watch) => Some(self.names.entry(watch).or_default()),
            // It went away meanwhile, which is a change of its name, or it may not be read.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::PermissionDenied
                ) =>
            {
                None
            }
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
