// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rest of the system misbehaves, and the daemon has to do without something for a while. What is in force stays in force, what is wrong
//! is said plainly, and when the trouble is over everything is as it should be without a restart.
//!
//! A bus that goes away, and a systemd that executes itself again, are in `following.rs`.

mod clock;
mod descriptors;
mod journal;
mod memory;
mod names;
mod places;

use bpf_oomd_tests::oomctl::{bpf_oomctl, text};

/// What `bpf-oomctl status` says; its exit status is 1 while something is wrong.
fn status() -> String {
    text(&bpf_oomctl(&["status"]).stdout)
}
