// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills by policies: from cgroup ids to units, and to the journal.

use super::bytes;
use super::place::Place;
use super::record::{KillRecord, Killer, StallRecord};
use super::stall::{self, held_back, how, usec};
use crate::engine::{Kill, KilledProcess};
use crate::policy::{CgroupId, Preference};
use std::fmt::Write;
use std::time::Duration;
use tracing::warn;

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
            stall,
            victim,
            program,
            usage_before,
            victim_bytes,
            processes_total,
            preference,
            ..
        } = &self.kill;
        let what = self.domain.name(*domain);
        let used = bytes(*usage_before);
        let why = match stall {
            Some(stall) => format!("{what} {} (used {used})", how(stall)),
            None => format!("{what} ran out of memory (used {used})"),
        };
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

    /// `limit`: a cgroup reached its limit. `system`: there was none left at all. `pressure`: it stalled.
    fn reason(&self) -> &'static str {
        match self.kill.domain {
            _ if self.kill.stall.is_some() => stall::REASON,
            CgroupId::SYSTEM => "system",
            _ => "limit",
        }
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
            reason: self.reason(),
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
            stall: kill.stall.as_ref().map(StallRecord::new),
            message: self.message(),
        }
    }
}

/// Writes a kill to the journal.
pub fn report(report: &Report) {
    let Report {
        kill,
        domain,
        attachment,
        victim,
    } = report;
    let stall = kill.stall.as_ref();
    warn!(
        MESSAGE_ID = KILL_MESSAGE_ID,
        // By these two, journalctl -u and --user-unit find what other programs say about a unit.
        OBJECT_SYSTEMD_UNIT = victim.unit,
        OBJECT_SYSTEMD_USER_UNIT = victim.user_unit,
        UNIT = victim.unit,
        OOM_POLICY = kill.program,
        OOM_REASON = report.reason(),
        OOM_BOOTTIME_USEC = report.boottime_usec(),
        OOM_DOMAIN = domain.path,
        OOM_DOMAIN_ID = kill.domain.0,
        OOM_DOMAIN_UNIT = domain.unit,
        OOM_DOMAIN_BYTES = kill.usage_before,
        OOM_ATTACHMENT = attachment.path,
        OOM_ATTACHMENT_ID = kill.attachment.0,
        OOM_ATTACHMENT_UNIT = attachment.unit,
        OOM_STALL_RESOURCE = stall.map(stall::resource),
        OOM_STALL_LEVEL = stall.map(stall::level),
        OOM_STALL_USEC = stall.map(|it| usec(it.stall)),
        OOM_STALL_WINDOW_USEC = stall.map(|it| usec(it.window)),
        OOM_STALL_LASTED_USEC = stall.map(|it| usec(it.lasted)),
        OOM_STALL_SCANNED = stall.map(|it| it.scanned),
        OOM_STALL_HIGH_EVENTS = stall.map(|it| it.high_events),
        OOM_STALL_MAX_EVENTS = stall.map(|it| it.max_events),
        OOM_STALL_HELD_BACK = stall.map(held_back),
        OOM_KILL = kill.kill.to_string(),
        OOM_CANDIDATES = kill.candidates,
        OOM_HANDLER_USEC = kill.handler_us,
        VICTIM_UNIT = victim.unit,
        VICTIM_USER_UNIT = victim.user_unit,
        VICTIM_CGROUP = victim.path,
        VICTIM_CGROUP_ID = kill.victim.0,
        VICTIM_BYTES = kill.victim_bytes,
        VICTIM_SCORE = kill.victim_score,
        VICTIM_PREFERENCE = kill.preference.to_string(),
        VICTIM_PROCESSES_TOTAL = kill.processes_total,
        VICTIM_PROCESSES = processes(&kill.processes),
        "{}",
        report.message()
    );
}

/// One line for each process: its id, its bytes, its name.
pub(super) fn processes(processes: &[KilledProcess]) -> String {
    let mut lines = String::new();
    for KilledProcess { pid, comm, bytes } in processes {
        // A process gives itself its name, and may put a line's end into it.
        let _ = writeln!(lines, "{pid} {bytes} {}", comm.escape_debug());
    }
    lines.truncate(lines.trim_end().len());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill() -> Kill {
        Kill {
            time_ns: 5_000_000_000,
            domain: CgroupId(10),
            domain_path: None,
            stall: None,
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
    fn a_process_cannot_write_lines_of_its_own() {
        let process = |pid, comm: &str| KilledProcess {
            pid,
            comm: comm.into(),
            bytes: 4096,
        };
        assert_eq!(
            processes(&[process(1, "a b"), process(2, "x\n3 0 y\u{1b}")]),
            "1 4096 a b\n2 4096 x\\n3 0 y\\u{1b}"
        );
        assert_eq!(processes(&[]), "");
    }
}
