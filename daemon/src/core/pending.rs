// SPDX-License-Identifier: MIT OR Apache-2.0
//! Victims that have some time before they are killed: who they are for those who look, and what is run for them meanwhile.

use crate::boottime;
use crate::engine::{Kill, Warning};
use crate::events::record::KillRecord;
use crate::policy::{CgroupId, Machine};
use crate::systemd::programs::Run;
use tokio::sync::mpsc;
use tracing::error;

/// A victim that is about to be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingKill {
    /// Its cgroup.
    pub victim: CgroupId,
    /// Its unit, if it is of the system's service manager.
    pub unit: Option<String>,
    /// Its unit, if it is of a user's.
    pub user_unit: Option<String>,
    /// Path of its cgroup.
    pub cgroup: String,
    /// Name of the policy program that chose it.
    pub policy: String,
    /// When it is killed at the latest, in microseconds of CLOCK_BOOTTIME.
    pub until_usec: u64,
    /// Whether its processes were asked to end.
    pub asked: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct PendingKills {
    kills: Vec<PendingKill>,
    /// To whoever runs programs.
    runs: Option<mpsc::Sender<Run>>,
}

impl PendingKills {
    /// Has programs run by whoever has the other end.
    pub(super) fn run_by(&mut self, runs: mpsc::Sender<Run>) {
        self.runs = Some(runs);
    }

    /// One more, of which `record` would be the kill's. What is run for it is said in `machine`.
    pub(super) fn add(&mut self, warning: &Warning, record: KillRecord, machine: &Machine) {
        if warning.programs {
            self.run(&warning.kill, &record, machine);
        }
        let left = u64::try_from(warning.time_left.as_micros()).unwrap_or(u64::MAX);
        self.kills.push(PendingKill {
            victim: warning.kill.victim,
            unit: record.unit,
            user_unit: record.user_unit,
            cgroup: record.cgroup.unwrap_or_default(),
            policy: record.policy,
            until_usec: record.boottime_usec.saturating_add(left),
            asked: warning.asked,
        });
    }

    /// Has the administrator's programs run.
    fn run(&self, kill: &Kill, record: &KillRecord, machine: &Machine) {
        let victim = kill.victim;
        let run = Run {
            victim,
            programs: machine.pre_kill.clone(),
            environment: environment(kill, record),
            timeout: machine.pre_kill_timeout,
            name: format!("{victim}-{}", boottime::now()),
        };
        let runs = self.runs.as_ref();
        if runs.is_none_or(|runs| runs.try_send(run).is_err()) {
            error!("No program is run before the kill: too many are run already");
        }
    }

    /// Those that there are, oldest first.
    pub(super) fn all(&self) -> &[PendingKill] {
        &self.kills
    }

    /// One is over.
    pub(super) fn remove(&mut self, victim: CgroupId) {
        self.kills.retain(|pending| pending.victim != victim);
    }
}

/// What programs before a kill are told.
fn environment(kill: &Kill, record: &KillRecord) -> Vec<String> {
    let known = |text: &Option<String>| text.clone().unwrap_or_default();
    let words = [
        ("OOM_VICTIM_UNIT", known(&record.unit)),
        ("OOM_VICTIM_USER_UNIT", known(&record.user_unit)),
        ("OOM_VICTIM_CGROUP", known(&record.cgroup)),
        ("OOM_VICTIM_BYTES", kill.victim_bytes.to_string()),
        ("OOM_POLICY", record.policy.clone()),
        ("OOM_REASON", record.reason.clone().into_owned()),
        ("OOM_DOMAIN", known(&record.domain)),
        ("OOM_DOMAIN_BYTES", kill.usage_before.to_string()),
    ];
    // Who makes a cgroup may give it any name; systemd takes no control characters here.
    let harmless = |value: String| value.replace(char::is_control, "?");
    words
        .into_iter()
        .map(|(name, value)| format!("{name}={}", harmless(value)))
        .collect()
}
