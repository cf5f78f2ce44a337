// SPDX-License-Identifier: MIT OR Apache-2.0
//! Victims that have some time before they are killed: who they are for those who look, and what is run for them meanwhile.

use crate::boottime;
use crate::engine::{Kill, Warning};
use crate::events::kill;
use crate::policy::CgroupId;
use crate::systemd::programs::Run;
use std::path::PathBuf;
use std::time::Duration;
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

    /// One more, for which `programs` are run. `path` tells the path of a cgroup, if it is known.
    pub(super) fn add(
        &mut self,
        warning: &Warning,
        programs: &[PathBuf],
        timeout: Duration,
        path: impl Fn(CgroupId) -> Option<String>,
    ) {
        let record = kill::describe(warning.kill.clone(), path).record(|_| 0);
        let Kill {
            victim, time_ns, ..
        } = warning.kill;
        let left = u64::try_from(warning.time_left.as_micros()).unwrap_or(u64::MAX);
        let pending = PendingKill {
            victim,
            cgroup: record.cgroup.unwrap_or_default(),
            unit: record.unit,
            user_unit: record.user_unit,
            policy: record.policy,
            until_usec: (time_ns / 1_000).saturating_add(left),
            asked: warning.asked,
        };
        if warning.programs {
            // Who makes a cgroup may give it any name; systemd takes no control characters here.
            let words = |name: &str, value: &str| {
                let value = value.replace(char::is_control, "?");
                format!("{name}={value}")
            };
            let environment = vec![
                words(
                    "OOM_VICTIM_UNIT",
                    pending.unit.as_deref().unwrap_or_default(),
                ),
                words(
                    "OOM_VICTIM_USER_UNIT",
                    pending.user_unit.as_deref().unwrap_or_default(),
                ),
                words("OOM_VICTIM_CGROUP", &pending.cgroup),
                words("OOM_VICTIM_BYTES", &warning.kill.victim_bytes.to_string()),
                words("OOM_POLICY", &pending.policy),
                words("OOM_REASON", &record.reason),
                words("OOM_DOMAIN", record.domain.as_deref().unwrap_or_default()),
                words("OOM_DOMAIN_BYTES", &warning.kill.usage_before.to_string()),
            ];
            let run = Run {
                victim,
                programs: programs.to_vec(),
                environment,
                timeout,
                name: format!("{}-{}", victim, boottime::now()),
            };
            if self
                .runs
                .as_ref()
                .is_none_or(|runs| runs.try_send(run).is_err())
            {
                error!("No program is run before the kill: too many are run already");
            }
        }
        self.kills.push(pending);
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
