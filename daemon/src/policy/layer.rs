// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that one source says about one unit, with what it took back or said again.

use super::{Assignment, Key, Value};
use std::collections::BTreeMap;

/// All that a source says, in the order in which it says it. Of each setting the last assignment decides; the others are kept
/// for those who ask why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer(BTreeMap<Key, Vec<Assignment>>);

impl Layer {
    /// One more assignment.
    pub fn push(&mut self, key: Key, assignment: Assignment) {
        self.0.entry(key).or_default().push(assignment);
    }

    /// What the source says about a setting in the end, if it says anything and does not take it back, and where it says so.
    pub fn decides(&self, key: Key) -> Option<(&Value, &Assignment)> {
        let last = self.0.get(&key)?.last()?;
        last.value.as_ref().map(|value| (value, last))
    }

    /// All assignments to a setting, in their order.
    pub fn history(&self, key: Key) -> &[Assignment] {
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Takes what another layer says about a setting, in place of what this one says.
    pub fn take_from(&mut self, other: &Layer, key: Key) {
        match other.0.get(&key) {
            Some(history) => self.0.insert(key, history.clone()),
            None => self.0.remove(&key),
        };
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Assignments in their order.
impl FromIterator<(Key, Assignment)> for Layer {
    fn from_iter<I: IntoIterator<Item = (Key, Assignment)>>(all: I) -> Self {
        let mut layer = Layer::default();
        for (key, assignment) in all {
            layer.push(key, assignment);
        }
        layer
    }
}
