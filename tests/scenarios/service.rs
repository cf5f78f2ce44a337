// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon as a service: how systemd starts, reloads, watches, protects and stops it.

use std::fs;
use std::process::Command;

use bpf_oomd_tests::attachments::{attachments, wait_attached, wait_detached};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::ids::BpfObjects;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, show_number, signal, start, stop, systemctl,
    wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service};

const SERVICE: &str = "watched.service";

fn unit(units: &mut Units, policy: &str) {
    units.write(
        SERVICE,
        &hog_service("system.slice", &[policy], "notify=READY=1 pause"),
    );
}

#[test]
fn a_reload_reads_the_files_again_and_is_over_when_they_are_in_force() {
    let _machine = TestMachine::enter();
    daemon::started();
    let pid = daemon::pid();
    let mut units = Units::new();
    unit(&mut units, "");
    daemon_reload();
    start(&[SERVICE]);
    unit(&mut units, "ManagedOOMPolicy=bpf:biggest-leaf");
    assert!(attachments().is_empty());
    // systemd is not told; the daemon is. "systemctl reload" waits until the daemon says that it is ready again.
    systemctl(&["reload", daemon::UNIT]);
    let id = id_of(&cgroup_of(SERVICE));
    assert_eq!(attachments(), [id].into());
    assert_eq!(daemon::pid(), pid);
    unit(&mut units, "");
    systemctl(&["reload", daemon::UNIT]);
    assert!(attachments().is_empty());
}

#[test]
fn stopping_detaches_everything_and_leaves_nothing_in_the_kernel() {
    let _machine = TestMachine::enter();
    // systemd attaches BPF programs of its own to units; these are there before and after.
    stop(&[daemon::UNIT]);
    let mut units = Units::new();
    unit(&mut units, "ManagedOOMPolicy=bpf:biggest-leaf");
    daemon_reload();
    start(&[SERVICE]);
    daemon::started();
    wait_attached(SERVICE);
    stop(&[daemon::UNIT]);
    eventually("nothing is attached", || attachments().is_empty());
    let none = BpfObjects::now();

    daemon::started();
    let id = wait_attached(SERVICE);
    stop(&[daemon::UNIT]);
    wait_detached(id);
    none.wait_until_back();
    assert_eq!(show(daemon::UNIT, "Result"), "success");
    assert_eq!(show(SERVICE, "ActiveState"), "active");
}

#[test]
fn a_daemon_that_hangs_is_replaced_and_attaches_again() {
    let _machine = TestMachine::enter();
    assert_ne!(
        show(daemon::UNIT, "WatchdogUSec"),
        "0",
        "the watchdog is off"
    );
    let mut units = Units::new();
    unit(&mut units, "ManagedOOMPolicy=bpf:biggest-leaf");
    // The same as installed, but soon.
    units.write_drop_in(
        daemon::UNIT,
        "50-soon",
        "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\nRestartSec=100ms\n",
    );
    daemon_reload();
    stop(&[daemon::UNIT]);
    daemon::started();
    start(&[SERVICE]);
    wait_attached(SERVICE);
    let hanging = daemon::pid();

    signal(daemon::UNIT, "STOP");
    eventually("another daemon runs", || {
        let pid = show_number(daemon::UNIT, "MainPID");
        pid != 0 && pid != u64::from(hanging)
    });
    wait_for_property(daemon::UNIT, "ActiveState", "active");
    wait_attached(SERVICE);
    drop(units);
    systemctl(&["restart", daemon::UNIT]);
}

#[test]
fn a_daemon_with_nothing_to_do_feeds_its_watchdog() {
    let _machine = TestMachine::enter();
    let mut units = Units::new();
    units.write_drop_in(daemon::UNIT, "50-soon", "[Service]\nWatchdogSec=3s\n");
    daemon_reload();
    stop(&[daemon::UNIT]);
    daemon::started();
    let pid = daemon::pid();
    let fed = || show_number(daemon::UNIT, "WatchdogTimestampMonotonic");
    let start = fed();
    eventually("two limits have passed", || fed() > start + 6_000_000);
    assert_eq!(daemon::pid(), pid);
    drop(units);
    systemctl(&["restart", daemon::UNIT]);
}

#[test]
fn the_daemon_is_never_the_victim() {
    let _machine = TestMachine::enter();
    daemon::started();
    let adjust = fs::read_to_string(format!("/proc/{}/oom_score_adj", daemon::pid()))
        .expect("the daemon's oom_score_adj");
    // The policies leave a unit alone only if it is unkillable, and so does the kernel's killer.
    assert_eq!(adjust.trim(), "-1000");
    let min = fs::read_to_string(cgroup_of(daemon::UNIT).join("memory.min"))
        .expect("the daemon's memory.min");
    let min: u64 = min.trim().parse().expect("a number of bytes");
    let resident = daemon::resident();
    assert!(min >= resident, "{min} bytes protected, {resident} used");
}

#[test]
fn the_daemon_has_no_more_rights_than_it_needs() {
    let _machine = TestMachine::enter();
    daemon::started();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon::pid())).expect("its status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}"))
            .trim_start_matches(':')
            .trim()
            .to_owned()
    };
    let effective = u64::from_str_radix(&field("CapEff"), 16).expect("a set of capabilities");
    let bounding = u64::from_str_radix(&field("CapBnd"), 16).expect("a set of capabilities");
    // CAP_SYS_ADMIN (21) includes nearly everything, CAP_SYS_MODULE (16), CAP_SYS_RAWIO (17) and CAP_SYS_PTRACE (19) the rest.
    for (number, name) in [
        (16, "CAP_SYS_MODULE"),
        (17, "CAP_SYS_RAWIO"),
        (19, "CAP_SYS_PTRACE"),
        (21, "CAP_SYS_ADMIN"),
    ] {
        assert_eq!(bounding & 1 << number, 0, "the daemon has {name}");
    }
    assert_ne!(effective, 0);
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
}

#[test]
fn the_daemon_is_confined() {
    let _machine = TestMachine::enter();
    // From 0 to 100, where systemd itself shows 0 to 10. What it is still exposed to is explained in the unit file.
    let output = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--threshold=25", daemon::UNIT])
        .output()
        .expect("run systemd-analyze");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
