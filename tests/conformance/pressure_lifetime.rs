// SPDX-License-Identifier: MIT OR Apache-2.0
//! Triggers of a `bpf_psi_ops` end with it, and one that fails to start leaves nothing behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bpf_oomd_tests::attach::{attach_to_system, try_attach};
use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::ids::BpfObjects;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::psimon;
use bpf_oomd_tests::wait::all_the_time;

use crate::pressure::{MEMORY, created, events_of, pressure, soon, stall, wait_for_events};
use crate::scene::errno;

#[test]
fn triggers_are_gone_after_detaching() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    let threads = psimon::count();
    let here = Cgroup::new("here");
    {
        let program = pressure(&[soon(here.id())]);
        let link = attach_to_system(&program, "pressure");
        psimon::wait_for_count(threads + 1);
        let _stalled = stall(&here);
        wait_for_events(&program, here.id(), 2);

        drop(link);
        psimon::wait_for_count(threads);
        let events = events_of(&program, here.id());
        all_the_time(Duration::from_secs(2), "an event after detaching", || {
            events_of(&program, here.id()) == events
        });
    }
    before.wait_until_back();
}

#[test]
fn an_init_that_fails_fails_the_attachment_and_leaves_nothing_behind() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    let threads = psimon::count();
    let here = Cgroup::new("here");
    {
        let program = pressure(&[soon(here.id()), soon(here.id())]);
        program.set_signed("init_answer", -i64::from(libc::ENOMEM));
        for attempt in 1..=5 {
            let result = try_attach(&program, "pressure", None);
            assert_eq!(errno(result), Some(libc::ENOMEM));
            assert_eq!(program.get("inits"), attempt);
            assert_eq!(created(&program), [0, 0]);
        }
        psimon::wait_for_count(threads);
        let _stalled = stall(&here);
        all_the_time(
            Duration::from_secs(2),
            "an event without attachment",
            || program.get("events") == 0,
        );
        // The cgroup's end is no news for it either.
        let offline = here.child_without_memory("child");
        offline.remove();
        assert_eq!(program.get("onlines"), 0);
        assert_eq!(program.get("offlines"), 0);

        // When it does not fail any more, it works.
        program.set("init_answer", 0);
        let _link = attach_to_system(&program, "pressure");
        wait_for_events(&program, here.id(), 1);
    }
    before.wait_until_back();
    psimon::wait_for_count(threads);
}

#[test]
fn a_positive_answer_of_init_fails_the_attachment_too() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    {
        let program = pressure(&[soon(0)]);
        program.set("init_answer", 1);
        assert!(try_attach(&program, "pressure", None).is_err());
    }
    before.wait_until_back();
}

#[test]
fn attaching_and_detaching_race_with_cgroups_that_come_and_go_under_pressure() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    let threads = psimon::count();
    let slice = Cgroup::new("slice");
    let stalled_unit = slice.child("stalled");
    let done = AtomicBool::new(false);
    {
        let stalled = stall(&stalled_unit);
        thread::scope(|scope| {
            for thread in 0..2 {
                let (slice, done) = (&slice, &done);
                scope.spawn(move || {
                    for number in 0.. {
                        if done.load(Ordering::Relaxed) {
                            return;
                        }
                        slice.child(&format!("unit{thread}-{number}")).remove();
                    }
                });
            }
            let start = Instant::now();
            let mut rounds = 0;
            while rounds < 20 || start.elapsed() < Duration::from_secs(8) {
                let program = pressure(&[soon(stalled_unit.id()), soon(0), soon(slice.id())]);
                program.set("watch_new", 1);
                program.set("watch_resource", MEMORY);
                program.set("watch_threshold_us", 100_000);
                program.set("watch_window_us", 500_000);
                let link = attach_to_system(&program, "pressure");
                if rounds % 4 == 0 {
                    // Detach with events under way.
                    wait_for_events(&program, stalled_unit.id(), 1);
                }
                drop(link);
                rounds += 1;
            }
            done.store(true, Ordering::Relaxed);
        });
        drop(stalled);
    }
    before.wait_until_back();
    psimon::wait_for_count(threads);
}
