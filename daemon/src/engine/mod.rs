// SPDX-License-Identifier: MIT OR Apache-2.0
//! How policies are enforced.
//!
//! The core says what should be attached where; an engine does it, and reports what happened. With [`kernel`] the kernel itself
//! chooses and kills, where it can; with [`userspace`] the daemon does.

mod choice;
pub mod kernel;
mod parameters;
pub mod probe;
pub mod userspace;

use crate::fault::causes;
use crate::policy::{self, CgroupId, InForce, Machine, OwnSettings, Preference, Pressure, Trigger};
use bpf_oomd_bpf::Ranking;
pub use bpf_oomd_bpf::pressure::{Outcome, Stall, Watch};
pub use bpf_oomd_bpf::{Excluded, Reason};
pub use choice::{EngineKind, choose, summary};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use tracing::debug;

/// Something that enforces policies.
pub trait Engine {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// What it needs of the kernel, and whether that is there.
    fn interface(&self) -> Vec<InterfacePart>;

    /// The names of the policy programs there are.
    fn programs(&self) -> &'static [&'static str];

    /// What an earlier daemon left in force.
    fn found(&self) -> Found {
        Found::default()
    }

    /// Makes sure that a policy program can be attached, as far as that does not depend on the cgroup.
    ///
    /// # Errors
    ///
    /// If it cannot; nothing has changed then.
    fn prepare(&mut self, program: &str) -> Result<(), AttachError> {
        let _ = program;
        Ok(())
    }

    /// Puts a policy program on a cgroup, or on the system if `cgroup` is None and `id` is [`CgroupId::SYSTEM`]. Nothing is attached
    /// there before. `cgroup` is an open directory and need not stay open.
    fn attach(
        &mut self,
        id: CgroupId,
        cgroup: Option<BorrowedFd<'_>>,
        program: &str,
    ) -> Result<(), AttachError>;

    /// Takes away what is attached to a cgroup.
    fn detach(&mut self, id: CgroupId);

    /// Forgets a cgroup that is gone, and everything on it with it.
    fn forget(&mut self, id: CgroupId);

    /// Tells policy programs what is said about a cgroup, in place of what they were told before. Acts on the next OOM; nothing is
    /// attached or detached for it.
    fn put_settings(&mut self, id: CgroupId, settings: &OwnSettings) -> Result<(), SettingsError>;

    /// Takes away what is said about a cgroup. That there is nothing is fine: what belongs to a cgroup with an attachment goes
    /// with the cgroup.
    fn remove_settings(&mut self, id: CgroupId) -> Result<(), SettingsError>;

    /// Watches these cgroups for pressure, and no others but, if `births` is true, those that are made from now on in slices of which
    /// the settings say so. What is watched already goes on being watched. Returns why some are not. Called when all attachments and
    /// settings are as they should be, after each change of them.
    ///
    /// # Errors
    ///
    /// If nothing can be watched at all.
    fn set_triggers(
        &mut self,
        want: &BTreeMap<CgroupId, Trigger>,
        births: bool,
    ) -> Result<BTreeMap<CgroupId, String>, TriggerError>;

    /// Takes what is said about the machine's memory. An engine that leaves that to the kernel has nothing to do.
    fn set_machine(&mut self, _machine: &Machine) -> Result<(), TriggerError> {
        Ok(())
    }

    /// What a cgroup is watched for because it has a policy and nobody says anything of its pressure.
    fn pressure_by_default(&self, _id: CgroupId) -> Option<Pressure> {
        None
    }

    /// The programs that an administrator has run before a kill have ended, for a victim of [`Event::Warned`].
    fn programs_ended(&mut self, victim: CgroupId) {
        let _ = victim;
    }

    /// What came of the stalls of a cgroup so far; None if it is not watched.
    fn watch(&self, id: CgroupId) -> Result<Option<Watch>, TriggerError>;

    /// The leaves of a domain as a policy program sees them now: in the order in which it would choose them, and those that it would
    /// not choose after all others.
    fn ranking(&mut self, program: &str, domain: CgroupId) -> Result<Vec<Candidate>, RankingError>;

    /// Whom a policy program would choose in a domain now.
    fn next_victim(
        &mut self,
        program: &str,
        domain: CgroupId,
    ) -> Result<Option<Candidate>, RankingError> {
        let ranking = self.ranking(program, domain)?;
        let first = ranking.into_iter().next();
        Ok(first.filter(|candidate| candidate.excluded.is_none()))
    }

    /// Gives the parameters of a policy program the values that are said, and all others their defaults. Acts on the next OOM; a
    /// program that is not loaded yet has them when it is.
    fn set_parameters(
        &mut self,
        program: &'static str,
        said: &BTreeMap<String, u64>,
    ) -> Result<(), ParameterError>;

    /// What does not work on this machine, in words; it was found out at the start.
    fn shortcoming(&self) -> Option<&str> {
        None
    }

    /// What an administrator should know about what is kept for the next daemon, and what an earlier one left, in words.
    fn concerns(&self) -> Vec<String> {
        Vec::new()
    }

    /// Readable when there are events.
    fn events_fd(&self) -> BorrowedFd<'_>;

    /// Appends the oldest events, as many as suits the engine, and nothing when there are no more. Those that were appended by the
    /// last call count as told now. What could be read is appended also if there is an error.
    fn events(&mut self, into: &mut Vec<Event>) -> Result<(), EventsError>;

    /// How many events were lost so far because they came faster than they were read.
    fn lost_events(&self) -> Result<u64, EventsError>;
}

/// What an earlier daemon left in force, and this one goes on with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What is attached.
    pub attachments: BTreeMap<CgroupId, InForce>,
    /// Cgroups that something was said about to policy programs.
    pub told: BTreeSet<CgroupId>,
    /// How many events were lost, as was told.
    pub lost_events: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A policy killed.
    Kill(Kill),
    /// A policy has chosen a victim that has some time before it is killed.
    Warned(Warning),
    /// Such a victim has ended by itself. No process was killed; for the rest it is told as the kill that would have been.
    WentAway(Kill),
    /// The kernel's own killer killed.
    KernelKill(KernelKill),
    /// A cgroup stalled, and nobody was killed for it, or it is not known who.
    Stalled(Stalled),
    /// A cgroup is gone, and its attachment with it.
    CgroupGone(CgroupId),
}

/// A stall for which an OOM was declared, or would have been, and no policy killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// When, in nanoseconds of CLOCK_BOOTTIME.
    pub time_ns: u64,
    /// What stalled.
    pub domain: CgroupId,
    /// Where that is; see [`Kill::victim_path`].
    pub domain_path: Option<String>,
    /// Its memory use, in bytes.
    pub usage: u64,
    /// How it stalled.
    pub stall: Stall,
    /// What came of it.
    pub outcome: Outcome,
}

/// A victim that has some time before it is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The kill, without processes.
    pub kill: Kill,
    /// How long it has at most.
    pub time_left: Duration,
    /// Whether its processes were asked to end (SIGTERM).
    pub asked: bool,
    /// Whether the administrator's programs are to be run before.
    pub programs: bool,
}

/// A part of the kernel's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfacePart {
    /// Its name.
    pub name: &'static str,
    /// Whether this kernel has it.
    pub present: bool,
    /// What it means if it is missing, in one sentence.
    pub missing: &'static str,
}

/// A leaf of a domain, as a policy program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The leaf.
    pub cgroup: CgroupId,
    /// What makes its place in the order; what it measures is the program's business.
    pub score: u64,
    /// Its memory use, page cache left out, in bytes.
    pub bytes: u64,
    /// Its preference in this domain, its own or inherited.
    pub preference: Preference,
    /// Processes in it that could be killed.
    pub processes: u32,
    /// Why it cannot be chosen, if so.
    pub excluded: Option<Excluded>,
}

impl From<bpf_oomd_bpf::Candidate> for Candidate {
    fn from(candidate: bpf_oomd_bpf::Candidate) -> Self {
        Candidate {
            cgroup: CgroupId(candidate.cgroup_id),
            score: candidate.score,
            bytes: candidate.bytes,
            preference: candidate.preference.into(),
            processes: candidate.processes,
            excluded: candidate.excluded,
        }
    }
}

/// What a ranking of a domain says, in its order.
fn candidates(ranking: Ranking, domain: CgroupId) -> Vec<Candidate> {
    if ranking.left_out > 0 {
        debug!(
            "{} cgroups in the one with id {domain} are not in its ranking, there is no room for them",
            ranking.left_out
        );
    }
    ranking.candidates.into_iter().map(Into::into).collect()
}

/// One kill by a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// When the victim was chosen, in nanoseconds of CLOCK_BOOTTIME.
    pub time_ns: u64,
    /// What ran out of memory.
    pub domain: CgroupId,
    /// Where that is; see [`Kill::victim_path`].
    pub domain_path: Option<String>,
    /// Why somebody had to die.
    pub reason: Reason,
    /// The attachment that decided.
    pub attachment: CgroupId,
    /// The leaf that was chosen.
    pub victim: CgroupId,
    /// Where that is, as the kernel said when it killed. A path that is very long ends in `/…`.
    pub victim_path: Option<String>,
    /// Name of the policy program.
    pub program: String,
    /// Memory use of the domain before, in bytes.
    pub usage_before: u64,
    /// Memory use of the victim before, page cache left out, in bytes.
    pub victim_bytes: u64,
    /// The score that made it the victim; what it measures is the program's business.
    pub victim_score: u64,
    /// Whether the victim was one that is to be avoided.
    pub preference: Preference,
    /// What of the victim was killed.
    pub kill: policy::Kill,
    /// Leaves that could have been chosen, the victim included.
    pub candidates: u32,
    /// Microseconds spent deciding and killing.
    pub handler_us: u64,
    /// Processes in the victim before.
    pub processes_total: u32,
    /// Some of them; all if there are few.
    pub processes: Vec<KilledProcess>,
}

/// One kill by the kernel's own killer, which chooses a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelKill {
    /// When the victim was chosen, in nanoseconds of CLOCK_BOOTTIME.
    pub time_ns: u64,
    /// Why somebody had to die.
    pub reason: Reason,
    /// What ran out of memory.
    pub domain: CgroupId,
    /// Where that is; see [`Kill::victim_path`].
    pub domain_path: Option<String>,
    /// Memory use of the domain before, in bytes.
    pub usage_before: u64,
    /// The cgroup of the process that was chosen, or one above that dies whole (`memory.oom.group`).
    pub victim: CgroupId,
    /// Where that is; see [`Kill::victim_path`].
    pub victim_path: Option<String>,
    /// What of it was killed.
    pub kill: policy::Kill,
    /// How the kernel rated the process that was chosen, in pages.
    pub victim_score: i64,
    /// Its `oom_score_adj`, which is part of that.
    pub oom_score_adj: i32,
    /// Memory of all processes that were killed before, file pages left out, in bytes.
    pub victim_bytes: u64,
    /// How many these were.
    pub processes_total: u32,
    /// Some of them, first the one that was chosen; all if there are few.
    pub processes: Vec<KilledProcess>,
}

/// A process of a victim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KilledProcess {
    /// Its id in the initial pid namespace.
    pub pid: u32,
    /// Its command name, which it chose itself.
    pub comm: String,
    /// Its memory before, file pages left out, in bytes.
    pub bytes: u64,
}

/// Why a policy is not on a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The cgroup has no memory controller, or is on its way out.
    #[error("the cgroup has no memory controller")]
    NoMemoryController,
    /// Somebody else has something attached there.
    #[error("another program has an OOM policy attached to this cgroup")]
    Busy,
    /// The policy program does not load.
    #[error("policy program {name:?} does not load: {reason}")]
    Load {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Any other reason.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it went wrong.
        source: io::Error,
    },
}

/// Why policy programs do not know what is said about a cgroup.
#[derive(Debug, thiserror::Error)]
#[error("settings of the cgroup with id {id} cannot be changed: {reason}")]
pub struct SettingsError {
    /// The cgroup.
    pub id: CgroupId,
    /// Why not.
    pub reason: String,
}

impl AttachError {
    /// The program does not load.
    fn load(name: &str, error: &dyn std::error::Error) -> Self {
        AttachError::Load {
            name: name.to_owned(),
            reason: causes(error),
        }
    }
}

impl SettingsError {
    fn new(id: CgroupId, error: &dyn std::error::Error) -> Self {
        SettingsError {
            id,
            reason: causes(error),
        }
    }
}

/// Why cgroups are not watched for pressure.
#[derive(Debug, thiserror::Error)]
#[error("pressure is not watched: {0}")]
pub struct TriggerError(pub String);

/// Why it is not known whom a policy would choose.
#[derive(Debug, thiserror::Error)]
#[error("policy program {program:?} does not say whom it would choose: {reason}")]
pub struct RankingError {
    /// The program.
    pub program: String,
    /// Why not.
    pub reason: String,
}

impl RankingError {
    fn new(program: &str, error: &dyn std::error::Error) -> Self {
        RankingError {
            program: program.to_owned(),
            reason: causes(error),
        }
    }
}

/// Why a parameter of a policy program is not what was said.
#[derive(Debug, thiserror::Error)]
#[error("parameters of policy program {program:?} cannot be changed: {reason}")]
pub struct ParameterError {
    /// The program.
    pub program: &'static str,
    /// Why not.
    pub reason: String,
}

impl ParameterError {
    fn new(program: &'static str, error: &dyn std::error::Error) -> Self {
        ParameterError {
            program,
            reason: causes(error),
        }
    }
}

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("events of the policy programs cannot be read: {0}")]
pub struct EventsError(pub String);
