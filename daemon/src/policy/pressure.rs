// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a stall is an OOM: the `pressure` setting.
//!
//! The words are those of the kernel's Documentation/accounting/psi.rst, and so are the limits of a window.

use super::setting::{SettingError, one_of, shown};
use crate::systemd::value::{TimeSpan, ValueError, parse_percent, parse_time};
use std::fmt;
use std::time::Duration;

/// The shortest window that the kernel watches for BPF (`bpf_psi_create_trigger()`).
pub const SHORTEST_WINDOW: Duration = Duration::from_millis(500);
/// The longest window that the kernel watches (`WINDOW_MAX_US` in kernel/sched/psi.c).
pub const LONGEST_WINDOW: Duration = Duration::from_secs(10);
/// The window where none is said.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(1);

/// A unit that stalls for `stall` within `window` is out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// What its tasks wait for.
    pub resource: Resource,
    /// How many of them.
    pub level: Level,
    /// For how long, in all.
    pub stall: Duration,
    /// Within how long a time.
    pub window: Duration,
    /// Whose stall: of a slice's own cgroup, or of each unit in it. Means nothing for other units.
    pub applies_to: AppliesTo,
}

/// What tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Resource {
    /// Memory that has to be reclaimed or read back first.
    #[default]
    Memory,
    /// Disks.
    Io,
    /// A processor.
    Cpu,
}

/// How many tasks wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Level {
    /// At least one.
    Some,
    /// All that are not idle.
    #[default]
    Full,
}

/// Whose stall counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AppliesTo {
    /// The slice's own.
    #[default]
    Slice,
    /// Each unit's in it.
    EachUnit,
}

impl Resource {
    const NAMES: [(&'static str, Resource); 3] = [
        ("memory", Resource::Memory),
        ("io", Resource::Io),
        ("cpu", Resource::Cpu),
    ];
}

impl Level {
    const NAMES: [(&'static str, Level); 2] = [("some", Level::Some), ("full", Level::Full)];
}

impl AppliesTo {
    const NAMES: [(&'static str, AppliesTo); 2] = [
        ("slice", AppliesTo::Slice),
        ("each-unit", AppliesTo::EachUnit),
    ];
}

/// A part of a pressure setting. Their names are keys in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `resource`
    Resource,
    /// `level`
    Level,
    /// `stall`
    Stall,
    /// `window`
    Window,
    /// `applies-to`
    AppliesTo,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 5] = [
        Part::Resource,
        Part::Level,
        Part::Stall,
        Part::Window,
        Part::AppliesTo,
    ];

    /// Its name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Part::Resource => "resource",
            Part::Level => "level",
            Part::Stall => "stall",
            Part::Window => "window",
            Part::AppliesTo => "applies-to",
        }
    }
}

impl Pressure {
    /// Reads a setting of which each part is given by `part`, as far as it is said. Everything has a default but the stall.
    ///
    /// # Errors
    ///
    /// The first part that is wrong, and why. A missing stall is an error without a part.
    pub fn from_parts<'a>(
        part: impl Fn(Part) -> Option<&'a str>,
    ) -> Result<Self, (Option<Part>, SettingError)> {
        fn read<'a, T: Copy + Default>(
            part: impl Fn(Part) -> Option<&'a str>,
            which: Part,
            names: &[(&'static str, T)],
        ) -> Result<T, (Option<Part>, SettingError)> {
            match part(which) {
                Some(text) => one_of(text, names).map_err(|error| (Some(which), error)),
                None => Ok(T::default()),
            }
        }
        let resource = read(&part, Part::Resource, &Resource::NAMES)?;
        let level = read(&part, Part::Level, &Level::NAMES)?;
        let applies_to = read(&part, Part::AppliesTo, &AppliesTo::NAMES)?;
        let window = match part(Part::Window) {
            Some(text) => window(text).map_err(|error| (Some(Part::Window), error))?,
            None => DEFAULT_WINDOW,
        };
        let Some(text) = part(Part::Stall) else {
            return Err((None, PressureError::NoStall.into()));
        };
        let stall = stall(text, window).map_err(|error| (Some(Part::Stall), error))?;
        Ok(Pressure {
            resource,
            level,
            stall,
            window,
            applies_to,
        })
    }

    /// Reads a setting as unit files write it: `RESOURCE LEVEL STALL/WINDOW`, or with a percentage instead of the stall.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, SettingError> {
        let malformed = || PressureError::Malformed { found: shown(text) };
        let (resource, rest) = text.split_once([' ', '\t']).ok_or_else(malformed)?;
        let (level, rest) = rest
            .trim_start()
            .split_once([' ', '\t'])
            .ok_or_else(malformed)?;
        let (stall, window) = rest.split_once('/').ok_or_else(malformed)?;
        Self::from_parts(|part| match part {
            Part::Resource => Some(resource),
            Part::Level => Some(level),
            Part::Stall => Some(stall.trim()),
            Part::Window => Some(window.trim()),
            Part::AppliesTo => None,
        })
        .map_err(|(_, error)| error)
    }
}

/// As unit files write it.
impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = Resource::NAMES.iter().find(|(_, it)| *it == self.resource);
        let level = Level::NAMES.iter().find(|(_, it)| *it == self.level);
        write!(
            f,
            "{} {} {}/{}",
            resource.map_or("", |(name, _)| name),
            level.map_or("", |(name, _)| name),
            TimeSpan(self.stall),
            TimeSpan(self.window)
        )
    }
}

fn window(text: &str) -> Result<Duration, SettingError> {
    match parse_time(text) {
        Ok(Some(time)) if (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&time) => Ok(time),
        Ok(_) | Err(ValueError::TooLarge) => {
            Err(PressureError::Window { found: shown(text) }.into())
        }
        Err(error) => Err(SettingError::Value {
            found: shown(text),
            error,
        }),
    }
}

fn stall(text: &str, window: Duration) -> Result<Duration, SettingError> {
    let time = if text.trim_end().ends_with('%') {
        parse_percent(text).map(|hundredths| Some(window * hundredths / 10_000))
    } else {
        parse_time(text)
    };
    match time {
        // The kernel counts microseconds, and a stall of none would always be there.
        Ok(Some(time)) if time >= Duration::from_micros(1) && time <= window => Ok(time),
        Ok(_) | Err(ValueError::TooLarge) => Err(PressureError::Stall {
            found: shown(text),
            window: TimeSpan(window).to_string(),
        }
        .into()),
        Err(error) => Err(SettingError::Value {
            found: shown(text),
            error,
        }),
    }
}

/// Why a pressure setting is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PressureError {
    /// Not of that form.
    #[error(
        "found {found:?}, expected \"RESOURCE LEVEL STALL/WINDOW\", such as \"memory full 400ms/1s\""
    )]
    Malformed {
        /// What was written.
        found: String,
    },
    /// A window that the kernel does not watch.
    #[error("found {found:?}, expected a window from 500ms to 10s")]
    Window {
        /// What was written.
        found: String,
    },
    /// A stall that no window can have.
    #[error(
        "found {found:?}, expected a stall from 1us to the window ({window}), or a percentage of it"
    )]
    Stall {
        /// What was written.
        found: String,
        /// The window.
        window: String,
    },
    /// There is no stall.
    #[error("there is no \"stall\", expected for example stall = \"400ms\"")]
    NoStall,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        Pressure::parse(text)
            .map(|pressure| pressure.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_percentage_is_one_of_the_window() {
        assert_eq!(parse("memory full 40%/1s").unwrap(), "memory full 400ms/1s");
        assert_eq!(parse("io  some\t2.5% / 10s").unwrap(), "io some 250ms/10s");
        assert_eq!(
            parse("cpu some 100%/500ms").unwrap(),
            "cpu some 500ms/500ms"
        );
    }

    #[test]
    fn what_the_kernel_does_not_watch_is_refused_with_the_range() {
        for window in ["499ms", "10s 1us", "infinity", "9999999999999999s", "0"] {
            assert_eq!(
                parse(&format!("memory full 1ms/{window}")).unwrap_err(),
                format!("found {window:?}, expected a window from 500ms to 10s")
            );
        }
        for stall in ["1001ms", "0", "0%", "infinity"] {
            assert_eq!(
                parse(&format!("memory full {stall}/1s")).unwrap_err(),
                format!(
                    "found {stall:?}, expected a stall from 1us to the window (1s), or a percentage of it"
                )
            );
        }
    }

    #[test]
    fn everything_has_a_default_but_the_stall() {
        let pressure = Pressure::from_parts(|part| (part == Part::Stall).then_some("10%")).unwrap();
        assert_eq!(pressure.to_string(), "memory full 100ms/1s");
        assert_eq!(pressure.applies_to, AppliesTo::Slice);
        let (part, error) = Pressure::from_parts(|_| None).unwrap_err();
        assert_eq!(part, None);
        assert!(error.to_string().contains("stall = \"400ms\""), "{error}");
    }

    #[test]
    fn the_part_that_is_wrong_is_named() {
        for wrong in Part::ALL {
            let (part, _) = Pressure::from_parts(|part| {
                Some(match part {
                    part if part == wrong => "?",
                    Part::Resource => "memory",
                    Part::Level => "full",
                    Part::Stall => "1ms",
                    Part::Window => "1s",
                    Part::AppliesTo => "slice",
                })
            })
            .unwrap_err();
            assert_eq!(part, Some(wrong));
        }
    }

    #[test]
    fn what_has_another_form_is_refused() {
        for text in [
            "",
            "memory",
            "memory full",
            "memory full 1ms",
            "memory/full/1ms",
        ] {
            assert!(parse(text).unwrap_err().contains("STALL/WINDOW"), "{text}");
        }
        assert!(
            parse("memory ful 1ms/1s")
                .unwrap_err()
                .contains("did you mean \"full\"?")
        );
    }
}
