// SPDX-License-Identifier: MIT OR Apache-2.0
//! No more descriptors.

use std::process::Command;

use bpf_oomd_tests::attachments::{is_attached, wait_attached};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, start, stop, systemctl,
};
use bpf_oomd_tests::units::{Units, hog_service};

const TEMPLATE: &str = "many@.service";
const FIRST: &str = "many@0.service";
const SERVICE: &str = "configured.service";
const UNITS: usize = 16;

/// As many of them as there can be.
fn limit_descriptors(pid: u32, most: usize) {
    let output = Command::new("prlimit")
        .args([&format!("--pid={pid}"), &format!("--nofile={most}:524288")])
        .output()
        .expect("run prlimit");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn without_descriptors_as_much_as_possible_is_in_force_and_the_rest_when_there_are_some() {
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    daemon::started();
    let mut units = Units::new();
    units.write(
        TEMPLATE,
        &hog_service(
            "system.slice",
            &["ManagedOOMPolicy=bpf:biggest-leaf"],
            "notify=READY=1 pause",
        ),
    );
    let names: Vec<String> = (0..UNITS).map(|n| format!("many@{n}.service")).collect();
    for name in &names {
        units.stop_at_the_end(name);
    }
    daemon_reload();
    start(&[FIRST]);
    wait_attached(FIRST);
    let pid = daemon::pid();
    // One for a while, and one or two for good.
    limit_descriptors(pid, daemon::descriptors() + 3);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    start(&all);
    eventually("the status says what is missing", || {
        daemon::status_text().contains("Too many open files")
    });
    let attached = || {
        let attached = all.iter().filter(|name| is_attached(&cgroup_of(name)));
        attached.count()
    };
    let some = attached();
    println!("{some} of {UNITS} units have their policy");
    assert!((1..UNITS).contains(&some), "{some}");
    assert!(is_attached(&cgroup_of(FIRST)));
    // Who asks is told.
    let status = super::status();
    assert!(status.contains("Too many open files"), "{status}");
    // It goes on feeding its watchdog, for which it needs none.
    systemctl(&["reload", daemon::UNIT]);
    assert_eq!(daemon::pid(), pid);
    assert!(attached() >= some, "{} of {some}", attached());
    // Some go, and others get what they had.
    let (gone, rest): (Vec<&str>, Vec<&str>) =
        all.iter().partition(|name| is_attached(&cgroup_of(name)));
    let next = rest[0];
    stop(&gone);
    eventually("another one has its policy", || {
        is_attached(&cgroup_of(next))
    });
    limit_descriptors(pid, 524_288);
    eventually("all of them have", || {
        rest.iter().all(|name| is_attached(&cgroup_of(name)))
    });
    eventually("nothing is wrong any more", || {
        !daemon::status_text().contains("Too many open files")
    });
    assert_eq!(daemon::pid(), pid);
    assert_eq!(show(daemon::UNIT, "NRestarts"), "0");
}

#[test]
fn a_configuration_that_there_is_no_descriptor_for_is_read_when_there_is_one() {
    let _machine = TestMachine::enter();
    let _units = super::limited(SERVICE);
    let pid = daemon::pid();
    // What it has it keeps.
    limit_descriptors(pid, 3);
    let mut configuration = Configuration::new();
    configuration.write("50-off", "[defaults]\nenabled = false\n");
    eventually("the status says what is missing", || {
        super::status().contains("Too many open files")
    });
    assert!(is_attached(&cgroup_of(SERVICE)));
    limit_descriptors(pid, 524_288);
    eventually("the configuration counts", || {
        !is_attached(&cgroup_of(SERVICE))
    });
    // And its changes are noticed again.
    configuration.remove("50-off");
    wait_attached(SERVICE);
    eventually("nothing is wrong any more", || {
        !super::status().contains("Too many open files")
    });
    assert_eq!(daemon::pid(), pid);
}
