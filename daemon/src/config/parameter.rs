// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parameters of policy programs.

use super::walk::{Entry, Walk};
use crate::policy::Provenance;
use crate::policy::shown;
use crate::systemd::value::{ValueError, parse_size, parse_time};
use std::collections::BTreeMap;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// What a parameter counts, and so how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParameterKind {
    /// Bytes: a string such as `"64M"`.
    Bytes,
    /// Microseconds: a string such as `"10s"`.
    Time,
    /// Anything: an integer that is not negative.
    Number,
    /// Whether: `true` is 1, `false` is 0.
    Bool,
}

impl ParameterKind {
    /// A word for it that does not change, for programs.
    pub fn name(self) -> &'static str {
        match self {
            ParameterKind::Bytes => "bytes",
            ParameterKind::Time => "usec",
            ParameterKind::Number => "number",
            ParameterKind::Bool => "bool",
        }
    }
}

impl From<bpf_oomd_bpf::ParameterKind> for ParameterKind {
    fn from(kind: bpf_oomd_bpf::ParameterKind) -> Self {
        match kind {
            bpf_oomd_bpf::ParameterKind::Bytes => ParameterKind::Bytes,
            bpf_oomd_bpf::ParameterKind::Usec => ParameterKind::Time,
            bpf_oomd_bpf::ParameterKind::Number => ParameterKind::Number,
            bpf_oomd_bpf::ParameterKind::Bool => ParameterKind::Bool,
        }
    }
}

/// A parameter that a policy program has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Its name, a key in TOML.
    pub name: String,
    /// What it counts.
    pub kind: ParameterKind,
}

/// Values of a policy program's parameters, as the program takes them, with the places where they were said. `infinity` is
/// the largest number, as it is to systemd.
pub type Parameters = BTreeMap<String, (u64, Provenance)>;

/// Reads all parameters of a policy program. Those that are wrong are noted and left out.
pub(super) fn read(
    walk: &mut Walk<'_>,
    policy: &str,
    table: &DeTable<'_>,
    specs: &[ParameterSpec],
) -> Parameters {
    let mut parameters = Parameters::new();
    for entry in walk.entries(table) {
        let Some(spec) = specs.iter().find(|spec| spec.name == entry.key) else {
            let what = format!("parameter of {policy}");
            walk.unknown(&what, entry, specs.iter().map(|spec| spec.name.as_str()));
            continue;
        };
        if let Some(value) = value(walk, spec.kind, entry) {
            let at = walk.provenance(entry.value_at);
            parameters.insert(spec.name.clone(), (value, at));
        }
    }
    parameters
}

fn value(walk: &mut Walk<'_>, kind: ParameterKind, entry: Entry<'_>) -> Option<u64> {
    let read = match (kind, entry.value) {
        (ParameterKind::Bytes, DeValue::String(text)) => {
            parse_size(text).map_err(|error| (text, error))
        }
        (ParameterKind::Time, DeValue::String(text)) => parse_time(text)
            .map(|time| time.map(micros))
            .map_err(|error| (text, error)),
        (ParameterKind::Bool, DeValue::Boolean(on)) => return Some(u64::from(*on)),
        (ParameterKind::Number, DeValue::Integer(integer)) => {
            let digits = integer.as_str();
            let digits = digits.strip_prefix('+').unwrap_or(digits);
            let number = u64::from_str_radix(digits, integer.radix()).ok();
            if number.is_none() {
                let message = format!("found {}, expected 0 to {}", shown(digits), u64::MAX);
                walk.fault(entry.value_at, message);
            }
            return number;
        }
        (kind, _) => {
            let expected = match kind {
                ParameterKind::Bytes => "a string such as \"64M\"",
                ParameterKind::Time => "a string such as \"10s\"",
                ParameterKind::Number => "an integer such as 100",
                ParameterKind::Bool => "true or false",
            };
            walk.wrong_type(entry, expected);
            return None;
        }
    };
    read.map(|value| value.unwrap_or(u64::MAX))
        .map_err(|(text, error): (_, ValueError)| {
            walk.fault(
                entry.value_at,
                format_args!("found {:?}, {error}", shown(text)),
            );
        })
        .ok()
}

/// The parser of times counts in microseconds of 64 bits, so that none is lost.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
