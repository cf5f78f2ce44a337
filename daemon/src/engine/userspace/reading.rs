// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading files of the kernel's without asking for memory: into room on the stack, of which all pages are there.

use rustix::fs::{Mode, OFlags};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Room for a file of the kernel's that is a few lines, or all of a `memory.stat`.
#[derive(Debug)]
pub(super) struct Room([u8; 8192]);

impl Room {
    pub(super) fn new() -> Self {
        Room([0; 8192])
    }

    /// Reads an open file from its beginning. What was read before an error is text too, and what is missing in it counts as not said.
    pub(super) fn read(&mut self, file: impl AsFd) -> &str {
        let mut length = 0;
        while let Some(room) = self.0.get_mut(length..)
            && let Ok(more) = rustix::io::pread(&file, room, length as u64)
            && more > 0
        {
            length += more;
        }
        let read = &mut self.0[..length];
        // A process may call itself anything.
        if str::from_utf8(read).is_err() {
            for byte in read.iter_mut().filter(|byte| !byte.is_ascii()) {
                *byte = b'?';
            }
        }
        str::from_utf8(&self.0[..length]).unwrap_or_default()
    }

    /// Reads a file in a directory. Empty if that is not possible: the root cgroup has not all files, and what is gone has none.
    pub(super) fn read_in(&mut self, directory: BorrowedFd<'_>, name: &str) -> &str {
        match open_in(directory, name) {
            Some(file) => self.read(file),
            None => "",
        }
    }
}

/// Opens a file that is there.
pub(super) fn file_in(directory: BorrowedFd<'_>, name: &str, how: OFlags) -> io::Result<OwnedFd> {
    let file = rustix::fs::openat(directory, name, how | OFlags::CLOEXEC, Mode::empty())?;
    Ok(file)
}

/// Opens a file to be read, if it is there.
pub(super) fn open_in(directory: BorrowedFd<'_>, name: &str) -> Option<OwnedFd> {
    file_in(directory, name, OFlags::RDONLY).ok()
}

/// A short text, written into room on the stack. What does not fit is cut off.
#[derive(Clone, Copy)]
pub(super) struct Short {
    bytes: [u8; 64],
    length: usize,
}

impl Short {
    pub(super) fn new(text: fmt::Arguments<'_>) -> Self {
        let mut bytes = [0; 64];
        let mut rest = &mut bytes[..];
        // It fails where there is no room left.
        let _ = rest.write_fmt(text);
        let length = 64 - rest.len();
        Short { bytes, length }
    }

    pub(super) fn as_str(&self) -> &str {
        let bytes = &self.bytes[..self.length];
        match str::from_utf8(bytes) {
            Ok(text) => text,
            // Cut off in the middle of a character.
            Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_file_is_read_again_from_its_beginning() {
        let file = File::open("/proc/self/comm").unwrap();
        let mut room = Room::new();
        let first = room.read(&file).to_owned();
        assert!(first.ends_with('\n'), "{first:?}");
        assert_eq!(room.read(&file), first);
        assert_eq!(room.read_in(rustix::fs::CWD, "/does/not/exist"), "");
    }

    #[test]
    fn what_is_no_text_hides_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"Name:\t\xff\xe4x\nVmSwap:\t3 kB\n")
            .unwrap();
        assert_eq!(Room::new().read(&file), "Name:\t??x\nVmSwap:\t3 kB\n");
    }

    #[test]
    fn a_short_text_is_cut_at_a_character() {
        assert_eq!(Short::new(format_args!("{}/comm", 7)).as_str(), "7/comm");
        let long = Short::new(format_args!("a{}", "ä".repeat(64)));
        assert_eq!(long.as_str(), format!("a{}", "ä".repeat(31)));
    }
}
