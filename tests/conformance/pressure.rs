// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf_psi_ops`: triggers, and the events they give.

use std::time::Duration;

use bpf_oomd_tests::attach::{attach_to_system, try_attach};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::wait::{eventually, eventually_within};

use crate::scene::{errno, refusal};
use bpf_oomd_tests::programs;

const IO: u64 = 0;
/// `PSI_MEM`
pub const MEMORY: u64 = 1;
const CPU: u64 = 2;
/// `BPF_PSI_FULL`
const FULL: u64 = 0x8000_0000;

/// A trigger: cgroup id (0: the system), resource, threshold and window in microseconds.
pub type Trigger = (u64, u64, u64, u64);

/// 100 ms of 500 ms, memory.
pub fn soon(cgroup_id: u64) -> Trigger {
    (cgroup_id, MEMORY, 100_000, 500_000)
}

/// The scripted pressure handler (`bpf/psi.bpf.c`), told to create these triggers when it is attached.
pub fn pressure(triggers: &[Trigger]) -> Program {
    let program = Program::load(programs::PSI);
    program.set("wanted", triggers.len().try_into().expect("a small number"));
    for (index, (cgroup, resource, threshold, window)) in triggers.iter().enumerate() {
        program.set_at("wanted_cgroup", index, *cgroup);
        program.set_at("wanted_resource", index, *resource);
        program.set_at("wanted_threshold_us", index, *threshold);
        program.set_at("wanted_window_us", index, *window);
    }
    program
}

/// What `bpf_psi_create_trigger()` returned for each of them.
pub fn created(program: &Program) -> Vec<i64> {
    let results = program.get_all("created", program.get("wanted"));
    results.into_iter().map(|result| result as i64).collect()
}

/// How many events there were of that cgroup.
pub fn events_of(program: &Program, cgroup_id: u64) -> usize {
    let count = program.get("events").min(1024);
    let events = program.get_all("event_cgroup", count);
    events.iter().filter(|&&id| id == cgroup_id).count()
}

/// A process that is stalled on memory nearly all of the time: far above `memory.high`, with nothing to reclaim.
pub fn stall(cgroup: &Cgroup) -> Hog {
    cgroup.write("memory.high", &(4 * MIB).to_string());
    Hog::start(cgroup, "churn=48M")
}

#[track_caller]
pub fn wait_for_events(program: &Program, cgroup_id: u64, count: usize) {
    eventually_within(Duration::from_secs(60), || {
        match events_of(program, cgroup_id) {
            some if some >= count => Ok(()),
            some => Err(format!("{some} events of cgroup {cgroup_id}, not {count}")),
        }
    });
}

#[test]
fn init_runs_once_and_creates_triggers_of_system_and_cgroups_some_and_full() {
    let _machine = TestMachine::enter();
    let (one, other) = (Cgroup::new("one"), Cgroup::new("other"));
    let mut triggers = Vec::new();
    for cgroup in [0, one.id(), other.id()] {
        triggers.push((cgroup, MEMORY, 100_000, 500_000));
        triggers.push((cgroup, MEMORY | FULL, 100_000, 10_000_000));
    }
    triggers.push((one.id(), IO, 1, 1_000_000));
    triggers.push((one.id(), CPU, 1_000_000, 1_000_000));
    let program = pressure(&triggers);
    let _link = attach_to_system(&program, "pressure");
    assert_eq!(program.get("inits"), 1);
    assert_eq!(created(&program), vec![0; triggers.len()]);
}

#[test]
fn invalid_triggers_are_refused() {
    let _machine = TestMachine::enter();
    let here = Cgroup::new("here");
    let id = here.id();
    let removed = {
        let gone = Cgroup::new("gone");
        let id = gone.id();
        gone.remove();
        id
    };
    let expected = [
        (
            "a window below 500 ms",
            (id, MEMORY, 100_000, 499_999),
            libc::EINVAL,
        ),
        (
            "a window above 10 s",
            (id, MEMORY, 100_000, 10_000_001),
            libc::EINVAL,
        ),
        ("no threshold", (id, MEMORY, 0, 500_000), libc::EINVAL),
        (
            "a threshold above the window",
            (id, MEMORY, 500_001, 500_000),
            libc::EINVAL,
        ),
        ("no such resource", (id, 4, 100_000, 500_000), libc::EINVAL),
        (
            "an unknown bit",
            (id, MEMORY | 0x4000_0000, 100_000, 500_000),
            libc::EINVAL,
        ),
        (
            "a removed cgroup",
            (removed, MEMORY, 100_000, 500_000),
            libc::ENOENT,
        ),
        (
            "no such cgroup",
            (u64::MAX, MEMORY, 100_000, 500_000),
            libc::ENOENT,
        ),
    ];
    let program = pressure(&expected.map(|(_, trigger, _)| trigger));
    let _link = attach_to_system(&program, "pressure");
    for ((what, _, errno), result) in expected.into_iter().zip(created(&program)) {
        assert_eq!(result, refusal(errno), "{what}");
    }
}

#[test]
fn events_say_whose_they_are_and_come_again_and_again_while_the_stall_lasts() {
    let _machine = TestMachine::enter();
    let (some, full) = (Cgroup::new("some"), Cgroup::new("full"));
    let calm = Cgroup::new("calm");
    let program = pressure(&[
        soon(some.id()),
        (full.id(), MEMORY | FULL, 100_000, 500_000),
        soon(calm.id()),
    ]);
    let _link = attach_to_system(&program, "pressure");
    assert_eq!(created(&program), [0; 3]);

    let stalled = [stall(&some), stall(&full)];
    wait_for_events(&program, some.id(), 6);
    wait_for_events(&program, full.id(), 6);
    assert_eq!(events_of(&program, calm.id()), 0);

    // It ends with the stall, and a second stall is not silent.
    drop(stalled);
    wait_until_silent(&program);
    let before = events_of(&program, some.id());
    let _stalled = stall(&some);
    wait_for_events(&program, some.id(), before + 3);
}

/// Waits until there was no event for twice the window.
#[track_caller]
fn wait_until_silent(program: &Program) {
    let mut last = (program.get("events"), std::time::Instant::now());
    eventually("events go on", || {
        let events = program.get("events");
        if events != last.0 {
            last = (events, std::time::Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(1)
    });
}

#[test]
fn a_stall_anywhere_is_an_event_of_the_system() {
    let _machine = TestMachine::enter();
    let here = Cgroup::new("here");
    let program = pressure(&[soon(0)]);
    let _link = attach_to_system(&program, "pressure");
    let _stalled = stall(&here);
    wait_for_events(&program, 0, 3);
    assert_eq!(events_of(&program, here.id()), 0);
}

#[test]
fn a_stall_below_is_an_event_of_the_cgroup_above() {
    let _machine = TestMachine::enter();
    let slice = Cgroup::new("slice");
    let unit = slice.child("unit");
    let program = pressure(&[soon(slice.id())]);
    let _link = attach_to_system(&program, "pressure");
    let _stalled = stall(&unit);
    wait_for_events(&program, slice.id(), 3);
}

#[test]
fn a_slow_handler_delays_no_other_trigger() {
    let _machine = TestMachine::enter();
    let (slow, other) = (Cgroup::new("slow"), Cgroup::new("other"));
    let program = pressure(&[soon(slow.id()), soon(other.id())]);
    program.set("slow_cgroup", slow.id());
    program.set("slow_ns", 2_500_000_000);
    let _link = attach_to_system(&program, "pressure");
    let _stalled = [stall(&slow), stall(&other)];
    eventually("no other event while the slow one is handled", || {
        program.get("events_meanwhile") >= 2
    });
}

#[test]
fn attaching_one_map_twice_is_refused() {
    let _machine = TestMachine::enter();
    let program = pressure(&[soon(0)]);
    let link = attach_to_system(&program, "pressure");
    for _ in 0..3 {
        let second = try_attach(&program, "pressure", None);
        assert_eq!(errno(second), Some(libc::EBUSY));
    }
    assert_eq!(program.get("inits"), 1);
    // One after the other is all right.
    drop(link);
    let _link = attach_to_system(&program, "pressure");
    assert_eq!(program.get("inits"), 2);
    assert_eq!(created(&program), [0]);
}
