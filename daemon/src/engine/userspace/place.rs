// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cgroup that is kept open, with where it is, and the files in it.

use super::limit::Limited;
use super::reading::{Room, open_in};
use super::said::{Chain, Link};
use super::text;
use crate::cgroup::Tree;
use crate::policy::CgroupId;
use rustix::fs::{FileType, Mode, OFlags, RawDir};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A cgroup. One that was removed stays open, and its files cannot be read any more.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: CgroupId,
    /// From the root of the tree, which is `/`.
    pub(super) path: String,
    pub(super) chain: Chain,
    directory: OwnedFd,
    /// What tells its memory use.
    usage: Option<OwnedFd>,
}

impl Place {
    /// Opens the cgroup that has this id.
    ///
    /// # Errors
    ///
    /// If there is none (any more).
    pub(super) fn open(tree: &Tree, id: CgroupId) -> io::Result<Self> {
        let gone = || io::Error::from_raw_os_error(libc::ENOENT);
        let path = match id {
            CgroupId::SYSTEM => "/".to_owned(),
            id => tree.path(id).ok_or_else(gone)?,
        };
        let (directory, found) = tree.open_cgroup(&path)?;
        if id != CgroupId::SYSTEM && found != id {
            return Err(gone());
        }
        let chain = chain(tree, &path).ok_or_else(gone)?;
        let of_usage = match id {
            CgroupId::SYSTEM => "memory.stat",
            _ => "memory.current",
        };
        Ok(Place {
            id,
            path,
            chain,
            usage: open_in(directory.as_fd(), of_usage),
            directory,
        })
    }

    /// Its directory.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Opens a file in it.
    pub(super) fn file(&self, name: &str, how: OFlags) -> io::Result<OwnedFd> {
        file_in(self.directory(), name, how)
    }

    /// Its memory use, in bytes. That of the system is what the programs count there: processes and page cache.
    pub(super) fn usage(&self) -> u64 {
        let mut room = Room::new();
        let Some(file) = &self.usage else {
            return 0;
        };
        let said = room.read(file);
        if self.id == CgroupId::SYSTEM {
            let of = |name| text::number(said, name).unwrap_or_default();
            return of("anon") + of("file");
        }
        text::limit(said).unwrap_or_default()
    }

    /// Whether something in it uses more than its memory.high.
    pub(super) fn holds_back_inside(&self) -> bool {
        below(self.directory(), &mut |directory| {
            let mut room = Room::new();
            let Some(high) = text::limit(room.read_in(directory, "memory.high")) else {
                return false;
            };
            let usage = text::limit(room.read_in(directory, "memory.current"));
            usage.is_some_and(|usage| usage > high)
        })
    }

    /// Shows the ids of cgroups in it, itself included, that reached their limits and are about to run out, the lowest first.
    /// `swap_free` is the machine's.
    pub(super) fn out_of_memory(&self, swap_free: u64, found: &mut dyn FnMut(CgroupId)) {
        let mut look = |directory: BorrowedFd<'_>| {
            if is_out(directory, swap_free)
                && let Ok(status) = rustix::fs::fstat(directory)
            {
                found(CgroupId(status.st_ino));
            }
            false
        };
        below(self.directory(), &mut look);
        look(self.directory());
    }
}

/// A cgroup and all above it, by its path. None if it is gone.
fn chain(tree: &Tree, path: &str) -> Option<Chain> {
    let mut links = Vec::new();
    let mut rest = path.trim_end_matches('/');
    while !rest.is_empty() {
        links.push(Link {
            id: tree.id(rest)?,
            is_slice: rest.ends_with(".slice"),
        });
        rest = &rest[..rest.rfind('/')?];
    }
    links.push(Link {
        id: CgroupId::SYSTEM,
        is_slice: true,
    });
    Some(Chain::new(links))
}

pub(super) fn file_in(directory: BorrowedFd<'_>, name: &str, how: OFlags) -> io::Result<OwnedFd> {
    let file = rustix::fs::openat(directory, name, how | OFlags::CLOEXEC, Mode::empty())?;
    Ok(file)
}

/// Shows every cgroup below one to `look`, those inside before what they are in, until it returns true. Returns whether it did.
pub(super) fn below(
    directory: BorrowedFd<'_>,
    look: &mut dyn FnMut(BorrowedFd<'_>) -> bool,
) -> bool {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Opened anew: who reads a directory moves on in it.
    let Ok(entries) = rustix::fs::openat(directory, ".", how, Mode::empty()) else {
        return false;
    };
    let mut room = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(entries, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        if entry.file_type() != FileType::Directory || name == c"." || name == c".." {
            continue;
        }
        // Gone meanwhile: nothing is lost.
        if let Ok(child) = rustix::fs::openat(directory, name, how, Mode::empty())
            && (below(child.as_fd(), look) || look(child.as_fd()))
        {
            return true;
        }
    }
    false
}

fn is_out(directory: BorrowedFd<'_>, swap_free: u64) -> bool {
    let mut room = Room::new();
    let mut bytes = |name| text::limit(room.read_in(directory, name));
    let (Some(limit), Some(usage)) = (bytes("memory.max"), bytes("memory.current")) else {
        return false;
    };
    let used = bytes("memory.swap.current").unwrap_or_default();
    let swap = bytes("memory.swap.max").map_or(u64::MAX, |most| most.saturating_sub(used));
    let stat = room.read_in(directory, "memory.stat");
    Limited::new(limit, usage, swap.min(swap_free), stat).is_out()
}
