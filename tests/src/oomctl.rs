// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon on the bus, as an administrator and as somebody who may do nothing: `bpf-oomctl` and `busctl`.

use std::process::{Command, Output};

use crate::systemctl::eventually;

pub use serde_json::Value;

/// Runs `bpf-oomctl ARGUMENTS...`.
pub fn bpf_oomctl(arguments: &[&str]) -> Output {
    run(Command::new("bpf-oomctl").args(arguments))
}

/// The same as nobody.
pub fn bpf_oomctl_as_nobody(arguments: &[&str]) -> Output {
    run(as_nobody().arg("bpf-oomctl").args(arguments))
}

/// Runs it for what has to succeed; returns what it prints.
#[track_caller]
pub fn told(arguments: &[&str]) -> String {
    let output = bpf_oomctl(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    text(&output.stdout)
}

/// What it prints with `--json`, also to somebody who may do nothing.
#[track_caller]
pub fn json(arguments: &[&str]) -> Value {
    let output = bpf_oomctl_as_nobody(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    parsed(&text(&output.stdout))
}

/// A line of JSON.
#[track_caller]
pub fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The one object of a list whose `key` is that.
#[track_caller]
pub fn of<'a>(list: &'a Value, key: &str, value: &str) -> &'a Value {
    let objects = list.as_array().into_iter().flatten();
    let mut objects = objects.filter(|object| object[key] == value);
    let one = objects.next();
    assert!(objects.next().is_none(), "more than one {value}: {list}");
    one.unwrap_or_else(|| panic!("no {value}: {list}"))
}

/// What the daemon says of a unit, null as long as it does not know it.
#[track_caller]
pub fn listed(unit: &str) -> Value {
    let units = json(&["list"]);
    let mut units = units.as_array().into_iter().flatten();
    let found = units.find(|found| found["name"] == unit);
    found.cloned().unwrap_or_default()
}

/// Waits until a unit's policy is in force, whichever engine does that.
#[track_caller]
pub fn wait_in_force(unit: &str) {
    eventually("the unit has its policy", || {
        listed(unit)["attached"] == true
    });
}

/// Runs it for what has to be refused; returns what it says then.
#[track_caller]
pub fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    text(&output.stderr)
}

/// Gives a unit a policy at run time.
#[track_caller]
pub fn set_policy(unit: &str, policy: &str) {
    told(&["set-policy", unit, policy]);
}

/// Takes it away.
#[track_caller]
pub fn reset_policy(unit: &str) {
    told(&["reset-policy", unit]);
}

/// A property of the daemon's manager object, as `busctl` prints it; read by nobody.
#[track_caller]
pub fn property(name: &str) -> String {
    let output = run(as_nobody().args(["busctl", "get-property"]).args([
        "org.bpfoomd1",
        "/org/bpfoomd1",
        "org.bpfoomd1.Manager",
        name,
    ]));
    assert!(output.status.success(), "{name}: {output:?}");
    text(&output.stdout).trim().to_owned()
}

/// Calls a method of the manager object; `arguments` are a signature and values.
pub fn call(method: &str, arguments: &[&str]) -> Output {
    run(Command::new("busctl")
        .args(["call", "--"])
        .args(MANAGER)
        .arg(method)
        .args(arguments))
}

/// The same as nobody.
pub fn call_as_nobody(method: &str, arguments: &[&str]) -> Output {
    run(as_nobody()
        .args(["busctl", "call", "--"])
        .args(MANAGER)
        .arg(method)
        .args(arguments))
}

const MANAGER: [&str; 3] = ["org.bpfoomd1", "/org/bpfoomd1", "org.bpfoomd1.Manager"];

fn as_nobody() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("run {command:?}: {error}"))
}

/// What a program printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
