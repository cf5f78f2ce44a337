// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the daemon may do where it does the killing, one right less at a time: what is refused then, and that it says so. The rights that it
//! needs with either engine are in `rights.rs` beside this room.

use std::fs;

use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::Journal;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::told;
use bpf_oomd_tests::rights::Without;
use bpf_oomd_tests::systemctl::{
    daemon_reload, eventually, show, signal, start, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};

const SLICE: &str = "rights.slice";
/// Its processes are a user's, and so are files of its cgroup.
const SERVICE: &str = "rights-user.service";

/// A user's service that will be held back, and of which the largest process is to die then.
#[track_caller]
fn scene() -> (Configuration, Units) {
    let mut configuration = Configuration::new();
    configuration.write(
        "50-rights",
        "[slice.\"rights.slice\"]\npressure = \"none\"\n",
    );
    let mut units = Units::new();
    units.write(SLICE, &slice(&["ManagedOOMPolicy=bpf:biggest-leaf"]));
    let settings = [
        "User=tester",
        "Delegate=yes",
        "MemoryHigh=40M",
        "ManagedOOMPolicyPressure=memory full 100ms/1s",
        "ManagedOOMPolicyKill=process",
    ];
    units.write(
        SERVICE,
        &hog_service(
            SLICE,
            &settings,
            "anon=10M notify=READY=1 usr1 anon=500M pause",
        ),
    );
    daemon_reload();
    start(&[SERVICE]);
    (configuration, units)
}

/// Whether it is watched for pressure.
fn is_watched() -> bool {
    told(&["pressure"]).contains(SERVICE)
}

#[test]
fn without_cap_sys_resource_no_window_is_granted_and_units_say_so() {
    let _machine = TestMachine::enter();
    daemon::started();
    let _scene = scene();
    eventually("it is watched", is_watched);
    let journal = Journal::from_now();
    let without = Without::right("CAP_SYS_RESOURCE");
    let entry = journal.wait_for_message(daemon::UNIT, "rights-user.service: ");
    println!("{:?}", entry["MESSAGE"]);
    assert!(!is_watched());
    drop(without);
    eventually("it is watched again", is_watched);
}

#[test]
fn without_cap_dac_override_the_pressure_of_what_is_a_users_is_not_watched_and_units_say_so() {
    let _machine = TestMachine::enter();
    daemon::started();
    let _scene = scene();
    eventually("it is watched", is_watched);
    let journal = Journal::from_now();
    let without = Without::right("CAP_DAC_OVERRIDE");
    let entry = journal.wait_for_message(daemon::UNIT, "rights-user.service: ");
    println!("{:?}", entry["MESSAGE"]);
    assert!(entry["MESSAGE"].contains("Permission denied"), "{entry:?}");
    assert!(!is_watched());
    drop(without);
    eventually("it is watched again", is_watched);
}

#[test]
fn without_cap_kill_a_users_process_lives_and_the_daemon_says_so() {
    let _machine = TestMachine::enter();
    daemon::started();
    let _scene = scene();
    let without = Without::right("CAP_KILL");
    eventually("it is watched", is_watched);
    let journal = Journal::from_now();
    signal(SERVICE, "USR1");
    let entry = journal.wait_for_message(daemon::UNIT, "cannot be killed: ");
    println!("{:?}", entry["MESSAGE"]);
    assert!(
        entry["MESSAGE"].contains("Operation not permitted"),
        "{entry:?}"
    );
    assert_eq!(show(SERVICE, "ActiveState"), "active");
    drop(without);
    wait_for_property(SERVICE, "ActiveState", "failed");
}

#[test]
fn without_cap_dac_read_search_no_cgroup_is_found_by_its_id_and_nothing_is_watched() {
    let _machine = TestMachine::enter();
    daemon::started();
    let _scene = scene();
    eventually("it is watched", is_watched);
    let journal = Journal::from_now();
    let without = Without::right("CAP_DAC_READ_SEARCH");
    let entry = journal.wait_for_message(daemon::UNIT, "rights.slice: ");
    assert!(
        entry["MESSAGE"].contains("Operation not permitted"),
        "{entry:?}"
    );
    assert!(!is_watched());
    drop(without);
    eventually("it is watched again", is_watched);
}

/// Whether the policy tells who would die.
fn is_ranked() -> bool {
    told(&["simulate", SLICE]).contains(SERVICE)
}

#[test]
fn without_cap_syslog_kernels_that_tell_by_an_address_do_not_tell_and_units_say_so() {
    let _machine = TestMachine::enter();
    daemon::started();
    let _scene = scene();
    eventually("there is a ranking", is_ranked);
    let journal = Journal::from_now();
    let without = Without::right("CAP_SYSLOG");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    // Before it and after it, the index is as long as the enum, or there are kfuncs.
    if release.starts_with("6.12.") {
        let entry = journal.wait_for_message(daemon::UNIT, "rights.slice: ");
        assert!(entry["MESSAGE"].contains("CAP_SYSLOG"), "{entry:?}");
        // Never a ranking by other numbers.
        let simulated = told(&["simulate", SLICE]);
        assert!(
            simulated.contains("the kernel's own killer decides"),
            "{simulated}"
        );
    } else {
        eventually("there is a ranking all the same", is_ranked);
    }
    drop(without);
    eventually("there is a ranking again", is_ranked);
}
