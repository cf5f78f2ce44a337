// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the daemon's own memory where it is: when memory is short, its pages are not to be read back from a disk first.
//!
//! Where the daemon does the killing that is plain. Where the kernel does, nothing waits for the daemon; but then it has to tell of the
//! kill and to feed its watchdog, at a time when a page that has to be read back takes long. `MemoryMin=` of the unit protects what is
//! charged to the unit only, and the pages of its program are charged to whoever had them in memory first: the package manager, say.
//!
//! What is locked is never given back: the C library cannot, once somebody on the bus has asked for a lot. So what is used later is locked
//! only where the daemon kills.

use rustix::mm::{MlockAllFlags, mlockall};
use std::io;

/// Brings in all pages that there are, code included, and keeps them. To be called once, when most of what the daemon needs is there.
///
/// # Errors
///
/// If the process may not lock that much (`RLIMIT_MEMLOCK`).
pub fn keep_what_is_there() -> io::Result<()> {
    Ok(mlockall(MlockAllFlags::CURRENT)?)
}

/// The same, and keeps what will be used later.
///
/// # Errors
///
/// As [`keep_what_is_there`].
pub fn keep_everything() -> io::Result<()> {
    keep_what_is_there()?;
    // What is mapped later is not brought in before it is used, or the stack of every thread would be.
    mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    Ok(())
}
