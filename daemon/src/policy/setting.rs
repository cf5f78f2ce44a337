// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be said about a unit, whoever says it: the settings, their values, and how values are written.

use super::{Policy, PolicyNameError, Pressure, PressureError, Provenance, closest};
use crate::systemd::value::{TimeSpan, ValueError, parse_time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The longest cooldown. A longer one would not give a kill time to take effect, but keep the policy from ever acting again.
pub const LONGEST_COOLDOWN: Duration = Duration::from_secs(3600);

/// The longest warning. Nobody else dies for a domain while its victim is warned.
pub const LONGEST_WARNING: Duration = Duration::from_secs(60);

/// The cooldown where nobody says one.
pub const DEFAULT_COOLDOWN: Duration = Duration::from_secs(10);

/// How it is written that no stall is an OOM.
const NO_PRESSURE: &str = "none";

/// A setting. In the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Whether anything is done at all.
    Enabled,
    /// How victims are chosen.
    Policy,
    /// What of a victim is killed.
    Kill,
    /// Whether the unit may be a victim.
    Preference,
    /// How long a kill is given to take effect.
    Cooldown,
    /// How long before it is killed a victim is told.
    Warn,
    /// When a stall is an OOM.
    Pressure,
}

impl Key {
    /// All of them.
    pub const ALL: [Key; 7] = [
        Key::Enabled,
        Key::Policy,
        Key::Kill,
        Key::Preference,
        Key::Cooldown,
        Key::Warn,
        Key::Pressure,
    ];

    /// Its name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Key::Enabled => "enabled",
            Key::Policy => "policy",
            Key::Kill => "kill",
            Key::Preference => "preference",
            Key::Cooldown => "cooldown",
            Key::Pressure => "pressure",
            Key::Warn => "warn",
        }
    }

    /// Its name in unit files, which may have an `X-` before it. None if it is not said there, or is systemd's own.
    pub fn directive(self) -> Option<&'static str> {
        match self {
            Key::Policy => Some("ManagedOOMPolicy"),
            Key::Kill => Some("ManagedOOMPolicyKill"),
            Key::Cooldown => Some("ManagedOOMPolicyCooldown"),
            Key::Pressure => Some("ManagedOOMPolicyPressure"),
            Key::Warn => Some("ManagedOOMPolicyWarn"),
            // ManagedOOMPreference= is systemd's; it is read from what systemd makes of it.
            Key::Enabled | Key::Preference => None,
        }
    }

    /// Whether it can be said for everything at once. A preference is one among others, and pressure is some cgroup's.
    pub fn is_for_defaults(self) -> bool {
        !matches!(self, Key::Preference | Key::Pressure)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A setting with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `enabled`
    Enabled(bool),
    /// `policy`
    Policy(Policy),
    /// `kill`
    Kill(Kill),
    /// `preference`
    Preference(Preference),
    /// `cooldown`
    Cooldown(Duration),
    /// `pressure`; None says that no stall is an OOM.
    Pressure(Option<Pressure>),
    /// `warn`; zero says that there is no warning.
    Warn(Duration),
}

/// What of a victim is killed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Kill {
    /// Every process.
    #[default]
    Cgroup,
    /// The one with the most memory.
    Process,
}

/// Whether a unit may be a victim of an OOM above it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// Like every other.
    #[default]
    None,
    /// Only if there is no other.
    Avoid,
    /// Never.
    Omit,
}

impl Kill {
    const NAMES: [(&'static str, Kill); 2] = [("cgroup", Kill::Cgroup), ("process", Kill::Process)];
}

impl Preference {
    const NAMES: [(&'static str, Preference); 3] = [
        ("none", Preference::None),
        ("avoid", Preference::Avoid),
        ("omit", Preference::Omit),
    ];
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(*self, &Self::NAMES))
    }
}

impl fmt::Display for Preference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(*self, &Self::NAMES))
    }
}

pub(super) fn name_of<T: Copy + PartialEq>(value: T, names: &[(&'static str, T)]) -> &'static str {
    let found = names.iter().find(|(_, known)| *known == value);
    found.map_or("", |(name, _)| name)
}

impl Value {
    /// Reads a value as it is written, in a TOML string or in a unit file. `programs` are the names of the policy programs
    /// there are.
    ///
    /// # Errors
    ///
    /// If it is none. The error says what was found and what was expected.
    pub fn parse(key: Key, text: &str, programs: &[&str]) -> Result<Self, SettingError> {
        Ok(match key {
            Key::Enabled => Value::Enabled(one_of(text, &[("true", true), ("false", false)])?),
            Key::Policy => Value::Policy(Policy::parse(text, programs)?),
            Key::Kill => Value::Kill(one_of(text, &Kill::NAMES)?),
            Key::Preference => Value::Preference(one_of(text, &Preference::NAMES)?),
            Key::Cooldown => Value::Cooldown(time_up_to(text, LONGEST_COOLDOWN)?),
            Key::Warn => Value::Warn(time_up_to(text, LONGEST_WARNING)?),
            Key::Pressure if text == NO_PRESSURE => Value::Pressure(None),
            Key::Pressure => Value::Pressure(Some(Pressure::parse(text)?)),
        })
    }

    /// Whose value it is.
    pub fn key(&self) -> Key {
        match self {
            Value::Enabled(_) => Key::Enabled,
            Value::Policy(_) => Key::Policy,
            Value::Kill(_) => Key::Kill,
            Value::Preference(_) => Key::Preference,
            Value::Cooldown(_) => Key::Cooldown,
            Value::Pressure(_) => Key::Pressure,
            Value::Warn(_) => Key::Warn,
        }
    }

    /// What holds where nobody says anything.
    pub fn built_in(key: Key) -> Self {
        match key {
            Key::Enabled => Value::Enabled(true),
            Key::Policy => Value::Policy(Policy::Kernel),
            Key::Kill => Value::Kill(Kill::default()),
            Key::Preference => Value::Preference(Preference::default()),
            Key::Cooldown => Value::Cooldown(DEFAULT_COOLDOWN),
            Key::Pressure => Value::Pressure(None),
            Key::Warn => Value::Warn(Duration::ZERO),
        }
    }
}

/// As it is written in a file; [`Value::parse`] reads it again.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Enabled(on) => on.fmt(f),
            Value::Policy(policy) => policy.fmt(f),
            Value::Kill(kill) => kill.fmt(f),
            Value::Preference(preference) => preference.fmt(f),
            Value::Cooldown(time) | Value::Warn(time) => TimeSpan(*time).fmt(f),
            Value::Pressure(Some(pressure)) => pressure.fmt(f),
            Value::Pressure(None) => f.write_str(NO_PRESSURE),
        }
    }
}

/// Reads a time span that ends some time.
pub(super) fn time_up_to(text: &str, longest: Duration) -> Result<Duration, SettingError> {
    let out_of_range = || SettingError::Time {
        found: shown(text),
        longest,
    };
    match parse_time(text) {
        Ok(Some(time)) if time <= longest => Ok(time),
        Ok(_) | Err(ValueError::TooLarge) => Err(out_of_range()),
        Err(error) => Err(SettingError::Value {
            found: shown(text),
            error,
        }),
    }
}

/// Reads one of a few words.
pub(crate) fn one_of<T: Copy>(text: &str, names: &[(&'static str, T)]) -> Result<T, SettingError> {
    if let Some((_, value)) = names.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    Err(SettingError::Word {
        found: shown(text),
        expected: names.iter().map(|(name, _)| *name).collect(),
        suggestion: closest(text, names.iter().map(|(name, _)| *name)).map(str::to_owned),
    })
}

/// A value as messages show it: not the whole of one that is endless, for a journal entry is read by people.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut found: String = text.chars().take(SHOWN).collect();
    if found.len() < text.len() {
        found.push('…');
    }
    found
}

/// Why a value is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// A policy that does not exist.
    #[error(transparent)]
    Policy(#[from] PolicyNameError),
    /// None of a few words.
    #[error("unknown value {found:?}, expected one of: {}{}", expected.join(", "), did_you_mean(suggestion.as_deref()))]
    Word {
        /// What was written.
        found: String,
        /// Everything that would have been understood.
        expected: Vec<&'static str>,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// Not a time, size or percentage.
    #[error("found {found:?}, {error}")]
    Value {
        /// What was written.
        found: String,
        /// What was expected.
        error: ValueError,
    },
    /// A time span that is too long.
    #[error("found {found:?}, expected a time span from 0 to {}", TimeSpan(*longest))]
    Time {
        /// What was written.
        found: String,
        /// The longest there may be.
        longest: Duration,
    },
    /// What is no program's path.
    #[error("found {found:?}, expected the absolute path of a program, without \"..\"")]
    Program {
        /// What was written.
        found: String,
    },
    /// Something is wrong with a pressure setting.
    #[error(transparent)]
    Pressure(#[from] PressureError),
}

/// The end of a message about something that may be mistyped.
pub fn did_you_mean(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(word) => format!("; did you mean {word:?}?"),
        None => String::new(),
    }
}

/// One thing said about one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// What was said. None takes back what was said before at the same place of precedence, as an empty assignment in a
    /// unit file does.
    pub value: Option<Value>,
    /// Where.
    pub at: Provenance,
}

/// What is said about something, at one place.
pub type Section = BTreeMap<Key, Assignment>;

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAMS: [&str; 1] = ["biggest-leaf"];

    fn parse(key: Key, text: &str) -> Result<Value, String> {
        Value::parse(key, text, &PROGRAMS).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_written_is_read_again() {
        for (key, text) in [
            (Key::Enabled, "true"),
            (Key::Enabled, "false"),
            (Key::Policy, "kernel"),
            (Key::Policy, "bpf:biggest-leaf"),
            (Key::Kill, "cgroup"),
            (Key::Kill, "process"),
            (Key::Preference, "none"),
            (Key::Preference, "avoid"),
            (Key::Preference, "omit"),
            (Key::Cooldown, "0"),
            (Key::Cooldown, "1min 30s"),
            (Key::Pressure, "memory full 400ms/1s"),
            (Key::Pressure, "none"),
            (Key::Warn, "2s 500ms"),
        ] {
            let value = parse(key, text).unwrap();
            assert_eq!(value.key(), key);
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn every_setting_has_a_built_in_value_that_can_be_written() {
        for key in Key::ALL {
            let value = Value::built_in(key);
            assert_eq!(value.key(), key);
            assert_eq!(parse(key, &value.to_string()), Ok(value));
        }
    }

    #[test]
    fn an_unknown_word_says_what_was_expected_and_probably_meant() {
        assert_eq!(
            parse(Key::Kill, "proces").unwrap_err(),
            "unknown value \"proces\", expected one of: cgroup, process; did you mean \"process\"?"
        );
        assert_eq!(
            parse(Key::Preference, "never").unwrap_err(),
            "unknown value \"never\", expected one of: none, avoid, omit"
        );
    }

    #[test]
    fn a_warning_does_not_put_off_a_kill_for_long() {
        assert_eq!(parse(Key::Warn, "1min").unwrap().to_string(), "1min");
        assert_eq!(
            parse(Key::Warn, "61s").unwrap_err(),
            "found \"61s\", expected a time span from 0 to 1min"
        );
    }

    #[test]
    fn a_cooldown_ends_some_time() {
        assert_eq!(parse(Key::Cooldown, "1h").unwrap().to_string(), "1h");
        for text in ["1h 1us", "infinity", "9999999999999999s"] {
            assert_eq!(
                parse(Key::Cooldown, text).unwrap_err(),
                format!("found {text:?}, expected a time span from 0 to 1h")
            );
        }
        assert_eq!(
            parse(Key::Cooldown, "10 sec onds").unwrap_err(),
            "found \"10 sec onds\", expected a time span such as \"400ms\", \"10s\" or \"1min 30s\""
        );
    }

    #[test]
    fn endless_values_are_cut_in_messages() {
        for key in Key::ALL {
            let error = parse(key, &"x".repeat(1 << 20)).unwrap_err();
            assert!(error.len() < 400, "{key}: {}", error.len());
        }
    }
}
