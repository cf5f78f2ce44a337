// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf_out_of_memory()`: an OOM that a pressure handler declares. Where it is refused is in `verifier.rs`.

use std::thread;
use std::time::Duration;

use bpf_oomd_tests::attach::{LinkCreate, attach, attach_to_system, register};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::{TestMachine, vmstat};
use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::wait::{all_the_time, eventually};

use crate::scene::{ANYWHERE, attachments_called, handler, limited, refusal};
use bpf_oomd_tests::programs;

/// `BPF_OOM_FLAGS_WAIT_ON_OOM_LOCK`
const WAIT: u64 = 1;

/// A program that declares an OOM on the cgroup with that id, or on the system with 0, when it is attached. `script` says the rest.
#[track_caller]
fn declaration(cgroup_id: u64, script: impl FnOnce(&Program)) -> Program {
    let program = Program::load(programs::DECLARE);
    program.set("cgroup_id", cgroup_id);
    program.set("flags", WAIT);
    script(&program);
    register(&program, "declare").expect("register");
    program
}

/// Declares an OOM like that and returns what `bpf_out_of_memory()` says.
#[track_caller]
fn declare(cgroup_id: u64, script: impl FnOnce(&Program)) -> i64 {
    let program = declaration(cgroup_id, script);
    drop(attach_to_system(&program, "declare"));
    assert_eq!(program.get("declared"), 1);
    program.get_signed("result")
}

#[test]
fn the_kernels_killer_handles_it_where_no_policy_does() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    let mut large = Hog::ready(&domain, "anon=12M ready hold");
    let mut small = Hog::ready(&domain, "anon=4M ready hold");
    let outside = Cgroup::new("outside");
    let mut larger = Hog::ready(&outside, "anon=24M ready hold");

    assert_eq!(declare(domain.id(), |_| {}), 1);
    assert!(large.wait_killed());
    assert!(small.is_running());
    assert!(larger.is_running());
    assert_eq!(domain.value("memory.events", "oom_kill"), 1);
    assert_eq!(domain.value("memory.events", "oom"), 1);
}

#[test]
fn policies_handle_it_like_any_other_oom_of_that_cgroup() {
    let _machine = TestMachine::enter();
    let slice = Cgroup::new("slice");
    let domain = slice.child("domain");
    let mut large = Hog::ready(&domain, "anon=12M ready hold");
    let mut chosen = Hog::ready(&domain, "anon=4M ready hold");
    let handler = handler();
    handler.set("kill_at", slice.id());
    handler.set("targets", chosen.pid().into());
    let _links = [
        attach(&handler, "handler", &slice),
        attach(&handler, "handler", &domain),
    ];
    let log = Kmsg::before_a_report();

    assert_eq!(declare(domain.id(), |_| {}), 1);
    assert!(chosen.wait_killed());
    assert!(large.is_running());
    assert_eq!(attachments_called(&handler), [domain.id(), slice.id()]);
    assert_eq!(handler.get_all("call_domain", 2), [domain.id(); 2]);
    assert_eq!(log.wait_for_report()[1], "oom_policy=conformance");
}

#[test]
fn bad_flags_and_orders_are_refused_and_nobody_dies() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    let mut hog = Hog::ready(&domain, "anon=12M ready hold");
    for flags in [2, 3, 1 << 32, 1 << 63] {
        let result = declare(domain.id(), |program| program.set("flags", flags));
        assert_eq!(result, refusal(libc::EINVAL), "flags {flags:#x}");
    }
    // Eleven is beyond MAX_PAGE_ORDER.
    for order in [-1, i64::from(i32::MIN), 11, i64::from(i32::MAX)] {
        let result = declare(domain.id(), |program| program.set_signed("order", order));
        assert_eq!(result, refusal(libc::EINVAL), "order {order}");
    }
    assert!(hog.is_running());
    assert_eq!(domain.value("memory.events", "oom"), 0);
    // The largest order there is.
    assert_eq!(declare(domain.id(), |program| program.set("order", 10)), 1);
    assert!(hog.wait_killed());
}

#[test]
fn the_report_carries_the_text() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    let mut hog = Hog::ready(&domain, "anon=12M ready hold");
    let log = Kmsg::before_a_report();
    declare(domain.id(), |program| program.set("with_text", 1));
    assert!(hog.wait_killed());
    log.wait_for("oom-kill:constraint=conformance_stall,");
}

#[test]
fn the_text_can_be_a_string_literal() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    let mut hog = Hog::ready(&domain, "anon=12M ready hold");
    let log = Kmsg::before_a_report();
    let program = Program::load(programs::LITERAL);
    program.set("cgroup_id", domain.id());
    drop(attach_to_system(&program, "literal"));
    assert_eq!(program.get("result"), 1);
    assert!(hog.wait_killed());
    log.wait_for("oom-kill:constraint=literal,");
}

#[test]
fn a_text_cannot_forge_a_line_of_the_log() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    let mut hog = Hog::ready(&domain, "anon=12M ready hold");
    let log = Kmsg::before_a_report();
    declare(domain.id(), |program| program.set("with_text", 2));
    assert!(hog.wait_killed());
    let line = log.wait_for("forged");
    assert!(
        line.contains("oom-kill:constraint=conformance_stall"),
        "{line}"
    );
}

#[test]
fn without_a_text_the_report_says_constraint_bpf() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    let mut hog = Hog::ready(&domain, "anon=12M ready hold");
    let log = Kmsg::before_a_report();
    declare(domain.id(), |_| {});
    assert!(hog.wait_killed());
    log.wait_for("oom-kill:constraint=CONSTRAINT_BPF,");
}

#[test]
fn oom_score_adj_keeps_its_meaning() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    domain.limit(100 * MIB);
    let mut larger = Hog::ready(&domain, "anon=20M ready hold");
    // Half of the 100 MiB are added to its own 10.
    let mut disliked = Hog::ready(&domain, "adj=500 anon=10M ready hold");
    assert_eq!(declare(domain.id(), |_| {}), 1);
    assert!(disliked.wait_killed());
    assert!(larger.is_running());
}

#[test]
fn null_really_acts_on_the_system() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    // Whoever the kernel would choose, it is this one.
    let mut fattest = Hog::ready(&domain, "adj=1000 anon=48M ready hold");
    let handler = handler();
    let _links = [
        attach_to_system(&handler, "handler"),
        attach(&handler, "handler", &domain),
    ];
    let counter = vmstat("oom_kill");

    assert_eq!(declare(0, |_| {}), 1);
    assert!(fattest.wait_killed());
    assert_eq!(vmstat("oom_kill"), counter + 1);
    // Only the system's handler, and with no memcg.
    assert_eq!(attachments_called(&handler), [0]);
    assert_eq!(handler.get("call_domain"), 0);
}

#[test]
fn the_systems_handler_can_handle_a_declared_oom_of_the_system() {
    let _machine = TestMachine::enter();
    let cgroup = Cgroup::new("cgroup");
    let mut disliked = Hog::ready(&cgroup, "adj=1000 anon=24M ready hold");
    let mut chosen = Hog::ready(&cgroup, "anon=4M ready hold");
    let handler = handler();
    handler.set("kill_at", 0);
    handler.set("targets", chosen.pid().into());
    let _link = attach_to_system(&handler, "handler");
    let log = Kmsg::before_a_report();

    assert_eq!(declare(0, |program| program.set("with_text", 1)), 1);
    assert!(chosen.wait_killed());
    assert!(disliked.is_running());
    assert_eq!(log.wait_for_report()[1], "oom_policy=conformance");
    log.wait_for("oom-kill:constraint=conformance_stall,");
}

#[test]
fn while_another_oom_is_handled_it_is_busy_or_waits() {
    let _machine = TestMachine::enter();
    let busy = limited("busy");
    let domain = Cgroup::new("domain");
    let mut declared = Hog::ready(&domain, "anon=12M ready hold");
    let handler = handler();
    let _link = attach(&handler, "handler", &busy);
    handler.set("kill_at", ANYWHERE);
    // For so long at most. The programs are loaded before, because that takes a while.
    handler.set("hold_ns", 20_000_000_000);
    let impatient = declaration(domain.id(), |program| program.set("flags", 0));
    let patient = declaration(domain.id(), |program| program.set("flags", WAIT));
    let mut hog = Hog::ready(&busy, "ready wait anon=64M hold");
    handler.set("targets", hog.pid().into());
    hog.go();
    eventually("the handler is not called", || handler.get("holding") == 1);

    // Detaching may wait for every processor to pass through the scheduler, and one of them is held: not before the end.
    let _detached_last = attach_to_system(&impatient, "declare");
    assert_eq!(impatient.get_signed("result"), refusal(libc::EBUSY));
    assert_eq!(handler.get("holding"), 1);
    assert!(declared.is_running());

    let attach = LinkCreate::of(&patient, "declare");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| attach.call().map(drop));
        all_the_time(Duration::from_millis(500), "it does not wait", || {
            !waiting.is_finished() && handler.get("holding") == 1
        });
        handler.set("release", 1);
        let attached = waiting.join().expect("the attaching thread");
        attached.expect("attach");
    });
    assert_eq!(patient.get_signed("result"), 1);
    assert!(declared.wait_killed());
    assert!(hog.wait_killed());
}
