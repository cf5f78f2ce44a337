// SPDX-License-Identifier: MIT OR Apache-2.0
//! The installed daemon, seen from outside.

use std::fs;

use crate::systemctl::{
    eventually, show, show_number, start, systemctl_if_possible, wait_for_property,
};

/// The daemon's unit.
pub const UNIT: &str = "bpf-oomd.service";

/// Makes sure that the daemon runs and follows units.
#[track_caller]
pub fn started() {
    // A test that failed may have left it in any state, and its starts may count against the limit.
    systemctl_if_possible(&["reset-failed", UNIT]);
    start(&[UNIT]);
}

/// The daemon's process id.
#[track_caller]
pub fn pid() -> u32 {
    let pid = show_number(UNIT, "MainPID");
    assert_ne!(pid, 0, "{UNIT} does not run");
    u32::try_from(pid).expect("a process id")
}

/// Waits until the daemon with another process than `before` is up.
#[track_caller]
pub fn wait_for_another(before: u32) {
    eventually("another daemon runs", || {
        let pid = show_number(UNIT, "MainPID");
        pid != 0 && pid != u64::from(before)
    });
    wait_for_property(UNIT, "ActiveState", "active");
}

/// How many file descriptors it has open.
#[track_caller]
pub fn descriptors() -> usize {
    let path = format!("/proc/{}/fd", pid());
    fs::read_dir(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .count()
}

/// Memory that it has resident, in bytes.
#[track_caller]
pub fn resident() -> u64 {
    let path = format!("/proc/{}/status", pid());
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .unwrap_or_else(|| panic!("no VmRSS in {text}"))
        * 1024
}

/// What it says about itself in `systemctl status`.
#[track_caller]
pub fn status_text() -> String {
    show(UNIT, "StatusText")
}

/// How often its threads have been given a processor so far: each time that it wakes up is one.
#[track_caller]
pub fn switches() -> u64 {
    let tasks = format!("/proc/{}/task", pid());
    let tasks = fs::read_dir(&tasks).unwrap_or_else(|error| panic!("{tasks}: {error}"));
    tasks
        .map(|task| {
            let path = task.expect("a thread").path().join("status");
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            text.lines()
                .filter_map(|line| line.split_once("ctxt_switches:"))
                .map(|(_, count)| count.trim().parse::<u64>().expect("a number of switches"))
                .sum::<u64>()
        })
        .sum()
}
