// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all files say together.
//!
//! Files apply in the order of their names, and what is said later wins. What it wins over is kept, because `explain` shows
//! it.

use super::fragment::Fragment;
use super::parameter::Parameters;
use super::pattern::UnitPattern;
use crate::policy::{Assignment, Key, Section};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

/// Everything that was said at one place of precedence, for example of all `[unit."sshd.service"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    settings: BTreeMap<Key, Vec<Assignment>>,
}

impl Layer {
    /// Everything that was said about a setting, in the order in which it was said.
    pub fn history(&self, key: Key) -> &[Assignment] {
        self.settings.get(&key).map_or(&[], Vec::as_slice)
    }

    /// What holds here for a setting: what was said last, unless that takes back what was said before.
    pub fn in_force(&self, key: Key) -> Option<&Assignment> {
        let last = self.history(key).last()?;
        last.value.is_some().then_some(last)
    }

    /// All settings that anything was said about, with everything that was said.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &[Assignment])> {
        self.settings
            .iter()
            .map(|(key, history)| (*key, history.as_slice()))
    }

    fn extend(&mut self, section: &Section) {
        for (key, assignment) in section {
            let history = self.settings.entry(*key).or_default();
            history.push(assignment.clone());
        }
    }
}

/// Which section speaks about a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `[slice."NAME"]`
    Slice(String),
    /// `[unit."GLOB"]`
    Unit(String),
}

/// `slice NAME` or `unit GLOB`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Slice(name) => write!(f, "slice {name}"),
            Rule::Unit(glob) => write!(f, "unit {glob}"),
        }
    }
}

/// What all files say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    defaults: Layer,
    slices: HashMap<String, Layer>,
    /// Names of single units.
    units: HashMap<String, Layer>,
    /// Patterns, the most specific first.
    globs: Vec<(UnitPattern, Layer)>,
    policies: BTreeMap<String, Parameters>,
}

impl Config {
    /// Puts fragments together, in the order of the names of their files.
    pub fn merge<'a>(fragments: impl IntoIterator<Item = &'a Fragment>) -> Config {
        let mut fragments: Vec<&Fragment> = fragments.into_iter().collect();
        // The names differ as long as only one of each counts. The rest of the path is for those who do not care.
        fragments.sort_by_key(|fragment| order(&fragment.path));
        let mut config = Config::default();
        // By the pattern: its layer, and when it was said last.
        let mut globs: HashMap<&str, (usize, &UnitPattern, Layer)> = HashMap::new();
        let mut said = 0;
        for fragment in fragments {
            config.defaults.extend(&fragment.defaults);
            for (name, section) in &fragment.slices {
                config
                    .slices
                    .entry(name.clone())
                    .or_default()
                    .extend(section);
            }
            for (pattern, section) in &fragment.units {
                said += 1;
                if pattern.is_exact() {
                    let name = pattern.as_str().to_owned();
                    config.units.entry(name).or_default().extend(section);
                } else {
                    let (last, _, layer) = globs
                        .entry(pattern.as_str())
                        .or_insert_with(|| (said, pattern, Layer::default()));
                    *last = said;
                    layer.extend(section);
                }
            }
            for (policy, parameters) in &fragment.policies {
                let all = config.policies.entry(policy.clone()).or_default();
                all.extend(
                    parameters
                        .iter()
                        .map(|(name, value)| (name.clone(), value.clone())),
                );
            }
        }
        let mut globs: Vec<_> = globs.into_values().collect();
        globs.sort_by_cached_key(|(said, pattern, _)| {
            let length = pattern.as_str().chars().count();
            Reverse((pattern.literals(), length, *said))
        });
        config.globs = globs
            .into_iter()
            .map(|(_, pattern, layer)| (pattern.clone(), layer))
            .collect();
        config
    }

    /// What is said about everything.
    pub fn defaults(&self) -> &Layer {
        &self.defaults
    }

    /// All sections that speak about a unit, the most specific first: a slice's own, the unit's name, and patterns. Of patterns
    /// the one with most literal characters, then the one with most characters, then the one that was said last.
    pub fn for_unit(&self, unit: &str) -> Vec<(Rule, &Layer)> {
        let slice = self.slices.get(unit);
        let exact = self.units.get(unit);
        let globs = self.globs.iter().filter(|(glob, _)| glob.matches(unit));
        slice
            .map(|layer| (Rule::Slice(unit.to_owned()), layer))
            .into_iter()
            .chain(exact.map(|layer| (Rule::Unit(unit.to_owned()), layer)))
            .chain(globs.map(|(glob, layer)| (Rule::Unit(glob.as_str().to_owned()), layer)))
            .collect()
    }

    /// The parameters of a policy program that are said. None are said about one that is not mentioned.
    pub fn parameters(&self, policy: &str) -> Option<&Parameters> {
        self.policies.get(policy)
    }
}

/// Files are sorted by their names alone, whatever directories they are in. On Unix that is the order of bytes.
fn order(path: &Path) -> (&OsStr, &Path) {
    (path.file_name().unwrap_or_default(), path)
}

#[cfg(test)]
mod tests;
