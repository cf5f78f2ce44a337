// SPDX-License-Identifier: MIT OR Apache-2.0
//! Killing a cgroup, or the largest process in one.
//!
//! A process is held by a descriptor before it is looked at, so that what is killed is what was looked at, whoever has its number by then.

use super::aftermath::Process;
use super::mark;
use super::place::{Place, below, file_in, read_in};
use super::text;
use crate::engine::KilledProcess;
use crate::policy::Kill;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::Timespec;
use std::cmp::Reverse;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// An adjustment that keeps a process from being killed (proc_pid_oom_score_adj(5)).
const UNKILLABLE: i64 = -1000;

/// How often a cgroup that cannot be killed at once is looked through for processes that were made meanwhile.
const ROUNDS: usize = 32;

/// How many processes are reaped by the daemon. The largest come first; the rest is left to the kernel.
const REAPED: usize = 64;

/// A process, held.
#[derive(Debug)]
pub(super) struct Held {
    fd: OwnedFd,
    process: KilledProcess,
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

/// What was killed.
#[derive(Debug)]
pub(super) struct Killed {
    /// How many processes there were in the victim.
    pub(super) total: u32,
    /// Those that were killed, the largest first.
    pub(super) processes: Vec<KilledProcess>,
    /// The same, to be waited for.
    pub(super) held: Vec<Held>,
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

/// Kills all of a cgroup or its largest process, and begins to take back the memory.
pub(super) fn kill(victim: &Place, how: Kill) -> Result<Killed, KillError> {
    let mut held = processes(victim)?;
    held.sort_by_key(|held| Reverse(held.process.bytes));
    let count = |held: &[Held]| u32::try_from(held.len()).unwrap_or(u32::MAX);
    let total = count(&held);
    mark::chosen(victim.directory());
    match how {
        Kill::Cgroup => {
            if write(victim.directory(), "cgroup.kill", "1").is_err() {
                signal_all(victim, &held)?;
            }
        }
        Kill::Process => {
            held.truncate(1);
            signal(&held[0].fd)?;
        }
    }
    mark::killed(victim.directory(), count(&held));
    for held in held.iter().take(REAPED) {
        release(held.fd.as_fd());
    }
    Ok(Killed {
        total,
        processes: held.iter().map(|held| held.process.clone()).collect(),
        held,
    })
}

/// Whether the kernel can take back the memory of a process that was killed before that process gets to run.
pub(in crate::engine) fn can_release() -> bool {
    // Without a process there is nothing to be done, but to say so is more than a kernel does that does not know the call.
    // SAFETY: two integers, and no memory is touched.
    let result = unsafe { libc::syscall(libc::SYS_process_mrelease, -1, 0) };
    result == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EBADF)
}

/// All processes of a cgroup and what is below it.
fn processes(victim: &Place) -> Result<Vec<Held>, KillError> {
    let mut found = Vec::new();
    let mut look = |directory: BorrowedFd<'_>| {
        found.extend(text::processes(&read_in(directory, "cgroup.procs")));
        false
    };
    look(victim.directory());
    below(victim.directory(), &mut look);
    let mut held = Vec::new();
    for pid in found {
        if let Some(process) = hold(pid, &victim.path)? {
            held.push(process);
        }
    }
    match held.is_empty() {
        true => Err(KillError::Empty),
        false => Ok(held),
    }
}

/// None if the process is gone, or somewhere else.
fn hold(pid: u32, path: &str) -> Result<Option<Held>, KillError> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(Ok(fd)) = number.map(|number| pidfd_open(number, PidfdFlags::empty())) else {
        return Ok(None);
    };
    let read = |name| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let place = read("cgroup");
    let is_inside = text::cgroup_of(&place)
        .and_then(|place| place.strip_prefix(path))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !is_inside {
        return Ok(None);
    }
    if read("oom_score_adj").trim().parse() == Ok(UNKILLABLE) {
        return Err(KillError::Unkillable(pid));
    }
    let status = read("status");
    // A kernel thread or one that has exited has none.
    let bytes = ["RssAnon", "RssShmem", "VmSwap"]
        .into_iter()
        .filter_map(|name| text::kilobytes(&status, name))
        .sum();
    let process = KilledProcess {
        pid,
        comm: read("comm").trim_end_matches('\n').to_owned(),
        bytes,
    };
    Ok(Some(Held { fd, process }))
}

/// Kills processes one by one, where a cgroup cannot be killed as one.
fn signal_all(victim: &Place, held: &[Held]) -> Result<(), KillError> {
    for held in held {
        signal(&held.fd)?;
    }
    for _ in 0..ROUNDS {
        // Who was made meanwhile by one that is dead now.
        let more = match processes(victim) {
            Ok(more) => more,
            Err(KillError::Empty) => return Ok(()),
            Err(error) => return Err(error),
        };
        let known = |pid| held.iter().any(|held| held.process.pid == pid);
        if more.iter().all(|held| known(held.process.pid)) {
            return Ok(());
        }
        for held in &more {
            signal(&held.fd)?;
        }
    }
    Ok(())
}

fn signal(process: &OwnedFd) -> io::Result<()> {
    match pidfd_send_signal(process, Signal::KILL) {
        // It has exited by itself, which is as good.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        result => result.map_err(Into::into),
    }
}

/// Takes back the memory of a process that was killed, process_mrelease(2). Where that is not possible the process does it itself, later.
fn release(process: BorrowedFd<'_>) {
    // SAFETY: a descriptor that is open across the call and an integer; no memory of this process is touched.
    unsafe { libc::syscall(libc::SYS_process_mrelease, process.as_raw_fd(), 0) };
}

fn write(directory: BorrowedFd<'_>, name: &str, text: &str) -> io::Result<()> {
    let file = file_in(directory, name, OFlags::WRONLY)?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}
