// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cgroup that is kept open, with where it is, and the files in it.

use super::limit::Limited;
use super::reading::{Room, file_in, open_in};
use super::said::{Chain, Link};
use super::text;
use crate::cgroup::{Tree, says_gone};
use crate::policy::CgroupId;
use rustix::fs::{Dir, FileType, Mode, OFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many links a directory of the tree has in which there is none: to itself, and from above.
const EMPTY: u64 = 2;

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
        // By its id and not by a path: not every cgroup has one that a system call takes, and whoever makes such is not to be out of reach.
        let directory = match id {
            CgroupId::SYSTEM => tree.open_cgroup("/")?.0,
            id => match tree.open_by_id(id) {
                Err(error) if says_gone(&error) => return Err(gone()),
                opened => opened?,
            },
        };
        let path = tree.path_of(directory.as_fd()).ok_or_else(gone)?;
        let chain = chain(tree, directory.as_fd())?;
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

/// A cgroup and all above it.
fn chain(tree: &Tree, directory: BorrowedFd<'_>) -> io::Result<Chain> {
    let mut links = Vec::new();
    tree.upwards(directory, |id, cgroup| {
        let is_slice = |path: String| path.ends_with(".slice");
        links.push(Link {
            id,
            is_slice: tree.path_of(cgroup).is_some_and(is_slice),
        });
    })?;
    links.push(Link {
        id: CgroupId::SYSTEM,
        is_slice: true,
    });
    Ok(Chain::new(links))
}

/// Shows every cgroup below one to `look`, those inside before what they are in, until it returns true. Returns whether it did.
///
/// Where it is is in a list, and not on the stack: whoever has been given a cgroup makes it as deep as they like.
pub(super) fn below(
    directory: BorrowedFd<'_>,
    look: &mut dyn FnMut(BorrowedFd<'_>) -> bool,
) -> bool {
    // Of a cgroup with nothing in it no list has to be made.
    if rustix::fs::fstat(directory).is_ok_and(|found| found.st_nlink == EMPTY) {
        return false;
    }
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut open: Vec<Dir> = Dir::read_from(directory).into_iter().collect();
    while let Some(here) = open.last_mut() {
        let Some(entry) = here.next() else {
            let is_inside = open.len() > 1;
            if let Some(done) = open.pop()
                && is_inside
                && done.fd().is_ok_and(&mut *look)
            {
                return true;
            }
            continue;
        };
        if let Ok(entry) = entry
            && entry.file_type() == FileType::Directory
            && entry.file_name() != c"."
            && entry.file_name() != c".."
            // Gone meanwhile: nothing is lost.
            && let Ok(child) = here
                .fd()
                .and_then(|here| rustix::fs::openat(here, entry.file_name(), how, Mode::empty()))
            && let Ok(child) = Dir::new(child)
        {
            open.push(child);
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: OFlags = OFlags::RDONLY
        .union(OFlags::DIRECTORY)
        .union(OFlags::CLOEXEC);

    fn id(directory: BorrowedFd<'_>) -> u64 {
        rustix::fs::fstat(directory).unwrap().st_ino
    }

    #[test]
    fn what_is_inside_comes_before_what_it_is_in_and_nothing_is_too_deep() {
        // More than the stack has room for.
        const LEVELS: usize = 500;
        const STACK: usize = 64 << 10;
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        let top = rustix::fs::open(directory.path(), HOW, Mode::empty()).unwrap();
        let mut here = top.try_clone().unwrap();
        let mut expected = Vec::new();
        for _ in 0..LEVELS {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "d", HOW, Mode::empty()).unwrap();
            expected.insert(0, id(here.as_fd()));
        }
        let a = rustix::fs::openat(&top, "a", HOW, Mode::empty()).unwrap();
        let a = id(a.as_fd());
        let look = move || {
            let mut seen = Vec::new();
            let all = below(top.as_fd(), &mut |directory| {
                seen.push(id(directory));
                false
            });
            let mut count = 0;
            let some = below(top.as_fd(), &mut |_| {
                count += 1;
                count == 2
            });
            (seen, all, some, count)
        };
        let thread = std::thread::Builder::new().stack_size(STACK);
        let (mut seen, all, some, count) = thread.spawn(look).unwrap().join().unwrap();
        // It may come before or after the others.
        seen.retain(|id| *id != a);
        assert_eq!(seen, expected);
        assert_eq!((all, some, count), (false, true, 2));
    }
}
