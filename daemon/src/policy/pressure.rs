// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a stall is an OOM: the `pressure` setting.
//!
//! The words are those of the kernel's Documentation/accounting/psi.rst, and so are the limits of a window.

use super::setting::{SettingError, name_of, one_of, shown};
use crate::systemd::value::{Size, TimeSpan, ValueError, parse_percent, parse_size, parse_time};
use std::fmt;
use std::time::Duration;

/// The shortest window that the kernel watches for BPF (`bpf_psi_create_trigger()`).
pub const SHORTEST_WINDOW: Duration = Duration::from_millis(500);
/// The longest window that the kernel watches (`WINDOW_MAX_US` in kernel/sched/psi.c).
pub const LONGEST_WINDOW: Duration = Duration::from_secs(10);
/// The window where none is said.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(1);

/// The longest time that a stall can be asked to last. Who waits longer than that does not want anything to be done.
pub const LONGEST_LASTING: Duration = Duration::from_secs(3600);

/// A unit that stalls like this is out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// What the kernel watches for.
    pub trigger: Trigger,
    /// How long that has to last.
    pub lasts: Duration,
    /// The memory that the unit uses at least, in bytes. Who uses less is left alone.
    pub min_usage: u64,
    /// What is done.
    pub action: StallAction,
    /// Whose stall: of a slice's own cgroup, or of each unit in it. Means nothing for other units.
    pub applies_to: AppliesTo,
}

/// A stall of that length within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trigger {
    /// What tasks wait for.
    pub resource: Resource,
    /// How many of them.
    pub level: Level,
    /// For how long, in all.
    pub stall: Duration,
    /// Within how long a time.
    pub window: Duration,
}

/// What tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// At least one.
    Some,
    /// All that are not idle.
    #[default]
    Full,
}

/// What is done about a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StallAction {
    /// An OOM is declared.
    #[default]
    Kill,
    /// It is only told who would die.
    Report,
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

impl StallAction {
    const NAMES: [(&'static str, StallAction); 2] =
        [("kill", StallAction::Kill), ("report", StallAction::Report)];
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(*self, &Self::NAMES))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(*self, &Self::NAMES))
    }
}

impl fmt::Display for StallAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(*self, &Self::NAMES))
    }
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
    /// `for`
    For,
    /// `min-usage`
    MinUsage,
    /// `action`
    Action,
    /// `applies-to`
    AppliesTo,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 8] = [
        Part::Resource,
        Part::Level,
        Part::Stall,
        Part::Window,
        Part::For,
        Part::MinUsage,
        Part::Action,
        Part::AppliesTo,
    ];

    /// Those that unit files write as `NAME=VALUE`, behind the others.
    const NAMED: [Part; 3] = [Part::For, Part::MinUsage, Part::Action];

    /// Its name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Part::Resource => "resource",
            Part::Level => "level",
            Part::Stall => "stall",
            Part::Window => "window",
            Part::For => "for",
            Part::MinUsage => "min-usage",
            Part::Action => "action",
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
        let lasts = match part(Part::For) {
            Some(text) => lasting(text).map_err(|error| (Some(Part::For), error))?,
            None => window,
        };
        let min_usage = match part(Part::MinUsage) {
            Some(text) => usage(text).map_err(|error| (Some(Part::MinUsage), error))?,
            None => 0,
        };
        Ok(Pressure {
            trigger: Trigger {
                resource,
                level,
                stall,
                window,
            },
            lasts,
            min_usage,
            action: read(&part, Part::Action, &StallAction::NAMES)?,
            applies_to,
        })
    }

    /// Reads a setting as unit files write it: `RESOURCE LEVEL STALL/WINDOW`, or with a percentage instead of the stall, and then
    /// any of `for=TIME`, `min-usage=SIZE` and `action=ACTION`.
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
        let (stall, rest) = rest.split_once('/').ok_or_else(malformed)?;
        // A time may have spaces in it, so it ends where the next name begins.
        let named: Vec<(Part, usize)> = Part::NAMED
            .into_iter()
            .filter_map(|part| Some((part, place_of(rest, part.name())?)))
            .collect();
        let end = |from: usize| {
            let next = named.iter().map(|(_, at)| *at).filter(|at| *at > from);
            next.min().unwrap_or(rest.len())
        };
        let first = named.iter().map(|(_, at)| *at).min();
        Self::from_parts(|part| match part {
            Part::Resource => Some(resource),
            Part::Level => Some(level),
            Part::Stall => Some(stall.trim()),
            Part::Window => Some(rest[..first.unwrap_or(rest.len())].trim()),
            Part::AppliesTo => None,
            named_part => {
                let (_, at) = named.iter().find(|(part, _)| *part == named_part)?;
                let value = &rest[at + named_part.name().len() + 1..end(*at)];
                Some(value.trim())
            }
        })
        .map_err(|(_, error)| error)
    }
}

/// Where `NAME=` begins a word of `text`.
fn place_of(text: &str, name: &str) -> Option<usize> {
    text.match_indices(name)
        .map(|(at, _)| at)
        .find(|at| text[..*at].ends_with([' ', '\t']) && text[at + name.len()..].starts_with('='))
}

/// As unit files write it.
impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trigger.fmt(f)?;
        if self.lasts != self.trigger.window {
            write!(f, " for={}", TimeSpan(self.lasts))?;
        }
        if self.min_usage != 0 {
            write!(f, " min-usage={}", Size(self.min_usage))?;
        }
        if self.action != StallAction::default() {
            write!(f, " action={}", self.action)?;
        }
        Ok(())
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}/{}",
            self.resource,
            self.level,
            TimeSpan(self.stall),
            TimeSpan(self.window)
        )
    }
}

fn lasting(text: &str) -> Result<Duration, SettingError> {
    match parse_time(text) {
        Ok(Some(time)) if time <= LONGEST_LASTING => Ok(time),
        Ok(_) | Err(ValueError::TooLarge) => {
            Err(PressureError::Lasting { found: shown(text) }.into())
        }
        Err(error) => Err(SettingError::Value {
            found: shown(text),
            error,
        }),
    }
}

/// Nobody uses an infinite amount: that would be a way to say that nothing is to be done, and there is a better one.
fn usage(text: &str) -> Result<u64, SettingError> {
    match parse_size(text) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(PressureError::Usage { found: shown(text) }.into()),
        Err(error) => Err(SettingError::Value {
            found: shown(text),
            error,
        }),
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
        // The kernel counts whole microseconds, and so do those who read what was said.
        parse_percent(text).map(|hundredths| {
            let nanoseconds = window * hundredths / 10_000;
            Some(nanoseconds - Duration::from_nanos(u64::from(nanoseconds.subsec_nanos() % 1_000)))
        })
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
        "found {found:?}, expected \"none\" or \"RESOURCE LEVEL STALL/WINDOW\", such as \"memory full 400ms/1s\""
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
    /// A stall that would have to last for too long.
    #[error("found {found:?}, expected a time span from 0 to 1h")]
    Lasting {
        /// What was written.
        found: String,
    },
    /// An amount of memory that nobody uses.
    #[error("found {found:?}, expected a size such as \"100M\"")]
    Usage {
        /// What was written.
        found: String,
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
    fn a_percentage_is_in_whole_microseconds() {
        let pressure = Pressure::parse("io some 2.5%/7s 1us").unwrap();
        assert_eq!(pressure.trigger.stall, Duration::from_millis(175));
        assert_eq!(Pressure::parse(&pressure.to_string()), Ok(pressure));
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
    fn what_else_is_asked_for_comes_behind_in_any_order() {
        for (text, expected) in [
            (
                "memory full 1ms/1s for=2s min-usage=100M action=report",
                "memory full 1ms/1s for=2s min-usage=100M action=report",
            ),
            (
                "memory full 1ms / 1s 500ms action=kill\tmin-usage=1G 512M for=1min 30s",
                "memory full 1ms/1.5s for=1min 30s min-usage=1536M",
            ),
            ("io some 1ms/1s for=1s", "io some 1ms/1s"),
            ("io some 1ms/1s for=0", "io some 1ms/1s for=0"),
        ] {
            let Ok(said) = parse(text) else {
                panic!("{text}: {:?}", parse(text));
            };
            assert_eq!(Pressure::parse(&said), Pressure::parse(text), "{said}");
            assert_eq!(Pressure::parse(expected), Pressure::parse(text));
        }
        for (text, part) in [
            ("memory full 1ms/1s for=2h", "from 0 to 1h"),
            ("memory full 1ms/1s for=infinity", "from 0 to 1h"),
            ("memory full 1ms/1s min-usage=infinity", "a size such as"),
            (
                "memory full 1ms/1s action=reprot",
                "did you mean \"report\"?",
            ),
            ("memory full 1ms/1s sfor=1s", "a time span"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
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
                    Part::Window | Part::For => "1s",
                    Part::MinUsage => "1M",
                    Part::Action => "report",
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
