// SPDX-License-Identifier: MIT OR Apache-2.0
//! What everybody may see: a copy that is made after everything has been acted on, so that those who read it wait for nobody and it
//! never says what is not in force.
//!
//! Only what may have changed is looked at again, and only what has changed is made anew. The rest is shared with the copy before, so
//! that a change of one unit among hundreds costs little, and a turn of the loop without a change nothing.

use super::Core;
use super::PendingKill;
use crate::config::ParameterKind;
use crate::engine::Engine;
use crate::fault::Fault;
use crate::policy::{
    CgroupId, DEFAULT_COOLDOWN, Decider, Key, Kill, Policy, Preference, Pressure, Speaker, Value,
};
use crate::systemd::value::{Size, TimeSpan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What everybody may see of the core. All of it is in force. A copy costs next to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// What is wrong, and what with.
    pub faults: Arc<Vec<(String, Fault)>>,
    /// What is set at run time: the unit, its policy, and when that is over in microseconds of CLOCK_BOOTTIME.
    pub run_time: Arc<Vec<(String, Policy, Option<u64>)>>,
    /// Every unit that is loaded and can have a cgroup, by name.
    pub units: Arc<BTreeMap<String, Arc<UnitShown>>>,
    /// How often these have become others.
    pub revision: u64,
    /// Every policy, `kernel` first.
    pub policies: Arc<Vec<PolicyShown>>,
    /// How often the configuration has become another one.
    pub configurations: u64,
    /// Victims that are about to be killed.
    pub pending: Arc<Vec<PendingKill>>,
    /// The number of the last kill.
    pub last_kill: u64,
    /// What has been counted.
    pub counters: Counters,
    /// How often the core had something to do since the daemon was started.
    pub wakeups: u64,
}

/// What has been counted since the service was started, or is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Units that run.
    pub units: u64,
    /// Attachments.
    pub attachments: u64,
    /// Cgroups that are watched for pressure.
    pub watched: u64,
    /// Kills by policies.
    pub kills: u64,
    /// Kills by the kernel's own killer.
    pub kernel_kills: u64,
    /// Stalls for which no policy killed.
    pub stalls: u64,
    /// Records that were lost because they came too fast.
    pub lost_records: u64,
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitShown {
    /// Path of its cgroup; None if it has none.
    pub control_group: Option<String>,
    /// The id of its cgroup; 0 if it has none, or stands for the system.
    pub control_group_id: u64,
    /// The policy that decides when it runs out of memory. Of a unit without a cgroup: when it starts, as far as that is known.
    pub policy: Policy,
    /// Where that was said, as people are told; nothing for what is built in.
    pub policy_place: String,
    /// What is attached to its own cgroup.
    pub attached: Option<Policy>,
    /// Whether anything is done at all.
    pub enabled: bool,
    /// What of it is killed.
    pub kill: Kill,
    /// Whether it may be a victim.
    pub preference: Preference,
    /// How long a kill in it is given to take effect.
    pub cooldown: Duration,
    /// When a stall of it is an OOM.
    pub pressure: Option<Pressure>,
    /// Whether it is watched for that.
    pub watched: bool,
    /// How often it was a victim since the service was started.
    pub kills: u64,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyShown {
    /// Its name.
    pub policy: Policy,
    /// What it can be told.
    pub parameters: Vec<ParameterShown>,
    /// How many cgroups it is attached to.
    pub attachments: u32,
}

/// A parameter of a policy. Values are as they are written in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterShown {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub kind: &'static str,
    /// Its value.
    pub value: String,
    /// Its value where nobody says one.
    pub default: String,
}

/// What may not be any more as it is shown.
#[derive(Debug, Default)]
pub(super) struct Stale {
    all: bool,
    units: BTreeSet<String>,
}

impl Stale {
    /// A unit may be another one. What is in a slice follows it.
    pub(super) fn mark(&mut self, unit: &str) {
        if unit.ends_with(".slice") {
            self.mark_all();
        } else if !self.all {
            self.mark_alone(unit);
        }
    }

    /// The same where what is in the slice does not follow it.
    pub(super) fn mark_alone(&mut self, unit: &str) {
        self.units.insert(unit.to_owned());
    }

    /// Any unit may be another one.
    pub(super) fn mark_all(&mut self) {
        self.all = true;
        self.units.clear();
    }
}

impl<E: Engine> Core<E> {
    /// What everybody may see now.
    pub fn shown(&mut self) -> &Shown {
        self.show_faults();
        self.show_run_time();
        self.show_units();
        self.show_policies();
        self.shown.counters = Counters {
            units: self.units.running() as u64,
            attachments: self.attached.len() as u64,
            watched: self.watched.len() as u64,
            kills: self.counted.kills,
            kernel_kills: self.counted.kernel_kills,
            stalls: self.counted.stalls,
            lost_records: self.lost_events,
        };
        self.shown.wakeups = self.wakeups;
        if *self.shown.pending != self.pending.all() {
            self.shown.pending = Arc::new(self.pending.all().to_vec());
        }
        &self.shown
    }

    fn show_faults(&mut self) {
        if self.faults.take_changed() {
            let all = self.faults.all();
            let all = all.map(|(subject, fault)| (subject.to_string(), fault.clone()));
            self.shown.faults = Arc::new(all.collect());
        }
    }

    fn show_run_time(&mut self) {
        let all = self.units.run_time.all().iter();
        let now = all.map(|(unit, setting)| {
            let end = setting.term.map(|term| term.end);
            (unit, &setting.policy, end)
        });
        let before = self.shown.run_time.iter();
        let before = before.map(|(unit, policy, end)| (unit, policy, *end));
        if !now.clone().eq(before) {
            let copy = now.map(|(unit, policy, end)| (unit.clone(), policy.clone(), end));
            self.shown.run_time = Arc::new(copy.collect());
        }
    }

    fn show_units(&mut self) {
        let stale = std::mem::take(&mut self.units.stale);
        let units: BTreeSet<String> = match stale.all {
            true => {
                let known = self.shown.units.keys();
                known.chain(self.units.names()).cloned().collect()
            }
            false => stale.units,
        };
        let changed: Vec<_> = units
            .into_iter()
            .filter_map(|unit| {
                let now = self.unit_shown(&unit);
                let before = self.shown.units.get(&unit);
                (now.as_ref() != before.map(|before| &**before)).then_some((unit, now))
            })
            .collect();
        if changed.is_empty() {
            return;
        }
        self.shown.revision += 1;
        // Whoever looks at the moment keeps what it looks at.
        let shown = Arc::make_mut(&mut self.shown.units);
        for (unit, now) in changed {
            match now {
                Some(now) => shown.insert(unit, Arc::new(now)),
                None => shown.remove(&unit),
            };
        }
    }

    /// None if systemd has not loaded it.
    fn unit_shown(&self, unit: &str) -> Option<UnitShown> {
        let world = self.units.world();
        world.units.get(unit)?;
        let id = self.units.cgroup(unit);
        let in_force = self.in_force(unit);
        let enabled = world.value(unit, Key::Enabled) == Value::Enabled(true);
        Some(UnitShown {
            control_group: id.and_then(|_| self.units.cgroup_path(unit)),
            control_group_id: id.map_or(0, |id| id.0),
            policy: in_force.policy,
            policy_place: in_force.policy_place,
            attached: id
                .and_then(|id| self.attached.get(&id))
                .map(|attached| attached.in_force.policy.clone()),
            enabled,
            kill: in_force.kill,
            preference: in_force.preference,
            cooldown: in_force.cooldown,
            pressure: world.pressure(unit),
            watched: id.is_some_and(|id| self.watched.contains(&id)),
            kills: self.counted.victims.get(unit).copied().unwrap_or_default(),
        })
    }

    /// The policy that decides about an OOM of a unit now.
    pub(super) fn policy_in_force(&self, unit: &str) -> Policy {
        self.in_force(unit).policy
    }

    /// What the kernel was told last about a unit or, where it was not told anything about it, about what is above it. That is what
    /// was said, but for what the kernel refuses.
    fn in_force(&self, unit: &str) -> InForce {
        let world = self.units.world();
        if self.units.cgroup(unit).is_none() {
            // The kernel does not know it yet.
            return self.as_said(unit);
        }
        let mut decider = None;
        let mut policy = None;
        let mut kill = None;
        let mut preference = None;
        let mut cooldown = None;
        let mut next = Some(unit.to_owned());
        while let Some(about) = next {
            if let Some(id) = self.units.cgroup(&about) {
                let told = self.told.get(&id);
                let attached = self
                    .attached
                    .get(&id)
                    .map(|attached| &attached.in_force.policy);
                decider = decider.or(told.and_then(|told| told.decider));
                // The OOM walk goes past a cgroup without an attachment, and a program asks the nearest decider.
                policy = policy.or(match (decider, attached) {
                    (Some(Decider::Kernel), _) => Some((about.clone(), Policy::Kernel)),
                    (_, Some(attached)) => Some((about.clone(), attached.clone())),
                    _ => None,
                });
                kill = kill.or(told.and_then(|told| told.kill));
                let by_attribute = |speaker: &Speaker| *speaker == Speaker::Attribute;
                preference = preference
                    .or(match world.own_by(&about, Key::Preference, by_attribute) {
                        Some((Value::Preference(preference), ..)) => Some(*preference),
                        _ => None,
                    })
                    .or(told.and_then(|told| told.preference));
                cooldown = cooldown.or(told.and_then(|told| told.cooldown));
            }
            next = world.slice_of(&about);
        }
        let (about, policy) = match policy {
            Some((about, policy)) => (Some(about), policy),
            None => (None, Policy::Kernel),
        };
        let as_said = self.as_said(unit);
        let policy_place = match (as_said.policy == policy, about) {
            (true, _) => as_said.policy_place,
            (false, Some(about)) => self.as_said(&about).policy_place,
            (false, None) => String::new(),
        };
        InForce {
            policy,
            policy_place,
            kill: kill.unwrap_or_default(),
            preference: preference.unwrap_or_default(),
            cooldown: cooldown.unwrap_or(DEFAULT_COOLDOWN),
        }
    }

    /// What was said about a unit.
    fn as_said(&self, unit: &str) -> InForce {
        let world = self.units.world();
        let policy = world.policy(unit);
        let key = match world.value(unit, Key::Enabled) {
            Value::Enabled(false) => Key::Enabled,
            _ => Key::Policy,
        };
        InForce {
            policy,
            policy_place: world.place(unit, key),
            kill: match world.value(unit, Key::Kill) {
                Value::Kill(kill) => kill,
                _ => Kill::default(),
            },
            preference: match world.value(unit, Key::Preference) {
                Value::Preference(preference) => preference,
                _ => Preference::default(),
            },
            cooldown: match world.value(unit, Key::Cooldown) {
                Value::Cooldown(cooldown) => cooldown,
                _ => DEFAULT_COOLDOWN,
            },
        }
    }

    fn show_policies(&mut self) {
        if !std::mem::take(&mut self.policies_stale) {
            return;
        }
        let mut counts: BTreeMap<&Policy, u32> = BTreeMap::new();
        for attached in self.attached.values() {
            *counts.entry(&attached.in_force.policy).or_default() += 1;
        }
        let programs = self.engine.programs().iter();
        let all = std::iter::once(Policy::Kernel)
            .chain(programs.map(|program| Policy::Bpf((*program).into())));
        let policies = all.map(|policy| PolicyShown {
            parameters: self.parameters_shown(&policy),
            attachments: counts.get(&policy).copied().unwrap_or_default(),
            policy,
        });
        let policies: Vec<_> = policies.collect();
        if policies != *self.shown.policies {
            self.shown.policies = Arc::new(policies);
        }
    }

    fn parameters_shown(&self, policy: &Policy) -> Vec<ParameterShown> {
        let Policy::Bpf(program) = policy else {
            return Vec::new();
        };
        let given = self.given_parameters.get(&**program);
        let all = self.parameters.get(&**program).into_iter().flatten();
        all.map(|parameter| {
            let kind = ParameterKind::from(parameter.kind);
            let value = given.and_then(|given| given.get(&parameter.name)).copied();
            ParameterShown {
                name: parameter.name.clone(),
                kind: kind.name(),
                value: written(kind, value.unwrap_or(parameter.default)),
                default: written(kind, parameter.default),
            }
        })
        .collect()
    }

    /// A unit has another attachment, or other settings in the kernel.
    pub(super) fn mark(&mut self, unit: &str) {
        self.units.stale.mark(unit);
        self.policies_stale = true;
    }

    /// The same of a cgroup.
    pub(super) fn mark_cgroup(&mut self, id: CgroupId) {
        let mut all = self.units.cgroups().iter();
        let unit = all.find(|(_, (known, _))| *known == id);
        match unit.map(|(unit, _)| unit.clone()) {
            Some(unit) => self.mark(&unit),
            // Whose it was has been marked when it lost it.
            None => self.policies_stale = true,
        }
    }
}

/// What decides in the kernel.
struct InForce {
    policy: Policy,
    policy_place: String,
    kill: Kill,
    preference: Preference,
    cooldown: Duration,
}

/// A parameter's value as it is written in a file.
fn written(kind: ParameterKind, value: u64) -> String {
    match (kind, value) {
        (ParameterKind::Bytes | ParameterKind::Time, u64::MAX) => "infinity".to_owned(),
        (ParameterKind::Bytes, bytes) => Size(bytes).to_string(),
        (ParameterKind::Time, usec) => TimeSpan(Duration::from_micros(usec)).to_string(),
        (ParameterKind::Number, number) => number.to_string(),
        (ParameterKind::Bool, on) => (on != 0).to_string(),
    }
}
