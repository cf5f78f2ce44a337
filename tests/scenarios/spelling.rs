// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where and how the setting may be written.

use std::process::Command;

use bpf_oomd_tests::attachments::{is_attached, wait_attached, wait_detached};
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::hog;
use bpf_oomd_tests::journal::Journal;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{cgroup_of, daemon_reload, start, stop, wait_for_property};
use bpf_oomd_tests::units::{Units, hog_service};

#[test]
fn systemd_reads_the_x_spelling_without_a_warning() {
    const SERVICE: &str = "spelling.service";
    let _machine = TestMachine::enter();
    daemon::started();
    let journal = Journal::from_now();
    let mut units = Units::new();
    units.write(
        SERVICE,
        &hog_service(
            "system.slice",
            &["X-ManagedOOMPolicy=bpf:biggest-leaf"],
            "notify=READY=1 pause",
        ),
    );
    daemon_reload();
    start(&[SERVICE]);
    wait_attached(SERVICE);
    let complaints: Vec<String> = journal
        .entries(&["_PID=1"])
        .iter()
        .filter_map(|entry| entry.get("MESSAGE").cloned())
        .filter(|message| message.contains("OOMPolicy"))
        .collect();
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn every_instance_of_a_template_has_an_attachment_of_its_own() {
    const INSTANCES: [&str; 2] = ["spelling@a.service", "spelling@b.service"];
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write(
        "spelling@.service",
        &hog_service(
            "system.slice",
            &["ManagedOOMPolicy=bpf:biggest-leaf"],
            "notify=READY=1 pause",
        ),
    );
    units.write_drop_in(
        INSTANCES[1],
        "50-policy",
        "[Service]\nManagedOOMPolicy=kernel\n",
    );
    for instance in INSTANCES {
        units.stop_at_the_end(instance);
    }
    daemon_reload();
    start(&INSTANCES);
    wait_attached(INSTANCES[0]);
    // "kernel" needs nothing where no policy is above; the other instance is not affected by this one's drop-in.
    assert!(!is_attached(&cgroup_of(INSTANCES[1])));
}

#[test]
fn a_scope_that_nobody_wrote_a_file_for_gets_its_policy_from_a_drop_in() {
    const SCOPE: &str = "spelling-run.scope";
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write_drop_in(
        SCOPE,
        "50-policy",
        "[Scope]\nManagedOOMPolicy=bpf:biggest-leaf\n",
    );
    units.stop_at_the_end(SCOPE);
    daemon_reload();
    let mut command = Command::new("systemd-run")
        .args(["--quiet", "--scope", "--unit", SCOPE])
        .arg(hog::program())
        .arg("pause")
        .spawn()
        .expect("run systemd-run");
    wait_for_property(SCOPE, "ActiveState", "active");
    let id = wait_attached(SCOPE);
    stop(&[SCOPE]);
    command.wait().expect("the scope's process");
    wait_detached(id);
}
