// SPDX-License-Identifier: MIT OR Apache-2.0
//! `handle_cgroup_online` and `handle_cgroup_offline` of `bpf_psi_ops`.

use std::os::unix::fs::chown;

use bpf_oomd_tests::attach::attach_to_system;
use bpf_oomd_tests::cgroup::{Cgroup, id_of};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::psimon;
use bpf_oomd_tests::wait::{SOON, eventually, eventually_within};

use crate::pressure::{MEMORY, created, pressure, soon, stall, wait_for_events};

/// A user that has nothing to say.
const NOBODY: u32 = 65534;

/// The scripted handler, creating a memory trigger on every new cgroup.
fn watching_new_cgroups() -> Program {
    let program = pressure(&[]);
    program.set("watch_new", 1);
    program.set("watch_resource", MEMORY);
    program.set("watch_threshold_us", 100_000);
    program.set("watch_window_us", 500_000);
    program
}

/// What `handle_cgroup_online` got for its trigger on that cgroup. systemd may make cgroups of its own meanwhile.
#[track_caller]
fn result_for(program: &Program, cgroup_id: u64) -> i64 {
    let cgroups = program.get_all("online_cgroup", program.get("onlines"));
    let mine: Vec<_> = (0..cgroups.len())
        .filter(|&index| cgroups[index] == cgroup_id)
        .collect();
    assert_eq!(mine.len(), 1, "announced once: {cgroup_id} in {cgroups:?}");
    program.get_signed_at("online_created", mine[0])
}

/// How often `handle_cgroup_offline` was called for that cgroup.
fn offlines_of(program: &Program, cgroup_id: u64) -> usize {
    let cgroups = program.get_all("offline_cgroup", program.get("offlines"));
    cgroups.iter().filter(|&&id| id == cgroup_id).count()
}

#[test]
fn a_new_cgroup_can_be_given_a_trigger_before_mkdir_returns() {
    let _machine = TestMachine::enter();
    let slice = Cgroup::new("slice");
    let program = watching_new_cgroups();
    let _link = attach_to_system(&program, "pressure");
    let unit = slice.child("unit");
    assert_eq!(result_for(&program, unit.id()), 0);
    let _stalled = stall(&unit);
    wait_for_events(&program, unit.id(), 3);
}

#[test]
fn also_when_an_unprivileged_user_made_the_cgroup() {
    let _machine = TestMachine::enter();
    let outside = Cgroup::new("outside");
    let delegated = Cgroup::new("delegated");
    // As for a user manager (Delegate=memory): its own directory with the controllers turned on.
    delegated.write("cgroup.subtree_control", "+memory");
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        let path = delegated.path().join(file);
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    let program = watching_new_cgroups();
    let _link = attach_to_system(&program, "pressure");

    let path = delegated.path().join("child");
    let steps = format!("uid={NOBODY} mkdir={} ready hold", path.display());
    let _user = Hog::ready(&outside, &steps);
    let id = id_of(&path);
    assert_eq!(result_for(&program, id), 0);

    // A real trigger: it fires.
    std::fs::write(path.join("memory.swap.max"), "0").ok();
    std::fs::write(path.join("memory.high"), "4194304").expect("memory.high");
    let steps = format!("enter={} churn=48M", path.display());
    let _stalled = Hog::start(&outside, &steps);
    wait_for_events(&program, id, 3);
}

#[test]
fn a_cgroup_with_a_trigger_that_goes_away_is_announced_once_and_its_triggers_are_gone() {
    let _machine = TestMachine::enter();
    let threads = psimon::count();
    let slice = Cgroup::new("slice");
    let (with, without) = (slice.child("with"), slice.child("without"));
    let program = pressure(&[soon(with.id()), (with.id(), MEMORY, 200_000, 1_000_000)]);
    let _link = attach_to_system(&program, "pressure");
    assert_eq!(created(&program), [0, 0]);
    psimon::wait_for_count(threads + 1);

    let (with_id, without_id) = (with.id(), without.id());
    let stalled = stall(&with);
    wait_for_events(&program, with_id, 1);
    drop(stalled);
    without.remove();
    with.remove();
    eventually("handle_cgroup_offline is not called", || {
        offlines_of(&program, with_id) > 0
    });
    psimon::wait_for_count(threads);
    assert_eq!(offlines_of(&program, with_id), 1);
    assert_eq!(offlines_of(&program, without_id), 0);
}

#[test]
fn many_cgroups_that_come_and_go_are_all_announced() {
    let _machine = TestMachine::enter();
    let threads = psimon::count();
    let slice = Cgroup::new("slice");
    let program = watching_new_cgroups();
    let link = attach_to_system(&program, "pressure");
    let mut ids = Vec::new();
    for number in 0..50 {
        let unit = slice.child(&format!("unit{number}"));
        ids.push(unit.id());
        unit.remove();
    }
    for &id in &ids {
        assert_eq!(result_for(&program, id), 0);
    }
    eventually_within(SOON, || {
        let missing = ids.iter().filter(|&&id| offlines_of(&program, id) != 1);
        match missing.count() {
            0 => Ok(()),
            missing => Err(format!("{missing} cgroups not announced once as gone")),
        }
    });
    // Triggers that systemd's cgroups got meanwhile go with the link.
    drop(link);
    psimon::wait_for_count(threads);
}
