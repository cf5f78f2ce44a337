// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills by policies: from cgroup ids to units, and to the journal.

use super::bytes;
use super::entry::{Entry, Killed, Victim};
use super::place::Place;
use super::reason;
use super::record::{KillRecord, Killer, StallRecord};
use super::stall::usec;
use crate::engine::Kill;
use crate::policy::{CgroupId, Preference};
use std::time::Duration;

/// journalctl MESSAGE_ID=: a policy killed, or the kernel's own killer.
pub const KILL_MESSAGE_ID: &str = "74489b26ae2345f5a9a40355ae67d37c";

/// A kill, told in units.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    kill: Kill,
    domain: Place,
    attachment: Place,
    victim: Place,
}

/// Finds out what the ids of a kill stand for. `path` tells the path of a cgroup, if it is known; otherwise it is as the kernel says.
pub fn describe(kill: Kill, path: impl Fn(CgroupId) -> Option<String>) -> Report {
    Report {
        domain: Place::new(path(kill.domain).or_else(|| kill.domain_path.clone())),
        attachment: Place::new(path(kill.attachment)),
        victim: Place::new(path(kill.victim).or_else(|| kill.victim_path.clone())),
        kill,
    }
}

impl Report {
    /// What a person wants to know.
    pub fn message(&self) -> String {
        let Kill {
            domain,
            reason,
            victim,
            program,
            usage_before,
            victim_bytes,
            processes_total,
            preference,
            ..
        } = &self.kill;
        let what = self.domain.name(*domain);
        let why = reason::sentence(reason, &what, *usage_before);
        let plural = if *processes_total == 1 { "" } else { "es" };
        let last_resort = match preference {
            Preference::Avoid => " (to be avoided, but there was no other)",
            Preference::None | Preference::Omit => "",
        };
        format!(
            "{why}: policy {program} chose {}, {} in {processes_total} process{plural}{last_resort}",
            self.victim.name(*victim),
            bytes(*victim_bytes),
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
            attachment,
            victim,
        } = self;
        let boottime_usec = self.boottime_usec();
        KillRecord {
            time_usec: realtime(boottime_usec),
            boottime_usec,
            killer: Killer::Policy,
            policy: kill.program.clone(),
            reason: reason::name(&kill.reason, kill.domain).into(),
            unit: victim.unit.clone(),
            user_unit: victim.user_unit.clone(),
            cgroup: victim.path.clone(),
            cgroup_id: Some(kill.victim),
            bytes: Some(kill.victim_bytes),
            score: Some(kill.victim_score),
            preference: Some(kill.preference),
            kill: Some(kill.kill),
            processes: kill.processes.clone(),
            processes_total: Some(kill.processes_total),
            candidates: Some(kill.candidates),
            handler_usec: Some(kill.handler_us),
            domain: domain.path.clone(),
            domain_id: Some(kill.domain),
            domain_unit: domain.unit.clone(),
            domain_bytes: Some(kill.usage_before),
            attachment_unit: attachment.unit.clone(),
            stall: reason::stall(&kill.reason).map(StallRecord::new),
            message: self.message(),
        }
    }
}

impl Report {
    /// What the journal is told of it.
    pub(super) fn entry(&self) -> Entry<'_> {
        let Report {
            kill,
            domain,
            attachment,
            victim,
        } = self;
        Entry {
            message_id: KILL_MESSAGE_ID,
            message: self.message(),
            about: victim,
            policy: &kill.program,
            reason: reason::name(&kill.reason, kill.domain),
            outcome: None,
            time_ns: kill.time_ns,
            domain: (domain, kill.domain),
            domain_bytes: kill.usage_before,
            attachment: Some((attachment, kill.attachment)),
            stall: reason::stall(&kill.reason),
            candidates: Some(kill.candidates),
            handler_usec: Some(kill.handler_us),
            victim: Some(Victim {
                place: victim,
                bytes: kill.victim_bytes,
                score: kill.victim_score.into(),
                killed: Some(Killed {
                    cgroup: kill.victim,
                    kill: kill.kill.to_string(),
                    preference: Some(kill.preference.to_string()),
                    oom_score_adj: None,
                    processes: &kill.processes,
                    processes_total: kill.processes_total,
                }),
            }),
        }
    }
}

/// Writes a kill to the journal.
pub fn report(report: &Report) {
    report.entry().warn();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Reason;

    fn kill() -> Kill {
        Kill {
            time_ns: 5_000_000_000,
            domain: CgroupId(10),
            domain_path: None,
            reason: Reason::Allocation,
            attachment: CgroupId(10),
            victim: CgroupId(20),
            victim_path: None,
            program: "biggest-leaf".into(),
            usage_before: 80 << 20,
            victim_bytes: 31 << 20,
            victim_score: 31 << 20,
            preference: Preference::None,
            kill: crate::policy::Kill::Cgroup,
            candidates: 3,
            handler_us: 85,
            processes_total: 2,
            processes: vec![],
        }
    }

    fn message(kill: Kill, paths: &[(u64, &str)]) -> String {
        describe(kill, |id| {
            let found = paths.iter().find(|(known, _)| *known == id.0);
            found.map(|(_, path)| (*path).to_owned())
        })
        .message()
    }

    #[test]
    fn a_kill_is_told_in_units() {
        assert_eq!(
            message(
                kill(),
                &[
                    (10, "/a.slice"),
                    (20, "/a.slice/a-b.slice/x.service/worker")
                ]
            ),
            "a.slice ran out of memory (used 80.0M): policy biggest-leaf chose x.service, 31.0M in 2 processes"
        );
    }

    #[test]
    fn a_victim_that_was_to_be_avoided_is_told_to_be_one() {
        let kill = Kill {
            preference: Preference::Avoid,
            ..kill()
        };
        let said = message(kill, &[(10, "/a.slice"), (20, "/a.slice/x.service")]);
        assert!(
            said.ends_with("in 2 processes (to be avoided, but there was no other)"),
            "{said}"
        );
    }

    #[test]
    fn a_cgroup_that_nobody_knows_any_more_is_told_by_its_id() {
        assert_eq!(
            message(kill(), &[]),
            "a cgroup that is gone (id 10) ran out of memory (used 80.0M): \
             policy biggest-leaf chose a cgroup that is gone (id 20), 31.0M in 2 processes"
        );
    }

    #[test]
    fn what_nobody_here_knows_is_where_the_kernel_says() {
        let kill = Kill {
            domain_path: Some("/wrong.slice".into()),
            victim_path: Some("/a.slice/y.service/…".into()),
            ..kill()
        };
        assert_eq!(
            message(kill, &[(10, "/a.slice")]),
            "a.slice ran out of memory (used 80.0M): policy biggest-leaf chose y.service, 31.0M in 2 processes"
        );
    }

    #[test]
    fn a_users_unit_is_told_with_the_users_manager() {
        let kill = Kill {
            domain: CgroupId::SYSTEM,
            processes_total: 1,
            ..kill()
        };
        assert_eq!(
            message(
                kill,
                &[
                    (0, "/"),
                    (
                        20,
                        "/user.slice/user-1.slice/user@1.service/app.slice/f.scope"
                    )
                ]
            ),
            "the system ran out of memory (used 80.0M): \
             policy biggest-leaf chose f.scope of user@1.service, 31.0M in 1 process"
        );
    }

    #[test]
    fn a_cgroup_that_is_no_units_is_told_by_its_path() {
        assert!(message(kill(), &[(10, "/a.slice"), (20, "/pods/7")]).contains("chose /pods/7,"));
    }

    #[test]
    fn a_kill_that_somebody_asked_for_is_told_to_be_one() {
        let kill = Kill {
            domain: CgroupId::SYSTEM,
            reason: Reason::Sysrq,
            ..kill()
        };
        let report = describe(kill, |id| (id.0 == 20).then(|| "/a.slice/x.service".into()));
        assert_eq!(
            report.message(),
            "Somebody asked for a kill with sysrq (the system used 80.0M): policy biggest-leaf chose x.service, 31.0M in 2 processes"
        );
        assert_eq!(report.record(|time| time).reason, "sysrq");
    }
}
