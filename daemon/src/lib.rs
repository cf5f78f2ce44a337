// SPDX-License-Identifier: MIT OR Apache-2.0
//! bpf-oomd: decides per systemd unit what happens when memory runs out.
//!
//! The daemon follows systemd's units, reads in their files which policy each one has, and attaches policy programs to
//! their cgroups. From then on the kernel decides, inside the allocation that failed; the daemon reports.
//!
//! README.md beside this crate says which room holds what.

pub mod boottime;
pub mod bus;
pub mod cgroup;
pub mod config;
pub mod core;
pub mod ctl;
pub mod engine;
pub mod events;
pub mod fault;
pub mod log;
pub mod policy;
pub mod resident;
pub mod systemd;
