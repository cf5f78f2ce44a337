// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all readers of a file's parts share: the way from a table to what is in it, collecting every fault.

use super::text::Text;
use crate::fault::{self, Fault};
use crate::policy::shown;
use crate::policy::{Provenance, closest, did_you_mean};
use crate::systemd::syntax::Position;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value of a table, with its key.
#[derive(Clone, Copy)]
pub(super) struct Entry<'t> {
    /// The key.
    pub(super) key: &'t str,
    /// Where the key is.
    pub(super) key_at: usize,
    /// The value.
    pub(super) value: &'t DeValue<'t>,
    /// Where the value is. A table that has a header of its own is where its key is.
    pub(super) value_at: usize,
}

/// A walk through one file.
pub(super) struct Walk<'a> {
    path: &'a Path,
    text: Text<'a>,
    /// Lines that are not understood, and those below a header that is not. What was made of them says nothing.
    broken: BTreeSet<u32>,
    faults: BTreeSet<(Option<Position>, String)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(path: &'a Path, text: Text<'a>) -> Self {
        Walk {
            path,
            text,
            broken: BTreeSet::new(),
            faults: BTreeSet::new(),
        }
    }

    /// Notes a line that is not TOML.
    pub(super) fn not_toml(&mut self, error: &toml::de::Error) {
        let Some(span) = error.span() else {
            // There is one such error, "recursion limit", and it says no more.
            let message = "a key has more than 80 parts".to_owned();
            self.faults.insert((None, message));
            return;
        };
        let at = self.text.position(span.start);
        let end = self.text.position(span.end);
        self.broken.extend(at.line + 1..=end.line);
        if self.broken.insert(at.line) {
            self.broken.extend(self.text.below_header(at.line));
        }
        let found = self.text.text.get(span).map(str::trim).unwrap_or_default();
        let message = if found.is_empty() {
            error.message().to_owned()
        } else {
            format!("found {:?}, {}", shown(found), error.message())
        };
        self.faults.insert((Some(at), message));
    }

    /// Notes a fault.
    pub(super) fn fault(&mut self, at: usize, message: impl fmt::Display) {
        let at = self.text.position(at);
        if !self.broken.contains(&at.line) {
            self.faults.insert((Some(at), message.to_string()));
        }
    }

    /// Notes that a value has another type than `expected`.
    pub(super) fn wrong_type(&mut self, entry: Entry<'_>, expected: impl fmt::Display) {
        let found = match entry.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.fault(
            entry.value_at,
            format_args!("found {found}, expected {expected}"),
        );
    }

    /// Notes a key that means nothing here. `what` it should be is a word such as "setting".
    pub(super) fn unknown<'w>(
        &mut self,
        what: &str,
        entry: Entry<'_>,
        expected: impl IntoIterator<Item = &'w str>,
    ) {
        let expected: Vec<&str> = expected.into_iter().collect();
        let suggestion = closest(entry.key, expected.iter().copied());
        let found = shown(entry.key);
        let message = if expected.is_empty() {
            format!("unknown {what} {found:?}, there are none here")
        } else {
            format!(
                "unknown {what} {found:?}, expected one of: {}{}",
                expected.join(", "),
                did_you_mean(suggestion)
            )
        };
        self.fault(entry.key_at, message);
    }

    /// What a table contains, in the order of the file.
    pub(super) fn entries<'t>(&self, table: &'t DeTable<'t>) -> Vec<Entry<'t>> {
        let mut entries: Vec<Entry<'t>> = table
            .iter()
            .map(|(key, value)| self.entry(key, value))
            .collect();
        entries.sort_by_key(|entry| entry.key_at);
        entries
    }

    fn entry<'t>(
        &self,
        key: &'t Spanned<std::borrow::Cow<'t, str>>,
        value: &'t Spanned<DeValue<'t>>,
    ) -> Entry<'t> {
        let (key_span, value_span) = (key.span(), value.span());
        let value_at = if value_span.start >= key_span.end {
            value_span.start
        } else {
            key_span.start
        };
        Entry {
            key: key.get_ref(),
            key_at: key_span.start,
            value: value.get_ref(),
            value_at,
        }
    }

    /// Where a value was said.
    pub(super) fn provenance(&self, at: usize) -> Provenance {
        let Position { line, column } = self.text.position(at);
        Provenance {
            file: self.path.to_owned(),
            line,
            column,
        }
    }

    /// What was noted, in the order of the file, and of very many faults the first.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        let path = self.path;
        let faults = self.faults.into_iter().map(|(position, message)| Fault {
            file: Some(path.to_owned()),
            position,
            message,
        });
        fault::told(faults.collect())
    }
}
