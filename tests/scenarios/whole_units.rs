// SPDX-License-Identifier: MIT OR Apache-2.0
//! A unit is chosen and dies as a whole, and page cache is nobody's fault.

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::wait_attached;
use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field, number};
use bpf_oomd_tests::machine::{TestMachine, vmstat};
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, show_number, signal, start, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};

const SLICE: &str = "scene.slice";
const POLICY: &str = "ManagedOOMPolicy=bpf:biggest-leaf";

/// A file of a running unit's cgroup.
fn cgroup_file(unit: &str, file: &str) -> String {
    let path = cgroup_of(unit).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn memory_current(unit: &str) -> u64 {
    let text = cgroup_file(unit, "memory.current");
    text.trim().parse().expect("a number of bytes")
}

#[test]
fn a_unit_with_many_processes_dies_whole() {
    const MANY: &str = "scene-many.service";
    const ONE: &str = "scene-one.service";
    const GROWING: &str = "scene-growing.service";
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write(SLICE, &slice(&["MemoryMax=100M", POLICY]));
    // Ten processes of 4 MiB: the kernel's own killer compares processes, and would take the one of 25 MiB.
    units.write(
        MANY,
        // systemd leaves the others alone when one of the processes was a victim, and when the main one has ended. Otherwise it is
        // quick enough to end some of them itself.
        &hog_service(
            SLICE,
            &["OOMPolicy=continue", "KillMode=process"],
            "fork=9 anon=4M notify=READY=1 pause",
        ),
    );
    units.write(
        ONE,
        &hog_service(SLICE, &[], "anon=25M notify=READY=1 pause"),
    );
    units.write(
        GROWING,
        &hog_service(
            SLICE,
            &[],
            "anon=4M notify=READY=1 usr1 anon=20M usr1 anon=16M notify=STATUS=grown pause",
        ),
    );
    daemon_reload();
    start(&[MANY, ONE, GROWING]);
    wait_attached(SLICE);
    eventually("all ten processes have their memory", || {
        memory_current(MANY) >= 40 * MIB
    });
    let survivor = show_number(ONE, "MainPID");
    let kills = vmstat("oom_kill");
    let journal = Journal::from_now();

    // To 24 MiB of its own, which fits, and then beyond the limit.
    signal(GROWING, "USR1");
    eventually("the growing unit has grown once", || {
        memory_current(GROWING) >= 24 * MIB
    });
    assert_eq!(vmstat("oom_kill"), kills);
    signal(GROWING, "USR1");
    wait_for_property(GROWING, "StatusText", "grown");
    wait_for_property(MANY, "ActiveState", "failed");

    eventually("all ten processes are victims", || {
        vmstat("oom_kill") - kills >= 10
    });
    assert_eq!(vmstat("oom_kill") - kills, 10);
    assert_eq!(show_number(ONE, "MainPID"), survivor);
    assert_eq!(show(GROWING, "ActiveState"), "active");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), MANY);
    assert_eq!(number(&entry, "VICTIM_PROCESSES_TOTAL"), 10);
    let processes = field(&entry, "VICTIM_PROCESSES");
    assert_eq!(processes.lines().count(), 10, "{processes}");
}

#[test]
fn page_cache_does_not_make_a_unit_a_victim() {
    const READER: &str = "scene-reader.service";
    const ALLOCATOR: &str = "scene-allocator.service";
    const GROWING: &str = "scene-growing.service";
    const FILE: &str = "/var/tmp/scene-reader";
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write(SLICE, &slice(&["MemoryMax=110M", POLICY]));
    // Protected cache stays when the slice runs out, so that the reader is the largest unit at that moment by far.
    units.write(
        READER,
        &hog_service(
            SLICE,
            &["MemoryMin=64M"],
            &format!("cache={FILE}:60M notify=READY=1 pause"),
        ),
    );
    units.write(
        ALLOCATOR,
        &hog_service(SLICE, &[], "anon=20M notify=READY=1 pause"),
    );
    units.write(
        GROWING,
        &hog_service(
            SLICE,
            &["OOMScoreAdjust=-1000"],
            "anon=2M notify=READY=1 usr1 anon=36M notify=STATUS=grown pause",
        ),
    );
    daemon_reload();
    start(&[READER, ALLOCATOR, GROWING]);
    wait_attached(SLICE);
    assert!(
        memory_current(READER) >= 60 * MIB,
        "{}",
        cgroup_file(READER, "memory.stat")
    );
    let reader = show_number(READER, "MainPID");
    let journal = Journal::from_now();

    signal(GROWING, "USR1");
    wait_for_property(GROWING, "StatusText", "grown");
    wait_for_property(ALLOCATOR, "Result", "oom-kill");

    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), ALLOCATOR);
    assert_eq!(number(&entry, "OOM_CANDIDATES"), 2);
    assert_eq!(show(READER, "ActiveState"), "active");
    assert_eq!(show_number(READER, "MainPID"), reader);
    assert!(
        memory_current(READER) >= 50 * MIB,
        "the cache went away, so that it could not have made a victim: {}",
        cgroup_file(READER, "memory.stat")
    );
    drop(units);
    std::fs::remove_file(FILE).expect("remove the reader's file");
}
