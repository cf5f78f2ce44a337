// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration in TOML: from drop-in files to what they say together.

pub mod fragment;
pub mod merge;
mod parameter;
mod pattern;
mod section;
mod text;
mod walk;

pub use parameter::{ParameterKind, ParameterSpec, Parameters};
pub use pattern::{PatternError, UnitPattern};
