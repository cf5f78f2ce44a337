// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the core can be asked to do.
//!
//! A request is answered when what it asks for is in force, or with the reason why it is not.

use super::Core;
use crate::boottime;
use crate::config::{PatternError, check_unit};
use crate::engine::{Candidate, Engine, Outcome};
use crate::fault::Fault;
use crate::policy::{
    Key, Policy, PolicyNameError, Pressure, RunTimeSetting, Statement, Term, Verdict,
};
use crate::systemd::unit_name;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Something that the core is asked to do.
#[derive(Debug)]
pub enum Request {
    /// Give a unit a policy at run time.
    SetPolicy {
        /// The unit.
        unit: String,
        /// The policy, as it is written.
        policy: String,
        /// For how long. None until it is reset.
        length: Option<Duration>,
        /// Who wants it.
        uid: u32,
        /// Told when it is in force.
        answer: oneshot::Sender<Result<(), RequestError>>,
    },
    /// Take away the policy that a unit was given at run time.
    ResetPolicy {
        /// The unit.
        unit: String,
        /// Who wants it.
        uid: u32,
        /// Told when it is gone.
        answer: oneshot::Sender<Result<(), RequestError>>,
    },
    /// Read the configuration and all unit files again.
    Reload {
        /// Who wants it.
        uid: u32,
        /// Told when they are in force.
        answer: oneshot::Sender<()>,
    },
    /// Say everything that is said about a unit.
    Explain {
        /// The unit.
        unit: String,
        /// Told all statements, setting by setting.
        answer: oneshot::Sender<Result<Vec<(Key, Statement)>, RequestError>>,
    },
    /// Say what is watched for pressure, and what came of it.
    Pressure {
        /// Told all units that are watched, by name.
        answer: oneshot::Sender<Vec<WatchedUnit>>,
    },
    /// Say whom the policy in force would choose in a unit now.
    Simulate {
        /// The unit.
        unit: String,
        /// Told the policy and its candidates.
        answer: oneshot::Sender<Result<Simulation, RequestError>>,
    },
    /// Nothing, but to say when what was learnt before is in force and shown.
    Settle {
        /// Told then.
        answer: oneshot::Sender<()>,
    },
    /// No request, but news: whether others can reach the daemon on the bus, and else why not.
    Reachable(Result<(), String>),
}

/// A unit that is watched for pressure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedUnit {
    /// The unit.
    pub unit: String,
    /// When a stall of it is an OOM.
    pub pressure: Pressure,
    /// How often an event of its trigger had which outcome. What never happened is left out.
    pub outcomes: Vec<(Outcome, u64)>,
}

/// What would happen if a unit ran out of memory now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    /// The policy that would decide.
    pub policy: Policy,
    /// In the order in which they would die; those that it would not choose come last. None if it is left to the kernel.
    pub candidates: Vec<CandidateUnit>,
}

/// A candidate, told in units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateUnit {
    /// Its unit, if that is known.
    pub unit: Option<String>,
    /// The path of its cgroup, if that is known.
    pub control_group: Option<String>,
    /// What the policy program says about it.
    pub candidate: Candidate,
}

/// Why a request is refused. Everything is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not the name of a unit that can have a cgroup.
    #[error(transparent)]
    InvalidUnitName(#[from] PatternError),
    /// There is no such policy.
    #[error(transparent)]
    NoSuchPolicy(#[from] PolicyNameError),
    /// Nothing is known about the unit.
    #[error("{unit} does not run, and what its files say is not known before it does")]
    NoSuchUnit {
        /// The unit.
        unit: String,
    },
    /// No policy acts on the unit.
    #[error(
        "{unit} is left to the kernel by \"enabled = false\" ({place}), whatever its policy is"
    )]
    TurnedOff {
        /// The unit.
        unit: String,
        /// Who said so.
        place: String,
    },
    /// It cannot be put into force.
    #[error("{policy} cannot be put on {unit}: {reason}")]
    Refused {
        /// The unit.
        unit: String,
        /// The policy.
        policy: Policy,
        /// Why not.
        reason: String,
    },
    /// It cannot be told.
    #[error("it cannot be told whom {policy} would choose in {unit}: {reason}")]
    NotPossible {
        /// The unit.
        unit: String,
        /// The policy.
        policy: Policy,
        /// Why not.
        reason: String,
    },
    /// Nothing of that name is loaded.
    #[error("systemd has not loaded {unit}")]
    NotLoaded {
        /// The unit.
        unit: String,
    },
    /// It would not outlive a restart of the daemon.
    #[error("it cannot be kept: {reason}")]
    NotKept {
        /// Why not.
        reason: String,
    },
}

impl RequestError {
    /// Whether that may be because the core has not heard yet what systemd has done a moment ago.
    pub fn is_for_want_of_news(&self) -> bool {
        matches!(
            self,
            RequestError::NoSuchUnit { .. }
                | RequestError::NotLoaded { .. }
                | RequestError::NotPossible { .. }
        )
    }
}

impl<E: Engine> Core<E> {
    /// Gives a unit a policy at run time. It is in force, or will be when the unit has a cgroup, or nothing has changed.
    ///
    /// # Errors
    ///
    /// If it cannot be put into force.
    pub fn set_policy(
        &mut self,
        unit: &str,
        policy: &str,
        length: Option<Duration>,
        uid: u32,
    ) -> Result<(), RequestError> {
        check_unit(unit)?;
        let policy = Policy::parse(policy, self.engine.programs())?;
        let now = boottime::now();
        let setting = RunTimeSetting {
            policy: policy.clone(),
            uid,
            at: boottime::to_realtime(now),
            term: length.map(|length| Term::from(now, length)),
        };
        let how = setting.to_string();
        let before = self.units.set_at_run_time(unit, Some(setting));
        // Whoever asks may have put right what was in the way.
        if let Some(id) = self.units.cgroup(unit) {
            self.refusals.retry_now(id);
        }
        self.enforce();
        let result = self.is_in_force(unit, &policy).and_then(|()| {
            let saved = self.units.run_time.save();
            saved.map_err(|error| RequestError::NotKept {
                reason: error.to_string(),
            })
        });
        if result.is_err() {
            self.units.set_at_run_time(unit, before);
            self.enforce();
        }
        self.tell_faults();
        match &result {
            Ok(()) => info!(
                UNIT = unit,
                OOM_POLICY = policy.to_string(),
                "The policy of {unit} is {policy}, {how}"
            ),
            Err(error) => warn!(
                UNIT = unit,
                OOM_POLICY = policy.to_string(),
                "What uid {uid} wanted was refused: {error}"
            ),
        }
        result
    }

    /// Whether a policy that was said for a unit is what decides about it, as far as it has a cgroup.
    fn is_in_force(&self, unit: &str, policy: &Policy) -> Result<(), RequestError> {
        let world = self.units.world();
        if world.units.contains_key(unit) && world.policy(unit) != *policy {
            let statements = world.explain(unit, Key::Enabled);
            let decides = statements
                .iter()
                .find(|it| it.verdict == Verdict::Decides)
                .map_or(String::new(), Statement::place);
            return Err(RequestError::TurnedOff {
                unit: unit.to_owned(),
                place: decides,
            });
        }
        let Some(id) = self.units.cgroup(unit) else {
            return Ok(());
        };
        let refused = match policy {
            Policy::Bpf(_) => self.refusals.fault(id),
            Policy::Kernel => None,
        };
        match refused.or_else(|| self.untold.get(&id)) {
            // A unit that is on its way to another cgroup has no fault, and its signals bring us back.
            None => Ok(()),
            Some(fault) => Err(RequestError::Refused {
                unit: unit.to_owned(),
                policy: policy.clone(),
                reason: fault.message.clone(),
            }),
        }
    }

    /// Takes away the policy that a unit was given at run time. That it has none is fine: its time may just have come.
    ///
    /// # Errors
    ///
    /// If the name is none, or the setting would come back with a restart of the daemon.
    pub fn reset_policy(&mut self, unit: &str, uid: u32) -> Result<(), RequestError> {
        check_unit(unit)?;
        let before = self.units.set_at_run_time(unit, None);
        if before.is_none() {
            return Ok(());
        }
        if let Err(error) = self.units.run_time.save() {
            self.units.set_at_run_time(unit, before);
            let reason = error.to_string();
            return Err(RequestError::NotKept { reason });
        }
        self.reconcile();
        info!(
            UNIT = unit,
            "What was set for {unit} at run time was reset by uid {uid}"
        );
        Ok(())
    }

    /// Takes away what was said for a time that is over.
    pub(super) fn end_terms(&mut self) {
        let over = self.units.end_terms(boottime::now());
        if over.is_empty() {
            return;
        }
        self.units.run_time.save_or_tell();
        self.reconcile();
        for unit in over {
            info!(
                UNIT = unit,
                "The time for which {unit} was given a policy at run time is over"
            );
        }
    }

    /// When [`Self::end_terms`] has to be called next, in microseconds of CLOCK_BOOTTIME.
    pub(super) fn next_end(&self) -> Option<u64> {
        self.units.run_time.next_end()
    }

    /// Everything that is said about a unit, in the order of the settings, and of each the one that decides first.
    ///
    /// # Errors
    ///
    /// If the name is none, or nothing is known about the unit.
    pub fn explain(&self, unit: &str) -> Result<Vec<(Key, Statement)>, RequestError> {
        check_unit(unit)?;
        if !self.units.is_read(unit) {
            let unit = unit.to_owned();
            return Err(RequestError::NoSuchUnit { unit });
        }
        Ok(self.units.world().explain_all(unit))
    }

    /// Whom the policy in force would choose if a unit ran out of memory now.
    ///
    /// # Errors
    ///
    /// If the name is none, the unit is not loaded, or it has no memory to run out of.
    pub fn simulate(&mut self, unit: &str) -> Result<Simulation, RequestError> {
        check_unit(unit)?;
        if !self.units.world().units.contains_key(unit) {
            let unit = unit.to_owned();
            return Err(RequestError::NotLoaded { unit });
        }
        let policy = self.policy_in_force(unit);
        let Policy::Bpf(program) = &policy else {
            let candidates = Vec::new();
            return Ok(Simulation { policy, candidates });
        };
        let not_possible = |reason: String| RequestError::NotPossible {
            unit: unit.to_owned(),
            policy: policy.clone(),
            reason,
        };
        let domain = self
            .units
            .cgroup(unit)
            .ok_or_else(|| not_possible("it has no control group".into()))?;
        let ranking = self
            .engine
            .ranking(program, domain)
            .map_err(|error| not_possible(error.reason))?;
        let told = |candidate: Candidate| {
            let control_group = self.path(candidate.cgroup);
            let unit = control_group.as_deref().map(unit_name::of_cgroup);
            CandidateUnit {
                unit: unit.map(|units| units.unit),
                control_group,
                candidate,
            }
        };
        let candidates = ranking.into_iter().map(told).collect();
        Ok(Simulation { policy, candidates })
    }

    /// Takes the news whether others can reach the daemon on the bus.
    pub(super) fn is_reachable(&mut self, news: Result<(), String>) {
        self.unreachable = news.err().map(Fault::new);
        self.tell_faults();
    }

    /// The units that are watched for pressure, by name, and what came of their stalls so far.
    pub(super) fn watched_units(&self) -> Vec<WatchedUnit> {
        let (world, cgroups) = (self.units.world(), self.units.cgroups());
        let watched = cgroups.iter().filter_map(|(unit, (id, _))| {
            let watch = self.engine.watch(*id).ok()??;
            let counts = Outcome::ALL.map(|outcome| (outcome, watch.count(outcome)));
            Some(WatchedUnit {
                unit: unit.clone(),
                pressure: world
                    .pressure(unit)
                    .or_else(|| self.engine.pressure_by_default(*id))?,
                outcomes: counts.into_iter().filter(|(_, count)| *count > 0).collect(),
            })
        });
        watched.collect()
    }
}

#[cfg(test)]
mod tests;
