// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pressure triggers in the kernel, and the attachments that hold them.
//!
//! A trigger is made while a struct_ops of the pressure program is being attached, and goes when that is detached; one alone cannot be
//! taken away. So triggers that are wanted together are made by one attachment, those that come later by another one, and when there
//! is no place for another, or too many are not wanted any more, all are made anew by one. The program ignores a trigger that is not as
//! is said. Units of a slice get theirs from the program itself, when their cgroup is made.

use super::kept::{Kept, keep};
use super::link::KeptLink;
use super::names::{Loaded, Part};
use crate::engine::TriggerError;
use crate::fault::causes;
use crate::policy::{self, CgroupId, Level, Resource, StallAction, Trigger};
use crate::systemd::fd_store::FdStore;
use bpf_oomd_bpf::triggers::TRIGGERS_MAX;
use bpf_oomd_bpf::{PressureProgram, SharedMaps, pressure};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Triggers that are not wanted and still there, before all are made anew only because of them.
const STALE_MAX: usize = 64;

/// The triggers there are.
#[derive(Default)]
pub(super) struct Triggers {
    /// Loaded when first used, and kept.
    program: Option<PressureProgram>,
    /// Makes triggers for new cgroups, too.
    births: Option<Held>,
    /// By the number of the struct_ops.
    others: BTreeMap<usize, Held>,
    made: BTreeMap<CgroupId, Trigger>,
    /// What the kernel refused, and why. It is not tried again.
    refused: BTreeMap<CgroupId, (Trigger, String)>,
    /// How many are there that are not wanted.
    stale: usize,
    /// Links that an older version of the program left.
    old: Vec<KeptLink>,
    /// Whether triggers may not be what the program remembers.
    doubtful: bool,
}

/// An attachment, and whose triggers it holds.
struct Held {
    link: KeptLink,
    cgroups: BTreeSet<CgroupId>,
}

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Make some that are missing, by an attachment more.
    Add(Vec<(CgroupId, Trigger)>),
    /// Make all of them anew.
    Rebuild,
}

impl Triggers {
    /// What an earlier daemon left. Which of its attachments holds which trigger is not known, so each may hold any, and
    /// stays until there is none of them.
    pub(super) fn adopt(
        shared: &SharedMaps,
        kept: &mut Kept,
        same_maps: bool,
        store: &FdStore,
    ) -> Self {
        let version = PressureProgram::fingerprint();
        let program = same_maps
            .then(|| kept.adopt(Loaded::Pressure, version, store, PressureProgram::adopt))
            .flatten();
        let mut triggers = Triggers {
            made: made(shared),
            // The daemon ended while it was making some, and the link may have gone with it.
            doubtful: !kept.all(|of| *of == Loaded::Attaching).is_empty(),
            ..Triggers::default()
        };
        for (part, link) in std::mem::take(&mut kept.pressure_links) {
            let place = program.as_ref().filter(|_| part.version == version);
            let place = place.and_then(|program| program.place(&part.part));
            let held = Held {
                link: KeptLink::found(&part, link),
                cgroups: triggers.made.keys().copied().collect(),
            };
            match place {
                Some(None) => triggers.births = Some(held),
                Some(Some(number)) => drop(triggers.others.insert(number, held)),
                None => {
                    triggers.doubtful = true;
                    triggers.old.push(held.link);
                }
            }
        }
        // What the program remembers without an attachment is nothing that is watched.
        triggers.doubtful |= triggers.births.is_none() && triggers.others.is_empty();
        triggers.program = program;
        triggers
    }

    /// Makes the triggers what they should be. Returns why some are missing.
    pub(super) fn set(
        &mut self,
        shared: &SharedMaps,
        store: &FdStore,
        want: &BTreeMap<CgroupId, Trigger>,
        births: bool,
    ) -> Result<BTreeMap<CgroupId, String>, TriggerError> {
        self.find_born(shared, want)?;
        self.drop_unwanted(shared, store, want)?;
        if want.is_empty() && !births {
            self.detach_all(store);
            self.end_old(store);
            return Ok(BTreeMap::new());
        }
        match self.step(want, births) {
            Step::Add(missing) if missing.is_empty() && births == self.births.is_some() => {}
            Step::Add(missing) => self.attach(shared, store, missing, births)?,
            Step::Rebuild => {
                // First what can fail.
                self.load(shared, store)?;
                self.detach_all(store);
                let all: Vec<_> = want.iter().map(|(id, trigger)| (*id, *trigger)).collect();
                let mut births = births;
                for some in all.chunks(TRIGGERS_MAX) {
                    self.attach(shared, store, some.to_vec(), births)?;
                    births = false;
                }
                if births {
                    self.attach(shared, store, Vec::new(), true)?;
                }
            }
        }
        // Those of an older version, which another map is attached for, watch until there are others.
        self.end_old(store);
        Ok(self
            .refused
            .iter()
            .map(|(id, (_, why))| (*id, why.clone()))
            .collect())
    }

    /// A cgroup is gone, and its trigger with it.
    pub(super) fn forget(&mut self, id: CgroupId, store: &FdStore) {
        self.made.remove(&id);
        self.refused.remove(&id);
        let held = self.births.iter_mut().chain(self.others.values_mut());
        for held in held {
            held.cgroups.remove(&id);
        }
        let others = std::mem::take(&mut self.others).into_iter();
        let (empty, others) = others.partition(|(_, held)| held.cgroups.is_empty());
        self.others = others;
        for held in BTreeMap::into_values(empty) {
            held.link.end(store);
        }
    }

    /// Takes note of the triggers that the program has made itself.
    fn find_born(
        &mut self,
        shared: &SharedMaps,
        want: &BTreeMap<CgroupId, Trigger>,
    ) -> Result<(), TriggerError> {
        let Some(births) = &mut self.births else {
            return Ok(());
        };
        for id in want.keys() {
            if self.made.contains_key(id) {
                continue;
            }
            if let Some(watch) = shared
                .watch(id.0)
                .map_err(|error| TriggerError::new(&error))?
            {
                self.made.insert(*id, (&watch.trigger).into());
                births.cgroups.insert(*id);
            }
        }
        Ok(())
    }

    /// What is not wanted is ignored by the program from now on.
    fn drop_unwanted(
        &mut self,
        shared: &SharedMaps,
        store: &FdStore,
        want: &BTreeMap<CgroupId, Trigger>,
    ) -> Result<(), TriggerError> {
        self.refused
            .retain(|id, (trigger, _)| want.get(id) == Some(trigger));
        let unwanted: Vec<CgroupId> = self
            .made
            .iter()
            .filter(|(id, trigger)| want.get(id) != Some(trigger))
            .map(|(id, _)| *id)
            .collect();
        for id in unwanted {
            self.forget(id, store);
            self.stale += 1;
            // Otherwise its counts go on with the next trigger.
            if !want.contains_key(&id) {
                shared
                    .remove_watch(id.0)
                    .map_err(|error| TriggerError::new(&error))?;
            }
        }
        Ok(())
    }

    fn step(&self, want: &BTreeMap<CgroupId, Trigger>, births: bool) -> Step {
        let missing: Vec<_> = want
            .iter()
            .filter(|(id, _)| !self.made.contains_key(id) && !self.refused.contains_key(id))
            .map(|(id, trigger)| (*id, *trigger))
            .collect();
        let too_many_stale = self.stale > STALE_MAX.max(self.made.len());
        // Born ones have no other place.
        let births_end = self.births.is_some() && !births;
        let places = match &self.program {
            Some(program) => program.others().len() - self.others.len(),
            None => 1,
        };
        let no_place = places == 0 && !(births && self.births.is_none());
        if self.doubtful
            || births_end
            || too_many_stale
            || (!missing.is_empty() && no_place)
            || missing.len() > TRIGGERS_MAX
        {
            return Step::Rebuild;
        }
        Step::Add(missing)
    }

    fn detach_all(&mut self, store: &FdStore) {
        let others = std::mem::take(&mut self.others).into_values();
        for held in self.births.take().into_iter().chain(others) {
            held.link.end(store);
        }
        self.made.clear();
        self.refused.clear();
        self.stale = 0;
        self.doubtful = false;
    }

    fn end_old(&mut self, store: &FdStore) {
        for link in self.old.drain(..) {
            link.end(store);
        }
    }

    fn load(
        &mut self,
        shared: &SharedMaps,
        store: &FdStore,
    ) -> Result<&PressureProgram, TriggerError> {
        let program = match self.program.take() {
            Some(program) => program,
            None => {
                let program =
                    PressureProgram::load(shared).map_err(|error| TriggerError::new(&error))?;
                let version = PressureProgram::fingerprint();
                keep(&Loaded::Pressure, version, program.parts(), store);
                program
            }
        };
        Ok(self.program.insert(program))
    }

    /// One attachment more, with births if they are wanted and not there yet.
    fn attach(
        &mut self,
        shared: &SharedMaps,
        store: &FdStore,
        missing: Vec<(CgroupId, Trigger)>,
        births: bool,
    ) -> Result<(), TriggerError> {
        self.load(shared, store)?;
        let Some(program) = &self.program else {
            return Ok(());
        };
        let for_births = births && self.births.is_none();
        let (number, map) = if for_births {
            (None, program.births())
        } else {
            let free = program
                .others()
                .enumerate()
                .find(|(number, _)| !self.others.contains_key(number));
            let Some((number, map)) = free else {
                return Err(TriggerError("there is no place for more triggers".into()));
            };
            (Some(number), map)
        };
        let wanted: Vec<_> = missing
            .iter()
            .map(|(id, trigger)| (id.0, trigger.into()))
            .collect();
        program
            .prepare(&wanted)
            .map_err(|error| TriggerError::new(&error))?;
        let part = |of| Part {
            of,
            version: PressureProgram::fingerprint(),
            part: PressureProgram::name(number).to_owned(),
        };
        // Until the link is kept, the program remembers triggers that go if the daemon does.
        let attaching = part(Loaded::Attaching).to_string();
        store.keep(&attaching, map);
        let link = KeptLink::attach(store, part(Loaded::PressureLink), map, None);
        store.remove(&attaching);
        let link = link.map_err(|error| TriggerError::new(&error))?;
        let results = program
            .results(wanted.len())
            .map_err(|error| TriggerError::new(&error))?;
        let mut cgroups = BTreeSet::new();
        for ((id, trigger), result) in missing.into_iter().zip(results) {
            match result {
                None => {
                    self.made.insert(id, trigger);
                    cgroups.insert(id);
                }
                // Gone meanwhile: the facts will say so.
                Some(libc::ENOENT) => {}
                Some(errno) => {
                    let why = io::Error::from_raw_os_error(errno).to_string();
                    self.refused.insert(id, (trigger, why));
                }
            }
        }
        let held = Held { link, cgroups };
        match number {
            None => self.births = Some(held),
            Some(number) if !held.cgroups.is_empty() => {
                self.others.insert(number, held);
            }
            // Without a trigger there is nothing to hold.
            Some(_) => held.link.end(store),
        }
        Ok(())
    }
}

/// The triggers that the program remembers.
fn made(shared: &SharedMaps) -> BTreeMap<CgroupId, Trigger> {
    let watch = |id| Some((CgroupId(id), (&shared.watch(id).ok()??.trigger).into()));
    shared.watched().filter_map(watch).collect()
}

impl TriggerError {
    fn new(error: &dyn std::error::Error) -> Self {
        TriggerError(causes(error))
    }
}

impl From<&Trigger> for pressure::Trigger {
    fn from(trigger: &Trigger) -> Self {
        pressure::Trigger {
            resource: match trigger.resource {
                Resource::Memory => pressure::Resource::Memory,
                Resource::Io => pressure::Resource::Io,
                Resource::Cpu => pressure::Resource::Cpu,
            },
            level: match trigger.level {
                Level::Some => pressure::Level::Some,
                Level::Full => pressure::Level::Full,
            },
            stall: trigger.stall,
            window: trigger.window,
        }
    }
}

impl From<&pressure::Trigger> for Trigger {
    fn from(trigger: &pressure::Trigger) -> Self {
        Trigger {
            resource: trigger.resource.into(),
            level: trigger.level.into(),
            stall: trigger.stall,
            window: trigger.window,
        }
    }
}

impl From<pressure::Resource> for Resource {
    fn from(resource: pressure::Resource) -> Self {
        match resource {
            pressure::Resource::Memory => Resource::Memory,
            pressure::Resource::Io => Resource::Io,
            pressure::Resource::Cpu => Resource::Cpu,
        }
    }
}

impl From<pressure::Level> for Level {
    fn from(level: pressure::Level) -> Self {
        match level {
            pressure::Level::Some => Level::Some,
            pressure::Level::Full => Level::Full,
        }
    }
}

impl From<&policy::Pressure> for pressure::Pressure {
    fn from(pressure: &policy::Pressure) -> Self {
        pressure::Pressure {
            trigger: (&pressure.trigger).into(),
            lasts: pressure.lasts,
            min_usage: pressure.min_usage,
            action: match pressure.action {
                StallAction::Kill => pressure::Action::Kill,
                StallAction::Report => pressure::Action::Report,
            },
        }
    }
}
