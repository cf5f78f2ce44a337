// SPDX-License-Identifier: MIT OR Apache-2.0
//! A unit is chosen and dies as a whole, page cache is nobody's fault, and a kill is given time.

use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::journal::{Journal, field, number};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, signal, start, wait_for_property,
};
use bpf_oomd_tests::units::hog_service;

use crate::{
    QUIET, SCENE, SOON, STALLING, kills, scene, stall_until_a_kill, wait_watched, watched,
};

#[test]
fn of_a_unit_with_many_processes_all_die() {
    const MANY: &str = "scene-many.service";
    let _machine = TestMachine::enter();
    let (_configuration, mut units) = scene("", &[]);
    units.write(
        MANY,
        &hog_service(
            SCENE,
            // systemd leaves the others alone when the main process has ended: whoever is gone was killed by the daemon.
            &["MemoryHigh=60M", SOON, "KillMode=process"],
            "fork=9 anon=2M notify=READY=1 usr1 anon=50M pause",
        ),
    );
    daemon_reload();
    start(&[MANY]);
    wait_watched(MANY);
    let journal = Journal::from_now();
    signal(MANY, "USR1");
    let entry = journal.wait_for(&[&kills()]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), MANY);
    assert_eq!(number(&entry, "VICTIM_PROCESSES_TOTAL"), 10);
    let processes = field(&entry, "VICTIM_PROCESSES");
    assert_eq!(processes.lines().count(), 10, "{processes}");
    wait_for_property(MANY, "Result", "oom-kill");
    // A unit with a process left would have a cgroup.
    wait_for_property(MANY, "ControlGroup", "");
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn page_cache_does_not_make_a_unit_a_victim() {
    const READER: &str = "scene-reader.service";
    const FILE: &str = "/var/tmp/scene-reader";
    let _machine = TestMachine::enter();
    // The one that stalls is not to die, so that the others are compared.
    let (_configuration, mut units) = scene(
        "[slice.\"scene.slice\"]\npressure = \"memory full 100ms/1s\"\n\
         [unit.\"scene-stalling.service\"]\npreference = \"omit\"\n",
        &[],
    );
    units.write(
        READER,
        &hog_service(
            SCENE,
            &[],
            &format!("cache={FILE}:60M notify=READY=1 pause"),
        ),
    );
    daemon_reload();
    start(&[READER]);
    wait_watched(SCENE);
    let memory = std::fs::read_to_string(cgroup_of(READER).join("memory.current"));
    let memory: u64 = memory
        .expect("read memory.current")
        .trim()
        .parse()
        .expect("bytes");
    assert!(memory >= 60 * MIB, "{memory}");
    let entry = stall_until_a_kill();
    let _ = std::fs::remove_file(FILE);
    assert_eq!(field(&entry, "VICTIM_UNIT"), QUIET);
    assert_eq!(number(&entry, "OOM_CANDIDATES"), 2);
    assert_eq!(show(READER, "ActiveState"), "active");
    assert_eq!(show(STALLING, "ActiveState"), "active");
}

#[test]
fn a_kill_is_given_time_before_the_next_stall_counts() {
    const SECOND: &str = "scene-second.service";
    let _machine = TestMachine::enter();
    let (_configuration, mut units) = scene(
        "[slice.\"scene.slice\"]\npressure = \"memory full 100ms/1s\"\ncooldown = \"1h\"\n",
        &[],
    );
    units.write(
        SECOND,
        &hog_service(
            SCENE,
            &["MemoryHigh=30M"],
            "anon=10M notify=READY=1 usr1 anon=500M pause",
        ),
    );
    daemon_reload();
    start(&[SECOND]);
    wait_watched(SCENE);
    let journal = Journal::from_now();
    let entry = stall_until_a_kill();
    assert_eq!(field(&entry, "VICTIM_UNIT"), STALLING);
    wait_for_property(STALLING, "Result", "oom-kill");
    signal(SECOND, "USR1");
    eventually("a stall is let pass because of the kill before", || {
        watched(SCENE).is_some_and(|line| line.contains("cooldown "))
    });
    assert_eq!(journal.entries(&[&kills()]).len(), 1);
    assert_eq!(show(SECOND, "ActiveState"), "active");
    assert_eq!(show(QUIET, "ActiveState"), "active");
}
