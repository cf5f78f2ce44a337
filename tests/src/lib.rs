// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests that run inside the test machine are written with: real cgroups, processes that really use memory, the kernel log,
//! and BPF programs with their globals.
//!
//! Nothing here stands in for the kernel. A test asks for a [`machine::TestMachine`] first, which refuses to go on anywhere else than
//! in the test machine, because these tests make the system run out of memory.
//!
//! Failures are panics with a sentence: this library is used by tests only, and a test that cannot set up its scene has failed.
#![allow(
    clippy::missing_panics_doc,
    reason = "every function here panics when the scene cannot be set up"
)]

pub mod answers;
pub mod attach;
pub mod attachments;
pub mod bus;
pub mod cgroup;
pub mod configuration;
pub mod daemon;
pub mod deep;
pub mod hog;
pub mod holder;
pub mod ids;
pub mod journal;
pub mod killer;
pub mod kmsg;
pub mod ledger;
pub mod lines;
pub mod long;
pub mod machine;
pub mod measured;
pub mod oomctl;
pub mod program;
pub mod programs;
pub mod psimon;
pub mod random;
pub mod rating;
pub mod raw_bus;
pub mod recording;
pub mod restless;
pub mod rights;
pub mod seed_units;
pub mod session;
pub mod small;
pub mod swap;
pub mod systemctl;
pub mod text;
pub mod tracee;
pub mod unbroken;
pub mod units;
pub mod user;
pub mod wait;
