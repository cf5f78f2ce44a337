// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the daemon's own memory where it is: when memory is short, its pages are not to be read back from a disk first.

use rustix::mm::{MlockAllFlags, mlockall};
use std::io;

/// Brings in all pages that there are, code included, and keeps them and those that will be used later.
///
/// # Errors
///
/// If the process may not lock that much (`RLIMIT_MEMLOCK`).
pub(super) fn keep() -> io::Result<()> {
    // Two calls: what is mapped later is not brought in before it is used, or the stack of every thread would be.
    mlockall(MlockAllFlags::CURRENT)?;
    mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    Ok(())
}
