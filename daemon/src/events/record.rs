// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kill as it is kept and told to programs, whoever killed.

use super::stall::{self, held_back, usec};
use crate::engine::{KilledProcess, Stall};
use crate::policy::{CgroupId, Kill, Preference};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Who killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Killer {
    /// A policy program.
    Policy,
    /// The kernel's own killer.
    Kernel,
}

impl Killer {
    /// A word for it that does not change, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Killer::Policy => "policy",
            Killer::Kernel => "kernel",
        }
    }
}

/// The stall for which an OOM was declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StallRecord {
    /// What was waited for.
    pub resource: String,
    /// By whom.
    pub level: String,
    /// How long in the last window, in microseconds.
    pub usec: u64,
    /// The length of the window, in microseconds.
    pub window_usec: u64,
    /// Whether memory.high held the tasks back.
    pub held_back: bool,
}

impl StallRecord {
    pub(super) fn new(stall: &Stall) -> Self {
        StallRecord {
            resource: stall::resource(stall),
            level: stall::level(stall),
            usec: usec(stall.stall),
            window_usec: usec(stall.window),
            held_back: held_back(stall),
        }
    }
}

/// A kill. What is not known, or means nothing for this killer, is None.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KillRecord {
    /// When, in microseconds since 1970.
    pub time_usec: u64,
    /// The same by CLOCK_BOOTTIME.
    pub boottime_usec: u64,
    /// Who killed.
    pub killer: Killer,
    /// Name of the policy program; `kernel` for the kernel's own killer.
    pub policy: String,
    /// `limit`, `system`, `pressure` or `sysrq`.
    pub reason: Cow<'static, str>,
    /// The victim's unit.
    pub unit: Option<String>,
    /// The victim's unit of a user's manager.
    pub user_unit: Option<String>,
    /// Path of the victim's cgroup.
    pub cgroup: Option<String>,
    /// Its id.
    pub cgroup_id: Option<CgroupId>,
    /// Its memory use before, page cache left out, in bytes.
    pub bytes: Option<u64>,
    /// What made it the victim.
    pub score: Option<u64>,
    /// Whether it was one that is to be avoided.
    pub preference: Option<Preference>,
    /// What of it was killed.
    pub kill: Option<Kill>,
    /// Processes in it before; not all if there were many.
    pub processes: Vec<KilledProcess>,
    /// How many there were.
    pub processes_total: Option<u32>,
    /// How many cgroups could have been chosen.
    pub candidates: Option<u32>,
    /// Microseconds spent deciding and killing.
    pub handler_usec: Option<u64>,
    /// Path of what ran out of memory.
    pub domain: Option<String>,
    /// Its id.
    pub domain_id: Option<CgroupId>,
    /// Its unit.
    pub domain_unit: Option<String>,
    /// Its memory use before, in bytes.
    pub domain_bytes: Option<u64>,
    /// The unit whose attachment decided.
    pub attachment_unit: Option<String>,
    /// The stall for which the OOM was declared.
    pub stall: Option<StallRecord>,
    /// The sentence that is in the journal.
    pub message: String,
}
