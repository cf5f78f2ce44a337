// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom the kernel's own killer takes, if it is faster than the daemon: while memory is short, the largest process of the policy's first
//! candidate has the highest oom_score_adj there is.
//!
//! It gets back what it had when memory is not short any more. That survives the daemon: it is written down before anything is
//! changed, in a file of which the page is there already, and the next daemon reads it.
//!
//! The kernel remembers as the lowest value that a process may give itself what somebody with CAP_SYS_RESOURCE gives it
//! (`__set_oom_adj()`). So this thread does without that capability.

use super::held::{Held, gather};
use super::place::Place;
use super::reading::{Room, Short, file_in};
use crate::cgroup::Tree;
use crate::policy::CgroupId;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tracing::{debug, info, warn};

/// The highest there is: nobody with a lower one is taken before.
const RAISED: i32 = 1000;

/// In the directory of what is kept over a restart.
const FILE: &str = "nominated";

/// How many there can be at a time.
const MOST: usize = 16;

/// A line of the file, with the line's end, whatever is in it.
const LINE: usize = 64;

/// A process that was raised.
#[derive(Debug)]
struct Nominee {
    /// The domain in which memory is short.
    domain: CgroupId,
    /// Where the process is.
    cgroup: CgroupId,
    pid: u32,
    /// When it began, in ticks since the machine did: who has its number later is another one.
    began: u64,
    /// What it had.
    before: i32,
    /// Until when memory counts as short, unless it is said again.
    until: Duration,
}

/// Those that are raised.
#[derive(Debug)]
pub(super) struct Nominees {
    /// None if nothing can be written down, and so nobody is raised.
    file: Option<OwnedFd>,
    raised: Vec<Nominee>,
}

impl Nominees {
    /// Nobody. `state` is the directory of what is kept over a restart.
    pub(super) fn new(state: &Path) -> Self {
        let file = create(state).inspect_err(|error| {
            warn!(
                "Nobody will be nominated: {}: {error}",
                state.join(FILE).display()
            );
        });
        Nominees {
            file: file.ok(),
            raised: Vec::with_capacity(MOST),
        }
    }

    /// Memory is short in a domain until some time, and these are the processes of whom a policy would choose, the largest first.
    pub(super) fn nominate(
        &mut self,
        tree: &Tree,
        domain: CgroupId,
        cgroup: &Place,
        processes: &[Held],
        until: Duration,
    ) {
        let Some(first) = processes.first() else {
            return;
        };
        if let Some(index) = self.raised.iter().position(|it| it.domain == domain) {
            let there = &mut self.raised[index];
            // Children have its value too, and so it would be hard to say who of them had what; and one is enough.
            if there.cgroup == cgroup.id && processes.iter().any(|held| held.pid == there.pid) {
                there.until = until;
                return;
            }
            self.take_back(tree, index);
        }
        // What has the highest value already is the kernel's first choice as it is.
        let is_raised = processes.iter().any(|held| held.adjustment >= RAISED);
        if is_raised || self.raised.len() == MOST {
            return;
        }
        let Some(began) = began(first.pid) else {
            return;
        };
        self.raised.push(Nominee {
            domain,
            cgroup: cgroup.id,
            pid: first.pid,
            began,
            before: first.adjustment,
            until,
        });
        if let Err(error) = self.write_down().and_then(|()| adjust(first.pid, RAISED)) {
            debug!("process {} is not nominated: {error}", first.pid);
            self.raised.pop();
            // What was not done need not be put back; that it is tried does no harm either.
            let _ = self.write_down();
        }
    }

    /// When the next one gets back what it had.
    pub(super) fn next(&self) -> Option<Duration> {
        self.raised.iter().map(|it| it.until).min()
    }

    /// Gives back what was raised, where memory is not short any more.
    pub(super) fn look(&mut self, tree: &Tree, now: Duration) {
        while let Some(index) = self.raised.iter().position(|it| it.until <= now) {
            self.take_back(tree, index);
        }
    }

    /// Gives back everything.
    pub(super) fn take_back_all(&mut self, tree: &Tree) {
        while !self.raised.is_empty() {
            self.take_back(tree, 0);
        }
    }

    fn take_back(&mut self, tree: &Tree, index: usize) {
        let nominee = self.raised.swap_remove(index);
        nominee.take_back(tree);
        if let Err(error) = self.write_down() {
            warn!("Who is nominated cannot be written down: {error}");
        }
    }

    /// Writes into the page that is there.
    fn write_down(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut page = [b'\n'; LINE * MOST];
        for (nominee, line) in self.raised.iter().zip(page.chunks_mut(LINE)) {
            let Nominee {
                cgroup,
                pid,
                began,
                before,
                ..
            } = nominee;
            let mut line = &mut line[..];
            write!(line, "{cgroup} {pid} {began} {before}")?;
        }
        match rustix::io::pwrite(file, &page, 0)? {
            written if written == page.len() => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

impl Nominee {
    /// As it is written down.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let nominee = Nominee {
            domain: CgroupId::SYSTEM,
            cgroup: CgroupId(words.next()?.parse().ok()?),
            pid: words.next()?.parse().ok()?,
            began: words.next()?.parse().ok()?,
            before: words.next()?.parse().ok()?,
            until: Duration::ZERO,
        };
        words.next().is_none().then_some(nominee)
    }

    /// Gives the process back what it had, and those that it has made meanwhile. Who has changed it since has said what it wants.
    fn take_back(&self, tree: &Tree) {
        if began(self.pid) == Some(self.began) && adjustment(self.pid) == Some(RAISED) {
            let _ = adjust(self.pid, self.before);
        }
        let mut processes = Vec::new();
        if let Ok(place) = Place::open(tree, self.cgroup) {
            // Empty, or with somebody who cannot be killed by now: then there is nobody to put right, or it is the kernel's.
            let _ = gather(&place, &mut processes);
        }
        for held in processes.iter().filter(|it| it.adjustment == RAISED) {
            let _ = adjust(held.pid, self.before);
        }
    }
}

/// Gives back what an earlier daemon raised and did not give back: it was killed. `state` is the directory of what is kept over a
/// restart. For the time when there is no engine yet, whichever it will be.
pub fn give_back_nominations(tree: &Tree, state: &Path) {
    let Ok(text) = std::fs::read_to_string(state.join(FILE)) else {
        return;
    };
    let before = capabilities(None);
    if let Err(error) = without_resource_capability() {
        debug!("what is given back will be the lowest that processes may give themselves: {error}");
    }
    for nominee in text.lines().filter_map(Nominee::parse) {
        info!(
            "Process {} gets back the oom_score_adj that it had before it was nominated, {}",
            nominee.pid, nominee.before
        );
        nominee.take_back(tree);
    }
    let _ = std::fs::remove_file(state.join(FILE));
    if let Ok(before) = before
        && let Err(error) = set_capabilities(None, before)
    {
        warn!("A capability was not taken up again: {error}");
    }
}

/// Does without the capability that makes the kernel remember a value as the lowest. For the calling thread only.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn without_resource_capability() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective.remove(CapabilitySet::SYS_RESOURCE);
    set_capabilities(None, sets)?;
    Ok(())
}

/// The file, with its page.
fn create(state: &Path) -> io::Result<OwnedFd> {
    let how = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, state.join(FILE), how, Mode::RUSR | Mode::WUSR)?;
    rustix::io::pwrite(&file, &[b'\n'; LINE * MOST], 0)?;
    Ok(file)
}

fn open(pid: u32, name: &str, how: OFlags) -> io::Result<OwnedFd> {
    let path = Short::new(format_args!("/proc/{pid}/{name}"));
    file_in(CWD, path.as_str(), how)
}

fn adjust(pid: u32, value: i32) -> io::Result<()> {
    let text = Short::new(format_args!("{value}"));
    let file = open(pid, "oom_score_adj", OFlags::WRONLY)?;
    rustix::io::write(&file, text.as_str().as_bytes())?;
    Ok(())
}

fn adjustment(pid: u32) -> Option<i32> {
    let file = open(pid, "oom_score_adj", OFlags::RDONLY).ok()?;
    Room::new().read(&file).trim().parse().ok()
}

/// When a process began: the 22nd field of proc_pid_stat(5). The second is its name, in which there may be anything.
fn began(pid: u32) -> Option<u64> {
    let file = open(pid, "stat", OFlags::RDONLY).ok()?;
    let mut room = Room::new();
    let (_, after_name) = room.read(&file).rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again() {
        let nominee = Nominee::parse("71 4321 99887 -500").unwrap();
        let Nominee {
            cgroup,
            pid,
            began,
            before,
            ..
        } = nominee;
        assert_eq!(
            (cgroup, pid, began, before),
            (CgroupId(71), 4321, 99887, -500)
        );
        for line in ["", "71 4321 99887", "71 4321 99887 0 1", "a b c d"] {
            assert!(Nominee::parse(line).is_none(), "{line:?}");
        }
    }

    #[test]
    fn it_is_known_when_a_process_began() {
        let own = began(std::process::id()).unwrap();
        assert!(own > 0);
        assert_eq!(began(std::process::id()), Some(own));
    }
}
