// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a line in a unit file to the right victim: real systemd, real D-Bus, the installed daemon, a real kernel. One file per
//! subject, one test per statement.
//!
//! Runs as root in the test machine. What makes the whole system run out of memory is in `system_wide.rs`, for a machine of its own.

mod bus;
mod bus_abuse;
mod churn;
mod configuration;
mod control;
mod drop_in;
mod faulty_configuration;
mod following;
mod history;
mod hostile;
mod itself;
mod just_started;
mod keep;
mod kernel_kills;
mod killed;
mod man_pages;
mod misbehaving;
mod misspelt;
mod notify;
mod oomctl;
mod preference;
mod pressure;
mod refusal;
mod rights;
mod runtime;
mod seed_tree;
mod service;
mod spelling;
mod storm;
mod whole_units;
