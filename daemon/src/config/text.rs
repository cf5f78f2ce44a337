// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text of a file, and the way from a byte in it to a line and a column.

use crate::systemd::syntax::Position;
use std::ops::Range;

/// Characters are counted ahead at every so many bytes. Without it, a megabyte in one line would be counted from its start
/// for every fault in it.
const STEP: usize = 1024;

/// Some editors write it first. The parser of TOML knows it too, and takes it away itself: a second one is then a mistake to both.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A file's text.
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    /// Where lines start, the first one after the byte order mark.
    lines: Vec<usize>,
    /// How many characters start before each multiple of [`STEP`].
    characters: Vec<usize>,
}

impl<'a> Text<'a> {
    /// Reads UTF-8. The error is the place of the first byte that is none, and that byte.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, (Position, u8)> {
        let chunk = bytes.utf8_chunks().next();
        let valid = chunk.as_ref().map_or("", |chunk| chunk.valid());
        let text = Text::new(valid);
        match chunk.and_then(|chunk| chunk.invalid().first().copied()) {
            Some(byte) => Err((text.position(valid.len()), byte)),
            None => Ok(text),
        }
    }

    fn new(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let first = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let lines = std::iter::once(text.len() - first.len())
            .chain(ends.map(|(at, _)| at + 1))
            .collect();
        let mut before = 0;
        let mut characters = vec![0];
        for step in text.as_bytes().chunks(STEP) {
            before += count(step);
            characters.push(before);
        }
        Text {
            text,
            lines,
            characters,
        }
    }

    /// The place of the byte at `offset`. What is behind the end is at the end.
    pub(super) fn position(&self, offset: usize) -> Position {
        let offset = offset.clamp(self.lines[0], self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let column = self.characters_before(offset) - self.characters_before(self.lines[line - 1]);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Position {
            line: number(line),
            column: number(column + 1),
        }
    }

    /// If a line is the header of a table, the lines below it up to the next header.
    pub(super) fn below_header(&self, line: u32) -> Range<u32> {
        let is_header = |line: u32| {
            let start = usize::try_from(line - 1)
                .ok()
                .and_then(|line| self.lines.get(line));
            start.is_none_or(|start| {
                self.text[*start..]
                    .trim_start_matches([' ', '\t'])
                    .starts_with('[')
            })
        };
        let mut end = line + 1;
        if is_header(line) {
            while !is_header(end) {
                end += 1;
            }
        }
        line + 1..end
    }

    fn characters_before(&self, offset: usize) -> usize {
        let step = offset / STEP;
        self.characters[step] + count(&self.text.as_bytes()[step * STEP..offset])
    }
}

/// How many characters start in a piece of UTF-8: in it every byte but a continuation byte starts one.
fn count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(line: u32, column: u32) -> Position {
        Position { line, column }
    }

    #[test]
    fn columns_count_characters() {
        let text = Text::decode("ä = 1\nöü".as_bytes()).unwrap();
        assert_eq!(text.position(0), at(1, 1));
        assert_eq!(text.position(2), at(1, 2));
        assert_eq!(text.position(7), at(2, 1));
        assert_eq!(text.position(9), at(2, 2));
        assert_eq!(text.position(1000), at(2, 3));
    }

    #[test]
    fn a_header_reaches_to_the_next() {
        let text = Text::decode(b"[a]\nb\n\n [c]\nd\n").unwrap();
        assert_eq!(text.below_header(1), 2..4);
        assert_eq!(text.below_header(2), 3..3);
        assert_eq!(text.below_header(4), 5..7);
    }

    #[test]
    fn the_first_byte_that_is_not_utf_8_has_a_place() {
        let place = |bytes: &'static [u8]| Text::decode(bytes).err();
        assert_eq!(place(b"a\n\xc3\xa4\xffb\xfe"), Some((at(2, 2), 0xff)));
        assert_eq!(place(b"\xff"), Some((at(1, 1), 0xff)));
        assert_eq!(place(b"abc\xc3"), Some((at(1, 4), 0xc3)));
    }

    #[test]
    fn a_byte_order_mark_has_no_place() {
        let text = Text::decode("\u{feff}a\n[b]".as_bytes()).unwrap();
        assert_eq!(text.position(0), at(1, 1));
        assert_eq!(text.position(3), at(1, 1));
        assert_eq!(text.position(4), at(1, 2));
        assert_eq!(text.position(5), at(2, 1));
        assert_eq!(text.below_header(1), 2..2);
        let header = Text::decode("\u{feff}[a]\nb\n[c]".as_bytes()).unwrap();
        assert_eq!(header.below_header(1), 2..3);
        let empty = Text::decode("\u{feff}".as_bytes()).unwrap();
        assert_eq!(empty.position(7), at(1, 1));
    }

    proptest! {
        #[test]
        fn counting_ahead_changes_nothing(text in "[aä\n€]{0,3000}") {
            let found = Text::decode(text.as_bytes()).unwrap();
            let (mut line, mut column) = (1, 1);
            for (offset, character) in text.char_indices() {
                prop_assert_eq!(found.position(offset), at(line, column));
                (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
        }
    }
}
