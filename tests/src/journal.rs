// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal from a moment on, with all fields of its entries.

use std::collections::BTreeMap;
use std::process::Command;

use crate::systemctl::PATIENCE;
use crate::wait::eventually_within;

/// The journal from the moment of its creation.
pub struct Journal {
    cursor: String,
}

/// An entry: its fields by name. Of a field that is there several times, the last one.
pub type Entry = BTreeMap<String, String>;

impl Journal {
    /// Entries up to now are not seen.
    pub fn from_now() -> Self {
        // What was said before must be in the files before the place in them is taken.
        journalctl(&["--sync"]);
        let output = journalctl(&["--quiet", "--lines=1", "--output=cat", "--show-cursor"]);
        let output = String::from_utf8_lossy(&output);
        let cursor = output
            .lines()
            .find_map(|line| line.strip_prefix("-- cursor: "))
            .unwrap_or_else(|| panic!("no cursor in {output:?}"));
        Self {
            cursor: cursor.to_owned(),
        }
    }

    /// The entries with all of these `FIELD=VALUE` matches, oldest first.
    pub fn entries(&self, matches: &[&str]) -> Vec<Entry> {
        let after = format!("--after-cursor={}", self.cursor);
        let mut arguments = vec!["--quiet", "--all", "--output=export", &after];
        arguments.extend(matches);
        parse(&journalctl(&arguments))
    }

    /// Waits for an entry with all of these matches, and returns the first.
    #[track_caller]
    pub fn wait_for(&self, matches: &[&str]) -> Entry {
        eventually_within(PATIENCE, || {
            let found = self.entries(matches).into_iter().next();
            found.ok_or_else(|| format!("no entry with {matches:?} in the journal"))
        })
    }

    /// Waits for an entry of a unit whose message contains `part`, and returns it.
    #[track_caller]
    pub fn wait_for_message(&self, unit: &str, part: &str) -> Entry {
        let unit = format!("_SYSTEMD_UNIT={unit}");
        eventually_within(PATIENCE, || {
            let entries = self.entries(&[&unit]);
            let said = |entry: &Entry| entry.get("MESSAGE").is_some_and(|text| text.contains(part));
            if let Some(found) = entries.iter().find(|entry| said(entry)) {
                return Ok(found.clone());
            }
            let messages: Vec<_> = entries.iter().map(|entry| entry.get("MESSAGE")).collect();
            Err(format!(
                "no message with {part:?} of {unit} in {messages:#?}"
            ))
        })
    }
}

/// A field of an entry.
#[track_caller]
pub fn field<'a>(entry: &'a Entry, name: &str) -> &'a str {
    entry
        .get(name)
        .unwrap_or_else(|| panic!("no {name} in {entry:#?}"))
}

/// A field of an entry that is a number.
#[track_caller]
pub fn number(entry: &Entry, name: &str) -> u64 {
    let text = field(entry, name);
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is {text:?}, not a number"))
}

fn journalctl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("journalctl")
        .args(arguments)
        .output()
        .expect("run journalctl");
    assert!(
        output.status.success(),
        "journalctl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The export format (systemd's "Journal Export Formats"): a line `FIELD=VALUE` for each field, an empty line after each entry. A value
/// with line ends follows its field's name, on the next line, as a little-endian 64-bit length and that many bytes.
fn parse(mut export: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut entry = Entry::new();
    while let Some(end) = export.iter().position(|byte| *byte == b'\n') {
        let line = &export[..end];
        export = &export[end + 1..];
        if line.is_empty() {
            if !entry.is_empty() {
                entries.push(std::mem::take(&mut entry));
            }
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&line[..equals], &line[equals + 1..]),
            None => {
                let (length, rest) = export.split_at(8);
                let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
                let (value, rest) = rest.split_at(usize::try_from(length).expect("a length"));
                export = &rest[1..];
                (line, value)
            }
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        entry.insert(text(name), text(value));
    }
    if !entry.is_empty() {
        entries.push(entry);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn entries_are_taken_apart_also_with_values_of_several_lines() {
        let export = b"MESSAGE=a=b\nX=\n\nMESSAGE=2\nLINES\n\x04\0\0\0\0\0\0\0x\n\ny\nZ=1\n\n";
        let entries = parse(export);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0]["MESSAGE"], "a=b");
        assert_eq!(entries[0]["X"], "");
        assert_eq!(entries[1]["LINES"], "x\n\ny");
        assert_eq!(entries[1]["Z"], "1");
        assert!(parse(b"").is_empty());
    }
}
