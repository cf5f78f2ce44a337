// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings of the machine in `[defaults]`.

use super::walk::{Entry, Walk};
use crate::policy::{MOST_PRE_KILL_PROGRAMS, MachineKey, MachineSection, MachineValue};
use toml::de::{DeArray, DeValue};

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
        DeValue::Boolean(on) if key == MachineKey::Nominate => Some(MachineValue::Nominate(*on)),
        DeValue::Array(array) if key == MachineKey::PreKill => match programs(walk, array) {
            Some(programs) => Some(programs),
            None => return,
        },
        DeValue::String(text) if key.is_string() => match MachineValue::parse(key, text) {
            Ok(value) => Some(value),
            Err(error) => return walk.fault(entry.value_at, error),
        },
        _ => return walk.wrong_type(entry, example(key)),
    };
    let at = walk.provenance(entry.value_at);
    into.insert(key, (value, at));
}

/// The programs in an array. None if one is wrong, which is noted.
fn programs(walk: &mut Walk<'_>, array: &DeArray<'_>) -> Option<MachineValue> {
    let mut programs = Vec::new();
    let mut is_right = true;
    for element in array {
        let at = element.span().start;
        let read = match element.get_ref() {
            DeValue::String(text) => {
                MachineValue::parse(MachineKey::PreKill, text).map_err(|error| error.to_string())
            }
            _ => Err("expected the path of a program as a string".to_owned()),
        };
        match read {
            Ok(MachineValue::PreKill(program)) => programs.extend(program),
            Ok(_) => {}
            Err(error) => {
                walk.fault(at, error);
                is_right = false;
            }
        }
    }
    if programs.len() > MOST_PRE_KILL_PROGRAMS
        && let Some(first) = array.get(MOST_PRE_KILL_PROGRAMS)
    {
        let message = format!("expected no more than {MOST_PRE_KILL_PROGRAMS} programs");
        walk.fault(first.span().start, message);
        is_right = false;
    }
    is_right.then_some(MachineValue::PreKill(programs))
}

/// What is expected where something of another type was found.
fn example(key: MachineKey) -> &'static str {
    match key {
        MachineKey::Engine => "a string such as \"auto\"",
        MachineKey::MinAvailable | MachineKey::MinSwap => "a string such as \"64M\" or \"5%\"",
        MachineKey::Nominate => "true or false",
        MachineKey::PreKill => "an array such as [\"/usr/local/sbin/before-kill\"]",
        MachineKey::PreKillTimeout => "a string such as \"2s\"",
    }
}
