// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories at paths that are longer than a path may be.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// An open directory, by a name that is short however long its path is.
pub fn by_descriptor(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Removes all directories in one, of which the deepest have to be empty.
pub fn remove_below(directory: &File) -> io::Result<()> {
    for entry in fs::read_dir(by_descriptor(directory))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let path = by_descriptor(directory).join(entry.file_name());
            remove_below(&File::open(&path)?)?;
            fs::remove_dir(&path)?;
        }
    }
    Ok(())
}
