// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom the kernel's own killer takes where it is faster than the daemon: the policy's first candidate, while memory is short.

use std::fs;

use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::wait_in_force;
use bpf_oomd_tests::seed_units::{DISLIKED, LARGER, SLICE, SMALLER, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{
    daemon_reload, eventually, show, show_number, signal, start, stop, systemctl,
    systemctl_if_possible, wait_for_property,
};
use bpf_oomd_tests::units::hog_service;

use super::{kills, scene, seed, wait_watched};

/// It stalls, and nobody is killed for that.
const NEVER: &str = "ManagedOOMPolicyPressure=memory full 100ms/1s for=1h";

const NOMINATE: &str = "[defaults]\nnominate = true\n";

fn adjustment(unit: &str) -> i32 {
    let pid = show_number(unit, "MainPID");
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("oom_score_adj");
    text.trim().parse().expect("a number")
}

/// The seed tree, held back, with its largest unit nominated.
#[track_caller]
fn nominated() -> (Configuration, SeedUnits) {
    daemon::started();
    let mut configuration = Configuration::new();
    configuration.write("60-nominate", NOMINATE);
    let tree = seed(&["ManagedOOMPolicy=bpf:biggest-leaf", NEVER]);
    wait_in_force(SLICE);
    wait_watched(SLICE);
    assert_eq!(adjustment(LARGER), 0);
    tree.run_out_of_memory();
    eventually("the largest is nominated", || adjustment(LARGER) == 1000);
    for (unit, expected) in [(DISLIKED, 1000), (UNKILLABLE, -1000), (SMALLER, 0)] {
        assert_eq!(adjustment(unit), expected, "{unit}");
    }
    (configuration, tree)
}

/// Lets nobody wait for memory any more.
fn calm() {
    stop(&[UNKILLABLE]);
}

#[test]
fn the_kernels_killer_takes_the_policys_first_candidate() {
    let _machine = TestMachine::enter();
    let (_configuration, _tree) = nominated();
    let journal = Journal::from_now();
    // Less than is in use. The daemon would be as fast as the kernel here now and then, and kill the same one. The kernel may take another
    // one while the first is on its way out.
    signal(daemon::UNIT, "STOP");
    let _limit = Limit::of(SLICE, "76M");
    wait_for_property(LARGER, "Result", "oom-kill");
    signal(daemon::UNIT, "CONT");
    journal.wait_for(&[&kills()]);
    let first = journal.entries(&[&kills()]).swap_remove(0);
    assert_eq!(field(&first, "OOM_POLICY"), "kernel");
    assert_eq!(field(&first, "VICTIM_UNIT"), LARGER);
    assert_eq!(field(&first, "VICTIM_OOM_SCORE_ADJ"), "1000");
}

/// A limit that is set while a unit runs, and gone when the test is over.
struct Limit(&'static str);

impl Limit {
    #[track_caller]
    fn of(unit: &'static str, limit: &str) -> Self {
        let property = format!("MemoryMax={limit}");
        systemctl(&["set-property", "--runtime", unit, &property]);
        Limit(unit)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        systemctl_if_possible(&["revert", self.0]);
    }
}

#[test]
fn when_nobody_waits_for_memory_any_more_it_is_over() {
    let _machine = TestMachine::enter();
    let (_configuration, _tree) = nominated();
    calm();
    eventually("it has what it had", || adjustment(LARGER) == 0);
    assert_eq!(adjustment(DISLIKED), 1000);
    assert_eq!(show(LARGER, "ActiveState"), "active");
}

#[test]
fn it_is_over_when_it_is_not_wanted_any_more_and_when_the_daemon_is_stopped() {
    let _machine = TestMachine::enter();
    let (mut configuration, _tree) = nominated();
    configuration.remove("60-nominate");
    eventually("it has what it had", || adjustment(LARGER) == 0);
    configuration.write("60-nominate", NOMINATE);
    eventually("it is nominated again", || adjustment(LARGER) == 1000);
    stop(&[daemon::UNIT]);
    assert_eq!(adjustment(LARGER), 0);
    daemon::started();
}

#[test]
fn a_daemon_that_crashes_leaves_nobody_nominated() {
    let _machine = TestMachine::enter();
    let (mut configuration, _tree) = nominated();
    // It cannot put anything right while it stands still, nor when it is killed.
    signal(daemon::UNIT, "STOP");
    configuration.remove("60-nominate");
    calm();
    let journal = Journal::from_now();
    signal(daemon::UNIT, "KILL");
    eventually("it has what it had", || adjustment(LARGER) == 0);
    let what = "gets back the oom_score_adj that it had before it was nominated, 0";
    journal.wait_for_message(daemon::UNIT, what);
    daemon::started();
}

#[test]
fn what_a_process_has_given_itself_it_may_take_back_afterwards() {
    const OWN: &str = "scene-own.service";
    let _machine = TestMachine::enter();
    let (mut configuration, mut units) = scene("", &["ManagedOOMPolicyPressure=none"]);
    units.write(
        OWN,
        &hog_service(
            "scene.slice",
            &["MemoryHigh=40M", NEVER, "User=nobody"],
            "adj=300 anon=10M notify=READY=1 usr1 anon=500M pause",
        ),
    );
    daemon_reload();
    start(&[OWN]);
    wait_watched(OWN);
    configuration.write("60-nominate", NOMINATE);
    signal(OWN, "USR1");
    eventually("it is nominated", || adjustment(OWN) == 1000);
    configuration.remove("60-nominate");
    eventually("it has what it had", || adjustment(OWN) == 300);
    // Whoever has no privilege may go as low as somebody with one allowed, and nobody has told the kernel anything else.
    let pid = show_number(OWN, "MainPID");
    let lower = format!("echo 0 >/proc/{pid}/oom_score_adj");
    let lowered = std::process::Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "sh",
            "-c",
            &lower,
        ])
        .status()
        .expect("run setpriv");
    assert!(lowered.success());
    assert_eq!(adjustment(OWN), 0);
    wait_for_property(OWN, "ActiveState", "active");
}
