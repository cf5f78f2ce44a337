// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said at run time: a policy for one unit, until it is reset or its time is over.

use super::{Assignment, Key, Layer, Policy, Provenance, Speaker, Value};
use crate::systemd::value::TimeSpan;
use std::fmt;
use std::time::Duration;

/// The longest time for which something can be said, some 146,000 years: half of what a signed number of microseconds holds, so
/// that the moment when it is over is such a number too.
pub const LONGEST_TIME: Duration = Duration::from_micros(i64::MAX as u64 / 2);

/// A policy that one unit was given at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTimeSetting {
    /// The policy.
    pub policy: Policy,
    /// The user who said so.
    pub uid: u32,
    /// When it was said, in microseconds since 1970.
    pub at: u64,
    /// How long it is to last. None until it is reset.
    pub term: Option<Term>,
}

/// The time for which something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// How long from the moment when it was said.
    pub length: Duration,
    /// When it is over, in microseconds of CLOCK_BOOTTIME.
    pub end: u64,
}

impl Term {
    /// A time that begins now, by CLOCK_BOOTTIME.
    pub fn from(now: u64, length: Duration) -> Self {
        let length = length.min(LONGEST_TIME);
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        Term {
            length,
            end: now.saturating_add(micros).min(i64::MAX as u64),
        }
    }
}

impl RunTimeSetting {
    /// Whether its time is over.
    pub fn is_over(&self, now: u64) -> bool {
        self.term.is_some_and(|term| term.end <= now)
    }

    /// As a source of the unit.
    pub fn source(&self) -> (Speaker, Layer) {
        said(self.to_string(), self.policy.clone())
    }
}

/// What was said at run time as a source of a unit: who said it when and for how long in words, and the policy.
pub fn said(how: String, policy: Policy) -> (Speaker, Layer) {
    // No file has it, so there is no place; the speaker says what there is to know.
    let at = Provenance {
        file: "org.bpfoomd1".into(),
        line: 0,
        column: 0,
    };
    let value = Some(Value::Policy(policy));
    let layer = [(Key::Policy, Assignment { value, at })];
    (Speaker::RunTime(how), layer.into_iter().collect())
}

/// `set by uid 0 at 2026-11-25 14:12:14 UTC until reset`, or `for 10min`.
impl fmt::Display for RunTimeSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set by uid {} at {}", self.uid, Utc(self.at))?;
        match self.term {
            Some(term) => write!(f, " for {}", TimeSpan(term.length)),
            None => f.write_str(" until reset"),
        }
    }
}

/// A moment in microseconds since 1970, written as systemd.time(7) reads it.
struct Utc(u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Years that begin in March, so that the leap day is the last one, counted from 1 March of the year 0.
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, next) = match month {
            0..10 => (month + 3, 0),
            _ => (month - 9, 1),
        };
        let year = year + era * 400 + next;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{UnitSaid, Verdict, World};

    fn setting(term: Option<Term>) -> RunTimeSetting {
        RunTimeSetting {
            policy: Policy::Kernel,
            uid: 1000,
            at: 1_795_615_934_000_000,
            term,
        }
    }

    #[test]
    fn it_is_told_by_whom_and_when_and_for_how_long() {
        assert_eq!(
            setting(None).to_string(),
            "set by uid 1000 at 2026-11-25 14:12:14 UTC until reset"
        );
        let term = Term::from(7, Duration::from_secs(90));
        assert_eq!(
            setting(Some(term)).to_string(),
            "set by uid 1000 at 2026-11-25 14:12:14 UTC for 1min 30s"
        );
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_799, "2000-02-29 23:59:59 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_704_067_199, "2023-12-31 23:59:59 UTC"),
            (1_709_164_800, "2024-02-29 00:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(Utc(seconds * 1_000_000).to_string(), expected);
        }
        // Whatever a file says.
        let _ = Utc(u64::MAX).to_string();
    }

    #[test]
    fn a_time_is_over_at_its_end_and_not_before() {
        let limited = setting(Some(Term::from(100, Duration::from_micros(5))));
        assert!(!limited.is_over(104));
        assert!(limited.is_over(105));
        assert!(!setting(None).is_over(u64::MAX));
        let endless = Term::from(u64::MAX, Duration::MAX);
        assert_eq!(endless.end, i64::MAX as u64);
    }

    fn world(sources: &[(&str, (Speaker, Layer))]) -> World {
        let mut world = World::default();
        for (unit, slice) in [
            ("x.service", Some("a.slice")),
            ("a.slice", Some("-.slice")),
            ("-.slice", None),
        ] {
            let said = UnitSaid {
                sources: sources
                    .iter()
                    .filter(|(about, _)| *about == unit)
                    .map(|(_, source)| source.clone())
                    .collect(),
                slice: slice.map(str::to_owned),
            };
            world.units.insert(unit.to_owned(), said);
        }
        world
    }

    fn files(policy: Policy) -> (Speaker, Layer) {
        let (_, layer) = said(String::new(), policy);
        (Speaker::UnitFiles, layer)
    }

    #[test]
    fn it_comes_before_the_units_own_files_and_after_them_when_it_is_reset() {
        let program = Policy::Bpf("p".into());
        let own = ("x.service", files(program.clone()));
        let set = world(&[("x.service", setting(None).source()), own.clone()]);
        assert_eq!(set.policy("x.service"), Policy::Kernel);
        let told: Vec<String> = set
            .explain("x.service", Key::Policy)
            .iter()
            .map(|it| format!("{}: {}", it.speaker, it.verdict))
            .collect();
        assert_eq!(
            told,
            [
                "run time: decides",
                "unit files: overruled by what comes before it",
                "built in: overruled by what comes before it"
            ]
        );
        assert_eq!(world(&[own]).policy("x.service"), program);
    }

    #[test]
    fn what_is_said_for_a_slice_is_inherited_and_does_not_overrule_what_is_said_below() {
        let program = Policy::Bpf("p".into());
        let slice = ("a.slice", said(String::new(), program.clone()));
        let inherits = world(std::slice::from_ref(&slice));
        assert_eq!(inherits.policy("x.service"), program);
        let below = world(&[slice, ("x.service", files(Policy::Kernel))]);
        assert_eq!(below.policy("x.service"), Policy::Kernel);
        let verdicts = below.explain("x.service", Key::Policy);
        assert_eq!(verdicts[1].about, "a.slice");
        assert_eq!(verdicts[1].verdict, Verdict::Overruled);
    }
}
