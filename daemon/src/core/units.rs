// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known of every unit.

use super::faults::FaultBook;
use super::refusals::Refusals;
use crate::cgroup::{Index, Tree, depth};
use crate::fault::Fault;
use crate::policy::{CgroupId, UnitPolicy, in_force};
use crate::systemd::facts::{RunningFacts, UnitFacts};
use crate::systemd::files::Files;
use crate::systemd::{directives, unit_name};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// All units that systemd has loaded, as far as they can have a cgroup.
pub(super) struct Units {
    files: Files,
    programs: &'static [&'static str],
    /// What resolution needs; the rest is in `details`, under the same names.
    policies: BTreeMap<String, UnitPolicy>,
    details: HashMap<String, Detail>,
}

#[derive(Default)]
struct Detail {
    running: bool,
    cgroup_path: Option<String>,
    /// The files as they were read last, and the load of which they were.
    read: Option<(Vec<PathBuf>, u64)>,
    faults: Vec<Fault>,
}

impl Units {
    pub(super) fn new(files: Files, programs: &'static [&'static str]) -> Self {
        Units {
            files,
            programs,
            policies: BTreeMap::new(),
            details: HashMap::new(),
        }
    }

    pub(super) fn policies(&self) -> &BTreeMap<String, UnitPolicy> {
        &self.policies
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.policies.keys()
    }

    pub(super) fn running(&self) -> usize {
        self.details.values().filter(|unit| unit.running).count()
    }

    pub(super) fn cgroup(&self, name: &str) -> Option<CgroupId> {
        self.policies.get(name)?.cgroup.map(|(id, _)| id)
    }

    /// Takes what systemd says about a unit. Returns whether its files were read for that.
    pub(super) fn learn(&mut self, facts: UnitFacts, tree: &Tree, index: &mut Index) -> bool {
        let UnitFacts { name, running } = facts;
        let mut fresh = false;
        self.policies.entry(name.clone()).or_default();
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
            if let Some(policy) = self.policies.get_mut(&name) {
                policy.slice = slice;
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
        if let Some(UnitPolicy {
            cgroup: Some((id, _)),
            ..
        }) = self.policies.remove(name)
        {
            index.remove(id);
        }
        self.details.remove(name);
    }

    /// Reads the files of all units again.
    pub(super) fn reread_files(&mut self) {
        let names: Vec<String> = self.policies.keys().cloned().collect();
        for name in names {
            self.read_files(&name);
        }
    }

    fn read_files(&mut self, name: &str) {
        let (Some(detail), Some(policy)) =
            (self.details.get_mut(name), self.policies.get_mut(name))
        else {
            return;
        };
        let Some((paths, _)) = &detail.read else {
            return;
        };
        let (declared, faults) = directives::read(name, paths, &self.files, self.programs);
        policy.own = in_force(&declared, policy.own.as_ref());
        detail.faults = faults;
    }

    /// Looks which cgroup a unit has now.
    pub(super) fn look_at_cgroup(&mut self, name: &str, tree: &Tree, index: &mut Index) {
        let (Some(detail), Some(policy)) = (self.details.get(name), self.policies.get_mut(name))
        else {
            return;
        };
        let before = policy.cgroup.map(|(id, _)| id);
        policy.cgroup = if name == unit_name::ROOT_SLICE {
            // The root has no limit and no OOM of its own: what is said for it is said for the system.
            Some((CgroupId::SYSTEM, 0))
        } else {
            detail
                .cgroup_path
                .as_deref()
                .and_then(|path| tree.id(path).map(|id| (id, path)))
                .map(|(id, path)| {
                    index.insert(id, path);
                    (id, depth(path))
                })
        };
        if let Some(before) = before
            && policy.cgroup.map(|(id, _)| id) != Some(before)
        {
            index.remove(before);
        }
    }

    /// A cgroup is gone; whose ever it was has none.
    pub(super) fn cgroup_is_gone(&mut self, gone: CgroupId) {
        for policy in self.policies.values_mut() {
            if policy.cgroup.is_some_and(|(id, _)| id == gone) {
                policy.cgroup = None;
            }
        }
    }

    /// Tells what is wrong with every unit.
    pub(super) fn report(&self, refusals: &Refusals, book: &mut FaultBook) {
        let faults = self.policies.iter().filter_map(|(name, policy)| {
            let mut faults = self.details.get(name)?.faults.clone();
            faults.extend(
                policy
                    .cgroup
                    .and_then(|(id, _)| refusals.fault(id))
                    .cloned(),
            );
            (!faults.is_empty()).then(|| (name.clone(), faults))
        });
        book.update(faults.collect());
    }
}
