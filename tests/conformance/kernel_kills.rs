// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills by policies are not among the kernel's own, and each kill is recorded by one of both. What such a record says is a matter of
//! `tests/stock/kernel_kills.rs`.

use std::time::Duration;

use bpf_oomd_bpf::{CgroupSettings, PolicyMark, Reason};
use bpf_oomd_tests::attach::attach;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::recording::{Recording, kills, record};

use crate::scene::{handler, limited, run_out};
use crate::unit_tree::{Loaded, Two, make};
use crate::watching::{Watching, stall_until_the_kernel_kills};

#[test]
fn a_policys_kill_is_not_the_kernels() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    let _recording = record(&two.loaded.shared);
    make(&mut two.trouble);
    assert!(two.large.wait_killed());
    let (policys, kernels) = kills(&mut two.loaded.shared);
    assert_eq!(policys.len(), 1, "{policys:?}");
    assert_eq!(kernels, []);
}

#[test]
fn nor_is_that_of_somebody_elses_handler() {
    let _machine = TestMachine::enter();
    let mut recording = Recording::start();
    let domain = limited("domain");
    let handler = handler();
    handler.set("kill_at", domain.id());
    let _link = attach(&handler, "handler", &domain);
    let mut victim = Hog::ready(&domain, "anon=4M ready hold");
    handler.set_at("targets", 0, victim.pid().into());
    let mut growing = Hog::ready(&domain, "anon=1M ready wait anon=12M ready hold");
    growing.go();
    assert!(victim.wait_killed());
    growing.wait_ready();
    assert_eq!(recording.kills(), []);
}

#[test]
fn where_a_policy_finds_nobody_the_kernels_kill_is_recorded() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let _recording = record(&loaded.shared);
    let domain = limited("domain");
    let _link = loaded.attach(&domain);
    // A leaf with such a process is no candidate, and there is no other leaf.
    let mut unkillable = Hog::ready(&domain, "adj=-1000 anon=1M ready hold");
    run_out(&domain);
    assert!(unkillable.is_running());
    let (policys, kernels) = kills(&mut loaded.shared);
    assert_eq!(policys, []);
    assert_eq!(kernels.len(), 1, "{kernels:?}");
    assert_eq!(kernels[0].domain, domain.id());
    assert_eq!(kernels[0].victim, domain.id());
}

#[test]
fn so_is_one_where_the_kernel_is_left_to_decide() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let _recording = record(&loaded.shared);
    let domain = limited("domain");
    let _link = loaded.attach(&domain);
    let kernel = CgroupSettings {
        policy: Some(PolicyMark::Kernel),
        ..CgroupSettings::default()
    };
    loaded.say(&domain, kernel);
    run_out(&domain);
    let (policys, kernels) = kills(&mut loaded.shared);
    assert_eq!(policys, []);
    assert_eq!(kernels.len(), 1, "{kernels:?}");
}

#[test]
fn a_kill_for_a_stall_is_recorded_with_the_stall() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let _recording = record(&watching.loaded.shared);
    let domain = stall_until_the_kernel_kills(&mut watching);

    let reports = watching.reports();
    assert_eq!(reports.kills, []);
    assert_eq!(reports.kernel_kills.len(), 1, "{reports:?}");
    let kill = &reports.kernel_kills[0];
    assert_eq!(
        (kill.domain, kill.victim),
        (domain.unit.id(), domain.unit.id())
    );
    let Reason::Pressure(stall) = kill.reason else {
        panic!("{kill:?}");
    };
    assert_eq!(stall.window, Duration::from_millis(500));
    assert!(stall.stall >= Duration::from_millis(100), "{stall:?}");
    assert!(stall.over_high, "{stall:?}");
}
