// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens between the choice of a victim and its death, where there is time: a warning, and the administrator's programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bpf_oomd::events::warning::WARNING_MESSAGE_ID;
use bpf_oomd_tests::bus;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field, number};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{property, told as oomctl_says, wait_in_force};
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, signal, start, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service};
use bpf_oomd_tests::wait::since_boot;

use super::{QUIET, SCENE, SOON, kills, scene, wait_watched};

const WARNED: &str = "scene-warned.service";
const NOBODY: &str = "a(sssstb) 0";
const TOLD: &str = "/run/bpf-oomd-tests-told";

fn warnings(outcome: &str) -> [String; 2] {
    [
        format!("MESSAGE_ID={WARNING_MESSAGE_ID}"),
        format!("OOM_OUTCOME={outcome}"),
    ]
}

/// Starts a unit that will want 500 MB and is held back over 40.
#[track_caller]
fn start_warned(units: &mut Units, settings: &[&str], before: &str) {
    units.write(
        WARNED,
        &hog_service(
            SCENE,
            &[&["MemoryHigh=40M", SOON], settings].concat(),
            &format!("{before} anon=10M notify=READY=1 usr1 anon=500M pause"),
        ),
    );
    daemon_reload();
    start(&[WARNED]);
    wait_watched(WARNED);
}

/// Who is about to be killed, as busctl shows it.
fn pending() -> String {
    property("PendingKills")
}

#[test]
fn a_unit_that_ends_when_it_is_warned_is_not_killed() {
    let _machine = TestMachine::enter();
    let (_configuration, mut units) = scene("", &[]);
    start_warned(&mut units, &["ManagedOOMPolicyWarn=1min"], "");
    let journal = Journal::from_now();
    let told: (String, String, String, String, u64, bool) = bus::run(async {
        let connection = bus::connect().await;
        let mut signals = bus::signals(&connection, "Warned").await;
        signal(WARNED, "USR1");
        let message = bus::next(&mut signals).await;
        message.body().deserialize().expect("six arguments")
    });
    assert_eq!((told.0.as_str(), told.3.as_str()), (WARNED, "biggest-leaf"));
    assert!(told.2.ends_with(WARNED) && told.5, "{told:?}");
    let [message, outcome] = warnings("warned");
    let entry = journal.wait_for(&[&message, &outcome]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), WARNED);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    assert_eq!(field(&entry, "OOM_REASON"), "pressure");
    let said = field(&entry, "MESSAGE");
    let end = "it was asked to end, and it is killed in 1min at the latest";
    assert!(said.ends_with(end), "{said}");
    let [message, outcome] = warnings("went-away");
    let entry = journal.wait_for(&[&message, &outcome]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), WARNED);
    wait_for_property(WARNED, "Result", "oom-kill");
    assert_eq!(show(QUIET, "ActiveState"), "active");
    assert_eq!(journal.entries(&[&kills()]).len(), 0);
    eventually("nobody is about to be killed", || pending() == NOBODY);
}

#[test]
fn a_unit_that_does_not_end_is_killed_when_its_time_is_over() {
    let _machine = TestMachine::enter();
    let (_configuration, mut units) = scene("", &[]);
    start_warned(&mut units, &["ManagedOOMPolicyWarn=5s"], "deaf");
    let journal = Journal::from_now();
    signal(WARNED, "USR1");
    let [message, outcome] = warnings("warned");
    let warned = journal.wait_for(&[&message, &outcome]);
    let began = number(&warned, "OOM_BOOTTIME_USEC");
    eventually("it is about to be killed, or was", || {
        let pending = pending();
        let end = format!(" \"biggest-leaf\" {} true", began + 5_000_000);
        let is_there = pending.contains(WARNED) && pending.ends_with(&end);
        is_there || !journal.entries(&[&kills()]).is_empty()
    });
    let entry = journal.wait_for(&[&kills()]);
    assert!(since_boot().as_micros() >= u128::from(began + 5_000_000));
    assert_eq!(field(&entry, "VICTIM_UNIT"), WARNED);
    wait_for_property(WARNED, "Result", "oom-kill");
    eventually("nobody is about to be killed", || pending() == NOBODY);
    assert_eq!(show(QUIET, "ActiveState"), "active");
    assert_eq!(journal.entries(&[&kills()]).len(), 1);
}

#[test]
fn who_was_warned_when_the_daemon_crashed_is_warned_again_and_killed_once() {
    let _machine = TestMachine::enter();
    let (_configuration, mut units) = scene("", &[]);
    start_warned(&mut units, &["ManagedOOMPolicyWarn=5s"], "deaf");
    let journal = Journal::from_now();
    let [message, outcome] = warnings("warned");
    let warned = || journal.entries(&[&message, &outcome]);
    signal(WARNED, "USR1");
    journal.wait_for(&[&message, &outcome]);
    // It had better not do anything between this moment and its end.
    signal(daemon::UNIT, "STOP");
    let before = warned().len();
    assert_eq!(journal.entries(&[&kills()]).len(), 0, "too late");
    let pid = daemon::pid();
    signal(daemon::UNIT, "KILL");
    daemon::wait_for_another(pid);
    // It waits for memory all the time, and the next one finds that out by itself.
    let entry = journal.wait_for(&[&kills()]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), WARNED);
    assert_eq!(warned().len(), before + 1);
    wait_for_property(WARNED, "Result", "oom-kill");
    eventually("nobody is about to be killed", || pending() == NOBODY);
    assert_eq!(journal.entries(&[&kills()]).len(), 1);
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn who_is_warned_is_killed_at_once_when_the_machine_has_very_little_left() {
    let _machine = TestMachine::enter();
    let root = "[slice.\"-.slice\"]\npolicy = \"bpf:biggest-leaf\"\npressure = \"none\"\n";
    let (mut configuration, mut units) = scene(root, &["ManagedOOMPolicyPressure=none"]);
    wait_in_force("-.slice");
    start_warned(&mut units, &["ManagedOOMPolicyWarn=1min"], "deaf");
    let journal = Journal::from_now();
    signal(WARNED, "USR1");
    let [message, outcome] = warnings("warned");
    let warned = journal.wait_for(&[&message, &outcome]);
    let until = number(&warned, "OOM_BOOTTIME_USEC") + 60_000_000;
    // Half of it is more than the machine has at all.
    configuration.write("60-machine", "[defaults]\nmin-available = \"100G\"\n");
    let entry = journal.wait_for(&[&kills()]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), WARNED);
    let when = since_boot().as_micros();
    assert!(when < u128::from(until), "{when} {until}");
}

/// A program of the administrator.
fn program(name: &str, text: &str) -> String {
    let path = format!("/run/bpf-oomd-tests-{name}");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it one");
    let _ = fs::remove_file(TOLD);
    path
}

fn run_before(configuration: &mut Configuration, program: &str, timeout: &str) {
    let text =
        format!("[defaults]\npre-kill = [\"{program}\"]\npre-kill-timeout = \"{timeout}\"\n");
    configuration.write("60-programs", &text);
}

#[test]
fn a_program_of_the_administrator_is_run_before_the_kill_and_told_whom_it_will_hit() {
    let _machine = TestMachine::enter();
    let (mut configuration, mut units) = scene("", &[]);
    start_warned(&mut units, &[], "");
    let cgroup = cgroup_of(WARNED);
    let path = cgroup.strip_prefix("/sys/fs/cgroup").expect("in the tree");
    // It sees the victim alive, and is not waited for any longer than it takes.
    let text = format!(
        "cat /sys/fs/cgroup$OOM_VICTIM_CGROUP/cgroup.procs >{TOLD}.new && env | grep ^OOM_ >>{TOLD}.new && mv {TOLD}.new {TOLD}"
    );
    run_before(&mut configuration, &program("tells", &text), "1min");
    let pid = show(WARNED, "MainPID");
    let journal = Journal::from_now();
    signal(WARNED, "USR1");
    let [message, outcome] = warnings("warned");
    let warned = journal.wait_for(&[&message, &outcome]);
    let said = field(&warned, "MESSAGE");
    assert!(said.contains("; programs are run before, and"), "{said}");
    let until = number(&warned, "OOM_BOOTTIME_USEC") + 60_000_000;
    let entry = journal.wait_for(&[&kills()]);
    assert!(since_boot().as_micros() < u128::from(until));
    assert_eq!(field(&entry, "VICTIM_UNIT"), WARNED);
    let told = fs::read_to_string(TOLD).expect("what the program was told");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], pid, "{told}");
    for expected in [
        format!("OOM_VICTIM_UNIT={WARNED}"),
        format!("OOM_VICTIM_CGROUP=/{}", path.display()),
        "OOM_VICTIM_USER_UNIT=".to_owned(),
        "OOM_POLICY=biggest-leaf".to_owned(),
        "OOM_REASON=pressure".to_owned(),
        format!("OOM_DOMAIN=/{}", path.display()),
        format!("OOM_VICTIM_BYTES={}", field(&entry, "VICTIM_BYTES")),
    ] {
        assert!(lines.contains(&expected.as_str()), "{expected}: {told}");
    }
}

#[test]
fn a_program_that_hangs_fails_or_is_not_there_prevents_nothing() {
    let _machine = TestMachine::enter();
    let (mut configuration, mut units) = scene("", &[]);
    let hangs = program("hangs", &format!("touch {TOLD}; exec sleep 1000"));
    let fails = program("fails", &format!("touch {TOLD}; exit 1"));
    let is_missing = "/run/bpf-oomd-tests-missing".to_owned();
    for (program, timeout, complaint) in [
        (hangs, "3s", "takes longer than it is waited for"),
        (fails, "1min", "failed (journalctl -u bpf-oomd-pre-kill-"),
        (is_missing, "1min", "/run/bpf-oomd-tests-missing"),
    ] {
        let _ = fs::remove_file(TOLD);
        start_warned(&mut units, &[], "");
        run_before(&mut configuration, &program, timeout);
        eventually("it is configured", || {
            oomctl_says(&["cat-config"]).contains(&program)
        });
        let journal = Journal::from_now();
        signal(WARNED, "USR1");
        let entry = journal.wait_for(&[&kills()]);
        assert_eq!(field(&entry, "VICTIM_UNIT"), WARNED);
        wait_for_property(WARNED, "Result", "oom-kill");
        journal.wait_for_message(daemon::UNIT, complaint);
        assert_eq!(Path::new(TOLD).exists(), !program.ends_with("missing"));
        assert_eq!(show(QUIET, "ActiveState"), "active");
    }
}
