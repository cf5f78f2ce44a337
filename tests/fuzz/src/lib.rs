// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fuzz targets share: how an input is cut into files, and what holds for every fault.

use bpf_oomd::fault::{Fault, MOST_TOLD};
use std::path::{Path, PathBuf};

/// A line that ends one file of an input and begins the next.
const SEPARATOR: &[u8] = b"%%\n";

/// More files than this are one, so that an input of separators alone is not slow.
const MOST_FILES: usize = 8;

/// The longest message, in bytes: journal entries are read by people. What one shows of a file is cut after 64 characters, each of which
/// may be shown as `\u{10ffff}`; one message shows it twice.
const LONGEST_MESSAGE: usize = 1600;

/// The names of the policy programs there are.
pub const PROGRAMS: [&str; 2] = ["biggest-leaf", "by-score"];

/// The files of an input.
pub fn files(input: &[u8]) -> Vec<&[u8]> {
    let mut files = Vec::new();
    let mut start = 0;
    let mut line = 0;
    while line < input.len() && files.len() + 1 < MOST_FILES {
        let rest = &input[line..];
        if rest.starts_with(SEPARATOR) {
            files.push(&input[start..line]);
            start = line + SEPARATOR.len();
        }
        let end = rest.iter().position(|byte| *byte == b'\n');
        line += end.map_or(rest.len(), |end| end + 1);
    }
    files.push(&input[start..]);
    files
}

/// A file's content with one more line before its first, which is a comment and has this end.
pub fn with_a_line_before(content: &[u8], end: u8) -> Vec<u8> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let (mark, text) = match content.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) => (BYTE_ORDER_MARK, text),
        None => (&[][..], content),
    };
    [mark, b"# a comment", &[end], text].concat()
}

/// The same faults one line further down.
pub fn one_line_down(mut faults: Vec<Fault>) -> Vec<Fault> {
    for position in faults
        .iter_mut()
        .filter_map(|fault| fault.position.as_mut())
    {
        position.line += 1;
    }
    faults
}

/// Checks the faults of one file: each has a place in the file, they are in its order, there are not too many, and a person can read
/// them. `lines` are the lengths of the file's lines, in characters.
///
/// # Panics
///
/// If not.
pub fn check_faults(path: &Path, lines: &[usize], faults: &[Fault]) {
    assert!(faults.len() <= MOST_TOLD + 1, "{} faults", faults.len());
    assert!(
        faults.is_sorted_by_key(|fault| fault.position),
        "not in order: {faults:?}"
    );
    for fault in faults {
        assert_eq!(fault.file.as_deref(), Some(path), "{fault}");
        check_message(&fault.message);
        let Some(at) = fault.position else {
            // The parser of TOML does not say where.
            assert_eq!(fault.message, "a key has more than 80 parts");
            continue;
        };
        let line = at
            .line
            .checked_sub(1)
            .and_then(|line| lines.get(line as usize));
        assert!(
            // Right behind the line there may be something missing.
            line.is_some_and(|length| (1..=length + 1).contains(&(at.column as usize))),
            "outside the file: {fault}"
        );
    }
}

/// Checks that a person can read a message.
///
/// # Panics
///
/// If not.
pub fn check_message(message: &str) {
    assert!(!message.trim().is_empty(), "no message");
    assert!(
        message.len() <= LONGEST_MESSAGE,
        "a message of {} bytes",
        message.len()
    );
    assert!(
        !message.contains(|character: char| character.is_control()),
        "a control character: {message:?}"
    );
}

/// Paths of so many files, as an administrator would name them: their names are in their order.
pub fn paths(count: usize, directory: &str, ending: &str) -> Vec<PathBuf> {
    (0..count)
        .map(|number| Path::new(directory).join(format!("{number}{ending}")))
        .collect()
}
