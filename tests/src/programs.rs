// SPDX-License-Identifier: MIT OR Apache-2.0
//! The BPF objects that the build script compiled from `conformance/bpf`.

include!(concat!(env!("OUT_DIR"), "/programs.rs"));
