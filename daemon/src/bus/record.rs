// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kill as others are told: a dictionary.

use crate::core::NumberedKill;
use crate::engine::KilledProcess;
use crate::policy::CgroupId;
use std::collections::BTreeMap;
use zbus::Variant;

/// A kill, for the bus.
pub(super) type Record = BTreeMap<&'static str, Variant<'static>>;

/// Every key: its type, and what it means. A key is left out where it is not known, or means nothing.
pub const KILL_KEYS: [(&str, &str, &str); 29] = [
    (
        "id",
        "t",
        "its number, which counts from 1 since the service was started and goes on when it is restarted",
    ),
    ("time_usec", "t", "when, in microseconds of CLOCK_REALTIME"),
    (
        "boottime_usec",
        "t",
        "when, in microseconds of CLOCK_BOOTTIME",
    ),
    (
        "killer",
        "s",
        "\"policy\", or \"kernel\" for the kernel's own killer",
    ),
    ("policy", "s", "the policy program's name, or \"kernel\""),
    (
        "reason",
        "s",
        "\"limit\", \"system\", \"pressure\" or \"sysrq\"",
    ),
    ("unit", "s", "the victim's unit"),
    (
        "user_unit",
        "s",
        "the victim's unit of a user's service manager",
    ),
    ("cgroup", "s", "path of the control group that was chosen"),
    ("cgroup_id", "t", "its id"),
    ("bytes", "t", "its memory before, page cache not counted"),
    (
        "score",
        "t",
        "what made it the victim, as the policy measures",
    ),
    (
        "preference",
        "s",
        "its preference in this domain: \"none\" or \"avoid\"",
    ),
    (
        "kill",
        "s",
        "\"cgroup\" if all of it died, \"process\" if its largest process did",
    ),
    (
        "processes",
        "a(uts)",
        "its processes before, up to 64: id, bytes, name",
    ),
    ("processes_total", "u", "how many it had"),
    (
        "candidates",
        "u",
        "how many control groups could have been chosen",
    ),
    (
        "handler_usec",
        "t",
        "how long it took to choose and to kill",
    ),
    (
        "domain",
        "s",
        "path of the control group that ran out of memory",
    ),
    ("domain_id", "t", "its id; 0 for the system"),
    ("domain_unit", "s", "its unit"),
    ("domain_bytes", "t", "its memory before"),
    ("attachment_unit", "s", "the unit whose policy it was"),
    (
        "stall_resource",
        "s",
        "what was waited for, if it was for pressure",
    ),
    (
        "stall_level",
        "s",
        "who waited: \"some\" tasks, or all (\"full\")",
    ),
    ("stall_usec", "t", "how long, of the last window"),
    ("stall_window_usec", "t", "the length of the window"),
    (
        "held_back",
        "b",
        "whether it was memory.high that held the tasks back",
    ),
    ("message", "s", "the sentence that is in the journal"),
];

/// A kill as a dictionary. The only place where that is done.
pub(super) fn record(kill: &NumberedKill) -> Record {
    let NumberedKill { id, record: kill } = kill;
    let mut record = Record::new();
    fn put(record: &mut Record, key: &'static str, value: impl Into<Variant<'static>>) {
        record.insert(key, value.into());
    }
    fn put_if<T: Into<Variant<'static>>>(record: &mut Record, key: &'static str, value: Option<T>) {
        if let Some(value) = value {
            put(record, key, value);
        }
    }
    let number = |id: Option<CgroupId>| id.map(|id| id.0);
    let said = |known: &dyn ToString| known.to_string();
    let to = &mut record;
    put(to, "id", *id);
    put(to, "time_usec", kill.time_usec);
    put(to, "boottime_usec", kill.boottime_usec);
    put(to, "killer", kill.killer.name());
    put(to, "policy", kill.policy.clone());
    put(to, "reason", kill.reason.clone().into_owned());
    put_if(to, "unit", kill.unit.clone());
    put_if(to, "user_unit", kill.user_unit.clone());
    put_if(to, "cgroup", kill.cgroup.clone());
    put_if(to, "cgroup_id", number(kill.cgroup_id));
    put_if(to, "bytes", kill.bytes);
    put_if(to, "score", kill.score);
    put_if(to, "preference", kill.preference.map(|it| said(&it)));
    put_if(to, "kill", kill.kill.map(|it| said(&it)));
    if !kill.processes.is_empty() {
        let each =
            |KilledProcess { pid, comm, bytes }: &KilledProcess| (*pid, *bytes, comm.clone());
        let processes: Vec<(u32, u64, String)> = kill.processes.iter().map(each).collect();
        put(to, "processes", processes);
    }
    put_if(to, "processes_total", kill.processes_total);
    put_if(to, "candidates", kill.candidates);
    put_if(to, "handler_usec", kill.handler_usec);
    put_if(to, "domain", kill.domain.clone());
    put_if(to, "domain_id", number(kill.domain_id));
    put_if(to, "domain_unit", kill.domain_unit.clone());
    put_if(to, "domain_bytes", kill.domain_bytes);
    put_if(to, "attachment_unit", kill.attachment_unit.clone());
    if let Some(stall) = &kill.stall {
        put(to, "stall_resource", stall.resource.clone());
        put(to, "stall_level", stall.level.clone());
        put(to, "stall_usec", stall.usec);
        put(to, "stall_window_usec", stall.window_usec);
        put(to, "held_back", stall.held_back);
    }
    put(to, "message", kill.message.clone());
    record
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::events::record::{KillRecord, Killer, StallRecord};
    use crate::policy::{Kill, Preference};

    pub(crate) fn everything() -> KillRecord {
        KillRecord {
            time_usec: 1,
            boottime_usec: 2,
            killer: Killer::Policy,
            policy: "p".into(),
            reason: "pressure".into(),
            unit: Some("user@1.service".into()),
            user_unit: Some("x.service".into()),
            cgroup: Some("/x".into()),
            cgroup_id: Some(CgroupId(3)),
            bytes: Some(4),
            score: Some(5),
            preference: Some(Preference::Avoid),
            kill: Some(Kill::Process),
            processes: vec![KilledProcess {
                pid: 6,
                comm: "a\nb".into(),
                bytes: 7,
            }],
            processes_total: Some(8),
            candidates: Some(9),
            handler_usec: Some(10),
            domain: Some("/".into()),
            domain_id: Some(CgroupId::SYSTEM),
            domain_unit: Some("-.slice".into()),
            domain_bytes: Some(11),
            attachment_unit: Some("-.slice".into()),
            stall: Some(StallRecord {
                resource: "memory".into(),
                level: "full".into(),
                usec: 12,
                window_usec: 13,
                held_back: true,
            }),
            message: "it is so".into(),
        }
    }

    #[test]
    fn a_record_has_the_keys_that_are_documented_and_no_others() {
        let kill = NumberedKill {
            id: 1,
            record: everything(),
        };
        let record = record(&kill);
        for (key, signature, _) in KILL_KEYS {
            let value = &record[key];
            assert_eq!(value.value_signature().to_string(), signature, "{key}");
        }
        assert_eq!(record.len(), KILL_KEYS.len());
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let kill = NumberedKill {
            id: 1,
            record: KillRecord {
                killer: Killer::Kernel,
                unit: None,
                stall: None,
                processes: Vec::new(),
                ..everything()
            },
        };
        let record = record(&kill);
        assert_eq!(record["killer"], Variant::from("kernel"));
        for key in ["unit", "stall_usec", "held_back", "processes"] {
            assert!(!record.contains_key(key), "{key}");
        }
    }
}
