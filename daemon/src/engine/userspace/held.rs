// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes of a cgroup, held by descriptors: what is killed is what was looked at, whoever has its number by then.
//!
//! Nothing here asks for memory if there is room in the list that is filled.

use super::aftermath::Process;
use super::place::{Place, below};
use super::reading::{Room, Short, file_in, open_in};
use super::text;
use crate::engine::KilledProcess;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::Timespec;
use std::cmp::Reverse;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// An adjustment that keeps a process from being killed (proc_pid_oom_score_adj(5)).
const UNKILLABLE: i32 = -1000;

/// How many processes of a cgroup there is room for beforehand.
pub(super) const ROOM: usize = 256;

/// A process, held.
#[derive(Debug)]
pub(super) struct Held {
    fd: OwnedFd,
    pub(super) pid: u32,
    comm: Short,
    /// Its memory, file pages left out, in bytes.
    bytes: u64,
    /// Its oom_score_adj.
    pub(super) adjustment: i32,
    /// Whether it was in the cgroup when it was held.
    is_inside: bool,
}

impl Process for Held {
    fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        // Readable when it has exited, that is when its memory is given back, pidfd_open(2).
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Held {
    /// Sends a signal. That it has exited by itself is as good.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            result => result.map_err(Into::into),
        }
    }

    /// Takes back its memory if it was killed, process_mrelease(2). Where that is not possible the process does it itself, later.
    pub(super) fn release(&self) {
        // SAFETY: a descriptor that is open across the call and an integer; no memory of this process is touched.
        unsafe { libc::syscall(libc::SYS_process_mrelease, self.fd.as_raw_fd(), 0) };
    }

    /// As it is told.
    pub(super) fn told(&self) -> KilledProcess {
        KilledProcess {
            pid: self.pid,
            comm: self.comm.as_str().to_owned(),
            bytes: self.bytes,
        }
    }
}

/// Why nobody was killed.
#[derive(Debug, thiserror::Error)]
pub(super) enum KillError {
    /// There is no process in it, any more.
    #[error("nobody is in it")]
    Empty,
    /// Somebody in it must not be killed.
    #[error("process {0} in it must not be killed (oom_score_adj -1000)")]
    Unkillable(u32),
    /// The kernel refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Fills the list with all processes of a cgroup and what is below it, the largest first.
pub(super) fn gather(victim: &Place, held: &mut Vec<Held>) -> Result<(), KillError> {
    held.clear();
    each_process(victim, &mut |pid| held.extend(hold(pid)));
    // The number of one that is held is nobody else's: who is there still has been held.
    held.sort_unstable_by_key(|held| held.pid);
    each_process(victim, &mut |pid| {
        if let Ok(index) = held.binary_search_by_key(&pid, |held| held.pid) {
            held[index].is_inside = true;
        }
    });
    held.retain(|held| held.is_inside);
    if let Some(held) = held.iter().find(|held| held.adjustment == UNKILLABLE) {
        return Err(KillError::Unkillable(held.pid));
    }
    if held.is_empty() {
        return Err(KillError::Empty);
    }
    held.sort_unstable_by_key(|held| (Reverse(held.bytes), held.pid));
    Ok(())
}

/// Shows the ids of all processes of a cgroup and what is below it.
fn each_process(victim: &Place, look: &mut dyn FnMut(u32)) {
    let mut read = |directory: BorrowedFd<'_>| {
        each_process_in(directory, look);
        false
    };
    read(victim.directory());
    below(victim.directory(), &mut read);
}

/// Shows the ids of a cgroup's processes.
fn each_process_in(directory: BorrowedFd<'_>, look: &mut dyn FnMut(u32)) {
    let Some(file) = open_in(directory, "cgroup.procs") else {
        return;
    };
    let mut room = [0; 4096];
    let mut ids = text::Ids::default();
    while let Ok(length) = rustix::io::read(&file, &mut room)
        && length > 0
    {
        ids.read(&room[..length], look);
    }
}

/// None if the process is gone.
fn hold(pid: u32) -> Option<Held> {
    let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let fd = pidfd_open(number, PidfdFlags::empty()).ok()?;
    let directory = Short::new(format_args!("/proc/{pid}"));
    let how = OFlags::PATH | OFlags::DIRECTORY;
    let directory = file_in(CWD, directory.as_str(), how).ok()?;
    let directory = directory.as_fd();
    let mut room = Room::new();
    let adjustment = room.read_in(directory, "oom_score_adj").trim().parse();
    let comm = room.read_in(directory, "comm").trim_end_matches('\n');
    let comm = Short::new(format_args!("{comm}"));
    let status = room.read_in(directory, "status");
    // A kernel thread or one that has exited has none.
    let bytes = ["RssAnon", "RssShmem", "VmSwap"]
        .into_iter()
        .filter_map(|name| text::kilobytes(status, name))
        .sum();
    Some(Held {
        fd,
        pid,
        comm,
        bytes,
        adjustment: adjustment.unwrap_or_default(),
        is_inside: false,
    })
}
