// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings of the machine in `[defaults]`.

use super::walk::{Entry, Walk};
use crate::policy::{MachineKey, MachineSection, MachineValue};
use toml::de::DeValue;

/// The setting of the machine that has this name.
pub(super) fn key(name: &str) -> Option<MachineKey> {
    MachineKey::ALL.into_iter().find(|key| key.name() == name)
}

/// Reads one setting. One that is wrong is noted and left out.
pub(super) fn read(
    walk: &mut Walk<'_>,
    key: MachineKey,
    entry: Entry<'_>,
    into: &mut MachineSection,
) {
    let value = match entry.value {
        DeValue::String(text) if text.is_empty() => None,
        DeValue::String(text) => match MachineValue::parse(key, text) {
            Ok(value) => Some(value),
            Err(error) => return walk.fault(entry.value_at, error),
        },
        _ => return walk.wrong_type(entry, example(key)),
    };
    let at = walk.provenance(entry.value_at);
    into.insert(key, (value, at));
}

/// What is expected where something of another type was found.
fn example(key: MachineKey) -> &'static str {
    match key {
        MachineKey::Engine => "a string such as \"auto\"",
        MachineKey::MinAvailable | MachineKey::MinSwap => "a string such as \"64M\" or \"5%\"",
    }
}
