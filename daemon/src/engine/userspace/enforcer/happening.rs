// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done when something happens.
//!
//! Up to the kill nothing here asks for memory, once the targets are ready, or opens a file, but for those of cgroups that are at
//! their limits.

use super::deciding::Urgency;
use super::watching::LimitEvents;
use super::{Enforcer, Source, time_ns};
use crate::engine::userspace::guard::{Counters, Domain};
use crate::engine::userspace::now;
use crate::engine::userspace::place::Place;
use crate::engine::userspace::reading::Room;
use crate::engine::userspace::sources::{BELL, Happened, Sources, TIMER};
use crate::engine::userspace::watched::Watched;
use crate::engine::{Event, Outcome, Reason, Stall, Stalled};
use crate::policy::{CgroupId, Level, Pressure, StallAction, Trigger};
use std::sync::Arc;
use std::time::Duration;
use tracing::error;

/// How long after pressure the machine's memory is looked at, and how often.
const MACHINE_WATCHED: Duration = Duration::from_secs(3);
const MACHINE_PERIOD: Duration = Duration::from_millis(250);

/// How long it is not heard of a limit that was reached. Page cache reaches it all the time.
const LIMIT_PERIOD: Duration = Duration::from_millis(250);

/// How long memory counts as short after it was.
const SHORT: Duration = Duration::from_secs(3);

impl Enforcer {
    /// Acts on what happened.
    pub(in crate::engine::userspace) fn act_on(
        &mut self,
        sources: &Sources,
        happened: &[Happened],
    ) {
        self.aftermath.look();
        for happened in happened {
            match happened.token {
                TIMER | BELL => {}
                token => match self.tokens.get(&token).copied() {
                    Some(Source::Stall(id)) => self.stall(sources, id, *happened),
                    Some(Source::Limit(id)) => self.limit(sources, id),
                    Some(Source::Machine) => {
                        let now = now();
                        if let Some(watch) = &mut self.machine_watch {
                            watch.next = Some((now, now + MACHINE_WATCHED));
                        }
                    }
                    Some(Source::Warned) => {}
                    // Of something that is not watched any more.
                    None => {}
                },
            }
        }
        self.look_at_warned(sources);
        self.on_time(sources);
        self.set_timer(sources);
    }

    /// What is due.
    fn on_time(&mut self, sources: &Sources) {
        let now = now();
        for watch in self.limits.values_mut() {
            if watch.silent_until.is_none_or(|until| until > now) {
                continue;
            }
            watch.silent_until = None;
            if let Err(error) = sources.add(&watch.file, watch.token) {
                error!(
                    "{}: its limit is not watched any more: {error}",
                    watch.place.path
                );
            }
        }
        while let Some(waiting) = self.pending.take_due(now) {
            self.carry_out(sources, waiting);
        }
        match self.machine.nominate {
            true => self.nominees.look(&self.tree, now),
            false => self.nominees.take_back_all(&self.tree),
        }
        if self.ready_until.is_some_and(|until| until <= now) {
            self.ready_until = None;
            self.ready.clear();
        }
        self.look_at_the_machine_if_due(sources, now);
    }

    fn look_at_the_machine_if_due(&mut self, sources: &Sources, now: Duration) {
        let Some(watch) = &mut self.machine_watch else {
            return;
        };
        let Some((next, until)) = watch.next else {
            return;
        };
        if next > now {
            return;
        }
        let again = now + MACHINE_PERIOD;
        watch.next = (again <= until).then_some((again, until));
        let system = Arc::clone(&watch.system);
        self.look_at_the_machine(sources, &system);
    }

    pub(super) fn set_timer(&self, sources: &Sources) {
        let of_machine = self
            .machine_watch
            .as_ref()
            .and_then(|watch| Some(watch.next?.0));
        let of_limits = self.limits.values().filter_map(|watch| watch.silent_until);
        let others = [
            of_machine,
            self.pending.next(),
            self.nominees.next(),
            self.ready_until,
        ];
        let next = of_limits.chain(others.into_iter().flatten()).min();
        if let Err(error) = sources.set_timer(next) {
            error!("The timer cannot be set: {error}");
        }
    }

    fn stall(&mut self, sources: &Sources, id: CgroupId, happened: Happened) {
        // A pressure file that fails is of a cgroup that is gone.
        if happened.failed {
            self.drop_stall(id);
            if id != CgroupId::SYSTEM {
                self.events.push(Event::CgroupGone(id));
            }
            return;
        }
        let Some(watch) = self.stalls.get(&id) else {
            return;
        };
        let watched = Arc::clone(&watch.watched);
        let chain = &watched.place.chain;
        let said = match self.attachments.contains_key(&id) {
            true => self.said.pressure_of_attached(chain),
            false => self.said.pressure(chain).flatten(),
        };
        // What is said may be something else by now, and the trigger is about to be.
        let there = Trigger::from(&watch.watch.trigger);
        let Some(said) = said.filter(|said| said.trigger == there) else {
            return;
        };
        let look = Look {
            enforcer: self,
            watched: &watched,
            level: said.trigger.level,
        };
        let mut guard = watch.guard;
        let outcome = guard.event(&said, now(), &look);
        if outcome == Some(Outcome::TooShort) && said.action == StallAction::Kill {
            self.get_ready(&watched.place, now() + SHORT.max(2 * said.trigger.window));
        }
        let outcome =
            outcome.unwrap_or_else(|| self.declare(sources, &watched.place, &said, guard.stall()));
        if let Some(watch) = self.stalls.get_mut(&id) {
            watch.guard = guard;
            watch.watch.note(outcome);
        }
    }

    /// An OOM for a stall.
    fn declare(
        &mut self,
        sources: &Sources,
        domain: &Place,
        said: &Pressure,
        stall: Stall,
    ) -> Outcome {
        let reason = Reason::Pressure(stall);
        let outcome = match said.action {
            StallAction::Report => Outcome::Reported,
            StallAction::Kill => self.out_of_memory(sources, domain, reason, Urgency::CanWait),
        };
        if matches!(outcome, Outcome::Reported | Outcome::Nobody) {
            self.tell(domain, stall, outcome);
        }
        outcome
    }

    /// Of what repeats itself with every window, no more is told than there would be kills.
    fn tell(&mut self, domain: &Place, stall: Stall, outcome: Outcome) {
        let now = now();
        let cooldown = self.said.cooldown(&domain.chain);
        let before = self.told.get(&domain.id);
        if before.is_some_and(|before| now.saturating_sub(*before) < cooldown) {
            return;
        }
        let event = Event::Stalled(Stalled {
            time_ns: time_ns(),
            domain: domain.id,
            domain_path: Some(domain.path.clone()),
            usage: domain.usage(),
            stall,
            outcome,
        });
        self.told.insert(domain.id, now);
        self.events.push(event);
    }

    /// A limit was reached somewhere in a cgroup with a policy.
    fn limit(&mut self, sources: &Sources, id: CgroupId) {
        let Some(watch) = self.limits.get_mut(&id) else {
            return;
        };
        let mut room = Room::new();
        // By the file that is waited for: reading it is what makes it wait for the next.
        let said = room.read(&watch.file);
        if said.is_empty() {
            self.drop_limit(id);
            self.events.push(Event::CgroupGone(id));
            return;
        }
        let events = LimitEvents::parse(said);
        let before = std::mem::replace(&mut watch.seen, events);
        sources.remove(&watch.file);
        watch.silent_until = Some(now() + LIMIT_PERIOD);
        if !events.calls_for_a_look(before) {
            return;
        }
        let place = Arc::clone(&watch.place);
        let swap_free = self.machine_memory().map_or(0, |memory| memory.swap_free);
        let mut out = std::mem::take(&mut self.out);
        place.out_of_memory(swap_free, &mut |id| out.push(id));
        if out.is_empty() {
            self.get_ready(&place, now() + SHORT);
        }
        for domain in out.drain(..) {
            // The kernel's killer is next: what waits is waited for no longer.
            while let Some(waiting) = self.pending.take_inside(domain) {
                self.carry_out(sources, waiting);
            }
            let opened = match domain == place.id {
                true => Ok(Arc::clone(&place)),
                false => Place::open(&self.tree, domain).map(Arc::new),
            };
            if let Ok(domain) = opened
                && self.may_kill(&domain)
            {
                self.out_of_memory(sources, &domain, Reason::Allocation, Urgency::Now);
            }
        }
        self.out = out;
    }

    fn look_at_the_machine(&mut self, sources: &Sources, system: &Place) {
        let Some(memory) = self.machine_memory() else {
            return error!("/proc/meminfo does not say how much memory there is");
        };
        if !memory.is_low(&self.machine) {
            return self.get_ready(system, now() + SHORT);
        }
        // Half of what is said is the last there is time for.
        let urgency = match memory.is_very_low(&self.machine) {
            true => Urgency::Now,
            false => Urgency::CanWait,
        };
        if urgency == Urgency::Now {
            while let Some(waiting) = self.pending.take_inside(CgroupId::SYSTEM) {
                self.carry_out(sources, waiting);
            }
        }
        if self.may_kill(system) {
            self.out_of_memory(sources, system, Reason::Allocation, urgency);
        }
    }

    fn may_kill(&self, domain: &Place) -> bool {
        !self.is_exiting(domain) && !self.cools_down(domain)
    }

    /// Whether a victim in a domain is on its way out, or about to be.
    fn is_exiting(&self, domain: &Place) -> bool {
        let cooldown = self.said.cooldown(&domain.chain);
        self.pending.is_inside(domain.id) || self.aftermath.is_exiting(domain.id, cooldown, now())
    }

    fn cools_down(&self, domain: &Place) -> bool {
        let cooldown = self.said.cooldown(&domain.chain);
        self.aftermath.cools_down(domain.id, cooldown, now())
    }
}

/// A look at a domain that stalls.
struct Look<'a> {
    enforcer: &'a Enforcer,
    watched: &'a Watched,
    level: Level,
}

impl Domain for Look<'_> {
    fn stalled(&self) -> Duration {
        self.watched.stalled(self.level)
    }

    fn counters(&self) -> Counters {
        self.watched.counters()
    }

    fn usage(&self) -> u64 {
        self.watched.place.usage()
    }

    fn is_held_back(&self) -> bool {
        self.watched.is_held_back()
    }

    fn holds_back_inside(&self) -> bool {
        self.watched.place.holds_back_inside()
    }

    fn is_exiting(&self) -> bool {
        self.enforcer.is_exiting(&self.watched.place)
    }

    fn cools_down(&self) -> bool {
        self.enforcer.cools_down(&self.watched.place)
    }
}
