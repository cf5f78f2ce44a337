// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stalls for which no policy killed: the kernel's killer chose, nobody could be killed, or it was a dry run.

use super::bytes;
use super::entry::{Entry, Victim};
use super::place::Place;
use crate::engine::{Candidate, Outcome, Stall, Stalled};
use crate::policy::{CgroupId, Level, Policy, Resource};
use crate::systemd::value::TimeSpan;
use std::time::Duration;

/// journalctl MESSAGE_ID=: a unit stalled, and no policy killed for it.
pub const STALL_MESSAGE_ID: &str = "3cc0cc2c6cb64aa3ad9e52c5698b6e4a";

/// `OOM_REASON` of what a stall is the reason for.
pub(super) const REASON: &str = "pressure";

/// A stall, told in units.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    stalled: Stalled,
    policy: Policy,
    domain: Place,
    victim: Option<(Candidate, Place)>,
}

/// Finds out what the ids stand for. `policy` has the say about the domain; `victim` is whom it would have chosen. `path` tells the path
/// of a cgroup, if it is known; that of what stalled is otherwise as the kernel says.
pub fn describe(
    stalled: Stalled,
    policy: Policy,
    victim: Option<Candidate>,
    path: impl Fn(CgroupId) -> Option<String>,
) -> Report {
    Report {
        domain: Place::new(path(stalled.domain).or_else(|| stalled.domain_path.clone())),
        victim: victim.map(|victim| {
            let place = Place::new(path(victim.cgroup));
            (victim, place)
        }),
        stalled,
        policy,
    }
}

impl Report {
    /// What a person wants to know.
    pub fn message(&self) -> String {
        let Stalled {
            domain,
            usage,
            stall,
            outcome,
            ..
        } = &self.stalled;
        let came_of_it = match (outcome, &self.victim) {
            (Outcome::KernelKilled, _) => "the kernel's own killer chose".to_owned(),
            (Outcome::Reported, Some((victim, place))) => format!(
                "policy {} would have chosen {}, {} (dry run)",
                self.policy.name(),
                place.name(victim.cgroup),
                bytes(victim.bytes)
            ),
            (Outcome::Reported, None) => match self.policy {
                Policy::Kernel => "the kernel's own killer would have chosen (dry run)".to_owned(),
                Policy::Bpf(_) => "nobody could have been killed (dry run)".to_owned(),
            },
            _ => "nobody could be killed".to_owned(),
        };
        format!(
            "{} {} (used {}): {came_of_it}",
            self.domain.name(*domain),
            how(stall),
            bytes(*usage)
        )
    }
}

/// How something stalled, as the middle of a sentence.
pub(super) fn how(stall: &Stall) -> String {
    let who = match Level::from(stall.level) {
        Level::Some => "some task",
        Level::Full => "every task",
    };
    let held_back = match held_back(stall) {
        true => ", held back by memory.high",
        false => "",
    };
    format!(
        "stalled on {} ({who} for {} of {}{held_back})",
        Resource::from(stall.resource),
        TimeSpan(stall.stall),
        TimeSpan(stall.window),
    )
}

pub(super) fn resource(stall: &Stall) -> String {
    Resource::from(stall.resource).to_string()
}

pub(super) fn level(stall: &Stall) -> String {
    Level::from(stall.level).to_string()
}

/// Whether it is memory.high that holds the tasks back, rather than reclaim.
pub(super) fn held_back(stall: &Stall) -> bool {
    stall.over_high || stall.high_events > 0
}

pub(super) fn usec(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Writes a stall to the journal.
pub fn report(report: &Report) {
    let Report {
        stalled,
        policy,
        domain,
        victim,
    } = report;
    let entry = Entry {
        message_id: STALL_MESSAGE_ID,
        message: report.message(),
        about: domain,
        policy: policy.name(),
        reason: REASON,
        outcome: Some(outcome_name(stalled.outcome)),
        time_ns: stalled.time_ns,
        domain: (domain, stalled.domain),
        domain_bytes: stalled.usage,
        attachment: None,
        stall: Some(&stalled.stall),
        candidates: None,
        handler_usec: None,
        victim: victim.as_ref().map(|(victim, place)| Victim {
            place,
            bytes: victim.bytes,
            score: victim.score.into(),
            killed: None,
        }),
    };
    match stalled.outcome {
        // A dry run is what an administrator asked for; the others are trouble.
        Outcome::Reported => entry.inform(),
        _ => entry.warn(),
    }
}

/// An outcome's name, as fields and people have it.
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Killed => "killed",
        Outcome::KernelKilled => "kernel-killed",
        Outcome::Nobody => "nobody",
        Outcome::Reported => "reported",
        Outcome::TooShort => "too-short",
        Outcome::TooSmall => "too-small",
        Outcome::NoShortage => "no-shortage",
        Outcome::Exiting => "exiting",
        Outcome::Cooldown => "cooldown",
        Outcome::NoDomain => "no-domain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Preference;

    fn stalled(outcome: Outcome) -> Stalled {
        Stalled {
            time_ns: 1,
            domain: CgroupId(10),
            domain_path: None,
            usage: 80 << 20,
            stall: Stall {
                resource: bpf_oomd_bpf::pressure::Resource::Memory,
                level: bpf_oomd_bpf::pressure::Level::Full,
                stall: Duration::from_millis(450),
                window: Duration::from_secs(1),
                lasted: Duration::from_millis(1100),
                scanned: 0,
                high_events: 3,
                max_events: 0,
                over_high: true,
            },
            outcome,
        }
    }

    fn message(stalled: Stalled, policy: Policy, victim: Option<Candidate>) -> String {
        let path = |id: CgroupId| Some(format!("/a.slice/{id}.service"));
        describe(stalled, policy, victim, path).message()
    }

    #[test]
    fn a_dry_run_says_who_would_have_died() {
        let victim = Candidate {
            cgroup: CgroupId(20),
            bytes: 31 << 20,
            score: 1,
            preference: Preference::None,
            processes: 1,
            excluded: None,
        };
        let policy = Policy::Bpf("biggest-leaf".into());
        assert_eq!(
            message(stalled(Outcome::Reported), policy.clone(), Some(victim)),
            "10.service stalled on memory (every task for 450ms of 1s, held back by memory.high) (used 80.0M): \
             policy biggest-leaf would have chosen 20.service, 31.0M (dry run)"
        );
        assert!(
            message(stalled(Outcome::Reported), policy, None)
                .ends_with("nobody could have been killed (dry run)")
        );
        assert!(
            message(stalled(Outcome::Reported), Policy::Kernel, None)
                .ends_with("the kernel's own killer would have chosen (dry run)")
        );
    }

    #[test]
    fn what_the_kernel_did_is_told() {
        let said = message(stalled(Outcome::KernelKilled), Policy::Kernel, None);
        assert!(said.ends_with("the kernel's own killer chose"), "{said}");
        let said = message(stalled(Outcome::Nobody), Policy::Kernel, None);
        assert!(said.ends_with("nobody could be killed"), "{said}");
    }

    #[test]
    fn what_is_not_held_back_is_reclaimed() {
        let mut stalled = stalled(Outcome::Nobody);
        stalled.domain = CgroupId::SYSTEM;
        stalled.stall.over_high = false;
        stalled.stall.high_events = 0;
        assert_eq!(
            message(stalled, Policy::Kernel, None),
            "the system stalled on memory (every task for 450ms of 1s) (used 80.0M): nobody could be killed"
        );
    }
}
