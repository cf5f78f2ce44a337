// SPDX-License-Identifier: MIT OR Apache-2.0
//! The installed daemon, seen from outside.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::systemctl::{
    daemon_reload, eventually, show, show_number, start, stop, systemctl_if_possible,
    wait_for_property,
};
use crate::units::Units;

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

/// Waits for a minute in which the daemon does not wake up, and tells `each` how often it did in every minute. Other programs of the
/// machine may have something for it to do in a minute; hardly in each of three.
#[track_caller]
pub fn wait_for_a_minute_of_sleep(mut each: impl FnMut(u64)) {
    let mut minutes = Vec::new();
    while minutes.last() != Some(&0) {
        assert!(minutes.len() < 3, "it woke up {minutes:?} times a minute");
        let before = switches();
        sleep(Duration::from_secs(60));
        let woken = switches() - before;
        each(woken);
        minutes.push(woken);
    }
    println!("wake-ups of the daemon, by minute: {minutes:?}");
}

/// Takes its watchdog away, which is somebody that wants to be woken for, and starts it anew. To be done again when the drop-in is gone.
#[track_caller]
pub fn restart_without_watchdog(units: &mut Units) {
    units.write_drop_in(UNIT, "50-still", "[Service]\nWatchdogSec=0\n");
    daemon_reload();
    stop(&[UNIT]);
    started();
}
