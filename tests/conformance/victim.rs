// SPDX-License-Identifier: MIT OR Apache-2.0
//! A victim on its way out holds off both, the policies and the kernel's killer; but not for longer than that.
//!
//! "On its way out" is held still with ptrace (see `tracee.rs`), so that the tests do not depend on who is faster. The kernel's reaper
//! comes two seconds after a kill and takes the memory of a victim that stands still.

use std::time::Duration;

use bpf_oomd_tests::attach::{Link, attach};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::tracee::Tracee;
use bpf_oomd_tests::wait::all_the_time;

use crate::scene::{attachments_called, handler};

/// A domain of 40 MiB in which a process of 8 MiB will want 24 more, beside `victim` and one that the kernel's killer would prefer.
struct Short {
    victim: Hog,
    /// oom_score_adj 1000
    disliked: Hog,
    growing: Hog,
    link: Option<Link>,
    handler: Program,
    domain: Cgroup,
}

impl Short {
    fn new(victim: &str) -> Self {
        let domain = Cgroup::new("domain");
        domain.limit(40 * MIB);
        let handler = handler();
        handler.set("kill_at", domain.id());
        let link = attach(&handler, "handler", &domain);
        let victim = Hog::ready(&domain, &format!("{victim} ready hold"));
        let disliked = Hog::ready(&domain, "adj=1000 anon=3M ready hold");
        let growing = Hog::ready(&domain, "anon=5M ready wait anon=22M ready hold");
        handler.set_at("targets", 0, victim.pid().into());
        handler.set_at("targets", 1, disliked.pid().into());
        Self {
            victim,
            disliked,
            growing,
            link: Some(link),
            handler,
            domain,
        }
    }
}

#[test]
fn while_a_victim_is_exiting_no_handler_runs_again_and_nobody_else_dies() {
    let _machine = TestMachine::enter();
    let mut short = Short::new("anon=12M");
    let mut exiting = Tracee::stop_at_exit(short.victim.pid());
    short.growing.go();
    exiting.wait_exiting();
    all_the_time(Duration::from_secs(1), "somebody acted", || {
        short.handler.get("calls") == 1
            && short.domain.oom_kills() == 1
            && short.disliked.is_running()
            && short.growing.is_running()
    });
    exiting.let_go();
    assert!(short.victim.wait_killed());
    short.growing.wait_ready();
    assert_eq!(attachments_called(&short.handler), [short.domain.id()]);
    assert_eq!(short.domain.oom_kills(), 1);
    assert!(short.disliked.is_running());
}

#[test]
fn the_kernels_killer_holds_off_too_when_the_policy_is_gone_meanwhile() {
    let _machine = TestMachine::enter();
    let mut short = Short::new("anon=12M");
    let mut exiting = Tracee::stop_at_exit(short.victim.pid());
    short.growing.go();
    exiting.wait_exiting();
    short.link = None;
    all_the_time(Duration::from_secs(1), "somebody died", || {
        short.domain.oom_kills() == 1 && short.disliked.is_running() && short.growing.is_running()
    });
    // Nor between the moment when the killer no longer finds the victim among the tasks and the return of its memory.
    exiting.let_go();
    assert!(short.victim.wait_killed());
    short.growing.wait_ready();
    assert_eq!(short.domain.oom_kills(), 1);
    assert!(short.disliked.is_running());
}

#[test]
fn a_victim_of_the_kernels_killer_holds_off_the_handlers() {
    let _machine = TestMachine::enter();
    let mut short = Short::new("adj=1000 anon=12M");
    // This time the handler chooses nobody.
    short.handler.set_at("targets", 0, 0);
    short.handler.set_at("targets", 1, 0);
    let mut exiting = Tracee::stop_at_exit(short.victim.pid());
    short.growing.go();
    exiting.wait_exiting();
    all_the_time(Duration::from_secs(1), "somebody acted", || {
        short.handler.get("calls") == 1 && short.domain.oom_kills() == 1
    });
    exiting.let_go();
    short.growing.wait_ready();
    assert_eq!(short.handler.get("calls"), 1);
    assert_eq!(short.domain.oom_kills(), 1);
    assert!(short.disliked.is_running());
}

#[test]
fn a_victim_outside_the_domain_holds_off_nobody() {
    let _machine = TestMachine::enter();
    let mut elsewhere = Short::new("anon=12M");
    let mut exiting = Tracee::stop_at_exit(elsewhere.victim.pid());
    elsewhere.growing.go();
    exiting.wait_exiting();

    let mut here = Short::new("anon=12M");
    here.growing.go();
    assert!(here.victim.wait_killed());
    here.growing.wait_ready();
    assert_eq!(attachments_called(&here.handler), [here.domain.id()]);
    exiting.let_go();
}

#[test]
fn when_the_victim_is_gone_and_memory_is_still_short_the_next_oom_is_handled() {
    let _machine = TestMachine::enter();
    let domain = Cgroup::new("domain");
    domain.limit(40 * MIB);
    let handler = handler();
    handler.set("kill_at", domain.id());
    let _link = attach(&handler, "handler", &domain);
    let mut victims = [
        Hog::ready(&domain, "anon=10M ready hold"),
        Hog::ready(&domain, "anon=10M ready hold"),
    ];
    let mut spared = Hog::ready(&domain, "adj=1000 anon=1M ready hold");
    let mut growing = Hog::ready(&domain, "anon=5M ready wait anon=27M ready hold");
    for (index, victim) in victims.iter().enumerate() {
        handler.set_at("targets", index, victim.pid().into());
    }
    growing.go();
    for victim in &mut victims {
        assert!(victim.wait_killed());
    }
    growing.wait_ready();
    assert_eq!(attachments_called(&handler), [domain.id(); 2]);
    assert_eq!(handler.get_signed("kill_result"), 0);
    assert_eq!(handler.get_signed_at("kill_result", 1), 0);
    assert_eq!(domain.oom_kills(), 2);
    assert!(spared.is_running());
    assert!(growing.is_running());
}

#[test]
fn a_victim_that_gives_nothing_back_holds_off_only_for_a_while() {
    let _machine = TestMachine::enter();
    // Shared memory is not the reaper's to take.
    let mut short = Short::new("shared=12M");
    short
        .handler
        .set_at("targets", 1, short.growing.pid().into());
    let mut exiting = Tracee::stop_at_exit(short.victim.pid());
    short.growing.go();
    exiting.wait_exiting();
    // Only now, with the first victim still standing there, the handler is asked again.
    assert!(short.growing.wait_killed());
    assert_eq!(attachments_called(&short.handler), [short.domain.id(); 2]);
    // It had tried the first one again in vain.
    assert_eq!(short.handler.get_at("kill_tries", 0), 2);
    let result = short.handler.get_signed_at("kill_result", 0);
    assert_eq!(result, crate::scene::refusal(libc::EINVAL));
    assert!(short.disliked.is_running());
    exiting.let_go();
}

#[test]
fn many_that_run_out_at_once_cost_one_victim() {
    let _machine = TestMachine::enter();
    let mut short = Short::new("vmas=1000 anon=4M");
    let mut others: Vec<_> = (0..4)
        .map(|_| Hog::ready(&short.domain, "ready wait anon=512K ready hold"))
        .collect();
    short.growing.go();
    for other in &mut others {
        other.go();
    }
    assert!(short.victim.wait_killed());
    short.growing.wait_ready();
    for other in &mut others {
        other.wait_ready();
    }
    assert_eq!(short.domain.oom_kills(), 1);
    assert!(short.disliked.is_running());
}
