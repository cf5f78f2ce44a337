// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel threads that poll pressure. A cgroup (and the system) has one while it has at least one privileged trigger
//! (`psi_trigger_create()` in `kernel/sched/psi.c`), so they show whether triggers are left.

use std::fs;

use crate::wait::{SOON, eventually_within};

/// How many such threads there are.
pub fn count() -> usize {
    fs::read_dir("/proc")
        .expect("read /proc")
        .flatten()
        .filter(|entry| {
            // A process may be gone between the listing and the read.
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == "psimon")
        })
        .count()
}

/// Waits until there are `expected` of them.
#[track_caller]
pub fn wait_for_count(expected: usize) {
    eventually_within(SOON, || match count() {
        count if count == expected => Ok(()),
        count => Err(format!("{count} psimon threads instead of {expected}")),
    });
}
