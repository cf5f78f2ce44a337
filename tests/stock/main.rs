// SPDX-License-Identifier: MIT OR Apache-2.0
//! What works without bpf_oom_ops: a policy's ranking, and records of kills by the kernel's own killer.
//!
//! Runs as root in the test machine, on kernels as Debian ships them and on the test kernel, where both ways of a policy's are held
//! against each other.

mod kernel_kills;
mod ranking;
mod same;
mod tree;
