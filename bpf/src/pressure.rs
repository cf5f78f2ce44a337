// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a stall is an OOM, what is watched for that, and what came of it. Pure.

use std::time::Duration;

use crate::interface::{
    OOMD_ACTION_KILL, OOMD_ACTION_NONE, OOMD_ACTION_REPORT, OOMD_LEVEL_FULL, OOMD_LEVEL_SOME,
    OOMD_OUTCOME_COOLDOWN, OOMD_OUTCOME_EXITING, OOMD_OUTCOME_KERNEL_KILLED, OOMD_OUTCOME_KILLED,
    OOMD_OUTCOME_NO_DOMAIN, OOMD_OUTCOME_NO_SHORTAGE, OOMD_OUTCOME_NOBODY, OOMD_OUTCOME_REPORTED,
    OOMD_OUTCOME_TOO_SHORT, OOMD_OUTCOME_TOO_SMALL, OOMD_PRESSURE_SELF, OOMD_PRESSURE_UNITS,
    OOMD_RESOURCE_CPU, OOMD_RESOURCE_IO, OOMD_RESOURCE_MEMORY, oomd_pressure, oomd_pressure_said,
    oomd_stall, oomd_trigger, oomd_watch,
};

/// What tasks wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Disks.
    Io,
    /// Memory that has to be reclaimed or read back first.
    Memory,
    /// A processor.
    Cpu,
}

/// How many tasks wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// At least one.
    Some,
    /// All that are not idle.
    Full,
}

/// What is done about a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An OOM is declared.
    Kill,
    /// It is only told that it would be.
    Report,
}

/// What the kernel watches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// What tasks wait for.
    pub resource: Resource,
    /// How many of them.
    pub level: Level,
    /// How long, in all. The kernel counts microseconds.
    pub stall: Duration,
    /// Within how long a time: 500 ms to 10 s.
    pub window: Duration,
}

/// When a stall is an OOM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// The stall.
    pub trigger: Trigger,
    /// How long it has to last.
    pub lasts: Duration,
    /// Bytes that the domain uses at least.
    pub min_usage: u64,
    /// What is done.
    pub action: Action,
}

/// What is said about the pressure of one cgroup: nothing, that there is
/// nothing to be watched, or when it is an OOM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupPressure {
    /// Of the cgroup itself.
    pub own: Option<Option<Pressure>>,
    /// Of each unit in a slice, as far as nothing nearer to the unit says
    /// otherwise.
    pub units: Option<Option<Pressure>>,
}

/// What came of an event of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A policy killed. There is a kill record.
    Killed,
    /// The kernel's own killer chose and killed.
    KernelKilled,
    /// An OOM was declared, but there was nobody to kill.
    Nobody,
    /// An OOM would have been declared.
    Reported,
    /// Not acted: the stall does not last long enough yet.
    TooShort,
    /// Not acted: the domain uses too little memory.
    TooSmall,
    /// Not acted: it is not for want of memory.
    NoShortage,
    /// Not acted: a victim is on its way out.
    Exiting,
    /// Not acted: the cooldown of the domain's last kill has not passed.
    Cooldown,
    /// Not acted: there is no memory controller, or the cgroup is gone.
    NoDomain,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 10] = [
        Outcome::Killed,
        Outcome::KernelKilled,
        Outcome::Nobody,
        Outcome::Reported,
        Outcome::TooShort,
        Outcome::TooSmall,
        Outcome::NoShortage,
        Outcome::Exiting,
        Outcome::Cooldown,
        Outcome::NoDomain,
    ];

    fn encode(self) -> u32 {
        match self {
            Self::Killed => OOMD_OUTCOME_KILLED,
            Self::KernelKilled => OOMD_OUTCOME_KERNEL_KILLED,
            Self::Nobody => OOMD_OUTCOME_NOBODY,
            Self::Reported => OOMD_OUTCOME_REPORTED,
            Self::TooShort => OOMD_OUTCOME_TOO_SHORT,
            Self::TooSmall => OOMD_OUTCOME_TOO_SMALL,
            Self::NoShortage => OOMD_OUTCOME_NO_SHORTAGE,
            Self::Exiting => OOMD_OUTCOME_EXITING,
            Self::Cooldown => OOMD_OUTCOME_COOLDOWN,
            Self::NoDomain => OOMD_OUTCOME_NO_DOMAIN,
        }
    }

    pub(crate) fn decode(code: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.encode() == code)
    }
}

/// A cgroup that has a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The trigger.
    pub trigger: Trigger,
    counts: [u64; Outcome::ALL.len()],
}

impl Watch {
    /// One of which no event is known yet.
    #[must_use]
    pub fn new(trigger: Trigger) -> Self {
        Self {
            trigger,
            counts: [0; Outcome::ALL.len()],
        }
    }

    /// One event more had this outcome.
    pub fn note(&mut self, outcome: Outcome) {
        self.counts[outcome.encode() as usize] += 1;
    }

    /// How often an event had this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts[outcome.encode() as usize]
    }

    /// `None` for an entry that is only being made.
    pub(crate) fn decode(watch: &oomd_watch) -> Option<Self> {
        Some(Self {
            trigger: trigger(watch.resource, watch.level, watch.stall_us, watch.window_us)?,
            counts: watch.outcomes,
        })
    }
}

/// The stall for which an OOM was declared, or would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// What tasks waited for.
    pub resource: Resource,
    /// How many of them.
    pub level: Level,
    /// How long they waited in the last window, as measured.
    pub stall: Duration,
    /// The window.
    pub window: Duration,
    /// How long the stall had lasted, since its first event.
    pub lasted: Duration,
    /// Pages that reclaim looked at in the domain since the event before.
    pub scanned: u64,
    /// How often memory.high was reached in the domain since the event before.
    pub high_events: u64,
    /// How often memory.max was reached in the domain since the event before.
    pub max_events: u64,
    /// Whether the domain, something in it or something above it was over its
    /// memory.high, whose tasks are then held back.
    pub over_high: bool,
}

impl Stall {
    /// `None` if it cannot be.
    pub(crate) fn decode(stall: &oomd_stall) -> Option<Self> {
        Some(Self {
            resource: Resource::decode(stall.resource)?,
            level: Level::decode(stall.level)?,
            stall: Duration::from_micros(stall.stall_us),
            window: Duration::from_micros(stall.window_us),
            lasted: Duration::from_micros(stall.lasted_us),
            scanned: stall.scanned,
            high_events: stall.high_events,
            max_events: stall.max_events,
            over_high: stall.over_high != 0,
        })
    }
}

impl Resource {
    fn encode(self) -> u32 {
        match self {
            Self::Io => OOMD_RESOURCE_IO,
            Self::Memory => OOMD_RESOURCE_MEMORY,
            Self::Cpu => OOMD_RESOURCE_CPU,
        }
    }

    fn decode(code: u32) -> Option<Self> {
        [Self::Io, Self::Memory, Self::Cpu]
            .into_iter()
            .find(|resource| resource.encode() == code)
    }
}

impl Level {
    fn encode(self) -> u32 {
        match self {
            Self::Some => OOMD_LEVEL_SOME,
            Self::Full => OOMD_LEVEL_FULL,
        }
    }

    fn decode(code: u32) -> Option<Self> {
        [Self::Some, Self::Full]
            .into_iter()
            .find(|level| level.encode() == code)
    }
}

impl Trigger {
    pub(crate) fn encode(&self, cgroup_id: u64) -> oomd_trigger {
        oomd_trigger {
            cgroup_id,
            resource: self.resource.encode(),
            level: self.level.encode(),
            stall_us: microseconds(self.stall),
            window_us: microseconds(self.window),
            result: 0,
            reserved: 0,
        }
    }
}

fn trigger(resource: u32, level: u32, stall_us: u32, window_us: u32) -> Option<Trigger> {
    Some(Trigger {
        resource: Resource::decode(resource)?,
        level: Level::decode(level)?,
        stall: Duration::from_micros(stall_us.into()),
        window: Duration::from_micros(window_us.into()),
    })
    .filter(|trigger| !trigger.window.is_zero())
}

/// The kernel takes no window that does not fit, and no longer stall.
fn microseconds(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

impl CgroupPressure {
    pub(crate) fn encode(&self) -> oomd_pressure_said {
        let bit = |said: bool, bit: u32| if said { bit } else { 0 };
        oomd_pressure_said {
            said: bit(self.own.is_some(), OOMD_PRESSURE_SELF)
                | bit(self.units.is_some(), OOMD_PRESSURE_UNITS),
            reserved: 0,
            self_: encode(self.own.flatten()),
            units: encode(self.units.flatten()),
        }
    }

    pub(crate) fn decode(said: &oomd_pressure_said) -> Self {
        let part = |bit: u32, pressure| (said.said & bit != 0).then(|| decode(pressure));
        Self {
            own: part(OOMD_PRESSURE_SELF, &said.self_),
            units: part(OOMD_PRESSURE_UNITS, &said.units),
        }
    }
}

fn encode(pressure: Option<Pressure>) -> oomd_pressure {
    let mut code = oomd_pressure {
        action: OOMD_ACTION_NONE,
        resource: 0,
        level: 0,
        stall_us: 0,
        window_us: 0,
        reserved: 0,
        for_us: 0,
        min_usage: 0,
    };
    if let Some(pressure) = pressure {
        code.action = match pressure.action {
            Action::Kill => OOMD_ACTION_KILL,
            Action::Report => OOMD_ACTION_REPORT,
        };
        code.resource = pressure.trigger.resource.encode();
        code.level = pressure.trigger.level.encode();
        code.stall_us = microseconds(pressure.trigger.stall);
        code.window_us = microseconds(pressure.trigger.window);
        code.for_us = u64::try_from(pressure.lasts.as_micros()).unwrap_or(u64::MAX);
        code.min_usage = pressure.min_usage;
    }
    code
}

fn decode(code: &oomd_pressure) -> Option<Pressure> {
    Some(Pressure {
        action: match code.action {
            OOMD_ACTION_KILL => Action::Kill,
            OOMD_ACTION_REPORT => Action::Report,
            _ => return None,
        },
        trigger: trigger(code.resource, code.level, code.stall_us, code.window_us)?,
        lasts: Duration::from_micros(code.for_us),
        min_usage: code.min_usage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::{OOMD_OUTCOMES, bytes_of};

    const PRESSURE: Pressure = Pressure {
        trigger: Trigger {
            resource: Resource::Memory,
            level: Level::Full,
            stall: Duration::from_millis(400),
            window: Duration::from_secs(1),
        },
        lasts: Duration::from_secs(2),
        min_usage: 7 << 20,
        action: Action::Report,
    };

    #[test]
    fn there_is_a_count_for_every_outcome() {
        assert_eq!(Outcome::ALL.len(), OOMD_OUTCOMES as usize);
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.encode() as usize, index);
            assert_eq!(Outcome::decode(outcome.encode()), Some(outcome));
        }
        assert_eq!(Outcome::decode(OOMD_OUTCOMES), None);
    }

    #[test]
    fn what_is_noted_is_counted() {
        let mut watch = Watch::new(PRESSURE.trigger);
        for outcome in Outcome::ALL {
            watch.note(outcome);
        }
        watch.note(Outcome::Cooldown);
        assert_eq!(watch.count(Outcome::Cooldown), 2);
        assert_eq!(watch.count(Outcome::Killed), 1);
    }

    #[test]
    fn what_is_said_comes_back() {
        for own in [None, Some(None), Some(Some(PRESSURE))] {
            for units in [None, Some(None), Some(Some(PRESSURE))] {
                let said = CgroupPressure { own, units };
                assert_eq!(CgroupPressure::decode(&said.encode()), said);
            }
        }
    }

    #[test]
    fn saying_nothing_is_all_zeroes() {
        let said = CgroupPressure::default().encode();
        assert!(bytes_of(&said).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn times_are_told_in_microseconds() {
        let said = CgroupPressure {
            own: Some(Some(PRESSURE)),
            units: None,
        };
        let code = said.encode();
        assert_eq!(code.said, OOMD_PRESSURE_SELF);
        assert_eq!(code.self_.stall_us, 400_000);
        assert_eq!(code.self_.window_us, 1_000_000);
        assert_eq!(code.self_.for_us, 2_000_000);
        let trigger = PRESSURE.trigger.encode(5);
        assert_eq!((trigger.cgroup_id, trigger.stall_us), (5, 400_000));
    }

    #[test]
    fn every_resource_and_level_comes_back() {
        for resource in [Resource::Io, Resource::Memory, Resource::Cpu] {
            assert_eq!(Resource::decode(resource.encode()), Some(resource));
        }
        for level in [Level::Some, Level::Full] {
            assert_eq!(Level::decode(level.encode()), Some(level));
        }
        assert_eq!(Resource::decode(3), None);
        assert_eq!(Level::decode(2), None);
    }
}
