// SPDX-License-Identifier: MIT OR Apache-2.0
//! What systemd is told and asked, as an administrator does it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use crate::wait::eventually_within;

/// How long something may take in which several programs have a part: systemd, the bus, the daemon, the journal. An emulated machine
/// on a busy host is a hundred times slower than a real one.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Polls `condition` until it is true, for at most [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_within(PATIENCE, || {
        condition().then_some(()).ok_or_else(|| what.to_owned())
    });
}

fn run(arguments: &[&str]) -> Output {
    Command::new("systemctl")
        .args(arguments)
        .output()
        .expect("run systemctl")
}

/// Runs `systemctl ARGUMENTS...` and returns what it prints.
#[track_caller]
pub fn systemctl(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "systemctl {}: {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same for what is expected to be refused; returns what it says then.
#[track_caller]
pub fn systemctl_fails(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(
        !output.status.success(),
        "systemctl {} was not refused",
        arguments.join(" ")
    );
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `systemctl ARGUMENTS...` where a refusal only means that there is nothing to do.
pub fn systemctl_if_possible(arguments: &[&str]) {
    run(arguments);
}

/// Starts units and waits until they are ready.
#[track_caller]
pub fn start(units: &[&str]) {
    systemctl(&[&["start"], units].concat());
}

/// Stops units and waits until they have ended.
#[track_caller]
pub fn stop(units: &[&str]) {
    systemctl(&[&["stop"], units].concat());
}

/// Lets systemd read all unit files again.
#[track_caller]
pub fn daemon_reload() {
    systemctl(&["daemon-reload"]);
}

/// A property of a unit, as `systemctl show` prints it.
#[track_caller]
pub fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, "--", unit])
        .trim_end_matches('\n')
        .to_owned()
}

/// A property of a unit that is a number.
#[track_caller]
pub fn show_number(unit: &str, property: &str) -> u64 {
    let text = show(unit, property);
    text.parse()
        .unwrap_or_else(|_| panic!("{property} of {unit} is {text:?}"))
}

/// Waits until a property of a unit has a value.
#[track_caller]
pub fn wait_for_property(unit: &str, property: &str, value: &str) {
    eventually_within(PATIENCE, || {
        let found = show(unit, property);
        if found == value {
            Ok(())
        } else {
            Err(format!("{property} of {unit} is {found:?}, not {value:?}"))
        }
    });
}

/// The directory of a running unit's cgroup.
#[track_caller]
pub fn cgroup_of(unit: &str) -> PathBuf {
    let path = show(unit, "ControlGroup");
    assert!(!path.is_empty(), "{unit} has no cgroup");
    PathBuf::from(format!("/sys/fs/cgroup{path}"))
}

/// Sends a signal to every process of a unit.
#[track_caller]
pub fn signal(unit: &str, signal: &str) {
    systemctl(&["kill", "--signal", signal, "--", unit]);
}
