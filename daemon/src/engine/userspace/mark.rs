// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells systemd that a unit died for want of memory.
//!
//! The service manager learns of kills by the kernel from `memory.events`. Of those by a program it learns from extended attributes of the
//! unit's cgroup, which systemd-oomd keeps as well: how often it was chosen, and how many processes were killed. When the cgroup is empty
//! and the numbers have grown, `Result=` is `oom-kill`, as it is when the kernel kills.

use super::reading::Short;
use std::os::fd::{AsFd, BorrowedFd};

/// How often the cgroup was chosen.
const CHOSEN: &str = "user.oomd_ooms";
/// How many processes in it were killed.
const KILLED: &str = "user.oomd_kill";

/// The cgroup was chosen. To be said before the kill: the manager may look as soon as the cgroup is empty.
pub(super) fn chosen(cgroup: BorrowedFd<'_>) {
    add(cgroup, CHOSEN, 1);
}

/// So many processes were killed.
pub(super) fn killed(cgroup: BorrowedFd<'_>, processes: u32) {
    add(cgroup, KILLED, processes.into());
}

/// Nothing depends on it: whoever cannot be told takes the kill for one by a signal.
fn add(cgroup: impl AsFd, name: &str, more: u64) {
    let mut bytes = [0; 32];
    let before = rustix::fs::fgetxattr(&cgroup, name, &mut bytes).unwrap_or_default();
    let now = sum(&bytes[..before], more);
    let flags = rustix::fs::XattrFlags::empty();
    let _ = rustix::fs::fsetxattr(&cgroup, name, now.as_str().as_bytes(), flags);
}

/// A number in digits and another one.
fn sum(digits: &[u8], more: u64) -> Short {
    let before: Option<u64> = str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok());
    let sum = before.unwrap_or_default().saturating_add(more);
    Short::new(format_args!("{sum}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_counts_as_none() {
        for (before, more, expected) in [
            (&b""[..], 1, "1"),
            (b"41", 1, "42"),
            (b"x", 3, "3"),
            (&[0xff], 3, "3"),
        ] {
            assert_eq!(sum(before, more).as_str(), expected);
        }
    }
}
