// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration in TOML: from drop-in files to what they say together.
//!
//! Each step is one file: [`directories`] finds the files and reads them, [`fragment`] reads what one of them says,
//! [`merge`] puts all of them together. [`store`] does these in order and keeps what was good, and [`watch`] says when
//! to do so again; [`Configuration`] is all of it for this machine. Only `directories`, the trail it follows links by, and `watch` touch the system.

mod configuration;
pub mod directories;
pub mod fragment;
mod machine;
pub mod merge;
mod parameter;
mod pattern;
mod section;
pub mod store;
mod text;
mod trail;
mod walk;
pub mod watch;

pub use configuration::{Configuration, check_file};
pub use directories::{ConfigRoot, Content};
pub use merge::Config;
pub use parameter::{ParameterKind, ParameterSpec, Parameters};
pub use pattern::{PatternError, UnitPattern, check_unit};
