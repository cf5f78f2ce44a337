// SPDX-License-Identifier: MIT OR Apache-2.0
//! How output looks: as wide as the terminal and in its colours, or plain for whatever reads it instead of a person.

use rustix::termios::tcgetwinsize;
use std::borrow::Cow;
use std::env;
use std::io::{IsTerminal, stdout};

/// What the output goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Look {
    /// How many characters fit into a line. None where lines may be of any length.
    pub(super) width: Option<usize>,
    /// How many lines fit. None where there may be any number.
    pub(super) height: Option<usize>,
    /// Whether it shows colours.
    pub(super) colour: bool,
    /// Whether it shows more than ASCII.
    pub(super) unicode: bool,
}

/// What something is like, and so in which colour it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    /// Like everything else.
    #[default]
    Plain,
    /// Headings, and what matters.
    Strong,
    /// What is only there because the rest is.
    Weak,
    /// As it should be.
    Good,
    /// To be looked at.
    Warning,
    /// Wrong, or about to die.
    Bad,
}

impl Look {
    /// That of standard output.
    pub(super) fn of_stdout() -> Self {
        let unicode = is_utf8(|name| env::var(name).ok());
        if !stdout().is_terminal() {
            return Look {
                unicode,
                ..Look::default()
            };
        }
        // Some terminals do not know their size; 0 by 0 then.
        let size = tcgetwinsize(stdout()).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (width, height) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
        Look {
            width: Some(width.into()),
            height: Some(height.into()),
            colour: wants_colour(|name| env::var(name).ok()),
            unicode,
        }
    }

    /// A text in the colour of a style.
    pub(super) fn paint<'a>(&self, style: Style, text: &'a str) -> Cow<'a, str> {
        let code = match style {
            Style::Plain => return text.into(),
            Style::Strong => "1",
            Style::Weak => "2",
            Style::Good => "32",
            Style::Warning => "33",
            Style::Bad => "1;31",
        };
        match self.colour && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m").into(),
            false => text.into(),
        }
    }

    /// A text that is cut where it is longer than `width` characters.
    pub(super) fn cut<'a>(&self, text: &'a str, width: usize) -> Cow<'a, str> {
        if text.chars().count() <= width {
            return text.into();
        }
        let ellipsis = if self.unicode { "…" } else { "..." };
        let kept = width.saturating_sub(ellipsis.chars().count());
        let mut cut: String = text.chars().take(kept).collect();
        cut.extend(ellipsis.chars().take(width - kept));
        cut.into()
    }
}

/// A text without what would do something to a terminal. Names of processes and cgroups are whatever somebody made them.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    let escape = |character: char| match character.is_control() {
        true => format!("\\x{:02x}", u32::from(character)),
        false => character.to_string(),
    };
    text.chars().map(escape).collect::<String>().into()
}

/// <https://no-color.org>
fn wants_colour(variable: impl Fn(&str) -> Option<String>) -> bool {
    let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && variable("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Of the variables that say what characters are, the first one that says something counts: locale(7).
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    said.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        move |name| {
            let found = pairs.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn colour_is_what_terminals_show_unless_somebody_does_not_want_it() {
        assert!(wants_colour(from(&[])));
        assert!(wants_colour(from(&[("NO_COLOR", ""), ("TERM", "xterm")])));
        assert!(!wants_colour(from(&[("NO_COLOR", "1")])));
        assert!(!wants_colour(from(&[("TERM", "dumb")])));
    }

    #[test]
    fn the_locale_says_which_characters_there_are() {
        assert!(is_utf8(from(&[("LANG", "en_GB.UTF-8")])));
        assert!(is_utf8(from(&[
            ("LC_ALL", ""),
            ("LC_CTYPE", "C.utf8"),
            ("LANG", "C")
        ])));
        assert!(!is_utf8(from(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")])));
        assert!(!is_utf8(from(&[])));
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let unicode = Look {
            unicode: true,
            ..Look::default()
        };
        assert_eq!(unicode.cut("abcdef", 6), "abcdef");
        assert_eq!(unicode.cut("abcdef", 5), "abcd…");
        let plain = Look::default();
        assert_eq!(plain.cut("abcdef", 5), "ab...");
        assert_eq!(plain.cut("abcdef", 2), "..");
    }

    #[test]
    fn names_do_nothing_to_a_terminal() {
        assert_eq!(
            harmless("\x1b[31mred\u{9b}0m\n"),
            "\\x1b[31mred\\x9b0m\\x0a"
        );
        assert_eq!(harmless("dev-x\\x2dy.swap é"), "dev-x\\x2dy.swap é");
    }

    #[test]
    fn without_colour_there_is_none() {
        assert_eq!(Look::default().paint(Style::Bad, "x"), "x");
        let colour = Look {
            colour: true,
            ..Look::default()
        };
        assert_eq!(colour.paint(Style::Bad, "x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(colour.paint(Style::Bad, ""), "");
        assert_eq!(colour.paint(Style::Plain, "x"), "x");
    }
}
