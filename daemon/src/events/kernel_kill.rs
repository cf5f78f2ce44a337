// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills by the kernel's own killer: to the journal as those by policies, with as many of their fields as there can be.

use super::bytes;
use super::entry::{Entry, Killed, Victim};
use super::kill::KILL_MESSAGE_ID;
use super::place::Place;
use super::reason;
use super::record::{KillRecord, Killer, StallRecord};
use super::stall::usec;
use crate::engine::KernelKill;
use crate::policy::{CgroupId, Policy};
use std::time::Duration;

/// A kill, told in units.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    kill: KernelKill,
    domain: Place,
    victim: Place,
}

/// Finds out what the ids of a kill stand for. `path` tells the path of a cgroup, if it is known; otherwise it is as the kernel says.
pub fn describe(kill: KernelKill, path: impl Fn(CgroupId) -> Option<String>) -> Report {
    Report {
        domain: Place::new(path(kill.domain).or_else(|| kill.domain_path.clone())),
        victim: Place::new(path(kill.victim).or_else(|| kill.victim_path.clone())),
        kill,
    }
}

impl Report {
    /// What a person wants to know.
    pub fn message(&self) -> String {
        let kill = &self.kill;
        let what = self.domain.name(kill.domain);
        let why = reason::sentence(&kill.reason, &what, kill.usage_before);
        let total = kill.processes_total;
        let plural = if total == 1 { "" } else { "es" };
        let who = match kill.processes.first() {
            Some(chosen) if total > 1 => {
                format!(" ({} and {} more)", chosen.comm.escape_debug(), total - 1)
            }
            Some(chosen) => format!(" ({})", chosen.comm.escape_debug()),
            None => String::new(),
        };
        format!(
            "{why}: the kernel chose {}, {} in {total} process{plural}{who}",
            self.victim.name(kill.victim),
            bytes(kill.victim_bytes),
        )
    }

    /// When the victim was chosen, in microseconds of CLOCK_BOOTTIME.
    fn boottime_usec(&self) -> u64 {
        usec(Duration::from_nanos(self.kill.time_ns))
    }

    /// As it is kept. `realtime` turns a time of CLOCK_BOOTTIME into one since 1970.
    pub fn record(&self, realtime: impl Fn(u64) -> u64) -> KillRecord {
        let Report {
            kill,
            domain,
            victim,
        } = self;
        let boottime_usec = self.boottime_usec();
        KillRecord {
            time_usec: realtime(boottime_usec),
            boottime_usec,
            killer: Killer::Kernel,
            policy: Policy::Kernel.name().to_owned(),
            reason: self.reason().into(),
            unit: victim.unit.clone(),
            user_unit: victim.user_unit.clone(),
            cgroup: victim.path.clone(),
            cgroup_id: Some(kill.victim),
            bytes: Some(kill.victim_bytes),
            // Below zero with an oom_score_adj that nearly spares it.
            score: u64::try_from(kill.victim_score).ok(),
            preference: None,
            kill: Some(kill.kill),
            processes: kill.processes.clone(),
            processes_total: Some(kill.processes_total),
            candidates: None,
            handler_usec: None,
            domain: domain.path.clone(),
            domain_id: Some(kill.domain),
            domain_unit: domain.unit.clone(),
            domain_bytes: Some(kill.usage_before),
            attachment_unit: None,
            stall: reason::stall(&kill.reason).map(StallRecord::new),
            message: self.message(),
        }
    }

    fn reason(&self) -> &'static str {
        reason::name(&self.kill.reason, self.kill.domain)
    }
}

/// Writes a kill to the journal.
pub fn report(report: &Report) {
    let Report {
        kill,
        domain,
        victim,
    } = report;
    let entry = Entry {
        message_id: KILL_MESSAGE_ID,
        message: report.message(),
        about: victim,
        policy: Policy::Kernel.name(),
        reason: report.reason(),
        outcome: None,
        time_ns: kill.time_ns,
        domain: (domain, kill.domain),
        domain_bytes: kill.usage_before,
        attachment: None,
        stall: reason::stall(&kill.reason),
        candidates: None,
        handler_usec: None,
        victim: Some(Victim {
            place: victim,
            bytes: kill.victim_bytes,
            score: kill.victim_score.into(),
            killed: Some(Killed {
                cgroup: kill.victim,
                kill: kill.kill.to_string(),
                preference: None,
                oom_score_adj: Some(kill.oom_score_adj),
                processes: &kill.processes,
                processes_total: kill.processes_total,
            }),
        }),
    };
    entry.warn();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{KilledProcess, Reason, Stall};

    fn kill() -> KernelKill {
        KernelKill {
            time_ns: 5_000_000_000,
            reason: Reason::Allocation,
            domain: CgroupId(10),
            domain_path: Some("/a.slice/x.service".into()),
            usage_before: 80 << 20,
            victim: CgroupId(20),
            victim_path: Some("/a.slice/x.service/worker".into()),
            kill: crate::policy::Kill::Process,
            victim_score: 7936,
            oom_score_adj: 0,
            victim_bytes: 31 << 20,
            processes_total: 1,
            processes: vec![KilledProcess {
                pid: 100,
                comm: "hog".into(),
                bytes: 31 << 20,
            }],
        }
    }

    fn nobody_knows(_: CgroupId) -> Option<String> {
        None
    }

    #[test]
    fn a_kill_is_told_in_units_also_if_only_the_kernel_knows_them() {
        let report = describe(kill(), nobody_knows);
        assert_eq!(
            report.message(),
            "x.service ran out of memory (used 80.0M): the kernel chose x.service, 31.0M in 1 process (hog)"
        );
        assert_eq!(report.reason(), "limit");
    }

    #[test]
    fn of_several_processes_the_one_that_was_chosen_is_named() {
        let kill = KernelKill {
            domain: CgroupId::SYSTEM,
            processes_total: 3,
            ..kill()
        };
        let report = describe(kill, |_| Some("/b.slice".into()));
        assert_eq!(
            report.message(),
            "the system ran out of memory (used 80.0M): the kernel chose b.slice, 31.0M in 3 processes (hog and 2 more)"
        );
        assert_eq!(report.reason(), "system");
    }

    #[test]
    fn a_kill_that_somebody_asked_for_is_told_to_be_one() {
        let kill = KernelKill {
            domain: CgroupId::SYSTEM,
            reason: Reason::Sysrq,
            ..kill()
        };
        let report = describe(kill, nobody_knows);
        assert_eq!(
            report.message(),
            "Somebody asked for a kill with sysrq (the system used 80.0M): the kernel chose x.service, 31.0M in 1 process (hog)"
        );
        assert_eq!(report.reason(), "sysrq");
    }

    #[test]
    fn a_kill_for_a_stall_tells_the_stall() {
        let kill = KernelKill {
            reason: Reason::Pressure(Stall {
                resource: bpf_oomd_bpf::pressure::Resource::Memory,
                level: bpf_oomd_bpf::pressure::Level::Some,
                stall: Duration::from_millis(450),
                window: Duration::from_secs(1),
                lasted: Duration::from_secs(1),
                scanned: 1,
                high_events: 0,
                max_events: 0,
                over_high: false,
            }),
            ..kill()
        };
        let report = describe(kill, nobody_knows);
        let said = report.message();
        assert!(
            said.starts_with("x.service stalled on memory (some task for 450ms of 1s) (used 80.0M): the kernel chose"),
            "{said}"
        );
        assert_eq!(report.reason(), "pressure");
    }

    #[test]
    fn a_process_cannot_write_lines_of_its_own() {
        let mut kill = kill();
        kill.processes[0].comm = "x\ny".into();
        assert!(describe(kill, nobody_knows).message().ends_with("(x\\ny)"));
    }
}
