// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel log says about who decided.

use bpf_oomd_tests::attach::attach;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::TestMachine;

use crate::scene::{ANYWHERE, handler, limited, run_out};

/// A process that runs out of memory in a cgroup with struct_ops map `map` attached, and is killed by that; the report's second line.
fn second_line_when_handled_by(map: &str) -> String {
    let here = limited("here");
    let handler = handler();
    handler.set("kill_at", ANYWHERE);
    let _link = attach(&handler, map, &here);
    let log = Kmsg::before_a_report();
    let mut hog = Hog::ready(&here, "ready wait anon=64M hold");
    handler.set("targets", hog.pid().into());
    hog.go();
    assert!(hog.wait_killed());
    assert_eq!(handler.get_signed("kill_result"), 0);
    log.wait_for_report().swap_remove(1)
}

#[test]
fn the_second_line_names_the_policy_that_killed() {
    let _machine = TestMachine::enter();
    assert_eq!(
        second_line_when_handled_by("handler"),
        "oom_policy=conformance"
    );
}

#[test]
fn a_policy_without_a_name_is_called_bpf_defined_policy() {
    let _machine = TestMachine::enter();
    assert_eq!(
        second_line_when_handled_by("nameless"),
        "oom_policy=bpf_defined_policy"
    );
}

#[test]
fn without_a_policy_the_second_line_says_default() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    let log = Kmsg::before_a_report();
    run_out(&here);
    assert_eq!(log.wait_for_report()[1], "oom_policy=default");
}

#[test]
fn when_the_policy_does_nothing_the_second_line_says_default() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    let handler = handler();
    let _link = attach(&handler, "handler", &here);
    let log = Kmsg::before_a_report();
    run_out(&here);
    assert_eq!(handler.get("calls"), 1);
    assert_eq!(log.wait_for_report()[1], "oom_policy=default");
}

#[test]
fn the_report_carries_the_handlers_message_and_the_constraint_of_a_memcg() {
    let machine = TestMachine::enter();
    second_line_when_handled_by("handler");
    machine.log().wait_for("conformance test: Killed process");
    machine
        .log()
        .wait_for("oom-kill:constraint=CONSTRAINT_MEMCG,");
}
