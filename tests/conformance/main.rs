// SPDX-License-Identifier: MIT OR Apache-2.0
//! Does this kernel have the interface that bpf-oomd is built on, and does it behave? One file per subject, one test per statement.
//!
//! Runs as root in the test machine: the tests make cgroups and the whole system run out of memory, really.

mod churn;
mod cooldown;
mod declare;
mod kernel_kills;
mod kill;
mod links;
mod many;
mod memcg_refs;
mod memcg_stats;
mod offline;
mod parameters;
mod paths;
mod preference;
mod pressure;
mod pressure_cgroups;
mod pressure_lifetime;
mod report;
mod scene;
mod seed_tree;
mod settings;
mod stall;
mod stall_guards;
mod stall_triggers;
mod unit_tree;
mod verifier;
mod victim;
mod walk;
mod watching;
