// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cgroups that come, run out of memory and go, while attachments come and go: no warning in the kernel log (the test machine's guard
//! looks), and nothing left over.

use std::os::fd::AsFd;
use std::sync::Barrier;
use std::thread;

use bpf_oomd_tests::attach::{LinkCreate, attach_to_system, fd_number, register};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::ids::BpfObjects;
use bpf_oomd_tests::machine::TestMachine;

use crate::scene::{ANYWHERE, errno, handler};

const ROUNDS: u64 = 200;

#[test]
fn two_hundred_rounds_of_create_attach_oom_and_remove_leave_nothing_behind() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    {
        let slice = Cgroup::new("slice");
        let handler = handler();
        handler.set("kill_at", ANYWHERE);
        register(&handler, "handler").expect("register");
        let map = handler.map("handler");
        let map = fd_number(map.as_fd());
        let _system = attach_to_system(&handler, "handler");
        let mut attached = 0;
        for round in 0..ROUNDS {
            attached += one_round(&slice, map, round, |pid| handler.set("targets", pid.into()));
        }
        // Every attachment ended once: with its cgroup, or before, without a call.
        assert!(handler.get("calls") >= ROUNDS, "every round had an OOM");
        assert!(handler.get("offlines") <= attached);
        assert_eq!(slice.oom_kills(), ROUNDS);
    }
    before.wait_until_back();
}

/// Creates a cgroup, attaches to it while a process in it runs out of memory, and removes the cgroup while the link is closed and
/// another one is made. Returns how many attachments there were.
fn one_round(slice: &Cgroup, map: u32, round: u64, choose: impl FnOnce(u32)) -> u64 {
    let unit = slice.child(&format!("unit{round}"));
    unit.limit(8 * MIB);
    let directory = unit.open();
    let attach = || {
        LinkCreate {
            map_fd: map,
            attach_type: libbpf_sys::BPF_STRUCT_OPS,
            relative_fd: fd_number(directory.as_fd()),
            ..LinkCreate::default()
        }
        .call()
    };

    let mut hog = Hog::ready(&unit, "ready wait anon=24M hold");
    choose(hog.pid());
    let link = thread::scope(|scope| {
        let attaching = scope.spawn(attach);
        hog.go();
        attaching.join().expect("the attaching thread")
    });
    let link = link.expect("attach while the cgroup is there");
    assert!(hog.wait_killed());

    let start = Barrier::new(3);
    let second = thread::scope(|scope| {
        let attaching = scope.spawn(|| {
            start.wait();
            attach()
        });
        scope.spawn(|| {
            start.wait();
            drop(link);
        });
        start.wait();
        unit.remove();
        attaching.join().expect("the attaching thread")
    });
    match second {
        // Closed after its cgroup has gone.
        Ok(_second) => 2,
        refused => {
            let reasons = [Some(libc::EBUSY), Some(libc::ENODEV)];
            let reason = errno(refused);
            assert!(reasons.contains(&reason), "round {round}: {reason:?}");
            1
        }
    }
}
