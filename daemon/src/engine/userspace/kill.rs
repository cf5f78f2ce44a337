// SPDX-License-Identifier: MIT OR Apache-2.0
//! Killing a cgroup, or the largest process in one.
//!
//! What a kill needs is prepared before, if there is time: while a stall lasts, for those who would be chosen now. Then the kill itself
//! opens nothing and asks for no memory.

use super::held::{Held, KillError, ROOM, gather};
use super::mark;
use super::place::Place;
use super::reading::file_in;
use crate::policy::{CgroupId, Kill};
use rustix::fs::OFlags;
use rustix::process::Signal;
use std::io;
use std::os::fd::OwnedFd;

/// How often a cgroup that cannot be killed at once is looked through for processes that were made meanwhile.
const ROUNDS: usize = 32;

/// How many processes are reaped by the daemon. The largest come first; the rest is left to the kernel.
const REAPED: usize = 64;

/// A cgroup that may be the next victim.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) place: Place,
    /// Its `cgroup.kill`, where the kernel has that.
    kill: Option<OwnedFd>,
    /// Its processes, the largest first.
    held: Vec<Held>,
}

impl Target {
    /// Opens what is needed.
    ///
    /// # Errors
    ///
    /// If there is nobody in it who can be killed.
    pub(super) fn prepare(place: Place) -> Result<Self, KillError> {
        let mut target = Target {
            kill: file_in(place.directory(), "cgroup.kill", OFlags::WRONLY).ok(),
            held: Vec::with_capacity(ROOM),
            place,
        };
        target.renew()?;
        Ok(target)
    }

    /// Looks again who is in it.
    pub(super) fn renew(&mut self) -> Result<(), KillError> {
        gather(&self.place, &mut self.held)
    }

    /// The cgroup's id.
    pub(super) fn id(&self) -> CgroupId {
        self.place.id
    }

    /// Its processes, the largest first.
    pub(super) fn processes(&self) -> &[Held] {
        &self.held
    }

    /// Leaves of its processes only those that are to die, all or the largest one. Returns how many there were.
    fn choose(&mut self, how: Kill) -> u32 {
        let total = count(&self.held);
        if how == Kill::Process {
            self.held.truncate(1);
        }
        total
    }

    /// Asks its processes, or the largest one, to end by themselves. They are what is killed later.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(super) fn warn(&mut self, how: Kill) -> Result<u32, KillError> {
        let total = self.choose(how);
        mark::chosen(self.place.directory());
        mark::killed(self.place.directory(), count(&self.held));
        for held in &self.held {
            held.signal(Signal::TERM)?;
        }
        Ok(total)
    }

    /// Kills all of it or its largest process, and begins to take back the memory. Returns how many processes there were.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(super) fn kill(&mut self, how: Kill) -> Result<u32, KillError> {
        let total = self.choose(how);
        mark::chosen(self.place.directory());
        self.end(how)?;
        mark::killed(self.place.directory(), count(&self.held));
        Ok(total)
    }

    /// Kills all of it or the process that was warned, of which systemd has been told.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(super) fn end(&self, how: Kill) -> io::Result<()> {
        match how {
            Kill::Cgroup => {
                let kill = self.kill.as_ref();
                if kill.is_none_or(|file| rustix::io::write(file, b"1").is_err()) {
                    self.signal_all()?;
                }
            }
            Kill::Process => {
                for held in &self.held {
                    held.signal(Signal::KILL)?;
                }
            }
        }
        self.held.iter().take(REAPED).for_each(Held::release);
        Ok(())
    }

    /// Where it is, and its processes.
    pub(super) fn into_parts(self) -> (Place, Vec<Held>) {
        (self.place, self.held)
    }

    /// Kills processes one by one, where a cgroup cannot be killed as one.
    fn signal_all(&self) -> io::Result<()> {
        for held in &self.held {
            held.signal(Signal::KILL)?;
        }
        let mut more = Vec::with_capacity(ROOM);
        for _ in 0..ROUNDS {
            // Who was made meanwhile by one that is dead now.
            match gather(&self.place, &mut more) {
                Err(KillError::Io(error)) => return Err(error),
                Err(_) => return Ok(()),
                Ok(()) => {}
            }
            let known = |pid| self.held.iter().any(|held| held.pid == pid);
            if more.iter().all(|held| known(held.pid)) {
                return Ok(());
            }
            for held in &more {
                held.signal(Signal::KILL)?;
            }
        }
        Ok(())
    }
}

/// Whether the kernel can take back the memory of a process that was killed before that process gets to run.
pub(in crate::engine) fn can_release() -> bool {
    // Without a process there is nothing to be done, but to say so is more than a kernel does that does not know the call.
    // SAFETY: two integers, and no memory is touched.
    let result = unsafe { libc::syscall(libc::SYS_process_mrelease, -1, 0) };
    result == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EBADF)
}

fn count(held: &[Held]) -> u32 {
    u32::try_from(held.len()).unwrap_or(u32::MAX)
}
