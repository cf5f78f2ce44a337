// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an event in the ring buffer says. Pure: bytes in, a record out.

use std::ffi::c_char;
use std::fmt::Write as _;

use crate::interface::{
    OOMD_EVENT_CGROUP_OFFLINE, OOMD_EVENT_KERNEL_KILL, OOMD_EVENT_KILL, OOMD_EVENT_PRESSURE,
    OOMD_REASON_ALLOCATION, OOMD_REASON_PRESSURE, OOMD_REASON_SYSRQ, oomd_event_header,
    oomd_kernel_kill_event, oomd_kill_event, oomd_offline_event, oomd_path, oomd_pressure_event,
    oomd_process, oomd_stall, read,
};
use crate::pressure::{Outcome, Stall};
use crate::settings::{Kill, Preference};

/// Something a policy program reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A handler chose a victim and killed.
    Kill(KillRecord),
    /// The kernel's own killer chose a victim and killed.
    KernelKill(KernelKillRecord),
    /// A stall of which no policy's kill record tells.
    Pressure(PressureRecord),
    /// A cgroup with an attachment or a trigger is gone, and these with it. The
    /// program has dropped the cgroup's settings already.
    CgroupOffline {
        /// When, in nanoseconds of `CLOCK_BOOTTIME`.
        time_ns: u64,
        /// Id of the cgroup.
        cgroup_id: u64,
        /// Name of the policy that was attached; `None` for a trigger.
        policy: Option<String>,
    },
}

/// A stall for which an OOM was declared, or would have been, without a policy
/// that killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PressureRecord {
    /// When, in nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// Cgroup id of what stalled, 0 for the system.
    pub domain: u64,
    /// Its path; see [`KillRecord::victim_path`].
    pub domain_path: Option<String>,
    /// Its memory use, in bytes.
    pub usage: u64,
    /// The stall.
    pub stall: Stall,
    /// What came of it.
    pub outcome: Outcome,
}

/// One kill by a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillRecord {
    /// When the victim had been chosen, in nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// Cgroup id of what ran out of memory, 0 for the system.
    pub domain: u64,
    /// Its path; see [`KillRecord::victim_path`].
    pub domain_path: Option<String>,
    /// Cgroup id of the attachment whose handler acted, 0 for the system-wide
    /// one.
    pub attachment: u64,
    /// Cgroup id of the victim.
    pub victim: u64,
    /// Its path, from the root of the tree, which is `/`. Unusual characters
    /// are escaped. One that is too long (some hundred characters) ends in
    /// `/…`. `None` if the kernel could not tell.
    pub victim_path: Option<String>,
    /// Name of the policy.
    pub policy: String,
    /// Memory use of the domain before the kill, in bytes.
    pub usage_before: u64,
    /// The victim's score. What it measures is up to the policy; for
    /// `biggest-leaf` it is `victim_bytes`.
    pub victim_score: u64,
    /// Memory use of the victim without page cache, in bytes.
    pub victim_bytes: u64,
    /// The victim's preference in this domain.
    pub preference: Preference,
    /// How the victim died.
    pub kill: Kill,
    /// Why somebody had to die.
    pub reason: Reason,
    /// Leaves that could have been chosen, the victim included.
    pub candidates: u32,
    /// Microseconds spent in the handler, the kills included.
    pub handler_us: u64,
    /// Processes that the handler itself killed. Fewer than `processes_total`
    /// if one kill took others with it (`memory.oom.group`, shared memory);
    /// more if one was born meanwhile.
    pub killed: u32,
    /// Processes that were to die: those of the victim, or its largest one.
    pub processes_total: u32,
    /// The first 64 of them.
    pub processes: Vec<KilledProcess>,
}

/// One kill by the kernel's own killer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelKillRecord {
    /// When the victim had been chosen, in nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// Why somebody had to die.
    pub reason: Reason,
    /// Cgroup id of what ran out of memory, 0 for the system.
    pub domain: u64,
    /// Its path; see [`KillRecord::victim_path`].
    pub domain_path: Option<String>,
    /// Memory use of the domain before the kill, in bytes.
    pub usage_before: u64,
    /// Cgroup id of what died: that of the process that was chosen, or one
    /// above that dies whole (`memory.oom.group`).
    pub victim: u64,
    /// Its path; see [`KillRecord::victim_path`].
    pub victim_path: Option<String>,
    /// Whether all of it died, or the process alone.
    pub kill: Kill,
    /// How the kernel rated the process, in pages. 0 if it took the one that
    /// allocated (sysctl `vm.oom_kill_allocating_task`).
    pub victim_score: i64,
    /// The process's `oom_score_adj`, which is part of that.
    pub oom_score_adj: i32,
    /// Memory of all processes that died, counted as in [`KilledProcess`].
    pub victim_bytes: u64,
    /// How many these were.
    pub processes_total: u32,
    /// The first 64 of them, and of these the first is the one that was chosen.
    pub processes: Vec<KilledProcess>,
}

/// Why somebody had to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An allocation failed.
    Allocation,
    /// Something stalled.
    Pressure(Stall),
    /// Somebody asked for it with sysrq-f.
    Sysrq,
}

/// A process of a victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KilledProcess {
    /// Its process id in the initial pid namespace.
    pub pid: u32,
    /// Its command name; bytes that are not UTF-8 are replaced.
    pub comm: String,
    /// Resident anonymous and shared memory before the kill, in bytes. Low by
    /// up to some pages per CPU; 0 if the thread group's leader had exited.
    pub bytes: u64,
}

/// Bytes that are no event of this version's programs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length is not that of the kind.
    #[error("an event of kind {kind} has {found} bytes, expected {expected}")]
    Length {
        /// `oomd_event_header.kind`
        kind: u32,
        /// Size of that event.
        expected: usize,
        /// Bytes there were.
        found: usize,
    },
    /// Not even a header.
    #[error("an event has {found} bytes, fewer than its header")]
    Short {
        /// Bytes there were.
        found: usize,
    },
    /// A kind that is not known.
    #[error("unknown kind of event: {0}")]
    Kind(u32),
    /// A member that cannot be.
    #[error("{member} of an event is {found}")]
    Member {
        /// Its name in `intf.h`.
        member: &'static str,
        /// What it was.
        found: u32,
    },
    /// The policy's name has no end, or is not UTF-8.
    #[error("the policy's name in an event is malformed")]
    Policy,
}

/// Decode one event.
///
/// `page_size` is the kernel's, in bytes: the programs count pages.
///
/// # Errors
///
/// If the bytes are not exactly one well-formed event.
pub fn decode(bytes: &[u8], page_size: u64) -> Result<Event, DecodeError> {
    let header: oomd_event_header = read(bytes).ok_or(DecodeError::Short { found: bytes.len() })?;
    match header.kind {
        OOMD_EVENT_KILL => {
            let event: oomd_kill_event = exact(bytes, header.kind)?;
            kill(&event, page_size).map(Event::Kill)
        }
        OOMD_EVENT_KERNEL_KILL => {
            let event: oomd_kernel_kill_event = exact(bytes, header.kind)?;
            kernel_kill(&event, page_size).map(Event::KernelKill)
        }
        OOMD_EVENT_CGROUP_OFFLINE => {
            let event: oomd_offline_event = exact(bytes, header.kind)?;
            Ok(Event::CgroupOffline {
                time_ns: event.header.time_ns,
                cgroup_id: event.cgroup_id,
                policy: match event.header.policy[0] {
                    0 => None,
                    _ => Some(policy(&event.header)?),
                },
            })
        }
        OOMD_EVENT_PRESSURE => {
            let event: oomd_pressure_event = exact(bytes, header.kind)?;
            Ok(Event::Pressure(PressureRecord {
                time_ns: event.header.time_ns,
                domain: event.domain,
                domain_path: path(&event.domain_path)?,
                usage: event.usage,
                stall: stall(&event.stall)?,
                outcome: Outcome::decode(event.outcome).ok_or(DecodeError::Member {
                    member: "outcome",
                    found: event.outcome,
                })?,
            }))
        }
        kind => Err(DecodeError::Kind(kind)),
    }
}

fn exact<T: crate::interface::Plain>(bytes: &[u8], kind: u32) -> Result<T, DecodeError> {
    read(bytes)
        .filter(|_| bytes.len() == size_of::<T>())
        .ok_or(DecodeError::Length {
            kind,
            expected: size_of::<T>(),
            found: bytes.len(),
        })
}

fn kill(event: &oomd_kill_event, page_size: u64) -> Result<KillRecord, DecodeError> {
    Ok(KillRecord {
        time_ns: event.header.time_ns,
        domain: event.domain,
        domain_path: path(&event.domain_path)?,
        attachment: event.attachment,
        victim: event.victim,
        victim_path: path(&event.victim_path)?,
        policy: policy(&event.header)?,
        usage_before: event.usage_before,
        victim_score: event.victim_score,
        victim_bytes: event.victim_bytes,
        preference: Preference::decode(event.preference).ok_or(DecodeError::Member {
            member: "preference",
            found: event.preference,
        })?,
        kill: what_died(event.kill)?,
        reason: reason(event.reason, &event.stall)?,
        candidates: event.candidates,
        handler_us: event.handler_ns / 1000,
        killed: event.killed,
        processes_total: event.processes_total,
        processes: processes(
            &event.processes,
            event.processes_len,
            event.processes_total,
            page_size,
        )?,
    })
}

fn kernel_kill(
    event: &oomd_kernel_kill_event,
    page_size: u64,
) -> Result<KernelKillRecord, DecodeError> {
    let bytes = |pages: u64| pages.saturating_mul(page_size);
    Ok(KernelKillRecord {
        time_ns: event.header.time_ns,
        reason: reason(event.reason, &event.stall)?,
        domain: event.domain,
        domain_path: path(&event.domain_path)?,
        usage_before: bytes(event.usage_pages).saturating_add(event.usage_bytes),
        victim: event.victim,
        victim_path: path(&event.victim_path)?,
        kill: what_died(event.kill)?,
        victim_score: event.victim_score,
        oom_score_adj: event.oom_score_adj,
        victim_bytes: bytes(event.victim_pages),
        processes_total: event.processes_total,
        processes: processes(
            &event.processes,
            event.processes_len,
            event.processes_total,
            page_size,
        )?,
    })
}

fn what_died(kill: u32) -> Result<Kill, DecodeError> {
    Kill::decode(kill).ok_or(DecodeError::Member {
        member: "kill",
        found: kill,
    })
}

fn reason(reason: u32, of_pressure: &oomd_stall) -> Result<Reason, DecodeError> {
    match reason {
        OOMD_REASON_ALLOCATION => Ok(Reason::Allocation),
        OOMD_REASON_PRESSURE => stall(of_pressure).map(Reason::Pressure),
        OOMD_REASON_SYSRQ => Ok(Reason::Sysrq),
        found => {
            let member = "reason";
            Err(DecodeError::Member { member, found })
        }
    }
}

fn processes(
    all: &[oomd_process],
    described: u32,
    total: u32,
    page_size: u64,
) -> Result<Vec<KilledProcess>, DecodeError> {
    match all.get(..described as usize) {
        Some(processes) if described <= total => Ok(processes
            .iter()
            .map(|process| killed_process(process, page_size))
            .collect()),
        _ => Err(DecodeError::Member {
            member: "processes_len",
            found: described,
        }),
    }
}

fn stall(stall: &oomd_stall) -> Result<Stall, DecodeError> {
    Stall::decode(stall).ok_or(DecodeError::Member {
        member: "resource or level",
        found: stall.resource,
    })
}

/// The names in a path are whoever's made the cgroups: what could end a line,
/// or move a cursor, is told as `\xNN`, as systemd would.
fn path(path: &oomd_path) -> Result<Option<String>, DecodeError> {
    let text = path
        .text
        .get(..path.len as usize)
        .ok_or(DecodeError::Member {
            member: "len of a path",
            found: path.len,
        })?;
    let bytes: Vec<u8> = text.iter().map(|&char| char as u8).collect();
    let mut readable = String::with_capacity(bytes.len());
    for char in String::from_utf8_lossy(&bytes).chars() {
        if char.is_control() {
            let _ = write!(readable, "\\x{:02x}", u32::from(char));
        } else {
            readable.push(char);
        }
    }
    Ok(match (path.truncated, readable.is_empty()) {
        (0, true) => Some("/".into()),
        (0, false) => Some(readable),
        (_, true) => None,
        (_, false) => Some(readable + "/…"),
    })
}

fn killed_process(process: &oomd_process, page_size: u64) -> KilledProcess {
    let comm = until_nul(&process.comm);
    KilledProcess {
        pid: process.pid,
        comm: String::from_utf8_lossy(&comm).into_owned(),
        bytes: process.pages.saturating_mul(page_size),
    }
}

fn policy(header: &oomd_event_header) -> Result<String, DecodeError> {
    let name = until_nul(&header.policy);
    if name.is_empty() || name.len() == header.policy.len() {
        return Err(DecodeError::Policy);
    }
    String::from_utf8(name).map_err(|_| DecodeError::Policy)
}

/// A C string, or all of the array if nothing ends it.
fn until_nul(chars: &[c_char]) -> Vec<u8> {
    chars
        .iter()
        .map(|&char| char as u8)
        .take_while(|&byte| byte != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::{OOMD_PATH_LEN, OOMD_PROCESSES_MAX, bytes_of};
    use crate::pressure::{Level, Resource};
    use std::time::Duration;

    const PAGE: u64 = 4096;

    fn header(kind: u32) -> oomd_event_header {
        oomd_event_header {
            kind,
            reserved: 0,
            time_ns: 1_000_000_007,
            policy: chars("biggest-leaf"),
        }
    }

    fn chars<const N: usize>(text: &str) -> [c_char; N] {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(text.bytes()) {
            *to = from as c_char;
        }
        out
    }

    /// Members nobody wrote are not zero in the ring buffer.
    fn stale_process() -> oomd_process {
        oomd_process {
            pid: u32::MAX,
            reserved: u32::MAX,
            pages: u64::MAX,
            comm: [0xff_u8 as c_char; 16],
        }
    }

    /// Only what is in the path was written.
    fn path_of(path: &str) -> oomd_path {
        let mut text = [0x7f; OOMD_PATH_LEN as usize];
        for (to, from) in text.iter_mut().zip(path.bytes()) {
            *to = from as c_char;
        }
        oomd_path {
            len: path.len() as u32,
            truncated: 0,
            text,
        }
    }

    fn kill_event() -> oomd_kill_event {
        let mut processes = [stale_process(); OOMD_PROCESSES_MAX as usize];
        processes[0] = oomd_process {
            pid: 100,
            reserved: 0,
            pages: 7680,
            comm: chars("hog"),
        };
        processes[1] = oomd_process {
            pid: 101,
            reserved: 0,
            pages: 0,
            comm: chars("sixteen-letters!"),
        };
        oomd_kill_event {
            header: header(OOMD_EVENT_KILL),
            domain: 11,
            attachment: 12,
            victim: 13,
            usage_before: 80 << 20,
            victim_score: 99,
            victim_bytes: 30 << 20,
            handler_ns: 1_234_567,
            candidates: 3,
            killed: 2,
            processes_total: 2,
            processes_len: 2,
            preference: 1,
            kill: 1,
            reason: OOMD_REASON_ALLOCATION,
            reserved: 0,
            stall: oomd_stall {
                resource: 99,
                ..stall()
            },
            domain_path: path_of("/a.slice"),
            victim_path: path_of("/a.slice/x.service"),
            processes,
        }
    }

    #[test]
    fn a_kill_is_told_in_bytes_and_microseconds() {
        let event = decode(bytes_of(&kill_event()), PAGE).unwrap();
        assert_eq!(
            event,
            Event::Kill(KillRecord {
                time_ns: 1_000_000_007,
                domain: 11,
                domain_path: Some("/a.slice".into()),
                attachment: 12,
                victim: 13,
                victim_path: Some("/a.slice/x.service".into()),
                policy: "biggest-leaf".into(),
                usage_before: 80 << 20,
                victim_score: 99,
                victim_bytes: 30 << 20,
                preference: Preference::Avoid,
                kill: Kill::Process,
                reason: Reason::Allocation,
                candidates: 3,
                handler_us: 1234,
                killed: 2,
                processes_total: 2,
                processes: vec![
                    KilledProcess {
                        pid: 100,
                        comm: "hog".into(),
                        bytes: 30 << 20,
                    },
                    KilledProcess {
                        pid: 101,
                        comm: "sixteen-letters!".into(),
                        bytes: 0,
                    },
                ],
            })
        );
    }

    #[test]
    fn a_victim_with_more_processes_than_fit_is_told_by_its_first_ones() {
        let mut event = kill_event();
        event.processes_total = 1000;
        event.processes_len = OOMD_PROCESSES_MAX;
        let Event::Kill(record) = decode(bytes_of(&event), PAGE).unwrap() else {
            panic!("not a kill");
        };
        assert_eq!(record.processes_total, 1000);
        assert_eq!(record.processes.len(), 64);
        // Whatever the counter said, the product does not wrap around.
        assert_eq!(record.processes[63].bytes, u64::MAX);
        assert_eq!(record.processes[63].comm, "\u{fffd}".repeat(16));
    }

    #[test]
    fn a_path_is_from_the_root_and_what_is_missing_is_marked() {
        let told = |text: &str, truncated| {
            path(&oomd_path {
                truncated,
                ..path_of(text)
            })
            .unwrap()
        };
        assert_eq!(told("", 0).as_deref(), Some("/"));
        assert_eq!(told("/a.slice/é", 0).as_deref(), Some("/a.slice/é"));
        assert_eq!(told("/a.slice/b", 1).as_deref(), Some("/a.slice/b/…"));
        // Nothing could be read. That is not the root.
        assert_eq!(told("", 1), None);
    }

    #[test]
    fn whoever_makes_a_cgroup_cannot_write_lines_with_its_name() {
        let mut event = path_of("/x.scope/a\nUNIT=b\u{1b}[2J\u{85}\\x2d");
        assert_eq!(
            path(&event).unwrap().as_deref(),
            Some("/x.scope/a\\x0aUNIT=b\\x1b[2J\\x85\\x2d")
        );
        event.len = 2;
        event.text[1] = 0xff_u8 as c_char;
        assert_eq!(path(&event).unwrap().as_deref(), Some("/\u{fffd}"));
    }

    #[test]
    fn a_path_that_is_longer_than_its_room_is_no_path() {
        let mut event = kill_event();
        event.victim_path.len = OOMD_PATH_LEN;
        assert!(decode(bytes_of(&event), PAGE).is_ok());
        event.victim_path.len += 1;
        assert!(decode(bytes_of(&event), PAGE).is_err());
    }

    #[test]
    fn an_offline_cgroup_is_told_with_its_policy() {
        let event = oomd_offline_event {
            header: header(OOMD_EVENT_CGROUP_OFFLINE),
            cgroup_id: 77,
        };
        assert_eq!(
            decode(bytes_of(&event), PAGE).unwrap(),
            Event::CgroupOffline {
                time_ns: 1_000_000_007,
                cgroup_id: 77,
                policy: Some("biggest-leaf".into()),
            }
        );
    }

    #[test]
    fn a_trigger_that_ended_has_no_policy() {
        let mut header = header(OOMD_EVENT_CGROUP_OFFLINE);
        header.policy = [0; 64];
        let event = oomd_offline_event {
            header,
            cgroup_id: 77,
        };
        let decoded = decode(bytes_of(&event), PAGE).unwrap();
        assert!(matches!(
            decoded,
            Event::CgroupOffline {
                policy: None,
                cgroup_id: 77,
                ..
            }
        ));
    }

    fn stall() -> oomd_stall {
        oomd_stall {
            resource: 1,
            level: 1,
            stall_us: 900_000,
            window_us: 1_000_000,
            lasted_us: 1_100_000,
            scanned: 5,
            high_events: 6,
            max_events: 7,
            over_high: 1,
            reserved: 0,
        }
    }

    #[test]
    fn a_kill_for_a_stall_tells_the_stall() {
        let mut event = kill_event();
        event.reason = OOMD_REASON_PRESSURE;
        event.stall = stall();
        let Event::Kill(record) = decode(bytes_of(&event), PAGE).unwrap() else {
            panic!("not a kill");
        };
        let expected = Stall {
            resource: Resource::Memory,
            level: Level::Full,
            stall: Duration::from_millis(900),
            window: Duration::from_secs(1),
            lasted: Duration::from_millis(1100),
            scanned: 5,
            high_events: 6,
            max_events: 7,
            over_high: true,
        };
        assert_eq!(record.reason, Reason::Pressure(expected));
        event.reason = OOMD_REASON_SYSRQ;
        let Event::Kill(record) = decode(bytes_of(&event), PAGE).unwrap() else {
            panic!("not a kill");
        };
        assert_eq!(record.reason, Reason::Sysrq);
        event.reason = 3;
        assert!(decode(bytes_of(&event), PAGE).is_err());
        event.reason = OOMD_REASON_PRESSURE;
        event.stall.level = 2;
        assert!(decode(bytes_of(&event), PAGE).is_err());
    }

    fn kernel_kill_event() -> oomd_kernel_kill_event {
        let mut header = header(OOMD_EVENT_KERNEL_KILL);
        header.policy = [0; 64];
        let policys = kill_event();
        oomd_kernel_kill_event {
            header,
            stall: policys.stall,
            domain: 11,
            victim: 13,
            usage_pages: 20480,
            usage_bytes: 0,
            victim_score: -3,
            victim_pages: 7680,
            oom_score_adj: -500,
            processes_total: 2,
            processes_len: 2,
            kill: 1,
            reason: OOMD_REASON_ALLOCATION,
            reserved: 0,
            domain_path: policys.domain_path,
            victim_path: policys.victim_path,
            processes: policys.processes,
        }
    }

    fn kernel_kill_of(event: &oomd_kernel_kill_event) -> KernelKillRecord {
        match decode(bytes_of(event), PAGE).unwrap() {
            Event::KernelKill(record) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_kill_by_the_kernel_is_told_in_bytes() {
        assert_eq!(
            kernel_kill_of(&kernel_kill_event()),
            KernelKillRecord {
                time_ns: 1_000_000_007,
                reason: Reason::Allocation,
                domain: 11,
                domain_path: Some("/a.slice".into()),
                usage_before: 80 << 20,
                victim: 13,
                victim_path: Some("/a.slice/x.service".into()),
                kill: Kill::Process,
                victim_score: -3,
                oom_score_adj: -500,
                victim_bytes: 30 << 20,
                processes_total: 2,
                processes: vec![
                    KilledProcess {
                        pid: 100,
                        comm: "hog".into(),
                        bytes: 30 << 20,
                    },
                    KilledProcess {
                        pid: 101,
                        comm: "sixteen-letters!".into(),
                        bytes: 0,
                    },
                ],
            }
        );
    }

    #[test]
    fn the_systems_use_is_counted_in_bytes_and_a_cgroups_in_pages() {
        let mut event = kernel_kill_event();
        event.usage_pages = 0;
        event.usage_bytes = 12345;
        assert_eq!(kernel_kill_of(&event).usage_before, 12345);
    }

    #[test]
    fn a_kill_by_the_kernel_tells_why() {
        let mut event = kernel_kill_event();
        event.reason = OOMD_REASON_SYSRQ;
        assert_eq!(kernel_kill_of(&event).reason, Reason::Sysrq);
        event.reason = OOMD_REASON_PRESSURE;
        // The stall in there is none.
        assert!(decode(bytes_of(&event), PAGE).is_err());
        event.stall = stall();
        let reason = kernel_kill_of(&event).reason;
        assert!(
            matches!(reason, Reason::Pressure(Stall { max_events: 7, .. })),
            "{reason:?}"
        );
    }

    #[test]
    fn more_processes_than_there_are_cannot_be_described() {
        let mut event = kernel_kill_event();
        event.processes_total = 1;
        assert!(decode(bytes_of(&event), PAGE).is_err());
        event.processes_total = 1000;
        event.processes_len = OOMD_PROCESSES_MAX;
        assert_eq!(kernel_kill_of(&event).processes.len(), 64);
        event.processes_len += 1;
        assert!(decode(bytes_of(&event), PAGE).is_err());
    }

    #[test]
    fn a_stall_without_a_kill_is_told_by_its_outcome() {
        let mut header = header(OOMD_EVENT_PRESSURE);
        header.policy = [0; 64];
        let mut event = oomd_pressure_event {
            header,
            stall: stall(),
            domain: 9,
            usage: 10,
            outcome: 3,
            reserved: 0,
            domain_path: path_of("/b.slice"),
        };
        let Event::Pressure(record) = decode(bytes_of(&event), PAGE).unwrap() else {
            panic!("no stall");
        };
        assert_eq!((record.domain, record.usage), (9, 10));
        assert_eq!(record.domain_path.as_deref(), Some("/b.slice"));
        assert_eq!(record.outcome, Outcome::Reported);
        event.outcome = 10;
        assert!(decode(bytes_of(&event), PAGE).is_err());
    }

    #[test]
    fn every_truncation_is_an_error() {
        for whole in [
            bytes_of(&kill_event()),
            bytes_of(&kernel_kill_event()),
            bytes_of(&oomd_offline_event {
                header: header(OOMD_EVENT_CGROUP_OFFLINE),
                cgroup_id: 77,
            }),
        ] {
            for len in 0..whole.len() {
                let error = decode(&whole[..len], PAGE).unwrap_err();
                assert!(
                    matches!(
                        error,
                        DecodeError::Short { found } | DecodeError::Length { found, .. }
                            if found == len
                    ),
                    "{len}: {error}"
                );
            }
        }
    }

    #[test]
    fn a_byte_too_many_is_an_error() {
        let mut bytes = bytes_of(&kill_event()).to_vec();
        let expected = bytes.len();
        bytes.push(0);
        assert_eq!(
            decode(&bytes, PAGE),
            Err(DecodeError::Length {
                kind: OOMD_EVENT_KILL,
                expected,
                found: expected + 1,
            })
        );
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        for kind in [0, 5, u32::MAX] {
            let mut event = kill_event();
            event.header.kind = kind;
            assert_eq!(decode(bytes_of(&event), PAGE), Err(DecodeError::Kind(kind)));
        }
    }

    #[test]
    fn a_process_count_that_cannot_be_is_an_error() {
        for (len, total) in [(65, 100), (3, 2), (u32::MAX, u32::MAX)] {
            let mut event = kill_event();
            event.processes_len = len;
            event.processes_total = total;
            assert_eq!(
                decode(bytes_of(&event), PAGE),
                Err(DecodeError::Member {
                    member: "processes_len",
                    found: len,
                })
            );
        }
    }

    #[test]
    fn a_preference_or_a_kill_that_cannot_be_is_an_error() {
        let mut event = kill_event();
        event.preference = 3;
        assert_eq!(
            decode(bytes_of(&event), PAGE),
            Err(DecodeError::Member {
                member: "preference",
                found: 3,
            })
        );
        let mut event = kill_event();
        event.kill = 2;
        assert_eq!(
            decode(bytes_of(&event), PAGE),
            Err(DecodeError::Member {
                member: "kill",
                found: 2,
            })
        );
    }

    #[test]
    fn a_policy_name_without_end_or_text_is_an_error() {
        for name in [[b'a' as c_char; 64], [0; 64], chars::<64>("\u{0}x"), {
            let mut name = chars("biggest");
            name[0] = 0xff_u8 as c_char;
            name
        }] {
            let mut event = kill_event();
            event.header.policy = name;
            assert_eq!(decode(bytes_of(&event), PAGE), Err(DecodeError::Policy));
        }
    }

    /// Any bytes give a record or an error, and never more than is there.
    #[test]
    fn garbage_is_survived() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut records = 0;
        for round in 0..20_000 {
            let mut bytes = if round % 2 == 0 {
                bytes_of(&kill_event()).to_vec()
            } else {
                vec![0; usize::try_from(next() % 3000).unwrap()]
            };
            for _ in 0..next() % 16 {
                if !bytes.is_empty() {
                    let at = usize::try_from(next()).unwrap() % bytes.len();
                    bytes[at] = next().to_le_bytes()[0];
                }
            }
            if let Ok(Event::Kill(record)) = decode(&bytes, PAGE) {
                assert!(record.processes.len() <= 64);
                assert!(record.processes.len() <= record.processes_total as usize);
                assert!(!record.policy.is_empty());
                records += 1;
            }
        }
        assert!(
            records > 1000,
            "only {records} of the mutated records decoded"
        );
    }
}
