// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes that several subjects use.

use std::io;

use bpf_oomd_tests::program::Program;

use bpf_oomd_tests::programs;
pub use bpf_oomd_tests::small::{SMALL, limited, run_out};

/// `kill_at` of the scripted handler: every attachment kills.
pub const ANYWHERE: u64 = !1;

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
