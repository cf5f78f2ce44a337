// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pressure triggers in the kernel, and the attachments that hold them.
//!
//! A trigger is made while a struct_ops of the pressure program is being attached, and goes when that is detached; one alone cannot be
//! taken away. So triggers that are wanted together are made by one attachment, those that come later by another one, and when there
//! is no place for another, or too many are not wanted any more, all are made anew by one. The program ignores a trigger that is not as
//! is said. Units of a slice get theirs from the program itself, when their cgroup is made.

use super::struct_ops_link;
use crate::engine::TriggerError;
use crate::fault::causes;
use crate::policy::{self, CgroupId, Level, Resource, StallAction, Trigger};
use bpf_oomd_bpf::triggers::TRIGGERS_MAX;
use bpf_oomd_bpf::{PressureProgram, SharedMaps, pressure};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;

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
}

/// An attachment, and whose triggers it holds.
struct Held {
    _link: OwnedFd,
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
    /// Makes the triggers what they should be. Returns why some are missing.
    pub(super) fn set(
        &mut self,
        shared: &SharedMaps,
        want: &BTreeMap<CgroupId, Trigger>,
        births: bool,
    ) -> Result<BTreeMap<CgroupId, String>, TriggerError> {
        self.find_born(shared, want)?;
        self.drop_unwanted(shared, want)?;
        if want.is_empty() && !births {
            self.detach_all();
            return Ok(BTreeMap::new());
        }
        match self.step(want, births) {
            Step::Add(missing) if missing.is_empty() && births == self.births.is_some() => {}
            Step::Add(missing) => self.attach(shared, missing, births)?,
            Step::Rebuild => {
                self.detach_all();
                let all: Vec<_> = want.iter().map(|(id, trigger)| (*id, *trigger)).collect();
                let mut births = births;
                for some in all.chunks(TRIGGERS_MAX) {
                    self.attach(shared, some.to_vec(), births)?;
                    births = false;
                }
                if births {
                    self.attach(shared, Vec::new(), true)?;
                }
            }
        }
        Ok(self
            .refused
            .iter()
            .map(|(id, (_, why))| (*id, why.clone()))
            .collect())
    }

    /// A cgroup is gone, and its trigger with it.
    pub(super) fn forget(&mut self, id: CgroupId) {
        self.made.remove(&id);
        self.refused.remove(&id);
        let held = self.births.iter_mut().chain(self.others.values_mut());
        for held in held {
            held.cgroups.remove(&id);
        }
        self.others.retain(|_, held| !held.cgroups.is_empty());
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
            self.forget(id);
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
        if births_end
            || too_many_stale
            || (!missing.is_empty() && no_place)
            || missing.len() > TRIGGERS_MAX
        {
            return Step::Rebuild;
        }
        Step::Add(missing)
    }

    fn detach_all(&mut self) {
        self.births = None;
        self.others.clear();
        self.made.clear();
        self.refused.clear();
        self.stale = 0;
    }

    /// One attachment more, with births if they are wanted and not there yet.
    fn attach(
        &mut self,
        shared: &SharedMaps,
        missing: Vec<(CgroupId, Trigger)>,
        births: bool,
    ) -> Result<(), TriggerError> {
        if self.program.is_none() {
            let loaded = PressureProgram::load(shared);
            self.program = Some(loaded.map_err(|error| TriggerError::new(&error))?);
        }
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
        let link = struct_ops_link(map, None).map_err(|error| TriggerError::new(&error))?;
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
        let held = Held {
            _link: link,
            cgroups,
        };
        match number {
            None => self.births = Some(held),
            // Without a trigger there is nothing to hold.
            Some(number) if !held.cgroups.is_empty() => {
                self.others.insert(number, held);
            }
            Some(_) => {}
        }
        Ok(())
    }
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
