// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel's own killer does is in the journal as well, at the unit that it happened to.

use std::process::Command;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd::events::stall::STALL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, watched};
use bpf_oomd_tests::cgroup::{MIB, id_of};
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field, number};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show_number, signal, start, systemctl,
    systemctl_if_possible, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service};

fn kill() -> String {
    format!("MESSAGE_ID={KILL_MESSAGE_ID}")
}

#[test]
fn on_a_machine_without_policies_journalctl_of_a_unit_says_why_it_died() {
    const UNIT: &str = "lonely.service";
    let _machine = TestMachine::enter();
    daemon::started();
    assert!(attachments().is_empty());
    let mut units = Units::new();
    units.write(
        UNIT,
        &hog_service(
            "system.slice",
            &["MemoryMax=24M"],
            "notify=READY=1 usr1 anon=64M pause",
        ),
    );
    daemon_reload();
    start(&[UNIT]);
    let cgroup = id_of(&cgroup_of(UNIT));
    let pid = show_number(UNIT, "MainPID");
    let journal = Journal::from_now();
    signal(UNIT, "USR1");
    wait_for_property(UNIT, "Result", "oom-kill");

    let entry = journal.wait_for(&[&kill(), &format!("OBJECT_SYSTEMD_UNIT={UNIT}")]);
    assert_eq!(field(&entry, "_SYSTEMD_UNIT"), daemon::UNIT);
    assert_eq!(field(&entry, "OOM_POLICY"), "kernel");
    assert_eq!(field(&entry, "OOM_REASON"), "limit");
    assert_eq!(number(&entry, "OOM_DOMAIN_ID"), cgroup);
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), UNIT);
    assert_eq!(field(&entry, "VICTIM_UNIT"), UNIT);
    assert_eq!(number(&entry, "VICTIM_CGROUP_ID"), cgroup);
    let bytes = number(&entry, "VICTIM_BYTES");
    assert!((20 * MIB..=24 * MIB).contains(&bytes), "{bytes}");
    let processes = field(&entry, "VICTIM_PROCESSES");
    assert_eq!(processes, format!("{pid} {bytes} bpf-oomd-hog"));
    assert_eq!(journal.entries(&[&kill()]).len(), 1);

    // As people see it, explanation included.
    let updated = Command::new("journalctl")
        .arg("--update-catalog")
        .status()
        .expect("journalctl");
    assert!(updated.success());
    let output = Command::new("journalctl")
        .args(["--unit", UNIT, "--catalog", "--no-pager", "--output=short"])
        .output()
        .expect("journalctl");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains(&format!(": the kernel chose {UNIT}, ")),
        "{text}"
    );
    assert!(
        text.contains(&format!("{UNIT} was killed because memory ran out")),
        "{text}"
    );
    // A field that is not there would stay as it is written in the catalog.
    assert!(
        !text.contains("@OOM_") && !text.contains("@VICTIM_"),
        "{text}"
    );
}

#[test]
fn a_unit_that_dies_at_once_is_named() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    let names: Vec<String> = (0..8).map(|n| format!("moth-{n}.service")).collect();
    for name in &names {
        units.write(
            name,
            // It is over before it has said that it is ready.
            &hog_service("system.slice", &["MemoryMax=16M"], "anon=32M pause"),
        );
    }
    daemon_reload();
    let journal = Journal::from_now();
    for name in &names {
        systemctl_if_possible(&["start", name]);
    }
    eventually("all kills are told", || {
        journal.entries(&[&kill()]).len() == names.len()
    });
    for (entry, name) in journal.entries(&[&kill()]).iter().zip(&names) {
        assert_eq!(field(entry, "VICTIM_UNIT"), name);
        assert_eq!(field(entry, "OOM_DOMAIN_UNIT"), name);
        assert_eq!(field(entry, "OBJECT_SYSTEMD_UNIT"), name);
        let expected = format!("/system.slice/{name}");
        assert_eq!(field(entry, "VICTIM_CGROUP"), expected);
        systemctl_if_possible(&["reset-failed", name]);
    }
}

#[test]
fn a_unit_that_dies_whole_is_one_record_of_all_its_processes() {
    const UNIT: &str = "together.service";
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write(
        UNIT,
        &hog_service(
            "system.slice",
            // systemd sets memory.oom.group for it, and would end those that are left as soon as the main one is gone.
            &["MemoryMax=32M", "OOMPolicy=kill", "KillMode=process"],
            "fork=3 anon=2M notify=READY=1 usr1 anon=64M pause",
        ),
    );
    daemon_reload();
    start(&[UNIT]);
    let journal = Journal::from_now();
    // Of several that run out at once one may be on its way out already, and is not killed then.
    systemctl(&["kill", "--kill-whom=main", "--signal", "USR1", "--", UNIT]);
    wait_for_property(UNIT, "Result", "oom-kill");
    let entry = journal.wait_for(&[&kill()]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), UNIT);
    assert_eq!(field(&entry, "OOM_KILL"), "cgroup");
    assert_eq!(number(&entry, "VICTIM_PROCESSES_TOTAL"), 4);
    assert_eq!(field(&entry, "VICTIM_PROCESSES").lines().count(), 4);
    let message = field(&entry, "MESSAGE");
    assert!(
        message.ends_with("in 4 processes (bpf-oomd-hog and 3 more)"),
        "{message}"
    );
    assert_eq!(journal.entries(&[&kill()]).len(), 1);
}

#[test]
fn a_stall_for_which_the_kernel_kills_is_told_once() {
    const UNIT: &str = "stalling.service";
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write(
        UNIT,
        &hog_service(
            "system.slice",
            &[
                "MemoryHigh=40M",
                "ManagedOOMPolicy=kernel",
                "ManagedOOMPolicyPressure=memory full 100ms/1s",
            ],
            "anon=10M notify=READY=1 usr1 anon=500M pause",
        ),
    );
    daemon_reload();
    start(&[UNIT]);
    let cgroup = id_of(&cgroup_of(UNIT));
    eventually("the unit is watched", || watched().contains(&cgroup));
    let journal = Journal::from_now();
    signal(UNIT, "USR1");
    wait_for_property(UNIT, "Result", "oom-kill");
    let entry = journal.wait_for(&[&kill()]);
    assert_eq!(field(&entry, "OOM_POLICY"), "kernel");
    assert_eq!(field(&entry, "OOM_REASON"), "pressure");
    assert_eq!(field(&entry, "VICTIM_UNIT"), UNIT);
    assert_eq!(field(&entry, "OOM_STALL_RESOURCE"), "memory");
    assert_eq!(field(&entry, "OOM_STALL_HELD_BACK"), "true");
    let message = field(&entry, "MESSAGE");
    assert!(
        message.starts_with(&format!("{UNIT} stalled on memory (every task for "))
            && message.contains(&format!(": the kernel chose {UNIT}, ")),
        "{message}"
    );
    assert_eq!(journal.entries(&[&kill()]).len(), 1);
    let stall = format!("MESSAGE_ID={STALL_MESSAGE_ID}");
    assert!(journal.entries(&[&stall]).is_empty());
}
