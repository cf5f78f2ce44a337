// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a stall that the kernel told of is an OOM. Pure: the same rules, in the same order, as in `bpf/pressure.bpf.c`.

use crate::policy::Pressure;
use bpf_oomd_bpf::pressure::{self, Outcome, Stall};
use std::time::Duration;

/// Counters of a domain that only ever grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    /// Pages that reclaim looked at (`pgscan_kswapd` and `pgscan_direct` of `memory.stat`).
    pub(super) scanned: u64,
    /// How often memory.high was reached (`high` of `memory.events`).
    pub(super) high: u64,
    /// How often memory.max was reached (`max` of `memory.events`).
    pub(super) max: u64,
}

impl Counters {
    /// By how much they have grown since `before`. A counter that is smaller than it was is a new one.
    fn since(self, before: Counters) -> Counters {
        let growth = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Counters {
            scanned: growth(self.scanned, before.scanned),
            high: growth(self.high, before.high),
            max: growth(self.max, before.max),
        }
    }

    fn any(self) -> bool {
        self != Counters::default()
    }
}

/// What is looked at in a domain when its trigger has fired. Some of it costs more than the rest, and is asked for only if it matters.
pub(super) trait Domain {
    /// How long tasks have stalled there so far, by the trigger's resource and level.
    fn stalled(&self) -> Duration;
    /// Its counters.
    fn counters(&self) -> Counters;
    /// Its memory use, in bytes.
    fn usage(&self) -> u64;
    /// Whether it or something above it is over its memory.high.
    fn is_held_back(&self) -> bool;
    /// Whether something in it is.
    fn holds_back_inside(&self) -> bool;
    /// Whether a victim in it is on its way out and may take its time.
    fn is_exiting(&self) -> bool;
    /// Whether its last kill is given time to take effect.
    fn cools_down(&self) -> bool;
}

/// What is remembered of the events of one trigger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    /// When the stall that goes on began.
    began: Option<Duration>,
    /// When the last event was, and how long tasks had stalled by then.
    last: Option<(Duration, Duration)>,
    counters: Counters,
    stall: Stall,
}

impl Guard {
    /// Of a trigger that is new. What happened before it, which `counters` say, is no reason to act.
    pub(super) fn new(trigger: pressure::Trigger, counters: Counters) -> Self {
        Guard {
            began: None,
            last: None,
            counters,
            stall: Stall {
                resource: trigger.resource,
                level: trigger.level,
                stall: Duration::ZERO,
                window: trigger.window,
                lasted: Duration::ZERO,
                scanned: 0,
                high_events: 0,
                max_events: 0,
                over_high: false,
            },
        }
    }

    /// The stall as it was at the last event.
    pub(super) fn stall(&self) -> Stall {
        self.stall
    }

    /// Takes an event of the trigger. None says: act. `now` is a time that goes on evenly.
    pub(super) fn event(
        &mut self,
        said: &Pressure,
        now: Duration,
        domain: &dyn Domain,
    ) -> Option<Outcome> {
        let lasts = self.lasts(said, now, domain.stalled());
        let counters = domain.counters();
        let growth = counters.since(self.counters);
        self.counters = counters;
        self.stall.scanned = growth.scanned;
        self.stall.high_events = growth.high;
        self.stall.max_events = growth.max;
        self.stall.over_high = false;
        if !lasts {
            return Some(Outcome::TooShort);
        }
        if domain.usage() < said.min_usage {
            return Some(Outcome::TooSmall);
        }
        // A walk over the whole domain, when memory is short: only if nothing else tells.
        self.stall.over_high =
            domain.is_held_back() || (!growth.any() && domain.holds_back_inside());
        // Who asks for another resource does not ask about memory.
        let is_shortage = growth.any() || self.stall.over_high;
        if self.stall.resource == pressure::Resource::Memory && !is_shortage {
            return Some(Outcome::NoShortage);
        }
        if domain.is_exiting() {
            return Some(Outcome::Exiting);
        }
        if domain.cools_down() {
            return Some(Outcome::Cooldown);
        }
        None
    }

    /// Whether the stall has lasted long enough. Events of one stall are one window apart, and a little more, as the kernel looks ten
    /// times in a window; after a longer pause it is another stall.
    fn lasts(&mut self, said: &Pressure, now: Duration, stalled: Duration) -> bool {
        let window = said.trigger.window;
        // What the kernel says, where there is nothing to compare with.
        let mut measured = said.trigger.stall;
        match (self.began, self.last) {
            (Some(_), Some((then, before))) if now.saturating_sub(then) <= 2 * window => {
                let since = now.saturating_sub(then).max(Duration::from_micros(1));
                let part = stalled.saturating_sub(before).as_secs_f64() / since.as_secs_f64();
                measured = window.mul_f64(part.min(1.0));
            }
            _ => self.began = Some(now),
        }
        self.last = Some((now, stalled));
        // The kernel tells of a stall that is over by now, once.
        if measured < said.trigger.stall {
            self.began = None;
        }
        self.stall.stall = measured;
        self.stall.lasted = self
            .began
            .map_or(Duration::ZERO, |began| now.saturating_sub(began));
        // Events come late by different times.
        self.began.is_some() && self.stall.lasted + window / 8 >= said.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A domain in which everything speaks for acting.
    #[derive(Debug, Clone, Copy)]
    struct Scene {
        stalled: Duration,
        counters: Counters,
        usage: u64,
        held_back: bool,
        inside: bool,
        exiting: bool,
        cools_down: bool,
    }

    impl Domain for Scene {
        fn stalled(&self) -> Duration {
            self.stalled
        }
        fn counters(&self) -> Counters {
            self.counters
        }
        fn usage(&self) -> u64 {
            self.usage
        }
        fn is_held_back(&self) -> bool {
            self.held_back
        }
        fn holds_back_inside(&self) -> bool {
            self.inside
        }
        fn is_exiting(&self) -> bool {
            self.exiting
        }
        fn cools_down(&self) -> bool {
            self.cools_down
        }
    }

    fn said(text: &str) -> Pressure {
        Pressure::parse(text).unwrap()
    }

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// After so many milliseconds of stall, with as many pages scanned.
    fn scene(stalled: u64) -> Scene {
        Scene {
            stalled: ms(stalled),
            counters: Counters {
                scanned: stalled,
                ..Counters::default()
            },
            usage: 1 << 30,
            held_back: false,
            inside: false,
            exiting: false,
            cools_down: false,
        }
    }

    fn guard(said: &Pressure) -> Guard {
        Guard::new((&said.trigger).into(), Counters::default())
    }

    #[test]
    fn a_stall_acts_when_it_has_lasted() {
        let said = said("memory full 400ms/1s for=3s");
        let mut guard = guard(&said);
        for second in 0..3 {
            let outcome = guard.event(
                &said,
                ms(100_000 + second * 1_050),
                &scene(400 + second * 500),
            );
            assert_eq!(outcome, Some(Outcome::TooShort), "{second}");
        }
        assert_eq!(guard.event(&said, ms(103_150), &scene(2000)), None);
        let stall = guard.stall();
        assert_eq!(stall.lasted, ms(3_150));
        assert!((ms(571)..ms(572)).contains(&stall.stall), "{stall:?}");
        assert_eq!(stall.scanned, 600);
    }

    #[test]
    fn without_a_time_to_last_the_first_event_acts() {
        let said = said("memory full 400ms/1s for=0");
        assert_eq!(guard(&said).event(&said, ms(1), &scene(400)), None);
    }

    #[test]
    fn a_pause_begins_another_stall() {
        let said = said("memory full 400ms/1s for=1s");
        let mut guard = guard(&said);
        guard.event(&said, ms(10_000), &scene(400));
        assert_eq!(
            guard.event(&said, ms(12_001), &scene(2_400)),
            Some(Outcome::TooShort)
        );
        assert_eq!(guard.event(&said, ms(13_000), &scene(3_300)), None);
    }

    #[test]
    fn a_stall_that_is_over_when_it_is_told_does_not_go_on() {
        let said = said("memory full 400ms/1s for=1s");
        let mut guard = guard(&said);
        guard.event(&said, ms(10_000), &scene(400));
        // Told once more, but less than the threshold since.
        assert_eq!(
            guard.event(&said, ms(11_100), &scene(500)),
            Some(Outcome::TooShort)
        );
        assert_eq!(
            guard.event(&said, ms(12_100), &scene(1_400)),
            Some(Outcome::TooShort),
            "it begins here"
        );
        assert_eq!(guard.event(&said, ms(13_100), &scene(2_300)), None);
    }

    #[test]
    fn the_first_reason_counts() {
        let said = said("memory full 400ms/1s for=0 min-usage=1G");
        let decide = |scene: Scene| guard(&said).event(&said, ms(1), &scene);
        let nothing_for_it = Scene {
            usage: 1,
            counters: Counters::default(),
            exiting: true,
            cools_down: true,
            ..scene(400)
        };
        assert_eq!(decide(nothing_for_it), Some(Outcome::TooSmall));
        let large = Scene {
            usage: 1 << 30,
            ..nothing_for_it
        };
        assert_eq!(decide(large), Some(Outcome::NoShortage));
        let short = Scene {
            inside: true,
            ..large
        };
        assert_eq!(decide(short), Some(Outcome::Exiting));
        let gone = Scene {
            exiting: false,
            ..short
        };
        assert_eq!(decide(gone), Some(Outcome::Cooldown));
        assert_eq!(
            decide(Scene {
                cools_down: false,
                ..gone
            }),
            None
        );
    }

    #[test]
    fn any_of_these_is_a_shortage() {
        let said = said("memory full 400ms/1s for=0");
        let none = Scene {
            counters: Counters::default(),
            ..scene(400)
        };
        let decide = |scene: Scene| guard(&said).event(&said, ms(1), &scene);
        assert_eq!(decide(none), Some(Outcome::NoShortage));
        for counters in [
            Counters {
                scanned: 1,
                ..Counters::default()
            },
            Counters {
                high: 1,
                ..Counters::default()
            },
            Counters {
                max: 1,
                ..Counters::default()
            },
        ] {
            assert_eq!(decide(Scene { counters, ..none }), None);
        }
        assert_eq!(
            decide(Scene {
                held_back: true,
                ..none
            }),
            None
        );
    }

    #[test]
    fn what_was_counted_before_the_trigger_is_no_shortage() {
        let said = said("memory full 400ms/1s for=0");
        let mut guard = Guard::new((&said.trigger).into(), scene(400).counters);
        assert_eq!(
            guard.event(&said, ms(1), &scene(400)),
            Some(Outcome::NoShortage)
        );
    }

    #[test]
    fn a_stall_on_disks_needs_no_shortage_of_memory() {
        let said = said("io full 400ms/1s for=0");
        let scene = Scene {
            counters: Counters::default(),
            ..scene(400)
        };
        assert_eq!(guard(&said).event(&said, ms(1), &scene), None);
    }

    proptest! {
        /// Whatever comes, nothing acts before it has lasted, and what is measured fits into the window.
        #[test]
        fn nothing_acts_too_soon(
            events in prop::collection::vec((1..5_000u64, 0..5_000u64), 1..40),
            lasts in 0..10u64,
        ) {
            let said = said(&format!("memory full 400ms/1s for={lasts}s"));
            let mut guard = guard(&said);
            let (mut now, mut stalled, mut first) = (0, 0, None);
            for (pause, stall) in events {
                now += pause;
                stalled += stall;
                first.get_or_insert(now);
                let outcome = guard.event(&said, ms(now), &scene(stalled));
                prop_assert!(guard.stall().stall <= ms(1_000));
                if outcome.is_none() {
                    let lasted = now - first.unwrap();
                    prop_assert!(lasted + 125 >= lasts * 1_000);
                }
            }
        }
    }
}
