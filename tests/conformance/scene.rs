// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes that several subjects use.

use std::io;

use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::program::Program;

use bpf_oomd_tests::programs;

/// What a single process may use in [`limited`], in bytes.
pub const SMALL: u64 = 16 * MIB;

/// `kill_at` of the scripted handler: every attachment kills.
pub const ANYWHERE: u64 = !1;

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

/// The scripted OOM handler (`bpf/handler.bpf.c`).
#[track_caller]
pub fn handler() -> Program {
    Program::load(programs::HANDLER)
}

/// The attachments that the scripted handler was called for, in order.
#[track_caller]
pub fn attachments_called(handler: &Program) -> Vec<u64> {
    handler.get_all("call_attachment", handler.get("calls"))
}

/// The errno of a failure, `None` for a success.
pub fn errno<T>(result: io::Result<T>) -> Option<i32> {
    match result {
        Ok(_) => None,
        Err(error) => Some(error.raw_os_error().unwrap_or(0)),
    }
}

/// What a kfunc returns for an errno.
pub fn refusal(errno: i32) -> i64 {
    -i64::from(errno)
}
