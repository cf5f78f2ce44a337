// SPDX-License-Identifier: MIT OR Apache-2.0
//! The syntax of systemd's configuration files, as systemd.syntax(7) says and systemd's own parser does it.
//!
//! Only the syntax: which sections and settings mean something is the caller's business. Lines that systemd
//! complains about and passes over are passed over here too, and reported in case they matter to the caller.

use crate::policy::shown;
use std::ops::ControlFlow;

/// The longest line, in bytes, continuation lines included. systemd has the same limit.
pub const LONGEST_LINE: usize = 1 << 20;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, counted from 1.
    pub line: u32,
    /// Column, counted in characters from 1.
    pub column: u32,
}

/// One thing found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// `[NAME]`
    Section(String),
    /// `KEY=VALUE`, continuation lines joined, white space around both removed.
    Assignment {
        /// The key.
        key: String,
        /// The value; empty for an assignment that resets.
        value: String,
        /// Where the value starts, or would start if it is empty.
        value_at: Position,
    },
    /// A line that is not understood.
    Fault(SyntaxFault),
}

/// Why a line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxFault {
    /// systemd reads no further after this one, and so does [`parse`].
    #[error("bad section header {:?}, expected \"[NAME]\"; nothing below it is read", shown(.0))]
    SectionHeader(String),
    /// systemd reads no further after this one, and so does [`parse`].
    #[error("the line is longer than {LONGEST_LINE} bytes; nothing below it is read")]
    TooLong,
    /// The line is passed over. What can be read of it is kept.
    #[error("the line is not UTF-8, it is ignored: {:?}", shown(.0))]
    NotUtf8(String),
    /// The line is passed over.
    #[error("missing \"=\" after {:?}, the line is ignored", shown(.0))]
    MissingEquals(String),
    /// The line is passed over.
    #[error("missing key before \"=\", the line is ignored")]
    MissingKey,
}

/// Reads a whole file, and calls `visit` for everything in it, in order, with the place where it starts.
/// `visit` may break off.
pub fn parse(bytes: &[u8], mut visit: impl FnMut(Position, Item) -> ControlFlow<()>) {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut joined = Joined::default();
    let mut in_continuation = false;
    for (number, line) in (1..).zip(Lines(bytes)) {
        // Comments may stand between continuation lines and do not end the continuation.
        let first = line.iter().find(|byte| !is_space(**byte));
        if matches!(first, Some(b'#' | b';')) {
            continue;
        }
        joined.push(number, line);
        if joined.text.len() > LONGEST_LINE {
            let _ = visit(joined.position(0), Item::Fault(SyntaxFault::TooLong));
            return;
        }
        in_continuation = joined.continue_if_escaped();
        if in_continuation {
            continue;
        }
        if joined.take_item(&mut visit).is_break() {
            return;
        }
    }
    // The file ends in the middle of a continuation: what is there counts.
    if in_continuation {
        let _ = joined.take_item(&mut visit);
    }
}

/// The lines of a file. A line ends at LF, CR or NUL, or at a run of them without a repetition, so that CR LF is one
/// line's end and LF LF are two.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
        let length = self.0.iter().position(is_end).unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(length);
        let mut ends = 0;
        for (at, byte) in rest.iter().enumerate() {
            // A NUL ends the line at once, whatever follows.
            if !is_end(byte) || rest[..at].contains(byte) || rest[..at].contains(&0) {
                break;
            }
            ends = at + 1;
        }
        self.0 = &rest[ends..];
        Some(line)
    }
}

/// A logical line: physical lines joined, with the way back from a byte to its place in the file.
#[derive(Default)]
struct Joined {
    text: Vec<u8>,
    /// For every physical line: where it starts in `text`, and its number.
    starts: Vec<(usize, u32)>,
}

impl Joined {
    fn push(&mut self, number: u32, line: &[u8]) {
        self.starts.push((self.text.len(), number));
        self.text.extend_from_slice(line);
    }

    /// Whether the line ends in a backslash that is not itself escaped. It then becomes a space.
    fn continue_if_escaped(&mut self) -> bool {
        let backslashes = self
            .text
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count();
        let escaped = backslashes % 2 == 1;
        if escaped && let Some(last) = self.text.last_mut() {
            *last = b' ';
        }
        escaped
    }

    /// The place of the byte at `offset`.
    fn position(&self, offset: usize) -> Position {
        let line = self
            .starts
            .partition_point(|(start, _)| *start <= offset)
            .max(1)
            - 1;
        let (start, number) = self.starts.get(line).copied().unwrap_or((0, 1));
        let before = self.text.get(start..offset).unwrap_or_default();
        // In UTF-8 every byte but a continuation byte starts a character.
        let characters = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        Position {
            line: number,
            column: u32::try_from(characters + 1).unwrap_or(u32::MAX),
        }
    }

    /// Hands the line's content to `visit` and starts a new line. Breaks at faults after which nothing is read.
    fn take_item(
        &mut self,
        visit: &mut impl FnMut(Position, Item) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let flow = match self.item() {
            Some((offset, item)) => {
                let last = matches!(&item, Item::Fault(SyntaxFault::SectionHeader(_)));
                let flow = visit(self.position(offset), item);
                if last { ControlFlow::Break(()) } else { flow }
            }
            None => ControlFlow::Continue(()),
        };
        self.text.clear();
        self.starts.clear();
        flow
    }

    fn item(&self) -> Option<(usize, Item)> {
        // systemd's white space is space, tab and line ends. ASCII's has form feed too, which is no more than rubbish.
        let start = self.text.iter().position(|byte| !is_space(*byte))?;
        let Ok(text) = std::str::from_utf8(&self.text) else {
            let readable = String::from_utf8_lossy(&self.text[start..]).into_owned();
            return Some((start, Item::Fault(SyntaxFault::NotUtf8(readable))));
        };
        let line = text[start..].trim_end_matches(SPACES);
        if let Some(header) = line.strip_prefix('[') {
            let item = match header.strip_suffix(']') {
                Some(name) => Item::Section(name.to_owned()),
                None => Item::Fault(SyntaxFault::SectionHeader(line.to_owned())),
            };
            return Some((start, item));
        }
        let Some((key, value)) = line.split_once('=') else {
            return Some((
                start,
                Item::Fault(SyntaxFault::MissingEquals(line.to_owned())),
            ));
        };
        if key.is_empty() {
            return Some((start, Item::Fault(SyntaxFault::MissingKey)));
        }
        let trimmed = value.trim_start_matches(SPACES);
        let value_start = start + key.len() + 1 + (value.len() - trimmed.len());
        let item = Item::Assignment {
            key: key.trim_end_matches(SPACES).to_owned(),
            value: trimmed.to_owned(),
            value_at: self.position(value_start),
        };
        Some((start, item))
    }
}

const SPACES: [char; 4] = [' ', '\t', '\n', '\r'];

fn is_space(byte: u8) -> bool {
    SPACES.contains(&char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(text: impl AsRef<[u8]>) -> Vec<(u32, u32, Item)> {
        let mut found = Vec::new();
        parse(text.as_ref(), |at, item| {
            found.push((at.line, at.column, item));
            ControlFlow::Continue(())
        });
        found
    }

    /// Sections as "[S]" and assignments as "key=value@line:column", faults by their message.
    fn brief(text: impl AsRef<[u8]>) -> Vec<String> {
        items(text)
            .into_iter()
            .map(|(line, column, item)| match item {
                Item::Section(name) => format!("[{name}]"),
                Item::Assignment {
                    key,
                    value,
                    value_at: at,
                } => format!("{key}={value}@{}:{}", at.line, at.column),
                Item::Fault(fault) => format!("{line}:{column}: {fault}"),
            })
            .collect()
    }

    #[test]
    fn sections_and_assignments_with_places() {
        assert_eq!(
            brief("[Service]\n  Key = some value \t\nOther=x=y\n"),
            ["[Service]", "Key=some value@2:9", "Other=x=y@3:7"]
        );
    }

    #[test]
    fn comments_and_empty_lines_are_nothing() {
        assert_eq!(brief("# a=b\n ; c=d\n\n \t\n"), [""; 0]);
        assert_eq!(brief("a=b # not a comment"), ["a=b # not a comment@1:3"]);
        // A form feed is not white space to systemd.
        assert_eq!(
            brief("a=\\\n\u{c}# not a comment"),
            ["a=\u{c}# not a comment@2:1"]
        );
    }

    #[test]
    fn continuation_joins_lines_with_a_space() {
        assert_eq!(
            brief("a=one\\\n  two\\\nthree\nb=c"),
            ["a=one   two three@1:3", "b=c@4:3"]
        );
    }

    #[test]
    fn comments_inside_a_continuation_are_left_out() {
        assert_eq!(
            brief("a=one\\\n# comment\\\n ; another\ntwo"),
            ["a=one two@1:3"]
        );
    }

    #[test]
    fn a_value_on_the_next_line_has_its_place_there() {
        assert_eq!(brief("a= \\\n   value"), ["a=value@2:4"]);
        assert_eq!(brief("long\\\nkey=\\\n\\\nvalue"), ["long key=value@4:1"]);
    }

    #[test]
    fn an_escaped_backslash_at_the_end_continues_nothing() {
        assert_eq!(brief("a=x\\\\\nb=y"), ["a=x\\\\@1:3", "b=y@2:3"]);
        assert_eq!(brief("a=x\\\\\\\ny"), ["a=x\\\\ y@1:3"]);
    }

    #[test]
    fn a_backslash_before_white_space_continues_nothing() {
        assert_eq!(brief("a=x\\ \nb=y"), ["a=x\\@1:3", "b=y@2:3"]);
    }

    #[test]
    fn an_empty_line_ends_a_continuation() {
        assert_eq!(brief("a=x\\\n\nb=y"), ["a=x@1:3", "b=y@3:3"]);
    }

    #[test]
    fn a_file_may_end_in_a_continuation_or_without_a_newline() {
        assert_eq!(brief("a=x\\"), ["a=x@1:3"]);
        assert_eq!(brief("a=x"), ["a=x@1:3"]);
        assert_eq!(brief("[S]\\"), ["[S]"]);
    }

    #[test]
    fn an_empty_assignment_is_kept() {
        assert_eq!(brief("a=\nb= \n"), ["a=@1:3", "b=@2:3"]);
    }

    #[test]
    fn a_byte_order_mark_is_not_text() {
        assert_eq!(brief("\u{feff}[S]\na=b"), ["[S]", "a=b@2:3"]);
        assert_eq!(brief("\u{feff}a=b"), ["a=b@1:3"]);
        // A second one is.
        assert_eq!(brief("\u{feff}\u{feff}a=b"), ["\u{feff}a=b@1:4"]);
    }

    #[test]
    fn all_of_systemds_line_ends_are_known() {
        assert_eq!(
            brief("a=1\r\nb=2\rc=3\n\rd=4\0e=5"),
            ["a=1@1:3", "b=2@2:3", "c=3@3:3", "d=4@4:3", "e=5@5:3"]
        );
        assert_eq!(brief("a=1\n\n\r\n\nb=2"), ["a=1@1:3", "b=2@5:3"]);
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(brief("größe = ä"), ["größe=ä@1:9"]);
    }

    #[test]
    fn faults_are_told_and_passed_over() {
        assert_eq!(
            brief("[S]\nrubbish\n=v\na=b"),
            [
                "[S]",
                "2:1: missing \"=\" after \"rubbish\", the line is ignored",
                "3:1: missing key before \"=\", the line is ignored",
                "a=b@4:3",
            ]
        );
        assert_eq!(
            brief(b"a=\xff\nb=c"),
            [
                "1:1: the line is not UTF-8, it is ignored: \"a=\u{fffd}\"",
                "b=c@2:3"
            ]
        );
    }

    #[test]
    fn nothing_is_read_after_a_bad_section_header() {
        assert_eq!(
            brief("a=b\n  [Service\nc=d"),
            [
                "a=b@1:3",
                "2:3: bad section header \"[Service\", expected \"[NAME]\"; nothing below it is read"
            ]
        );
    }

    #[test]
    fn an_endless_line_ends_the_reading() {
        let mut long = b"a=b\nc=".to_vec();
        long.resize(LONGEST_LINE + 100, b'x');
        long.extend_from_slice(b"\nd=e");
        assert_eq!(items(&long).len(), 2);
        assert!(matches!(
            &items(&long)[1],
            (2, 1, Item::Fault(SyntaxFault::TooLong))
        ));
        let continued = "x\\\n".repeat(LONGEST_LINE);
        assert!(matches!(
            &items(continued)[..],
            [(1, 1, Item::Fault(SyntaxFault::TooLong))]
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_the_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            items(bytes);
        }

        // Text that hits the syntax more often than random bytes do.
        #[test]
        fn places_are_inside_the_file_and_in_order(text in "([ \\[\\]=#;\\\\\n\r\t\0aé\u{feff}]){0,60}") {
            let lines = u32::try_from(text.len() + 1).unwrap();
            let mut last = 0;
            for (line, column, item) in items(&text) {
                prop_assert!(line >= last && line <= lines);
                prop_assert!(column >= 1);
                last = line;
                if let Item::Assignment { key, value, value_at } = item {
                    prop_assert!(value_at.line >= line && value_at.line <= lines);
                    prop_assert_eq!(key.trim_matches(SPACES), &key);
                    prop_assert_eq!(value.trim_matches(SPACES), &value);
                }
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            pairs in prop::collection::vec(("[A-Za-z-]{1,12}", "[a-zé:%\"'0-9]([a-zé:%\"' 0-9=]{0,20}[a-z])?"), 0..8),
        ) {
            let text: String = pairs.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            let read: Vec<(String, String)> = items(text).into_iter().map(|(_, _, item)| match item {
                Item::Assignment { key, value, .. } => (key, value),
                other => panic!("{other:?}"),
            }).collect();
            prop_assert_eq!(read, pairs);
        }
    }
}
