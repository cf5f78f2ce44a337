// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the daemon tells, as it comes from the bus and as it goes to `--json`.
//!
//! Names of fields are promised to whoever reads JSON; bpf-oomctl(1) lists them, and `json` holds them against that list. What is not
//! known is null.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zbus::{DeserializeDict, OwnedObjectPath, Type};

/// A unit that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub(super) struct Unit {
    /// Its name.
    pub(super) name: String,
    /// Its object.
    #[serde(skip_serializing)]
    pub(super) object: OwnedObjectPath,
    /// The policy that is in force.
    pub(super) policy: String,
    /// Where that is said. Empty for what is built in.
    pub(super) policy_place: String,
    /// Path of its cgroup. Empty if it has none.
    pub(super) control_group: String,
    /// Whether the policy is attached to its own cgroup.
    pub(super) attached: bool,
    /// Id of its cgroup.
    pub(super) control_group_id: u64,
    /// How often it was the victim since the service was started.
    pub(super) kills: u64,
}

/// Somebody who may be killed in a domain, or may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub(super) struct Candidate {
    /// The unit that its cgroup belongs to.
    pub(super) unit: String,
    /// Path of its cgroup.
    pub(super) cgroup: String,
    /// Id of its cgroup.
    pub(super) cgroup_id: u64,
    /// By what it is chosen: the highest first.
    pub(super) score: u64,
    /// Its memory without page cache.
    pub(super) bytes: u64,
    /// `none`, `avoid` or `omit`.
    pub(super) preference: String,
    /// How many processes could be killed.
    pub(super) processes: u32,
    /// Why it is not a candidate. Empty if it is.
    pub(super) excluded: String,
}

impl Candidate {
    /// Whether it may be killed.
    pub(super) fn may_die(&self) -> bool {
        self.excluded.is_empty()
    }
}

/// What would happen in a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Simulation {
    /// The unit whose cgroup runs out.
    pub(super) unit: String,
    /// The policy that decides. `kernel`: nobody knows beforehand.
    pub(super) policy: String,
    /// In the order in which they would die; those that would not come last.
    pub(super) candidates: Vec<Candidate>,
}

/// A process that was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub(super) struct Process {
    /// Its id.
    pub(super) pid: u32,
    /// Its memory.
    pub(super) bytes: u64,
    /// Its name.
    pub(super) name: String,
}

/// A kill.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, DeserializeDict, Type)]
#[zbus(signature = "a{sv}")]
pub(super) struct Kill {
    /// Counts from 1 since the service was started.
    pub(super) id: Option<u64>,
    /// When, by CLOCK_REALTIME.
    pub(super) time_usec: Option<u64>,
    /// When, by CLOCK_BOOTTIME.
    pub(super) boottime_usec: Option<u64>,
    /// `policy` or `kernel`.
    pub(super) killer: Option<String>,
    /// Name of the policy program, or `kernel`.
    pub(super) policy: Option<String>,
    /// `limit`, `system`, `pressure` or `sysrq`.
    pub(super) reason: Option<String>,
    /// The victim's unit.
    pub(super) unit: Option<String>,
    /// The victim's unit of a user's manager.
    pub(super) user_unit: Option<String>,
    /// The victim's cgroup.
    pub(super) cgroup: Option<String>,
    /// Its id.
    pub(super) cgroup_id: Option<u64>,
    /// The victim's memory without page cache.
    pub(super) bytes: Option<u64>,
    /// What made it the victim.
    pub(super) score: Option<u64>,
    /// `none` or `avoid`.
    pub(super) preference: Option<String>,
    /// `cgroup` or `process`.
    pub(super) kill: Option<String>,
    /// Who died: the first of them.
    pub(super) processes: Option<Vec<Process>>,
    /// How many died.
    pub(super) processes_total: Option<u32>,
    /// How many candidates there were.
    pub(super) candidates: Option<u32>,
    /// How long it took.
    pub(super) handler_usec: Option<u64>,
    /// Path of the cgroup that ran out.
    pub(super) domain: Option<String>,
    /// Its id.
    pub(super) domain_id: Option<u64>,
    /// The unit that ran out.
    pub(super) domain_unit: Option<String>,
    /// How much it used.
    pub(super) domain_bytes: Option<u64>,
    /// The unit whose policy it was.
    pub(super) attachment_unit: Option<String>,
    /// For which stall: of what.
    pub(super) stall_resource: Option<String>,
    /// `some` or `full`.
    pub(super) stall_level: Option<String>,
    /// How long in the window.
    pub(super) stall_usec: Option<u64>,
    /// How long that is.
    pub(super) stall_window_usec: Option<u64>,
    /// Whether it was held back by memory.high.
    pub(super) held_back: Option<bool>,
    /// The sentence that is in the journal.
    pub(super) message: Option<String>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Policy {
    /// `bpf:NAME` or `kernel`.
    pub(super) name: String,
    /// What it does.
    pub(super) description: String,
    /// What it can be told.
    pub(super) parameters: Vec<Parameter>,
    /// On how many cgroups it is.
    pub(super) attachments: u32,
}

/// Something that a policy can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Parameter {
    /// Its name.
    pub(super) name: String,
    /// `bytes`, `usec`, `number` or `bool`.
    pub(super) kind: String,
    /// What is in force.
    pub(super) value: String,
    /// What is if nobody says anything.
    pub(super) default: String,
}

/// The daemon's view of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Status {
    /// Whether it runs. Everything else is null or empty if it does not.
    pub(super) running: bool,
    /// Its version.
    pub(super) version: Option<String>,
    /// Who enforces policies.
    pub(super) engine: Option<String>,
    /// What the kernel can do.
    pub(super) kernel_interface: Vec<Feature>,
    /// How often what happened, and how much of what there is.
    pub(super) counters: BTreeMap<String, u64>,
    /// What is set at run time.
    pub(super) run_time: Vec<RunTime>,
    /// Who is about to be killed.
    pub(super) pending_kills: Vec<PendingKill>,
    /// What is wrong.
    pub(super) faults: Vec<Fault>,
}

/// Something that a kernel can do, or cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Feature {
    /// Its name.
    pub(super) name: String,
    /// Whether this kernel can do it.
    pub(super) present: bool,
    /// What it means that it cannot.
    pub(super) meaning: String,
}

/// A victim that has some time before it is killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PendingKill {
    /// Its unit.
    pub(super) unit: Option<String>,
    /// Its unit, if it is of a user's service manager.
    pub(super) user_unit: Option<String>,
    /// Path of its control group.
    pub(super) cgroup: String,
    /// The policy that chose it.
    pub(super) policy: String,
    /// When it is killed at the latest, by CLOCK_BOOTTIME.
    pub(super) until_boottime_usec: u64,
    /// Whether its processes were asked to end.
    pub(super) asked: bool,
}

/// A policy that was set at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RunTime {
    /// For which unit.
    pub(super) unit: String,
    /// Which one.
    pub(super) policy: String,
    /// Until when, by CLOCK_BOOTTIME. None: until it is reset.
    pub(super) until_boottime_usec: Option<u64>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// With what: a unit, or something else. None where only a file is known.
    pub(super) subject: Option<String>,
    /// In which file.
    pub(super) file: Option<String>,
    /// In which line, from 1.
    pub(super) line: Option<u32>,
    /// At which character of it, from 1.
    pub(super) column: Option<u32>,
    /// What was found and what was expected.
    pub(super) message: String,
}

/// A unit that is watched for pressure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Watched {
    /// Its name.
    pub(super) unit: String,
    /// Which stall is an OOM.
    pub(super) pressure: String,
    /// How often a stall had which outcome.
    pub(super) stalls: BTreeMap<String, u64>,
}

impl From<&crate::fault::Fault> for Fault {
    fn from(fault: &crate::fault::Fault) -> Self {
        let file = fault.file.as_ref();
        Fault {
            subject: None,
            file: file.map(|file| file.display().to_string()),
            line: fault.position.map(|at| at.line),
            column: fault.position.map(|at| at.column),
            message: fault.message.clone(),
        }
    }
}

impl From<&Fault> for crate::fault::Fault {
    fn from(fault: &Fault) -> Self {
        let position = fault.line.zip(fault.column);
        crate::fault::Fault {
            file: fault.file.as_ref().map(Into::into),
            position: position
                .map(|(line, column)| crate::systemd::syntax::Position { line, column }),
            message: fault.message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use zbus::{Message, Variant};

    fn sent<B>(body: &B) -> Message
    where
        B: Serialize + zbus::wire::DynamicType,
    {
        Message::signal("/x", "x.Y", "Z").build(body).unwrap()
    }

    #[test]
    fn records_are_what_the_interface_says() {
        assert_eq!(Unit::SIGNATURE.to_string(), "(sosssbtt)");
        assert_eq!(Candidate::SIGNATURE.to_string(), "(sstttsus)");
        assert_eq!(Process::SIGNATURE.to_string(), "(uts)");
        assert_eq!(Kill::SIGNATURE.to_string(), "a{sv}");
    }

    #[test]
    fn a_kill_is_read_with_what_is_known_of_it_and_without_what_is_new() {
        let processes = vec![(7_u32, 4096_u64, "hog")];
        let record: HashMap<&str, Variant<'_>> = [
            ("id", 1_u64.into()),
            ("unit", "x.service".into()),
            ("held_back", true.into()),
            ("processes_total", 1_u32.into()),
            ("processes", processes.into()),
            ("of_a_later_version", "x".into()),
        ]
        .into();
        let kill: Kill = sent(&record).body().deserialize().unwrap();
        let expected = Kill {
            id: Some(1),
            unit: Some("x.service".into()),
            held_back: Some(true),
            processes_total: Some(1),
            processes: Some(vec![Process {
                pid: 7,
                bytes: 4096,
                name: "hog".into(),
            }]),
            ..Kill::default()
        };
        assert_eq!(kill, expected);
        let kills: Vec<Kill> = sent(&vec![record]).body().deserialize().unwrap();
        assert_eq!(kills, [expected]);
    }
}
