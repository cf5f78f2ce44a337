// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known of every unit, and what is said about it.

use super::faults::{Faults, Subject};
use super::refusals::Refusals;
use super::run_time::RunTime;
use super::shown::Stale;
use crate::cgroup::{Index, Tree, depth};
use crate::config::Config;
use crate::fault::Fault;
use crate::policy::{CgroupId, Cgroups, Layer, RunTimeSetting, Speaker, UnitSaid, World};
use crate::systemd::facts::{RunningFacts, UnitFacts};
use crate::systemd::files::{Files, ReadError};
use crate::systemd::{directives, preference, unit_name};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// All units that systemd has loaded, as far as they can have a cgroup.
pub(super) struct Units {
    files: Files,
    programs: &'static [&'static str],
    config: Config,
    pub(super) run_time: RunTime,
    world: World,
    cgroups: Cgroups,
    details: HashMap<String, Detail>,
    /// Whose files could not be read for want of something that comes back by itself.
    unread: BTreeSet<String>,
    /// What may have to be shown anew.
    pub(super) stale: Stale,
}

#[derive(Default)]
struct Detail {
    running: bool,
    cgroup_path: Option<String>,
    /// The files as they were read last, and the load of which they were.
    read: Option<(Vec<PathBuf>, u64)>,
    /// What they say in effect.
    said: Layer,
    /// What its cgroup's attributes say.
    attribute: Layer,
    faults: Vec<Fault>,
}

impl Units {
    pub(super) fn new(files: Files, programs: &'static [&'static str], run_time: RunTime) -> Self {
        Units {
            files,
            programs,
            config: Config::default(),
            run_time,
            world: World::default(),
            cgroups: Cgroups::new(),
            details: HashMap::new(),
            unread: BTreeSet::new(),
            stale: Stale::default(),
        }
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    pub(super) fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.world.units.keys()
    }

    pub(super) fn running(&self) -> usize {
        self.details.values().filter(|unit| unit.running).count()
    }

    pub(super) fn cgroup(&self, name: &str) -> Option<CgroupId> {
        self.cgroups.get(name).map(|(id, _)| *id)
    }

    /// The path of a unit's cgroup, if it has one.
    pub(super) fn cgroup_path(&self, name: &str) -> Option<String> {
        match name {
            unit_name::ROOT_SLICE => Some("/".to_owned()),
            _ => self.details.get(name)?.cgroup_path.clone(),
        }
    }

    /// Takes another configuration, for all units.
    pub(super) fn configure(&mut self, config: Config) {
        self.stale.mark_all();
        self.world.defaults = config.defaults().clone();
        self.config = config;
        let names: Vec<String> = self.names().cloned().collect();
        for name in names {
            self.gather(&name);
        }
    }

    /// Puts what is said about a unit at run time in place of what was, and returns that.
    pub(super) fn set_at_run_time(
        &mut self,
        unit: &str,
        setting: Option<RunTimeSetting>,
    ) -> Option<RunTimeSetting> {
        let before = self.run_time.replace(unit, setting);
        self.gather(unit);
        before
    }

    /// Takes away what was said at run time for a time that is over, and returns the units.
    pub(super) fn end_terms(&mut self, now: u64) -> Vec<String> {
        let over = self.run_time.take_over(now);
        for unit in &over {
            self.gather(unit);
        }
        over
    }

    /// Whether a unit runs and its files are known.
    pub(super) fn is_read(&self, name: &str) -> bool {
        let detail = self.details.get(name);
        detail.is_some_and(|unit| unit.running && unit.read.is_some())
    }

    /// Takes what systemd says about a unit. Returns whether its files were read for that.
    pub(super) fn learn(&mut self, facts: UnitFacts, tree: &Tree, index: &mut Index) -> bool {
        let UnitFacts { name, running } = facts;
        self.stale.mark_alone(&name);
        let mut fresh = false;
        self.world.units.entry(name.clone()).or_default();
        let detail = self.details.entry(name.clone()).or_default();
        detail.running = running.is_some();
        if let Some(RunningFacts {
            slice,
            control_group,
            files,
            loaded,
        }) = running
        {
            detail.cgroup_path = control_group;
            let as_read = Some((files, loaded));
            fresh = detail.read != as_read;
            detail.read = as_read;
            if let Some(unit) = self.world.units.get_mut(&name)
                && unit.slice != slice
            {
                unit.slice = slice;
                self.stale.mark(&name);
            }
            if fresh {
                self.read_files(&name);
            }
        }
        // Also of a unit that stopped: processes that it left behind keep its cgroup, and its policy.
        self.look_at_cgroup(&name, tree, index);
        fresh
    }

    pub(super) fn forget(&mut self, name: &str, index: &mut Index) {
        if let Some((id, _)) = self.cgroups.remove(name) {
            index.remove(id);
        }
        self.world.units.remove(name);
        self.details.remove(name);
        self.unread.remove(name);
        self.stale.mark(name);
    }

    /// Reads the files of all units again.
    pub(super) fn reread_files(&mut self) {
        let names: Vec<String> = self.names().cloned().collect();
        for name in names {
            self.read_files(&name);
            self.gather(&name);
        }
    }

    /// Whether something is to be tried again, of which nobody will tell when it can be done.
    pub(super) fn is_behind(&self) -> bool {
        !self.unread.is_empty() || self.run_time.is_unsaved()
    }

    /// Tries it again.
    pub(super) fn catch_up(&mut self) {
        for name in std::mem::take(&mut self.unread) {
            self.read_files(&name);
            self.gather(&name);
        }
        if self.run_time.is_unsaved() {
            self.run_time.save_or_tell();
        }
    }

    fn read_files(&mut self, name: &str) {
        let Some(detail) = self.details.get_mut(name) else {
            return;
        };
        let Some((paths, _)) = &detail.read else {
            return;
        };
        let unread = Cell::new(false);
        let content = |path: &Path| {
            let note = |error: &ReadError| unread.set(unread.get() || error.is_passing());
            self.files.read(path).inspect_err(note)
        };
        let (declared, faults) = directives::read(name, paths, content, self.programs);
        if unread.get() {
            self.unread.insert(name.to_owned());
        }
        detail.said = directives::in_force(declared, &detail.said);
        detail.faults = faults;
    }

    /// Looks which cgroup a unit has now, and what is written on it.
    pub(super) fn look_at_cgroup(&mut self, name: &str, tree: &Tree, index: &mut Index) {
        let Some(detail) = self.details.get_mut(name) else {
            return;
        };
        let before = self.cgroups.remove(name);
        let found = if name == unit_name::ROOT_SLICE {
            // The root has no limit and no OOM of its own: what is said for it is said for the system.
            Some((CgroupId::SYSTEM, 0))
        } else {
            let path = detail.cgroup_path.as_deref();
            path.and_then(|path| tree.id(path).map(|id| (id, path)))
                .map(|(id, path)| {
                    index.insert(id, path);
                    (id, depth(path))
                })
        };
        detail.attribute = match (&found, &detail.cgroup_path) {
            (Some(_), Some(path)) => preference::read(tree, path),
            _ => Layer::default(),
        };
        if let Some((id, _)) = before
            && found.is_none_or(|(now, _)| now != id)
        {
            index.remove(id);
        }
        if found != before {
            self.stale.mark(name);
        }
        if let Some(found) = found {
            self.cgroups.insert(name.to_owned(), found);
        }
        self.gather(name);
    }

    /// Puts together what is said about a unit.
    fn gather(&mut self, name: &str) {
        let (Some(detail), Some(UnitSaid { sources, .. })) =
            (self.details.get(name), self.world.units.get_mut(name))
        else {
            return;
        };
        let before = std::mem::take(sources);
        sources.extend(self.run_time.get(name).map(RunTimeSetting::source));
        let of_its_own = [
            (Speaker::UnitFiles, &detail.said),
            (Speaker::Attribute, &detail.attribute),
        ];
        sources.extend(
            of_its_own
                .into_iter()
                .filter(|(_, layer)| !layer.is_empty())
                .map(|(speaker, layer)| (speaker, layer.clone())),
        );
        let sections = self.config.for_unit(name).into_iter();
        sources.extend(sections.map(|(speaker, layer)| (speaker, layer.clone())));
        if *sources != before {
            self.stale.mark(name);
        }
    }

    /// A cgroup is gone; whose ever it was has none.
    pub(super) fn cgroup_is_gone(&mut self, gone: CgroupId) {
        let stale = &mut self.stale;
        self.cgroups.retain(|unit, (id, _)| {
            if *id == gone {
                stale.mark(unit);
            }
            *id != gone
        });
    }

    /// Adds what is wrong with every unit, and with what is set at run time.
    pub(super) fn report(
        &self,
        refusals: &Refusals,
        of_cgroups: [&BTreeMap<CgroupId, Fault>; 2],
        faults: &mut Faults,
    ) {
        for fault in self.run_time.faults() {
            faults.add(Subject::RunTime, fault.clone());
        }
        for (name, detail) in &self.details {
            let id = self.cgroup(name);
            let refused = id.and_then(|id| refusals.fault(id));
            let of_cgroup = of_cgroups.into_iter().filter_map(|faults| faults.get(&id?));
            for fault in detail.faults.iter().chain(refused).chain(of_cgroup) {
                faults.add_unit(name, fault.clone());
            }
        }
    }
}
