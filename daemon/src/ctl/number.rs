// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers for people.

use super::look::Style;
use super::table::Cell;
use crate::events::bytes;

/// A size in base 1024, or `-` if it is not known.
pub(super) fn size(bytes_: Option<u64>) -> String {
    bytes_.map_or("-".into(), bytes)
}

/// A pressure in percent. What is not nothing is to be looked at.
pub(super) fn pressure(average: Option<f64>) -> Cell {
    let Some(average) = average else {
        return "-".into();
    };
    let style = match average {
        10.0.. => Style::Bad,
        1.0.. => Style::Warning,
        _ => Style::Plain,
    };
    Cell::new(style, format!("{average:.1}%"))
}

/// `1 kill`, `2 kills`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    let what = if number == 1 { one } else { many };
    format!("{number} {what}")
}
