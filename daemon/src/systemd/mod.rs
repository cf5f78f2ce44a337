// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that is systemd's: units on the bus, their names, their files.

pub mod bus;
pub mod directives;
pub mod facts;
pub mod fd_store;
pub mod files;
pub mod follow;
mod manager_socket;
pub mod marks;
pub mod notify;
pub mod preference;
pub mod programs;
pub mod syntax;
pub mod unit_name;
pub mod value;
