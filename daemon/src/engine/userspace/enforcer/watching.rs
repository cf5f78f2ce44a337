// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is watched: pressure of domains and of the machine, and limits.

use super::{Enforcer, Source};
use crate::engine::userspace::guard::Guard;
use crate::engine::userspace::place::Place;
use crate::engine::userspace::reading::Room;
use crate::engine::userspace::sources::{Sources, trigger};
use crate::engine::userspace::text;
use crate::engine::userspace::watched::Watched;
use crate::engine::{AttachError, Watch};
use crate::policy::{CgroupId, Level, Resource, Trigger};
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// What wakes up whoever looks at how much memory the machine has: hardly any stall at all. As long as nobody waits for memory, there is
/// enough of it.
const MACHINE_TRIGGER: Trigger = Trigger {
    resource: Resource::Memory,
    level: Level::Some,
    stall: Duration::from_millis(20),
    window: Duration::from_secs(1),
};

/// A cgroup that is watched for pressure.
pub(super) struct StallWatch {
    token: u64,
    pub(super) watched: Arc<Watched>,
    pub(super) guard: Guard,
    pub(super) watch: Watch,
}

/// A cgroup with a policy, in which limits are watched.
pub(super) struct LimitWatch {
    pub(super) token: u64,
    pub(super) place: Arc<Place>,
    /// Its `memory.events`.
    pub(super) file: OwnedFd,
    pub(super) seen: LimitEvents,
    /// From when on it is heard again, if it is not now.
    pub(super) silent_until: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitEvents {
    max: u64,
    oom: u64,
    oom_kill: u64,
}

/// The machine's pressure, watched because something is said of its memory.
pub(super) struct MachineWatch {
    token: u64,
    _file: OwnedFd,
    /// All of it.
    pub(super) system: Arc<Place>,
    /// When to look again, and until when, while somebody waits for memory.
    pub(super) next: Option<(Duration, Duration)>,
}

impl LimitEvents {
    pub(super) fn parse(text: &str) -> Self {
        let of = |name| text::number(text, name).unwrap_or_default();
        LimitEvents {
            max: of("max"),
            oom: of("oom"),
            oom_kill: of("oom_kill"),
        }
    }

    /// Whether a limit was reached since, and the kernel has not killed for it.
    pub(super) fn calls_for_a_look(self, before: LimitEvents) -> bool {
        (self.max > before.max || self.oom > before.oom) && self.oom_kill == before.oom_kill
    }
}

impl Enforcer {
    pub(super) fn token(&mut self, source: Source) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.tokens.insert(token, source);
        token
    }

    pub(super) fn drop_stall(&mut self, id: CgroupId) {
        if let Some(watch) = self.stalls.remove(&id) {
            self.tokens.remove(&watch.token);
        }
    }

    pub(super) fn drop_limit(&mut self, id: CgroupId) {
        if let Some(watch) = self.limits.remove(&id) {
            self.tokens.remove(&watch.token);
        }
    }

    /// Watches the limits of a cgroup and of what is in it.
    pub(super) fn watch_limit(
        &mut self,
        sources: &Sources,
        id: CgroupId,
    ) -> Result<(), AttachError> {
        let failed = |what| move |source| AttachError::Io { what, source };
        let place = Place::open(&self.tree, id).map_err(failed("opening the cgroup"))?;
        let file = place
            .file("memory.events", OFlags::RDONLY)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT) => AttachError::NoMemoryController,
                _ => failed("opening memory.events")(error),
            })?;
        let token = self.token(Source::Limit(id));
        if let Err(error) = sources.add(&file, token) {
            self.tokens.remove(&token);
            return Err(failed("watching memory.events")(error));
        }
        let watch = LimitWatch {
            token,
            place: Arc::new(place),
            seen: LimitEvents::parse(Room::new().read(&file)),
            file,
            silent_until: None,
        };
        self.limits.insert(id, watch);
        Ok(())
    }

    /// Watches the machine's pressure if anything is said of its memory.
    pub(super) fn watch_machine(&mut self, sources: &Sources) -> io::Result<()> {
        let wanted = self.machine.min_available.is_some() || self.machine.min_swap.is_some();
        if !wanted {
            if let Some(watch) = self.machine_watch.take() {
                self.tokens.remove(&watch.token);
            }
        } else if self.machine_watch.is_none() {
            let system = Place::open(&self.tree, CgroupId::SYSTEM)?;
            let file = trigger(&system, &MACHINE_TRIGGER)?;
            let token = self.token(Source::Machine);
            sources.add(&file, token)?;
            self.machine_watch = Some(MachineWatch {
                token,
                _file: file,
                system: Arc::new(system),
                next: None,
            });
        }
        self.set_timer(sources);
        Ok(())
    }

    /// Makes the triggers that are missing, and drops those that are not wanted.
    pub(super) fn watch_stalls(&mut self, sources: &Sources) {
        let mut want = self.wanted.clone();
        for id in self.attachments.keys() {
            if want.contains_key(id) {
                continue;
            }
            let place = match (self.limits.get(id), self.stalls.get(id)) {
                (Some(limit), _) => Some(&limit.place.chain),
                (_, Some(stall)) => Some(&stall.watched.place.chain),
                _ => None,
            };
            let pressure = match place {
                Some(chain) => self.said.pressure_of_attached(chain),
                None => Place::open(&self.tree, *id)
                    .ok()
                    .and_then(|place| self.said.pressure_of_attached(&place.chain)),
            };
            if let Some(pressure) = pressure {
                want.insert(*id, pressure.trigger);
            }
        }
        let unwanted: Vec<CgroupId> = self
            .stalls
            .iter()
            .filter(|(id, stall)| {
                let there = Trigger::from(&stall.watch.trigger);
                want.get(id) != Some(&there)
            })
            .map(|(id, _)| *id)
            .collect();
        let mut counted = HashMap::new();
        for id in unwanted {
            // Of a trigger that is another one now, what happened goes on counting.
            if let (Some(stall), true) = (self.stalls.get(&id), want.contains_key(&id)) {
                counted.insert(id, stall.watch);
            }
            self.drop_stall(id);
        }
        self.refused
            .retain(|id, (trigger, _)| want.get(id) == Some(trigger));
        for (id, trigger) in want {
            if self.stalls.contains_key(&id) || self.refused.contains_key(&id) {
                continue;
            }
            match self.watch_stall(sources, id, &trigger, counted.get(&id)) {
                Ok(()) => {}
                // Gone meanwhile: the facts will say so.
                Err(_) if Place::open(&self.tree, id).is_err() => {}
                Err(error) => {
                    self.refused.insert(id, (trigger, error.to_string()));
                }
            }
        }
    }

    fn watch_stall(
        &mut self,
        sources: &Sources,
        id: CgroupId,
        wanted: &Trigger,
        before: Option<&Watch>,
    ) -> io::Result<()> {
        let place = Place::open(&self.tree, id)?;
        let file = trigger(&place, wanted)?;
        let token = self.token(Source::Stall(id));
        if let Err(error) = sources.add(&file, token) {
            self.tokens.remove(&token);
            return Err(error);
        }
        let watched = Watched::new(&self.tree, &mut self.highs, place, file);
        let trigger = wanted.into();
        let mut watch = Watch::new(trigger);
        if let Some(before) = before {
            watch = *before;
            watch.trigger = trigger;
        }
        let watch = StallWatch {
            token,
            guard: Guard::new(trigger, watched.counters()),
            watch,
            watched: Arc::new(watched),
        };
        self.stalls.insert(id, watch);
        Ok(())
    }
}
