// SPDX-License-Identifier: MIT OR Apache-2.0
//! An entry of the journal about a kill, or about a stall without one. The only place where its fields are written.

use super::place::Place;
use super::stall::{held_back, level, resource, usec};
use crate::engine::{KilledProcess, Stall};
use crate::policy::CgroupId;
use std::fmt::Write;
use std::time::Duration;
use tracing::{info, warn};

/// What the journal is told. What is None is left out.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) message_id: &'static str,
    /// What a person wants to know.
    pub(super) message: String,
    /// The unit for which the entry is shown.
    pub(super) about: &'a Place,
    /// Who decides.
    pub(super) policy: &'a str,
    pub(super) reason: &'static str,
    /// What came of it, if that is no kill.
    pub(super) outcome: Option<&'static str>,
    /// When, in nanoseconds of CLOCK_BOOTTIME.
    pub(super) time_ns: u64,
    /// What ran out of memory.
    pub(super) domain: (&'a Place, CgroupId),
    /// What it used.
    pub(super) domain_bytes: u64,
    /// Whose policy it was.
    pub(super) attachment: Option<(&'a Place, CgroupId)>,
    pub(super) stall: Option<&'a Stall>,
    pub(super) candidates: Option<u32>,
    pub(super) handler_usec: Option<u64>,
    pub(super) victim: Option<Victim<'a>>,
}

/// Who died, or would have died.
#[derive(Debug)]
pub(super) struct Victim<'a> {
    pub(super) place: &'a Place,
    pub(super) bytes: u64,
    /// Below zero for some that the kernel chose.
    pub(super) score: i128,
    pub(super) killed: Option<Killed<'a>>,
}

/// How it died.
#[derive(Debug)]
pub(super) struct Killed<'a> {
    pub(super) cgroup: CgroupId,
    pub(super) kill: String,
    pub(super) preference: Option<String>,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) processes: &'a [KilledProcess],
    pub(super) processes_total: u32,
}

impl Entry<'_> {
    /// Writes it as trouble.
    pub(super) fn warn(&self) {
        self.write(true);
    }

    /// Writes it as what was asked for.
    pub(super) fn inform(&self) {
        self.write(false);
    }

    fn write(&self, is_trouble: bool) {
        let Entry { about, stall, .. } = self;
        let (domain, domain_id) = self.domain;
        let attachment = self.attachment.as_ref();
        let attachment_place = attachment.map(|(place, _)| *place);
        let victim = self.victim.as_ref();
        let place = victim.map(|victim| victim.place);
        let killed = victim.and_then(|victim| victim.killed.as_ref());
        macro_rules! tell {
            ($level:ident) => {
                $level!(
                    MESSAGE_ID = self.message_id,
                    // By these two, journalctl -u and --user-unit find what other programs say about a unit.
                    OBJECT_SYSTEMD_UNIT = about.unit,
                    OBJECT_SYSTEMD_USER_UNIT = about.user_unit,
                    UNIT = about.unit,
                    USER_UNIT = about.user_unit,
                    OOM_POLICY = self.policy,
                    OOM_REASON = self.reason,
                    OOM_OUTCOME = self.outcome,
                    OOM_BOOTTIME_USEC = usec(Duration::from_nanos(self.time_ns)),
                    OOM_DOMAIN = domain.path,
                    OOM_DOMAIN_ID = domain_id.0,
                    OOM_DOMAIN_UNIT = domain.unit,
                    OOM_DOMAIN_BYTES = self.domain_bytes,
                    OOM_ATTACHMENT = attachment_place.and_then(|it| it.path.as_deref()),
                    OOM_ATTACHMENT_ID = attachment.map(|(_, id)| id.0),
                    OOM_ATTACHMENT_UNIT = attachment_place.and_then(|it| it.unit.as_deref()),
                    OOM_STALL_RESOURCE = stall.map(resource),
                    OOM_STALL_LEVEL = stall.map(level),
                    OOM_STALL_USEC = stall.map(|it| usec(it.stall)),
                    OOM_STALL_WINDOW_USEC = stall.map(|it| usec(it.window)),
                    OOM_STALL_LASTED_USEC = stall.map(|it| usec(it.lasted)),
                    OOM_STALL_SCANNED = stall.map(|it| it.scanned),
                    OOM_STALL_HIGH_EVENTS = stall.map(|it| it.high_events),
                    OOM_STALL_MAX_EVENTS = stall.map(|it| it.max_events),
                    OOM_STALL_HELD_BACK = stall.map(held_back),
                    OOM_KILL = killed.map(|it| it.kill.as_str()),
                    OOM_CANDIDATES = self.candidates,
                    OOM_HANDLER_USEC = self.handler_usec,
                    VICTIM_UNIT = place.and_then(|it| it.unit.as_deref()),
                    VICTIM_USER_UNIT = place.and_then(|it| it.user_unit.as_deref()),
                    VICTIM_CGROUP = place.and_then(|it| it.path.as_deref()),
                    VICTIM_CGROUP_ID = killed.map(|it| it.cgroup.0),
                    VICTIM_BYTES = victim.map(|it| it.bytes),
                    VICTIM_SCORE = victim.map(|it| it.score),
                    VICTIM_PREFERENCE = killed.and_then(|it| it.preference.as_deref()),
                    VICTIM_OOM_SCORE_ADJ = killed.and_then(|it| it.oom_score_adj),
                    VICTIM_PROCESSES_TOTAL = killed.map(|it| it.processes_total),
                    VICTIM_PROCESSES = killed.map(|it| processes(it.processes)),
                    "{}",
                    self.message
                )
            };
        }
        match is_trouble {
            true => tell!(warn),
            false => tell!(info),
        }
    }
}

/// One line for each process: its id, its bytes, its name.
fn processes(processes: &[KilledProcess]) -> String {
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
