// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cgroups in which one process can run out of memory, and one that does.

use crate::cgroup::{Cgroup, MIB};
use crate::hog::Hog;

/// What a single process may use in [`limited`], in bytes.
pub const SMALL: u64 = 16 * MIB;

/// A cgroup in which one process can run out of memory.
pub fn limited(name: &str) -> Cgroup {
    let cgroup = Cgroup::new(name);
    cgroup.limit(SMALL);
    cgroup
}

/// A process runs out of memory in `cgroup` (which has a limit of [`SMALL`] or is inside one that has) and is killed for it.
#[track_caller]
pub fn run_out(cgroup: &Cgroup) {
    let mut hog = Hog::start(cgroup, "anon=64M hold");
    assert!(hog.wait_killed(), "the hog ended without being killed");
}
