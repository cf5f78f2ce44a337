// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the daemon needs for a kill is there before memory is gone. The thread that kills is watched by BPF programs, from the moment
//! when the kernel wakes it up until it writes to cgroup.kill, on a machine that has next to no memory left.

use std::fs;
use std::path::{Path, PathBuf};

use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::programs::KILL_PATH;
use bpf_oomd_tests::systemctl::{daemon_reload, show, signal, start, wait_for_property};
use bpf_oomd_tests::units::hog_service;

use super::{QUIET, STALLING, kills, scene, wait_watched};

/// What the machine is left with.
const LEFT: u64 = 40 * MIB;

/// As in kill_path.bpf.c.
const COUNTED: [&str; 7] = [
    "allocations",
    "page faults",
    "reads from disks",
    "reclaims",
    "mappings",
    "files opened",
    "system calls",
];
const OPENED: usize = 5;
const CALLS: usize = 6;

/// What the C library gives memory with.
const ALLOCATORS: [&str; 6] = [
    "malloc",
    "calloc",
    "realloc",
    "aligned_alloc",
    "posix_memalign",
    "memalign",
];

/// The id of the daemon's thread that kills.
fn enforcer() -> u64 {
    let tasks = format!("/proc/{}/task", daemon::pid());
    let named =
        |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm == "enforcer\n");
    let found = fs::read_dir(tasks)
        .expect("the daemon's threads")
        .map(|entry| entry.expect("a thread").path())
        .find(|path| named(path))
        .expect("a thread called enforcer");
    let id = found.file_name().and_then(|name| name.to_str());
    id.and_then(|id| id.parse().ok()).expect("its id")
}

/// The C library that the daemon uses.
fn c_library() -> PathBuf {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon::pid())).expect("its mappings");
    let path = maps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().last())
        .find(|path| path.contains("/libc.so"));
    path.expect("a C library").into()
}

fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    let kilobytes: u64 = kilobytes
        .and_then(|number| number.parse().ok())
        .expect("a number");
    kilobytes << 10
}

/// What the thread did before its only kill.
fn watch_a_kill(settings: &[&str]) -> [u64; 7] {
    let (_configuration, mut units) = scene("", settings);
    wait_watched(STALLING);
    let program = Program::load(KILL_PATH);
    let library = c_library();
    let _probes: Vec<_> = ALLOCATORS
        .iter()
        .map(|name| program.attach_to_function("allocates", &library, name))
        .collect();
    let _others: Vec<_> = ["faults", "reads", "reclaims", "enters", "wakes_up"]
        .iter()
        .map(|name| program.attach(name))
        .collect();
    // Somebody who does not wait for memory takes all but a little.
    let size = available().saturating_sub(LEFT) / MIB;
    units.write(
        "scene-edge.service",
        &hog_service(
            "system.slice",
            &["OOMScoreAdjust=-1000"],
            &format!("anon={size}M notify=READY=1 pause"),
        ),
    );
    daemon_reload();
    start(&["scene-edge.service"]);
    assert!(available() < 2 * LEFT, "{} bytes are left", available());
    program.set("watched", enforcer());

    let journal = Journal::from_now();
    signal(STALLING, "USR1");
    let entry = journal.wait_for(&[&kills()]);
    program.set("watched", 0);
    assert_eq!(field(&entry, "VICTIM_UNIT"), STALLING);
    wait_for_property(STALLING, "Result", "oom-kill");
    assert_eq!(show(QUIET, "ActiveState"), "active");
    assert_eq!(program.get("kills"), 1);
    let done: [u64; 7] = std::array::from_fn(|index| program.get_at("before_kill", index));
    let told: Vec<String> = COUNTED
        .iter()
        .zip(done)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    // By their numbers, in their order, which begins with 1.
    let calls: Vec<String> = (1..=done[CALLS].min(255))
        .map(|at| program.get_at("sequence", at as usize).to_string())
        .collect();
    println!("{}: {}", told.join(", "), calls.join(" "));
    done
}

#[test]
fn when_a_stall_has_lasted_nothing_is_asked_for_nothing_is_waited_for_and_nothing_is_opened() {
    let _machine = TestMachine::enter();
    let done = watch_a_kill(&["ManagedOOMPolicyPressure=memory full 100ms/1s for=2s"]);
    assert_eq!(done[..CALLS], [0; CALLS]);
    // That it was watched at all.
    assert_ne!(done[CALLS], 0);
}

#[test]
fn out_of_the_blue_files_are_opened_but_no_page_is_waited_for_or_read_from_a_disk() {
    let _machine = TestMachine::enter();
    let done = watch_a_kill(&["ManagedOOMPolicyPressure=memory full 100ms/1s for=0"]);
    assert_eq!(done[1..OPENED], [0; OPENED - 1]);
    assert_ne!(done[OPENED], 0);
}
