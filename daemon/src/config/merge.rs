// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all files say together.
//!
//! Files apply in the order of their names, and what is said later wins. What it wins over is kept, because `explain` shows
//! it.

use super::fragment::Fragment;
use super::parameter::Parameters;
use super::pattern::UnitPattern;
use crate::policy::{Layer, Machine, Section, Speaker};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::Path;

/// What all files say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    defaults: Layer,
    machine: Machine,
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
            extend(&mut config.defaults, &fragment.defaults);
            config.machine.extend(&fragment.machine);
            for (name, section) in &fragment.slices {
                extend(config.slices.entry(name.clone()).or_default(), section);
            }
            for (pattern, section) in &fragment.units {
                said += 1;
                if pattern.is_exact() {
                    let name = pattern.as_str().to_owned();
                    extend(config.units.entry(name).or_default(), section);
                } else {
                    let (last, _, layer) = globs
                        .entry(pattern.as_str())
                        .or_insert_with(|| (said, pattern, Layer::default()));
                    *last = said;
                    extend(layer, section);
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

    /// What holds for the machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// All sections that speak about a unit, the most specific first: a slice's own, the unit's name, and patterns. Of patterns
    /// the one with most literal characters, then the one with most characters, then the one that was said last.
    pub fn for_unit(&self, unit: &str) -> Vec<(Speaker, &Layer)> {
        let section = |kind: &str, name: &str| Speaker::Section(format!("{kind}.{name:?}"));
        let slice = self.slices.get(unit);
        let exact = self.units.get(unit);
        let globs = self.globs.iter().filter(|(glob, _)| glob.matches(unit));
        slice
            .map(|layer| (section("slice", unit), layer))
            .into_iter()
            .chain(exact.map(|layer| (section("unit", unit), layer)))
            .chain(globs.map(|(glob, layer)| (section("unit", glob.as_str()), layer)))
            .collect()
    }

    /// The parameters of a policy program that are said. None are said about one that is not mentioned.
    pub fn parameters(&self, policy: &str) -> Option<&Parameters> {
        self.policies.get(policy)
    }
}

fn extend(layer: &mut Layer, section: &Section) {
    for (key, assignment) in section {
        layer.push(*key, assignment.clone());
    }
}

/// Files are sorted by their names alone, whatever directories they are in. On Unix that is the order of bytes.
fn order(path: &Path) -> (&OsStr, &Path) {
    (path.file_name().unwrap_or_default(), path)
}

#[cfg(test)]
mod tests;
