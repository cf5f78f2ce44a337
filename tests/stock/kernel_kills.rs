// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills by the kernel's own killer have records, one each.

use std::collections::BTreeSet;
use std::fs;

use bpf_oomd_bpf::{KernelKillRecord, Kill, Reason};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::recording::Recording;
use bpf_oomd_tests::small::{SMALL, limited, run_out};
use bpf_oomd_tests::tracee::Tracee;

/// The ids of the processes in a cgroup.
fn processes(cgroup: &Cgroup) -> BTreeSet<u32> {
    cgroup
        .read("cgroup.procs")
        .lines()
        .map(|line| line.parse().expect("a process id"))
        .collect()
}

fn told(record: &KernelKillRecord) -> BTreeSet<u32> {
    record.processes.iter().map(|process| process.pid).collect()
}

#[test]
fn a_kill_is_recorded_once_with_who_died_where_and_why() {
    let _machine = TestMachine::enter();
    let mut recording = Recording::start();
    let domain = Cgroup::new("domain");
    domain.limit(40 * MIB);
    let (unit, other) = (domain.child("unit"), domain.child("other"));
    let mut victim = Hog::ready(&unit, "adj=300 anon=12M ready hold");
    // Nobody else may die: while the victim is leaving, the kernel takes a second one now and then.
    let mut beside = Hog::ready(&unit, "adj=-1000 anon=4M ready hold");
    let mut growing = Hog::ready(&other, "adj=-1000 anon=5M ready wait anon=22M ready hold");
    growing.go();
    assert!(victim.wait_killed());
    growing.wait_ready();
    assert!(beside.is_running());

    let kill = recording.kill();
    assert_eq!(kill.reason, Reason::Allocation);
    assert_eq!(kill.domain, domain.id());
    assert_eq!(kill.domain_path, Some(domain.path_in_the_tree()));
    assert_eq!(kill.victim, unit.id());
    assert_eq!(kill.victim_path, Some(unit.path_in_the_tree()));
    assert_eq!(kill.kill, Kill::Process);
    assert_eq!(kill.oom_score_adj, 300);
    // Its pages, and 30% of what the domain may use.
    let expected = i64::try_from((12 * MIB + 12 * MIB) / 4096).expect("pages");
    assert!(
        (expected..expected * 2).contains(&kill.victim_score),
        "{kill:?}"
    );
    let used = 36 * MIB..=40 * MIB;
    assert!(used.contains(&kill.usage_before), "{kill:?}");
    assert_eq!(kill.processes_total, 1);
    assert_eq!(kill.processes.len(), 1);
    let process = &kill.processes[0];
    assert_eq!(
        (process.pid, process.comm.as_str()),
        (victim.pid(), "bpf-oomd-hog")
    );
    // What is counted on each processor, or before 6.2 by each thread, is not in it yet.
    assert!((11 * MIB..14 * MIB).contains(&process.bytes), "{process:?}");
    assert_eq!(kill.victim_bytes, process.bytes);
}

#[test]
fn a_victim_that_is_gone_when_its_record_is_read_is_known_by_its_path() {
    let _machine = TestMachine::enter();
    let mut recording = Recording::start();
    let slice = Cgroup::new("slice");
    let mut expected = Vec::new();
    for number in 0..3 {
        let unit = slice.child(&format!("unit-{number}"));
        unit.limit(SMALL);
        run_out(&unit);
        expected.push((unit.id(), Some(unit.path_in_the_tree())));
        unit.remove();
    }
    let kills = recording.kills();
    let told: Vec<_> = kills
        .iter()
        .map(|kill| (kill.victim, kill.victim_path.clone()))
        .collect();
    assert_eq!(told, expected);
    for kill in kills {
        assert_eq!(kill.domain_path, kill.victim_path);
    }
}

#[test]
fn a_group_that_dies_together_is_one_record_of_all_its_processes() {
    let _machine = TestMachine::enter();
    let mut recording = Recording::start();
    let domain = Cgroup::new("domain");
    domain.limit(40 * MIB);
    let (unit, other) = (domain.child("unit"), domain.child("other"));
    unit.write("memory.oom.group", "1");
    // In cgroups of their own, both: it is the group that dies.
    let (inner, second) = (unit.child("inner"), unit.child("second"));
    let mut victim = Hog::ready(&inner, "adj=500 anon=10M ready hold");
    let mut beside = Hog::ready(&second, "fork=2 anon=1M ready hold");
    beside.wait_ready();
    beside.wait_ready();
    let members: BTreeSet<u32> = &processes(&inner) | &processes(&second);
    assert_eq!(members.len(), 4);
    let mut growing = Hog::ready(&other, "adj=-1000 anon=5M ready wait anon=24M ready hold");
    growing.go();
    assert!(victim.wait_killed());
    assert!(beside.wait_killed());
    growing.wait_ready();

    let kill = recording.kill();
    assert_eq!(kill.kill, Kill::Cgroup);
    assert_eq!(kill.victim, unit.id());
    assert_eq!(kill.victim_path, Some(unit.path_in_the_tree()));
    assert_eq!(kill.processes_total, 4);
    assert_eq!(told(&kill), members);
    assert_eq!(kill.processes[0].pid, victim.pid());
    let sum: u64 = kill.processes.iter().map(|process| process.bytes).sum();
    assert_eq!(kill.victim_bytes, sum);
    assert!(sum >= 11 * MIB, "{kill:?}");
}

#[test]
fn of_a_large_group_all_processes_count_and_the_first_are_described() {
    let _machine = TestMachine::enter();
    let mut recording = Recording::start();
    let unit = Cgroup::new("unit");
    unit.limit(128 * MIB);
    unit.write("memory.oom.group", "1");
    let mut many = Hog::ready(&unit, "fork=79 anon=64K ready hold");
    for _ in 0..79 {
        many.wait_ready();
    }
    let mut growing = Hog::start(&unit, "adj=1000 anon=256M hold");
    assert!(growing.wait_killed());
    assert!(many.wait_killed());
    let kill = recording.kill();
    assert_eq!(kill.processes_total, 81);
    assert_eq!(kill.processes.len(), 64);
    assert_eq!(kill.processes[0].pid, growing.pid());
    // No process twice.
    assert_eq!(told(&kill).len(), 64);
    assert!(kill.victim_bytes >= 48 * MIB, "{kill:?}");
}

#[test]
fn a_group_above_the_domain_is_not_what_died() {
    let _machine = TestMachine::enter();
    let mut recording = Recording::start();
    let above = Cgroup::new("above");
    above.write("memory.oom.group", "1");
    let domain = above.child("domain");
    domain.limit(SMALL);
    let mut beside = Hog::ready(&domain, "anon=2M ready hold");
    run_out(&domain);
    assert!(beside.is_running());
    let kill = recording.kill();
    assert_eq!((kill.victim, kill.kill), (domain.id(), Kill::Process));
    assert_eq!(kill.processes_total, 1);
}

#[test]
fn a_victim_without_a_memory_controller_of_its_own_is_told_apart_all_the_same() {
    let _machine = TestMachine::enter();
    let mut recording = Recording::start();
    let domain = limited("domain");
    let unit = domain.child_without_memory("unit");
    run_out(&unit);
    let kill = recording.kill();
    assert_eq!((kill.domain, kill.victim), (domain.id(), unit.id()));
    assert_eq!(kill.victim_path, Some(unit.path_in_the_tree()));
}

#[test]
fn a_process_that_is_only_helped_to_exit_was_not_killed() {
    let _machine = TestMachine::enter();
    let mut recording = Recording::start();
    let domain = Cgroup::new("domain");
    domain.limit(40 * MIB);
    let mut leaving = Hog::ready(&domain, "adj=1000 anon=12M ready wait exit=7");
    let mut growing = Hog::ready(&domain, "anon=5M ready wait anon=30M ready hold");
    let mut exiting = Tracee::stop_at_exit(leaving.pid());
    leaving.go();
    exiting.wait_exiting();
    growing.go();
    // The kernel's reaper takes its memory after two seconds.
    growing.wait_ready();
    exiting.let_go();
    assert!(!leaving.wait_killed());
    assert_eq!(domain.oom_kills(), 0);
    assert_eq!(recording.kills(), []);
}

#[test]
fn a_kill_that_was_asked_for_with_sysrq_is_recorded_as_one() {
    let _machine = TestMachine::enter();
    let mut recording = Recording::start();
    let unit = Cgroup::new("unit");
    // The first that comes to the kernel's mind.
    let mut victim = Hog::ready(&unit, "adj=1000 anon=8M ready hold");
    fs::write("/proc/sysrq-trigger", "f").expect("press the key");
    assert!(victim.wait_killed());
    let kill = recording.kill();
    assert_eq!(kill.reason, Reason::Sysrq);
    assert_eq!(kill.domain, 0);
    assert_eq!(kill.domain_path.as_deref(), Some("/"));
    assert_eq!(kill.victim, unit.id());
    assert!(kill.usage_before >= 8 * MIB, "{kill:?}");
    assert_eq!(told(&kill), [victim.pid()].into());
}
