// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf_oom_kill_process()`: kills as the OOM killer does, and whom it does not kill.

use bpf_oomd_tests::attach::attach;
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::{TestMachine, vmstat};
use bpf_oomd_tests::tracee::Tracee;

use crate::scene::{ANYWHERE, handler, limited, refusal};

/// Steps of a process that needs someone else to die: it does not fit beside a victim of 12 MiB in 40 MiB.
const GROWING: &str = "anon=8M ready wait anon=24M ready hold";

#[test]
fn the_victim_dies_and_is_counted_like_every_oom_victim() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    let (unit, other) = (domain.child("unit"), domain.child("other"));
    domain.limit(40 * MIB);
    let handler = handler();
    handler.set("kill_at", domain.id());
    let _link = attach(&handler, "handler", &domain);
    let counter = vmstat("oom_kill");

    let mut victim = Hog::ready(&unit, "anon=12M ready hold");
    let mut growing = Hog::ready(&other, GROWING);
    handler.set("targets", victim.pid().into());
    growing.go();
    assert!(victim.wait_killed());
    growing.wait_ready();

    assert_eq!(handler.get("calls"), 1);
    assert_eq!(handler.get_signed("kill_result"), 0);
    assert_eq!(handler.get("call_freed_before"), 0);
    assert_eq!(handler.get("call_freed_after"), 1);
    assert_eq!(vmstat("oom_kill"), counter + 1);
    assert_eq!(domain.value("memory.events", "oom_kill"), 1);
    assert_eq!(unit.value("memory.events", "oom_kill"), 1);
    assert_eq!(unit.value("memory.events.local", "oom_kill"), 1);
    assert_eq!(other.value("memory.events", "oom_kill"), 0);
    assert!(growing.is_running());
}

#[test]
fn bpf_task_is_oom_victim_is_true_from_the_kill_on() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    let handler = handler();
    handler.set("kill_at", ANYWHERE);
    let _link = attach(&handler, "handler", &here);
    let mut hog = Hog::ready(&here, "ready wait anon=64M hold");
    handler.set("targets", hog.pid().into());
    hog.go();
    assert!(hog.wait_killed());
    assert_eq!(handler.get("kill_tries"), 1);
    assert_eq!(handler.get("victim_before"), 0);
    assert_eq!(handler.get("victim_after"), 1);
}

#[test]
fn the_reaper_takes_the_memory_of_a_victim_that_does_not_get_away() {
    let machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    domain.limit(40 * MIB);
    let handler = handler();
    handler.set("kill_at", domain.id());
    let _link = attach(&handler, "handler", &domain);

    let mut victim = Hog::ready(&domain, "anon=12M ready hold");
    let mut growing = Hog::ready(&domain, GROWING);
    handler.set("targets", victim.pid().into());
    let mut stuck = Tracee::stop_at_exit(victim.pid());
    growing.go();
    stuck.wait_exiting();
    // It still stands there, but its memory is used by somebody else already.
    growing.wait_ready();
    machine
        .log()
        .wait_for(&format!("oom_reaper: reaped process {} ", victim.pid()));
    stuck.let_go();
    assert!(victim.wait_killed());
    assert_eq!(domain.oom_kills(), 1);
}

#[test]
fn memory_oom_group_takes_the_whole_group() {
    let machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    let (group, other) = (domain.child("group"), domain.child("other"));
    let inside = group.child("inside");
    group.write("memory.oom.group", "1");
    domain.limit(44 * MIB);
    let handler = handler();
    handler.set("kill_at", domain.id());
    let _link = attach(&handler, "handler", &domain);
    let counter = vmstat("oom_kill");

    let mut victims = [
        Hog::ready(&inside, "anon=12M ready hold"),
        Hog::ready(&inside, "anon=1M ready hold"),
        Hog::ready(&inside, "anon=1M ready hold"),
    ];
    // Not even a group takes this one along.
    let mut unkillable = Hog::ready(&inside, "adj=-1000 anon=1M ready hold");
    let mut growing = Hog::ready(&other, GROWING);
    handler.set("targets", victims[0].pid().into());
    growing.go();
    for victim in &mut victims {
        assert!(victim.wait_killed());
    }
    growing.wait_ready();

    assert_eq!(handler.get("calls"), 1);
    assert_eq!(group.value("memory.events", "oom_group_kill"), 1);
    // The kernel may count the first victim twice: it is killed on its own, and once more as a member of its group unless it has left
    // its memory by then (oom_kill_process() in mm/oom_kill.c).
    let kills = group.value("memory.events", "oom_kill");
    assert!((3..=4).contains(&kills), "{kills}");
    assert_eq!(vmstat("oom_kill"), counter + kills);
    assert!(unkillable.is_running());
    machine
        .log()
        .wait_for("are going to be killed due to memory.oom.group set");
}

#[test]
fn who_must_not_or_cannot_be_killed_is_refused_and_nothing_counts_as_freed() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    let (unit, other) = (domain.child("unit"), domain.child("other"));
    let outside = Cgroup::new("outside");
    unit.limit(40 * MIB);
    let handler = handler();
    handler.set("kill_at", unit.id());
    // A policy that believes it has done something is not believed.
    handler.set("answer_idle", 1);
    let _link = attach(&handler, "handler", &unit);

    let mut unkillable = Hog::ready(&unit, "adj=-1000 anon=4M ready hold");
    let mut ended = Hog::ready(&unit, "ready wait exit=7");
    ended.go();
    ended.wait_zombie();
    let mut stranger = Hog::ready(&outside, "anon=4M ready hold");
    // In the same slice, but that is not what ran out.
    let mut sibling = Hog::ready(&other, "anon=4M ready hold");
    let mut growing = Hog::ready(&unit, "anon=8M ready wait anon=64M hold");

    let init = 1;
    let kthreadd = 2;
    let expected = [
        ("init", init, libc::EPERM),
        ("a kernel thread", kthreadd, libc::EPERM),
        ("oom_score_adj -1000", unkillable.pid(), libc::EPERM),
        ("a zombie", ended.pid(), libc::EINVAL),
        ("another cgroup's process", stranger.pid(), libc::EINVAL),
        ("a sibling's process", sibling.pid(), libc::EINVAL),
    ];
    for (index, (_, pid, _)) in expected.iter().enumerate() {
        handler.set_at("targets", index, (*pid).into());
    }
    growing.go();
    // The kernel's own killer took the one that the handler did not name.
    assert!(growing.wait_killed());

    assert_eq!(handler.get("calls"), 1);
    for (index, (who, _, errno)) in expected.into_iter().enumerate() {
        assert_eq!(handler.get_at("kill_tries", index), 1, "{who}");
        let result = handler.get_signed_at("kill_result", index);
        assert_eq!(result, refusal(errno), "{who}");
        assert_eq!(handler.get_at("victim_after", index), 0, "{who}");
    }
    assert_eq!(handler.get("call_freed_after"), 0);
    assert_eq!(unit.oom_kills(), 1);
    assert!(unkillable.is_running());
    assert!(stranger.is_running());
    assert!(sibling.is_running());
}
