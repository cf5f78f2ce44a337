// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings in a section.

use super::machine;
use super::walk::{Entry, Walk};
use crate::policy::{
    Assignment, Key, MachineKey, MachineSection, Part, Pressure, PressureError, Section,
    SettingError, Value,
};
use toml::de::{DeTable, DeValue};

/// Whom a section speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything.
    Defaults,
    /// Slices.
    Slices,
    /// Units that may not be slices.
    Units,
}

impl Scope {
    fn allows(self, key: Key) -> bool {
        self != Scope::Defaults || key.is_for_defaults()
    }

    fn keys(self) -> impl Iterator<Item = &'static str> {
        let of_machine = MachineKey::ALL.into_iter().map(MachineKey::name);
        Key::ALL
            .into_iter()
            .filter(move |key| self.allows(*key))
            .map(Key::name)
            .chain(of_machine.filter(move |_| self == Scope::Defaults))
    }
}

/// Reads what is said about everything, and what is said about the machine into `machine`.
pub(super) fn read_defaults(
    walk: &mut Walk<'_>,
    table: &DeTable<'_>,
    programs: &[&str],
    machine: &mut MachineSection,
) -> Section {
    let (of_machine, others): (Vec<_>, Vec<_>) = walk
        .entries(table)
        .into_iter()
        .partition(|entry| machine::key(entry.key).is_some());
    for entry in of_machine {
        if let Some(key) = machine::key(entry.key) {
            machine::read(walk, key, entry, machine);
        }
    }
    read_entries(walk, Scope::Defaults, others, programs)
}

/// Reads all settings of a section. Those that are wrong are noted and left out.
pub(super) fn read(
    walk: &mut Walk<'_>,
    scope: Scope,
    table: &DeTable<'_>,
    programs: &[&str],
) -> Section {
    let entries = walk.entries(table);
    read_entries(walk, scope, entries, programs)
}

fn read_entries(
    walk: &mut Walk<'_>,
    scope: Scope,
    entries: Vec<Entry<'_>>,
    programs: &[&str],
) -> Section {
    let mut section = Section::new();
    for entry in entries {
        if machine::key(entry.key).is_some() {
            let message = format!("\"{}\" is for [defaults] only", entry.key);
            walk.fault(entry.key_at, message);
            continue;
        }
        let key = match Key::ALL.into_iter().find(|key| key.name() == entry.key) {
            Some(key) if scope.allows(key) => key,
            Some(key) => {
                let expected: Vec<&str> = scope.keys().collect();
                let message = format!(
                    "\"{key}\" is not for [defaults], expected one of: {}",
                    expected.join(", ")
                );
                walk.fault(entry.key_at, message);
                continue;
            }
            None => {
                walk.unknown("setting", entry, scope.keys());
                continue;
            }
        };
        if let Some(value) = value(walk, scope, key, entry, programs) {
            let at = walk.provenance(entry.value_at);
            section.insert(key, Assignment { value, at });
        }
    }
    section
}

/// The value of one setting: none if it is wrong, `Some(None)` if it takes back what was said before.
fn value(
    walk: &mut Walk<'_>,
    scope: Scope,
    key: Key,
    entry: Entry<'_>,
    programs: &[&str],
) -> Option<Option<Value>> {
    match (key, entry.value) {
        (_, DeValue::String(text)) if text.is_empty() => Some(None),
        (Key::Enabled, DeValue::Boolean(on)) => Some(Some(Value::Enabled(*on))),
        (Key::Pressure, DeValue::Table(table)) => {
            let pressure = pressure(walk, scope, entry, table)?;
            Some(Some(Value::Pressure(Some(pressure))))
        }
        (
            Key::Policy | Key::Kill | Key::Preference | Key::Cooldown | Key::Pressure | Key::Warn,
            DeValue::String(text),
        ) => match Value::parse(key, text, programs) {
            Ok(value) => Some(Some(value)),
            Err(error) => {
                walk.fault(entry.value_at, error);
                None
            }
        },
        _ => {
            walk.wrong_type(entry, example(key));
            None
        }
    }
}

/// What is expected where something of another type was found.
fn example(key: Key) -> &'static str {
    match key {
        Key::Enabled => "true or false",
        Key::Policy => "a string such as \"kernel\"",
        Key::Kill => "a string such as \"process\"",
        Key::Preference => "a string such as \"avoid\"",
        Key::Cooldown => "a string such as \"10s\"",
        Key::Warn => "a string such as \"5s\"",
        Key::Pressure => "a table such as { stall = \"400ms\" }, or \"none\"",
    }
}

fn pressure(
    walk: &mut Walk<'_>,
    scope: Scope,
    whole: Entry<'_>,
    table: &DeTable<'_>,
) -> Option<Pressure> {
    let mut parts: Vec<(Part, Entry<'_>, &str)> = Vec::new();
    let mut wrong: Vec<Part> = Vec::new();
    let allowed = |part: &Part| scope == Scope::Slices || *part != Part::AppliesTo;
    let names = Part::ALL.into_iter().filter(allowed).map(Part::name);
    for entry in walk.entries(table) {
        match Part::ALL.into_iter().find(|part| part.name() == entry.key) {
            Some(part) if !allowed(&part) => {
                let message = format!("\"{}\" is for slices only", part.name());
                walk.fault(entry.key_at, message);
                wrong.push(part);
            }
            Some(part) => match entry.value {
                DeValue::String(text) => parts.push((part, entry, text)),
                _ => {
                    walk.wrong_type(entry, part_example(part));
                    wrong.push(part);
                }
            },
            None => {
                walk.unknown("part of pressure", entry, names.clone());
                // Perhaps it was the stall that is mistyped.
                wrong.push(Part::Stall);
            }
        }
    }
    // Of the parts that are wrong only one is told at a time. What is wrong is taken away until the rest is right.
    loop {
        let said = |part| {
            let (_, _, text) = parts.iter().find(|(said, _, _)| *said == part)?;
            Some(*text)
        };
        match Pressure::from_parts(said) {
            Ok(pressure) => return wrong.is_empty().then_some(pressure),
            Err((Some(part), error)) => {
                let at = parts.iter().position(|(said, _, _)| *said == part)?;
                let (_, entry, _) = parts.remove(at);
                // A stall is compared with the window. Without one, its being too long means nothing.
                let is_range = matches!(error, SettingError::Pressure(PressureError::Stall { .. }));
                if !(is_range && wrong.contains(&Part::Window)) {
                    walk.fault(entry.value_at, error);
                }
                wrong.push(part);
            }
            Err((None, error)) => {
                if !wrong.contains(&Part::Stall) {
                    walk.fault(whole.value_at, error);
                }
                return None;
            }
        }
    }
}

fn part_example(part: Part) -> &'static str {
    match part {
        Part::Resource => "a string such as \"memory\"",
        Part::Level => "a string such as \"full\"",
        Part::Stall => "a string such as \"400ms\" or \"40%\"",
        Part::Window | Part::For => "a string such as \"1s\"",
        Part::MinUsage => "a string such as \"100M\"",
        Part::Action => "a string such as \"report\"",
        Part::AppliesTo => "a string such as \"each-unit\"",
    }
}
