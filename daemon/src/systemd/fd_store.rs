// SPDX-License-Identifier: MIT OR Apache-2.0
//! File descriptors that the service manager keeps for the daemon while it is restarted (FDSTORE=1 in sd_notify(3)).
//!
//! The manager has a descriptor of its own for each, which it hands to the next daemon and closes when the service is stopped. What
//! is told here reaches it in the order in which it is told, and before it learns that the daemon has ended.

use super::manager_socket::{tell, tell_with};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use tracing::warn;

/// What the daemon before this one left, by name.
pub type Inherited = HashMap<String, OwnedFd>;

/// The store, as far as it is known here.
#[derive(Debug, Default)]
pub struct FdStore {
    /// How many descriptors the manager takes; None if there is no manager, or it keeps nothing.
    room: Option<usize>,
    names: RefCell<BTreeSet<String>>,
    refused: Cell<usize>,
}

impl FdStore {
    /// The store, and what is in it. To be called once, when the program begins: the descriptors are whose who takes them.
    ///
    /// # Errors
    ///
    /// If what the manager says makes no sense.
    pub fn open() -> io::Result<(Self, Inherited)> {
        let room = std::env::var("FDSTORE").ok();
        let store = FdStore {
            room: room.and_then(|number| number.parse().ok()),
            ..FdStore::default()
        };
        let mut inherited = Inherited::new();
        for (number, name) in sd_notify::listen_fds_with_names()? {
            // SAFETY: the manager opened this descriptor for the daemon, and this is the only place that takes it.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            store.names.borrow_mut().insert(name.clone());
            inherited.insert(name, fd);
        }
        Ok((store, inherited))
    }

    /// Keeps a descriptor under a name that is not used yet.
    pub fn keep(&self, name: &str, fd: BorrowedFd<'_>) {
        let Some(room) = self.room else {
            return;
        };
        let mut names = self.names.borrow_mut();
        if names.len() >= room {
            self.refused.set(self.refused.get() + 1);
            return;
        }
        // Without FDPOLL=0 the manager watches for errors and closes what has one. Most BPF maps say that they do, when polled.
        match tell_with(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}\n"), fd) {
            Ok(()) => {
                names.insert(name.to_owned());
            }
            Err(error) => {
                warn!("{name} cannot be kept for a restart: {error}");
                self.refused.set(self.refused.get() + 1);
            }
        }
    }

    /// Keeps what has this name no longer. That there is nothing is fine.
    pub fn remove(&self, name: &str) {
        if !self.names.borrow_mut().remove(name) {
            return;
        }
        if let Err(error) = tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n")) {
            // It stays in the store, and the next daemon finds it.
            warn!("{name} is kept though it need not be: {error}");
        }
    }

    /// Keeps nothing of what the daemon before this one left.
    pub fn let_go(&self, inherited: Inherited) {
        for name in inherited.into_keys() {
            self.remove(&name);
        }
    }

    /// How many descriptors could not be kept.
    pub fn refused(&self) -> usize {
        self.refused.get()
    }
}
