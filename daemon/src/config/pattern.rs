// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which units a section speaks about: names, and patterns of names.
//!
//! What a unit's name may be is said by systemd.unit(5), and by systemd's src/basic/unit-name.c.

use crate::policy::shown;
use crate::policy::{closest, did_you_mean};
use crate::systemd::unit_name::{ROOT_SLICE, section};
use glob::Pattern;
use std::fmt;

/// The longest name of a unit, in bytes (`UNIT_NAME_MAX` in systemd, which counts a NUL too).
pub const LONGEST_NAME: usize = 255;

/// Kinds of units that have a cgroup.
const KINDS: [&str; 6] = ["service", "slice", "scope", "socket", "mount", "swap"];

/// Kinds of units that have none, so that memory never runs out in one.
const KINDS_WITHOUT_CGROUP: [&str; 5] = ["timer", "target", "path", "device", "automount"];

/// A name of a unit, or a pattern of names: `*`, `?`, `[a-z]` and `[!a]` are wildcards, everything else is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPattern {
    text: String,
    /// None if the text is a name.
    glob: Option<Pattern>,
}

impl UnitPattern {
    /// Reads a name or a pattern.
    ///
    /// # Errors
    ///
    /// If no unit can have such a name, or the wildcards are wrong.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > LONGEST_NAME {
            return Err(PatternError::TooLong { found: shown(text) });
        }
        if !text.contains(WILDCARDS) {
            check_name(text)?;
            return Ok(UnitPattern {
                text: text.to_owned(),
                glob: None,
            });
        }
        check_characters(text, |character| "*?[]!".contains(character))?;
        let glob = Pattern::new(text).map_err(|error| PatternError::Wildcards {
            found: shown(text),
            why: error.msg,
        })?;
        Ok(UnitPattern {
            text: text.to_owned(),
            glob: Some(glob),
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is the name of one unit.
    pub fn is_exact(&self) -> bool {
        self.glob.is_none()
    }

    /// Whether it speaks about slices only. Other patterns never match one: `*` means everything that runs, and not the
    /// whole system.
    pub fn is_of_slices(&self) -> bool {
        self.text.ends_with(".slice")
    }

    /// Whether it speaks about a unit.
    pub fn matches(&self, unit: &str) -> bool {
        match &self.glob {
            None => self.text == unit,
            Some(glob) => (self.is_of_slices() || !unit.ends_with(".slice")) && glob.matches(unit),
        }
    }

    /// How many characters stand for themselves. Of two patterns, the one with more of them says more about a name.
    pub fn literals(&self) -> usize {
        let mut count = 0;
        let mut rest = self.text.chars();
        while let Some(character) = rest.next() {
            match character {
                '*' | '?' => {}
                '[' if self.glob.is_some() => {
                    if rest.as_str().starts_with('!') {
                        rest.next();
                    }
                    // The first of the class may be any character, a "]" too.
                    rest.next();
                    rest.by_ref().find(|member| *member == ']');
                }
                _ => count += 1,
            }
        }
        count
    }
}

impl fmt::Display for UnitPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const WILDCARDS: [char; 3] = ['*', '?', '['];

/// Checks the name of a slice.
///
/// # Errors
///
/// If no slice can have this name.
pub(super) fn check_slice(name: &str) -> Result<(), PatternError> {
    let wrong = |suggestion: Option<String>| PatternError::NoSlice {
        found: shown(name),
        suggestion,
    };
    if name.contains(WILDCARDS) {
        return Err(PatternError::SlicePattern { found: shown(name) });
    }
    if name.len() > LONGEST_NAME {
        return Err(PatternError::TooLong { found: shown(name) });
    }
    check_characters(name, |_| false)?;
    let Some(stem) = name.strip_suffix(".slice") else {
        let suggestion = match suggested(name) {
            Some(unit) if unit.ends_with(".slice") => Some(unit),
            // "user" is as likely as anything else to be meant to be a slice here.
            _ if !name.is_empty() && kind(name).is_none() => Some(format!("{name}.slice")),
            _ => None,
        };
        return Err(wrong(suggestion));
    };
    // systemd's slice_name_is_valid().
    let nests = !stem.starts_with('-') && !stem.ends_with('-') && !stem.contains("--");
    if name != ROOT_SLICE && (stem.is_empty() || stem.contains('@') || !nests) {
        return Err(wrong(None));
    }
    Ok(())
}

/// Whether a text is the name of a unit that has a cgroup.
pub(super) fn is_name(text: &str) -> bool {
    check_name(text).is_ok()
}

/// Checks that a text is the name of a unit that can have a cgroup: no pattern, and no template.
///
/// # Errors
///
/// If it is none.
pub fn check_unit(name: &str) -> Result<(), PatternError> {
    if name.len() > LONGEST_NAME {
        return Err(PatternError::TooLong { found: shown(name) });
    }
    let no_name = |suggestion| PatternError::NoName {
        found: shown(name),
        suggestion,
    };
    check_name(name).map_err(|error| match error {
        PatternError::NoUnit { suggestion, .. } => no_name(suggestion),
        error => error,
    })?;
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    match stem.split_once('@') {
        // Only what is before the first "@" is the prefix, and there has to be one.
        Some(("", _)) => Err(no_name(None)),
        Some((prefix, "")) => Err(PatternError::Template {
            found: shown(name),
            instance: shown(&format!("{prefix}@1.{kind}")),
        }),
        _ => Ok(()),
    }
}

fn check_name(text: &str) -> Result<(), PatternError> {
    if text.ends_with(".slice") {
        return check_slice(text);
    }
    check_characters(text, |_| false)?;
    match text.rsplit_once('.') {
        Some((stem, suffix)) if KINDS_WITHOUT_CGROUP.contains(&suffix) && !stem.is_empty() => {
            Err(PatternError::NoCgroup { found: shown(text) })
        }
        Some((stem, _)) if !stem.is_empty() && section(text).is_some() => Ok(()),
        _ => Err(PatternError::NoUnit {
            found: shown(text),
            suggestion: suggested(text),
        }),
    }
}

/// The kind of unit that a name says, if systemd knows it.
fn kind(name: &str) -> Option<&str> {
    let suffix = name.rsplit_once('.')?.1;
    let known = KINDS.contains(&suffix) || KINDS_WITHOUT_CGROUP.contains(&suffix);
    known.then_some(suffix)
}

/// The name that was probably meant by one of no known kind.
fn suggested(name: &str) -> Option<String> {
    if name.is_empty() || kind(name).is_some() {
        return None;
    }
    if let Some((stem, suffix)) = name.rsplit_once('.')
        && let Some(kind) = closest(suffix, KINDS)
    {
        return Some(format!("{stem}.{kind}"));
    }
    Some(format!("{name}.service"))
}

/// systemd's `VALID_CHARS_WITH_AT`.
fn check_characters(text: &str, also: impl Fn(char) -> bool) -> Result<(), PatternError> {
    let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c) || also(c);
    match text.chars().find(|character| !valid(*character)) {
        Some(character) => Err(PatternError::Character {
            found: shown(text),
            character,
        }),
        None => Ok(()),
    }
}

/// Why a text names no units.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Of no kind that systemd knows.
    #[error(
        "{found:?} is no unit, expected a name that ends in .service, .slice, .scope, .socket, .mount or .swap, or a pattern \
         with *{}", did_you_mean(suggestion.as_deref())
    )]
    NoUnit {
        /// What was written.
        found: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The same where no pattern is expected.
    #[error(
        "{found:?} is no unit, expected a name that ends in .service, .slice, .scope, .socket, .mount or .swap{}",
        did_you_mean(suggestion.as_deref())
    )]
    NoName {
        /// What was written.
        found: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A template, which never runs itself.
    #[error("{found:?} is a template, expected one of its instances such as {instance:?}")]
    Template {
        /// What was written.
        found: String,
        /// An instance that there may be.
        instance: String,
    },
    /// Of a kind that has no cgroup.
    #[error(
        "{found:?} has no cgroup, expected a name that ends in .service, .slice, .scope, .socket, .mount or .swap"
    )]
    NoCgroup {
        /// What was written.
        found: String,
    },
    /// No slice.
    #[error("{found:?} is no slice, expected a name such as \"user.slice\"{}", did_you_mean(suggestion.as_deref()))]
    NoSlice {
        /// What was written.
        found: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A pattern where a slice is expected.
    #[error(
        "{found:?} is a pattern, expected the name of a slice such as \"user.slice\"; patterns are for [unit.{found:?}]"
    )]
    SlicePattern {
        /// What was written.
        found: String,
    },
    /// Longer than names are.
    #[error("{found:?} is longer than {LONGEST_NAME} bytes, which is the longest name of a unit")]
    TooLong {
        /// What was written.
        found: String,
    },
    /// A character that no name has.
    #[error(
        "{found:?} contains {character:?}, expected letters, digits and the characters : - _ . \\ @ of a unit's name"
    )]
    Character {
        /// What was written.
        found: String,
        /// The first such character.
        character: char,
    },
    /// Wrong wildcards.
    #[error("{found:?} is no pattern: {why}, expected the wildcards *, ?, [a-z] and [!a]")]
    Wildcards {
        /// What was written.
        found: String,
        /// What is wrong with them.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, unit: &str) -> bool {
        UnitPattern::new(pattern).unwrap().matches(unit)
    }

    fn error(pattern: &str) -> String {
        UnitPattern::new(pattern).unwrap_err().to_string()
    }

    #[test]
    fn wildcards_are_the_usual_ones() {
        assert!(matches("*", "a.service"));
        assert!(matches("getty@tty?.service", "getty@tty1.service"));
        assert!(!matches("getty@tty?.service", "getty@tty12.service"));
        assert!(matches("[a-c]*.scope", "b1.scope"));
        assert!(!matches("[!a-c]*.scope", "b1.scope"));
        assert!(matches("run-[!0-9]*", "run-u7.service"));
        assert!(matches(
            r"dev-disk\x2dby*.swap",
            r"dev-disk\x2dby\x2did.swap"
        ));
        assert!(!matches("A*", "a.service"));
    }

    #[test]
    fn slices_are_matched_by_patterns_of_slices_only() {
        assert!(!matches("*", "user.slice"));
        assert!(!matches("user*", "user.slice"));
        assert!(matches("user*.slice", "user-1000.slice"));
        assert!(matches("user.slice", "user.slice"));
        assert!(!matches("*.slice", "a.service"));
    }

    #[test]
    fn literal_characters_are_counted() {
        for (pattern, expected) in [
            ("*", 0),
            ("*.service", 8),
            ("a[bc]?*.service", 9),
            ("a[!]b]c*", 2),
            ("a[!!!]b[!!]c*", 3),
            ("a[!!]]b[]!]c*", 4),
            ("a[]]c*", 2),
            ("sshd.service", 12),
        ] {
            assert_eq!(
                UnitPattern::new(pattern).unwrap().literals(),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_name_of_no_kind_gets_a_suggestion() {
        assert_eq!(
            error("sshd"),
            "\"sshd\" is no unit, expected a name that ends in .service, .slice, .scope, .socket, .mount or .swap, or a \
             pattern with *; did you mean \"sshd.service\"?"
        );
        assert!(error("sshd.servcie").ends_with("did you mean \"sshd.service\"?"));
        assert!(error("php8.2-fpm").ends_with("did you mean \"php8.2-fpm.service\"?"));
        assert!(error("").ends_with("or a pattern with *"));
        assert!(error(".service").ends_with("or a pattern with *"));
    }

    #[test]
    fn a_kind_without_a_cgroup_is_refused() {
        assert_eq!(
            error("apt-daily.timer"),
            "\"apt-daily.timer\" has no cgroup, expected a name that ends in .service, .slice, .scope, .socket, .mount or \
             .swap"
        );
    }

    #[test]
    fn what_no_name_has_is_refused() {
        assert_eq!(
            error("a b.service"),
            "\"a b.service\" contains ' ', expected letters, digits and the characters : - _ . \\ @ of a unit's name"
        );
        assert!(error("a[^b].service").contains("contains '^'"));
        assert!(error("*/x").contains("contains '/'"));
        assert!(error(&"x".repeat(256)).contains("longer than 255 bytes"));
        assert_eq!(
            error("a[b.service"),
            "\"a[b.service\" is no pattern: invalid range pattern, expected the wildcards *, ?, [a-z] and [!a]"
        );
        assert!(error("a**.service").contains("is no pattern"));
    }

    #[test]
    fn names_of_slices_nest() {
        for name in ["-.slice", "user.slice", "user-1000.slice", r"a\x2db.slice"] {
            assert_eq!(check_slice(name), Ok(()), "{name}");
        }
        for name in [
            ".slice",
            "-a.slice",
            "a-.slice",
            "a--b.slice",
            "a@b.slice",
            "--.slice",
        ] {
            let error = check_slice(name).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{name:?} is no slice, expected a name such as \"user.slice\"")
            );
        }
    }

    #[test]
    fn a_slice_without_its_ending_gets_a_suggestion() {
        for (name, meant) in [("user", "user.slice"), ("user.slce", "user.slice")] {
            let error = check_slice(name).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("did you mean {meant:?}?")),
                "{error}"
            );
        }
        let error = check_slice("sshd.service").unwrap_err().to_string();
        assert!(error.ends_with("such as \"user.slice\""), "{error}");
    }

    #[test]
    fn patterns_with_many_wildcards_end_soon() {
        let pattern = UnitPattern::new(&format!("{}b.service", "*a".repeat(120))).unwrap();
        let unit = format!("{}.service", "a".repeat(240));
        let start = std::time::Instant::now();
        assert!(!pattern.matches(&unit));
        assert!(start.elapsed().as_secs() < 5);
    }

    #[test]
    fn names_of_single_units_are_told_from_everything_else() {
        for name in ["sshd.service", "getty@tty1.service", "-.slice", "a.scope"] {
            assert_eq!(check_unit(name), Ok(()), "{name}");
        }
        let error = |name: &str| check_unit(name).unwrap_err().to_string();
        assert_eq!(
            error("sshd"),
            "\"sshd\" is no unit, expected a name that ends in .service, .slice, .scope, .socket, .mount or .swap; did you mean \
             \"sshd.service\"?"
        );
        assert_eq!(
            error("getty@.service"),
            "\"getty@.service\" is a template, expected one of its instances such as \"getty@1.service\""
        );
        assert!(error("@1.service").contains("is no unit"));
        assert!(error("*.service").contains("contains '*'"));
        assert!(error("a--b.slice").contains("is no slice"));
        assert!(error("x.timer").contains("has no cgroup"));
        assert!(error(&format!("{}.service", "x".repeat(255))).contains("longer than"));
    }
}
