// SPDX-License-Identifier: MIT OR Apache-2.0
//! Columns: as wide as what is in them, or narrower where the terminal is.

use super::look::{Look, Style, harmless};

/// Between two columns.
const GAP: &str = "  ";
/// A column is not made narrower than this, and not narrower than its heading.
const NARROWEST: usize = 8;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    heading: &'static str,
    /// Numbers: so that their digits are below each other.
    right: bool,
    /// Whether what is in it may be cut.
    flexible: bool,
    /// For tables of which not all rows are there yet.
    at_least: usize,
}

/// A column of names, which are cut where the terminal is too narrow.
pub(super) const fn names(heading: &'static str) -> Column {
    Column {
        heading,
        right: false,
        flexible: true,
        at_least: 0,
    }
}

/// A column of words that are never cut.
pub(super) const fn words(heading: &'static str) -> Column {
    Column {
        flexible: false,
        ..names(heading)
    }
}

/// A column of numbers.
pub(super) const fn numbers(heading: &'static str) -> Column {
    Column {
        right: true,
        ..words(heading)
    }
}

impl Column {
    /// The same, not narrower than that many characters.
    pub(super) const fn at_least(self, width: usize) -> Column {
        Column {
            at_least: width,
            ..self
        }
    }
}

/// What is in a row at a column.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text of a style.
    pub(super) fn new(style: Style, text: impl Into<String>) -> Self {
        let text = text.into();
        let text = harmless(&text).into_owned();
        Cell { text, style }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::new(Style::Plain, text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::new(Style::Plain, text)
    }
}

/// Rows below headings.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// Without rows.
    pub(super) fn new(columns: [Column; N]) -> Self {
        Table {
            columns,
            rows: Vec::new(),
        }
    }

    /// With one row more.
    pub(super) fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// How it looks, with headings.
    pub(super) fn text(&self, look: &Look) -> String {
        let widths = self.widths(look);
        let headings = self
            .columns
            .map(|column| Cell::new(Style::Strong, column.heading));
        let rows = std::iter::once(&headings).chain(&self.rows);
        rows.map(|row| self.line(row, &widths, look)).collect()
    }

    /// The rows alone: for a table that was begun already.
    pub(super) fn rows(&self, look: &Look) -> String {
        let widths = self.widths(look);
        let rows = self.rows.iter();
        rows.map(|row| self.line(row, &widths, look)).collect()
    }

    fn widths(&self, look: &Look) -> [usize; N] {
        let mut widths = self
            .columns
            .map(|column| column.heading.chars().count().max(column.at_least));
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let Some(room) = look.width else {
            return widths;
        };
        let gaps = GAP.len() * N.saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(room);
        // Always from the widest one: many long columns become alike long, and short ones stay whole.
        while excess > 0 {
            let narrowest = |at: usize| self.columns[at].heading.chars().count().max(NARROWEST);
            let widest = (0..N)
                .filter(|at| self.columns[*at].flexible && widths[*at] > narrowest(*at))
                .max_by_key(|at| widths[*at]);
            let Some(widest) = widest else {
                break;
            };
            widths[widest] -= 1;
            excess -= 1;
        }
        widths
    }

    fn line(&self, row: &[Cell; N], widths: &[usize; N], look: &Look) -> String {
        let mut line = String::new();
        let last = row.iter().rposition(|cell| !cell.text.is_empty());
        for at in 0..last.map_or(0, |last| last + 1) {
            let (cell, column, width) = (&row[at], &self.columns[at], widths[at]);
            let text = look.cut(&cell.text, width);
            let space = " ".repeat(width - text.chars().count());
            let painted = look.paint(cell.style, &text);
            if at > 0 {
                line.push_str(GAP);
            }
            match (column.right, Some(at) == last) {
                (true, _) => line.extend([&space, &*painted]),
                (false, true) => line.push_str(&painted),
                (false, false) => line.extend([&*painted, &space]),
            }
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new([names("UNIT"), numbers("MEMORY"), words("POLICY")]);
        table.push([
            "a-rather-long-name.service".into(),
            "1.0M".into(),
            "kernel".into(),
        ]);
        table.push([
            "b.slice".into(),
            "1023.9M".into(),
            Cell::new(Style::Good, "bpf:biggest-leaf"),
        ]);
        table.push(["c.scope".into(), "".into(), "".into()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        assert_eq!(
            table().text(&Look::default()),
            "UNIT                         MEMORY  POLICY\n\
             a-rather-long-name.service     1.0M  kernel\n\
             b.slice                     1023.9M  bpf:biggest-leaf\n\
             c.scope\n"
        );
    }

    #[test]
    fn on_a_narrow_terminal_names_are_cut_and_nothing_else() {
        let look = |width| Look {
            width: Some(width),
            unicode: true,
            ..Look::default()
        };
        assert_eq!(
            table().text(&look(40)),
            "UNIT            MEMORY  POLICY\n\
             a-rather-lon…     1.0M  kernel\n\
             b.slice        1023.9M  bpf:biggest-leaf\n\
             c.scope\n"
        );
        let longest = |text: String| text.lines().map(|line| line.chars().count()).max();
        assert_eq!(longest(table().text(&look(40))), Some(40));
        // Narrower than what has to be there: lines are longer than the terminal is wide.
        assert_eq!(longest(table().text(&look(10))), Some(8 + 2 + 7 + 2 + 16));
    }

    #[test]
    fn colours_take_no_room() {
        let look = Look {
            colour: true,
            ..Look::default()
        };
        let plain = table().text(&look);
        let plain = ["\x1b[1m", "\x1b[32m", "\x1b[0m"]
            .iter()
            .fold(plain, |text, code| text.replace(code, ""));
        assert_eq!(plain, table().text(&Look::default()));
    }

    #[test]
    fn rows_that_come_later_have_the_same_columns() {
        let columns = [names("UNIT").at_least(10), words("POLICY")];
        let mut first = Table::new(columns);
        first.push(["a".into(), "kernel".into()]);
        let mut later = Table::new(columns);
        later.push(["bbb".into(), "kernel".into()]);
        let look = Look::default();
        assert_eq!(
            first.text(&look) + &later.rows(&look),
            "UNIT        POLICY\n\
             a           kernel\n\
             bbb         kernel\n"
        );
    }
}
