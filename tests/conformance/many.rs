// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many attachments a memcg, the system and a map may have.

use std::os::fd::AsFd;
use std::sync::Barrier;
use std::thread;

use bpf_oomd_tests::attach::{
    LinkCreate, attach, attach_to_system, fd_number, register, try_attach,
};
use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::machine::TestMachine;

use crate::scene::{attachments_called, errno, handler, limited, run_out};

#[test]
fn a_second_attachment_to_one_memcg_gets_ebusy() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    let (first, second) = (handler(), handler());

    let link = attach(&first, "handler", &here);
    for attempt in [&first, &second] {
        let result = try_attach(attempt, "handler", Some(&here));
        assert_eq!(errno(result), Some(libc::EBUSY));
    }
    run_out(&here);
    assert_eq!(attachments_called(&first), [here.id()]);
    assert!(attachments_called(&second).is_empty());

    drop(link);
    let _link = attach(&second, "handler", &here);
    run_out(&here);
    assert_eq!(attachments_called(&first), [here.id()]);
    assert_eq!(attachments_called(&second), [here.id()]);
}

#[test]
fn a_second_system_wide_attachment_gets_ebusy() {
    let _machine = TestMachine::enter();
    let (first, second) = (handler(), handler());

    let link = attach_to_system(&first, "handler");
    for attempt in [&first, &second] {
        let result = try_attach(attempt, "handler", None);
        assert_eq!(errno(result), Some(libc::EBUSY));
    }
    drop(link);
    attach_to_system(&second, "handler");
}

#[test]
fn one_map_can_be_attached_to_many_cgroups_and_to_the_system() {
    let _machine = TestMachine::enter();
    let handler = handler();
    let slice = Cgroup::new("slice");
    let units: Vec<_> = (0..30)
        .map(|number| slice.child(&format!("unit{number}")))
        .collect();
    let _links: Vec<_> = units
        .iter()
        .map(|unit| attach(&handler, "handler", unit))
        .collect();
    let _system = attach_to_system(&handler, "handler");

    for unit in [&units[7], &units[29]] {
        handler.set("calls", 0);
        unit.limit(crate::scene::SMALL);
        run_out(unit);
        assert_eq!(attachments_called(&handler), [unit.id(), 0]);
    }
}

#[test]
fn of_two_attachments_at_the_same_moment_exactly_one_wins() {
    let _machine = TestMachine::enter();
    let handler = handler();
    register(&handler, "handler").expect("register");
    let map = handler.map("handler");
    let map = fd_number(map.as_fd());
    for round in 0..100 {
        let here = Cgroup::new("here");
        let directory = here.open();
        // Every other round is about the system-wide attachment.
        let relative_fd = match round % 2 {
            0 => fd_number(directory.as_fd()),
            _ => 0,
        };
        let start = Barrier::new(2);
        let race = || {
            let create = LinkCreate {
                relative_fd,
                map_fd: map,
                attach_type: libbpf_sys::BPF_STRUCT_OPS,
                ..LinkCreate::default()
            };
            start.wait();
            create.call()
        };
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(race);
            (race(), other.join().expect("the other thread"))
        });
        let results = [one.is_ok(), other.is_ok()];
        assert!(results[0] != results[1], "round {round}: {results:?}");
        let loser = errno(one).or(errno(other));
        assert_eq!(loser, Some(libc::EBUSY), "round {round}");
    }
}
