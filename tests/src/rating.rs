// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who should die, worked out from what the kernel says of cgroups and processes in files, and from nothing of the project's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A page of the machines that the tests run in, in bytes.
const PAGE: u64 = 4096;

/// How much memory a cgroup uses, without page cache, in bytes: what a policy compares.
#[track_caller]
pub fn bytes_of(cgroup: &Path) -> u64 {
    let stat = read(&cgroup.join("memory.stat"));
    let value = |key: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(key));
        let value = line.and_then(|rest| rest.strip_prefix(' '));
        value.map_or(0, number)
    };
    let cache = value("file").saturating_sub(value("shmem"));
    memory_current(cgroup).saturating_sub(cache)
}

/// How much memory a cgroup uses, in bytes.
#[track_caller]
pub fn memory_current(cgroup: &Path) -> u64 {
    number(&read(&cgroup.join("memory.current")))
}

/// How many processes in a cgroup were killed because memory ran out.
#[track_caller]
pub fn killed_in(cgroup: &Path) -> u64 {
    let events = read(&cgroup.join("memory.events"));
    let line = events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    number(line.unwrap_or_else(|| panic!("no oom_kill in {events}")))
}

/// The processes of a cgroup, none if it is gone.
pub fn processes_in(cgroup: &Path) -> BTreeSet<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .map(|line| line.parse().expect("a process id"))
        .collect()
}

/// How the kernel's own killer rates a process, in bytes, where `limit` bytes may be used (`oom_badness()` in `mm/oom_kill.c`). None if it
/// never takes it.
#[track_caller]
pub fn badness(pid: u32, limit: u64) -> Option<i64> {
    let adjustment = read(Path::new(&format!("/proc/{pid}/oom_score_adj")));
    let adjustment: i64 = adjustment.trim().parse().expect("a number");
    if adjustment == -1000 {
        return None;
    }
    let status = read(Path::new(&format!("/proc/{pid}/status")));
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().strip_suffix(" kB"))
            .map_or(0, number)
    };
    let used = ["VmRSS:", "VmPTE:", "VmSwap:"].map(kilobytes);
    let used = i64::try_from(used.iter().sum::<u64>() * 1024).expect("a size");
    let pages = i64::try_from(limit / PAGE).expect("a limit");
    let page = i64::try_from(PAGE).expect("a size");
    Some(used + adjustment * pages / 1000 * page)
}

#[track_caller]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn number(text: &str) -> u64 {
    let text = text.trim();
    text.parse()
        .unwrap_or_else(|_| panic!("not a number: {text:?}"))
}
