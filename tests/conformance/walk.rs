// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which handlers run, in what order, and when the next one does not.

use bpf_oomd_tests::attach::{Link, attach, attach_to_system};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::Program;

use crate::scene::{SMALL, attachments_called, handler, run_out};

/// A cgroup in a cgroup in a cgroup, each with an attachment, and the system's.
struct Nested {
    _links: [Link; 4],
    handler: Program,
    inner: Cgroup,
    middle: Cgroup,
    outer: Cgroup,
}

impl Nested {
    fn new() -> Self {
        let outer = Cgroup::new("outer");
        let middle = outer.child("middle");
        let inner = middle.child("inner");
        let handler = handler();
        let links = [
            // Not in the order in which they are to be called.
            attach(&handler, "handler", &middle),
            attach_to_system(&handler, "handler"),
            attach(&handler, "handler", &outer),
            attach(&handler, "handler", &inner),
        ];
        Self {
            _links: links,
            handler,
            inner,
            middle,
            outer,
        }
    }

    /// Lets a process grow in the inner cgroup, beside one that stays as it is and that the handlers kill where they are told to.
    /// Returns whether the one that grows survived.
    fn grow_beside_a_victim(&self) -> bool {
        self.inner.limit(40 * MIB);
        let mut victim = Hog::ready(&self.inner, "anon=12M ready hold");
        self.handler.set("targets", victim.pid().into());
        let mut growing = Hog::ready(&self.inner, "anon=8M ready wait anon=24M ready hold");
        growing.go();
        assert!(victim.wait_killed());
        growing.wait_ready();
        growing.is_running()
    }
}

#[test]
fn handlers_run_from_the_memcg_that_ran_out_upwards_and_the_systems_last() {
    let _machine = TestMachine::enter();
    let nested = Nested::new();
    nested.inner.limit(SMALL);
    run_out(&nested.inner);

    let (inner, middle, outer) = (nested.inner.id(), nested.middle.id(), nested.outer.id());
    assert_eq!(
        attachments_called(&nested.handler),
        [inner, middle, outer, 0]
    );
    // All of them hear of the same OOM.
    assert_eq!(nested.handler.get_all("call_domain", 4), [inner; 4]);
}

#[test]
fn handlers_below_the_memcg_that_ran_out_are_not_called() {
    let _machine = TestMachine::enter();
    let nested = Nested::new();
    nested.middle.limit(SMALL);
    run_out(&nested.inner);

    let (middle, outer) = (nested.middle.id(), nested.outer.id());
    assert_eq!(attachments_called(&nested.handler), [middle, outer, 0]);
    assert_eq!(nested.handler.get_all("call_domain", 3), [middle; 3]);
}

#[test]
fn cgroups_without_an_attachment_are_passed_over() {
    let _machine = TestMachine::enter();
    let outer = Cgroup::new("outer");
    let middle = outer.child("middle");
    let inner = middle.child("inner");
    let handler = handler();
    let _link = attach(&handler, "handler", &outer);
    inner.limit(SMALL);
    run_out(&inner);
    assert_eq!(attachments_called(&handler), [outer.id()]);
}

#[test]
fn the_walk_stops_at_the_handler_that_freed_memory() {
    let _machine = TestMachine::enter();
    let nested = Nested::new();
    nested.handler.set("kill_at", nested.middle.id());
    assert!(nested.grow_beside_a_victim());

    let (inner, middle) = (nested.inner.id(), nested.middle.id());
    assert_eq!(attachments_called(&nested.handler), [inner, middle]);
    assert_eq!(nested.handler.get_all("call_freed_before", 2), [0, 0]);
    assert_eq!(nested.handler.get_all("call_freed_after", 2), [0, 1]);
    assert_eq!(nested.inner.oom_kills(), 1);
}

#[test]
fn the_systems_handler_can_free_memory_for_a_memcg() {
    let _machine = TestMachine::enter();
    let nested = Nested::new();
    nested.handler.set("kill_at", 0);
    assert!(nested.grow_beside_a_victim());
    assert_eq!(nested.handler.get("calls"), 4);
    assert_eq!(nested.inner.oom_kills(), 1);
}

#[test]
fn a_handler_that_frees_memory_but_returns_zero_does_not_stop_the_walk() {
    let _machine = TestMachine::enter();
    let nested = Nested::new();
    nested.handler.set("kill_at", nested.inner.id());
    nested.handler.set("answer_killed", 0);
    assert!(nested.grow_beside_a_victim());

    let (inner, middle, outer) = (nested.inner.id(), nested.middle.id(), nested.outer.id());
    assert_eq!(
        attachments_called(&nested.handler),
        [inner, middle, outer, 0]
    );
    // The kernel's own killer has looked, too, and has left it at the one victim.
    assert_eq!(nested.inner.oom_kills(), 1);
}

#[test]
fn returning_one_without_having_freed_anything_does_not_count() {
    let _machine = TestMachine::enter();
    let nested = Nested::new();
    nested.handler.set("answer_idle", 1);
    nested.inner.limit(SMALL);
    let log = Kmsg::before_a_report();
    run_out(&nested.inner);

    let (inner, middle, outer) = (nested.inner.id(), nested.middle.id(), nested.outer.id());
    assert_eq!(
        attachments_called(&nested.handler),
        [inner, middle, outer, 0]
    );
    // So it was the kernel's own killer.
    assert_eq!(nested.inner.oom_kills(), 1);
    assert_eq!(log.wait_for_report()[1], "oom_policy=default");
}
