// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one configuration file says.
//!
//! The tables of TOML are walked by hand: a derived reader would stop at the first fault, and an administrator wants to
//! know all of them before the next attempt.

use super::parameter::{self, ParameterSpec, Parameters};
use super::pattern::{UnitPattern, check_slice, is_name};
use super::section::{self, Scope};
use super::text::Text;
use super::walk::{Entry, Walk};
use crate::fault::Fault;
use crate::policy::shown;
use crate::policy::{Key, MachineKey, MachineSection, Section};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// What one file says. Nothing in it is wrong, but it may say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The file.
    pub path: PathBuf,
    /// `[defaults]`
    pub defaults: Section,
    /// What is said about the machine there.
    pub machine: MachineSection,
    /// `[slice."NAME"]`
    pub slices: BTreeMap<String, Section>,
    /// `[unit."GLOB"]`, in the order of the file.
    pub units: Vec<(UnitPattern, Section)>,
    /// `[policy."NAME"]`
    pub policies: BTreeMap<String, Parameters>,
}

const SECTIONS: [&str; 4] = ["defaults", "slice", "unit", "policy"];

impl Fragment {
    /// Reads a file's text. `path` is its name as it is shown to people, `programs` are the names of the policy programs
    /// there are, and `parameters` gives the parameters of one.
    ///
    /// # Errors
    ///
    /// What is wrong, in the order of the file ([`fault::told`](crate::fault::told)). Each fault has a place,
    /// but that a key has too many parts: the parser does not say which.
    pub fn parse(
        path: &Path,
        text: &[u8],
        programs: &[&str],
        parameters: &dyn Fn(&str) -> Vec<ParameterSpec>,
    ) -> Result<Fragment, Vec<Fault>> {
        let text = Text::decode(text).map_err(|(at, byte)| {
            let message = format!("found the byte 0x{byte:02x}, expected text in UTF-8");
            vec![Fault::at(path, at, message)]
        })?;
        let (readable, errors) = readable(text.text);
        let (root, _) = DeTable::parse_recoverable(&readable);
        let mut reader = Reader {
            walk: Walk::new(path, text),
            programs,
            parameters,
            fragment: Fragment {
                path: path.to_owned(),
                ..Fragment::default()
            },
        };
        for error in &errors {
            reader.walk.not_toml(error);
        }
        reader.root(root.get_ref());
        let faults = reader.walk.into_faults();
        if faults.is_empty() {
            Ok(reader.fragment)
        } else {
            Err(faults)
        }
    }
}

/// A file's text without the lines after which the parser would read no further, and everything that is no TOML in it.
/// Nothing moves, so that places stay what they are.
fn readable(text: &str) -> (String, Vec<toml::de::Error>) {
    /// The parser tells nearly all such lines at once.
    const ATTEMPTS: usize = 4;
    let mut readable = text.to_owned();
    let mut errors = Vec::new();
    for _ in 0..ATTEMPTS {
        let (_, more) = DeTable::parse_recoverable(&readable);
        let alone = |error: &&toml::de::Error| error.message().starts_with("key with no value");
        let places: Vec<usize> = more
            .iter()
            .filter(alone)
            .filter_map(|error| Some(error.span()?.start))
            .collect();
        errors.extend(more);
        if places.is_empty() {
            break;
        }
        readable = without_lines(readable, &places);
    }
    (readable, errors)
}

/// Puts spaces instead of the lines at some places.
fn without_lines(text: String, places: &[usize]) -> String {
    let mut bytes = text.into_bytes();
    let is_end = |byte: &u8| *byte == b'\n';
    for &at in places {
        let at = at.min(bytes.len());
        let start = bytes[..at]
            .iter()
            .rposition(is_end)
            .map_or(0, |end| end + 1);
        let end = bytes[at..].iter().position(is_end);
        let end = end.map_or(bytes.len(), |length| at + length);
        bytes[start..end].fill(b' ');
    }
    // Whole lines are gone, and so whole characters.
    String::from_utf8(bytes).unwrap_or_default()
}

struct Reader<'a> {
    walk: Walk<'a>,
    programs: &'a [&'a str],
    parameters: &'a dyn Fn(&str) -> Vec<ParameterSpec>,
    fragment: Fragment,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>) {
        for entry in self.walk.entries(root) {
            match entry.key {
                "defaults" => {
                    if let Some(table) = self.table(entry, "[defaults]") {
                        let fragment = &mut self.fragment;
                        fragment.defaults = section::read_defaults(
                            &mut self.walk,
                            table,
                            self.programs,
                            &mut fragment.machine,
                        );
                    }
                }
                "slice" => self.named(entry, "[slice.\"user.slice\"]", Self::slice),
                "unit" => self.named(entry, "[unit.\"sshd.service\"]", Self::unit),
                "policy" => self.named(entry, "[policy.\"NAME\"]", Self::policy),
                key if Key::ALL.iter().any(|known| known.name() == key) => {
                    let message = format!(
                        "\"{key}\" is in no section, expected it in [defaults], [slice.\"NAME\"] or [unit.\"NAME\"]"
                    );
                    self.walk.fault(entry.key_at, message);
                }
                key if MachineKey::ALL.iter().any(|known| known.name() == key) => {
                    let message = format!("\"{key}\" is in no section, expected it in [defaults]");
                    self.walk.fault(entry.key_at, message);
                }
                _ => self.walk.unknown("section", entry, SECTIONS),
            }
        }
    }

    /// Reads a table of tables. Their names are the section's subjects.
    fn named(
        &mut self,
        entry: Entry<'_>,
        example: &str,
        read: impl Fn(&mut Self, Entry<'_>, &DeTable<'_>),
    ) {
        let Some(table) = self.table(entry, example) else {
            return;
        };
        for entry in self.walk.entries(table) {
            if let Some(table) = self.table(entry, example) {
                read(self, entry, table);
            }
        }
    }

    fn table<'t>(&mut self, entry: Entry<'t>, example: &str) -> Option<&'t DeTable<'t>> {
        match entry.value {
            DeValue::Table(table) => Some(table),
            _ => {
                let expected = format!("a table such as {example}");
                self.walk.wrong_type(entry, expected);
                None
            }
        }
    }

    fn slice(&mut self, entry: Entry<'_>, table: &DeTable<'_>) {
        if self.is_unquoted("slice", entry, table, Self::slice) {
            return;
        }
        if let Err(error) = check_slice(entry.key) {
            self.walk.fault(entry.key_at, error);
        }
        let section = section::read(&mut self.walk, Scope::Slices, table, self.programs);
        self.fragment.slices.insert(entry.key.to_owned(), section);
    }

    fn unit(&mut self, entry: Entry<'_>, table: &DeTable<'_>) {
        if self.is_unquoted("unit", entry, table, Self::unit) {
            return;
        }
        let pattern = UnitPattern::new(entry.key);
        let scope = if entry.key.ends_with(".slice") {
            Scope::Slices
        } else {
            Scope::Units
        };
        let section = section::read(&mut self.walk, scope, table, self.programs);
        match pattern {
            Ok(pattern) => self.fragment.units.push((pattern, section)),
            Err(error) => self.walk.fault(entry.key_at, error),
        }
    }

    /// A name without quotes is a path of tables in TOML: `[unit.sshd.service]` is "service" in "sshd". Notes it, and
    /// reads what is below.
    fn is_unquoted(
        &mut self,
        section: &str,
        entry: Entry<'_>,
        table: &DeTable<'_>,
        read: impl Fn(&mut Self, Entry<'_>, &DeTable<'_>),
    ) -> bool {
        let entries = self.walk.entries(table);
        let [inner] = entries[..] else {
            return false;
        };
        let name = format!("{}.{}", entry.key, inner.key);
        let DeValue::Table(table) = inner.value else {
            return false;
        };
        if !is_name(&name) || is_name(entry.key) {
            return false;
        }
        let message = format!("the name is not in quotes, expected [{section}.{name:?}]");
        self.walk.fault(entry.key_at, message);
        let whole = Entry {
            key: &name,
            ..entry
        };
        read(self, whole, table);
        true
    }

    fn policy(&mut self, entry: Entry<'_>, table: &DeTable<'_>) {
        if !self.programs.contains(&entry.key) {
            // "bpf:NAME" is how it is said elsewhere.
            match entry.key.strip_prefix("bpf:") {
                Some(name) if self.programs.contains(&name) => {
                    let message = format!(
                        "unknown policy program {:?}, did you mean {name:?}?",
                        shown(entry.key)
                    );
                    self.walk.fault(entry.key_at, message);
                }
                _ => {
                    let programs = self.programs.iter().copied();
                    self.walk.unknown("policy program", entry, programs);
                }
            }
            return;
        }
        let specs = (self.parameters)(entry.key);
        let read = parameter::read(&mut self.walk, entry.key, table, &specs);
        self.fragment.policies.insert(entry.key.to_owned(), read);
    }
}

#[cfg(test)]
mod tests;
