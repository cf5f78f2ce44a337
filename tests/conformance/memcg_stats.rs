// SPDX-License-Identifier: MIT OR Apache-2.0
//! The statistics kfuncs agree with the files that user space reads.

use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::wait::{SOON, eventually_within};

use crate::scene::{limited, run_out};
use bpf_oomd_tests::programs;

/// Kfunc result and file for one value.
type Pair = (&'static str, u64, u64);

fn pairs(memcg: &Program, cgroup: &Cgroup) -> Vec<Pair> {
    memcg.run("read_statistics");
    assert_eq!(memcg.get("found"), 1);
    let stat = |key| cgroup.value("memory.stat", key);
    let events = |key| cgroup.value("memory.events", key);
    vec![
        (
            "memory.current",
            memcg.get("usage"),
            cgroup.memory_current(),
        ),
        ("anon", memcg.get("anon"), stat("anon")),
        ("file", memcg.get("file"), stat("file")),
        ("shmem", memcg.get("shmem"), stat("shmem")),
        (
            "kernel_stack",
            memcg.get("kernel_stack"),
            stat("kernel_stack"),
        ),
        ("pgfault", memcg.get("page_faults"), stat("pgfault")),
        ("oom_kill", memcg.get("oom_kills"), events("oom_kill")),
        ("oom", memcg.get("oom_events"), events("oom")),
        ("max", memcg.get("max_events"), events("max")),
    ]
}

/// Values move a little even in a quiet cgroup (per-CPU charges that are given back), so the two reads are repeated until nothing moved
/// between them.
#[track_caller]
fn agree(memcg: &Program, cgroup: &Cgroup) {
    memcg.set("cgroup_id", cgroup.id());
    eventually_within(SOON, || {
        let different: Vec<_> = pairs(memcg, cgroup)
            .into_iter()
            .filter(|(_, kfunc, file)| kfunc != file)
            .collect();
        if different.is_empty() {
            Ok(())
        } else {
            Err(format!("kfunc and file differ: {different:?}"))
        }
    });
}

#[test]
fn they_agree_about_a_cgroup_that_uses_memory_of_every_kind() {
    let _machine = TestMachine::enter();
    let here = Cgroup::new("here");
    let file = format!("/var/tmp/bpf-oomd-test-{}", std::process::id());
    // The stack of a process is charged where it was forked, hence the child.
    let mut hog = Hog::ready(
        &here,
        &format!("anon=20M shared=5M cache={file}:8M fork=1 ready hold"),
    );
    hog.wait_ready();
    let memcg = Program::load(programs::MEMCG);
    agree(&memcg, &here);
    assert!(memcg.get("anon") >= 20 * MIB);
    assert!(memcg.get("shmem") >= 5 * MIB);
    assert!(memcg.get("file") >= 13 * MIB, "shmem counts as file");
    assert!(memcg.get("usage") >= 33 * MIB);
    assert!(memcg.get("kernel_stack") >= 4096);
    assert!(memcg.get("page_faults") >= 20 * MIB / 4096);
    std::fs::remove_file(&file).expect("remove the file");
}

#[test]
fn they_agree_about_events_after_an_oom() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    run_out(&here);
    run_out(&here);
    let memcg = Program::load(programs::MEMCG);
    agree(&memcg, &here);
    assert_eq!(memcg.get("oom_kills"), 2);
    assert!(memcg.get("oom_events") >= 2);
    assert!(memcg.get("max_events") >= 2);
}

#[test]
fn they_count_what_is_below() {
    let _machine = TestMachine::enter();
    let slice = Cgroup::new("slice");
    let unit = slice.child("unit");
    let _hog = Hog::ready(&unit, "anon=10M ready hold");
    let memcg = Program::load(programs::MEMCG);
    agree(&memcg, &slice);
    assert!(memcg.get("anon") >= 10 * MIB);
}

#[test]
fn invalid_items_give_minus_one() {
    let _machine = TestMachine::enter();
    let here = Cgroup::new("here");
    let memcg = Program::load(programs::MEMCG);
    memcg.set("cgroup_id", here.id());
    memcg.run("read_statistics");
    assert_eq!(memcg.get("found"), 1);
    for name in ["bad_page_state", "bad_vm_event", "bad_memory_event"] {
        for index in 0..2 {
            let value = memcg.get_signed_at(name, index);
            assert_eq!(value, -1, "{name}[{index}]");
        }
    }
}
