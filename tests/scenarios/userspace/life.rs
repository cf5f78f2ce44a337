// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said while the daemon runs, and what is left when it does not.

use std::time::Duration;

use bpf_oomd_tests::cgroup::pressure_of;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::field;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{listed, reset_policy, set_policy};
use bpf_oomd_tests::systemctl::{
    cgroup_of, eventually, show, show_number, signal, wait_for_property,
};

use crate::{QUIET, SCENE, SOON, STALLING, scene, stall_until_a_kill, wait_watched};

#[test]
fn a_policy_that_is_set_at_run_time_is_in_force_until_it_is_reset() {
    let _machine = TestMachine::enter();
    let _scene = scene("", &[SOON]);
    wait_watched(STALLING);
    // Answered when it is in force.
    set_policy(SCENE, "kernel");
    assert_eq!(listed(SCENE)["policy"], "kernel");
    let cgroup = cgroup_of(STALLING);
    signal(STALLING, "USR1");
    eventually("it stalls for seconds", || {
        pressure_of(&cgroup, "memory", "full") > Duration::from_secs(4)
    });
    assert_eq!(show(STALLING, "ActiveState"), "active");
    reset_policy(SCENE);
    assert_eq!(listed(SCENE)["policy"], "bpf:biggest-leaf");
    wait_for_property(STALLING, "Result", "oom-kill");
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn a_daemon_that_was_killed_is_back_and_goes_on() {
    let _machine = TestMachine::enter();
    let _scene = scene("", &[SOON]);
    wait_watched(STALLING);
    let before = show_number(daemon::UNIT, "MainPID");
    signal(daemon::UNIT, "KILL");
    eventually("another one runs", || {
        show(daemon::UNIT, "ActiveState") == "active"
            && ![0, before].contains(&show_number(daemon::UNIT, "MainPID"))
    });
    wait_watched(STALLING);
    let entry = stall_until_a_kill();
    assert_eq!(field(&entry, "VICTIM_UNIT"), STALLING);
    assert_eq!(show(QUIET, "ActiveState"), "active");
}
