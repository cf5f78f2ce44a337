// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon follows units, whatever happens to them, to systemd and to the bus.

use bpf_oomd_tests::attachments::{attachments, is_attached, wait_attached, wait_detached};
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, start, stop, systemctl, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service};

const SERVICE: &str = "followed.service";
const OTHER: &str = "followed-later.service";

fn units() -> Units {
    let mut units = Units::new();
    for name in [SERVICE, OTHER] {
        units.write(
            name,
            &hog_service(
                "system.slice",
                &["ManagedOOMPolicy=bpf:biggest-leaf"],
                "notify=READY=1 pause",
            ),
        );
    }
    daemon_reload();
    units
}

/// The daemon runs, and so does the service with its policy: the units, and the id of the service's cgroup.
#[track_caller]
fn following() -> (Units, u64) {
    daemon::started();
    let units = units();
    start(&[SERVICE]);
    (units, wait_attached(SERVICE))
}

#[test]
fn a_unit_that_runs_when_the_daemon_starts_has_its_policy_when_the_daemon_is_ready() {
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    let _units = units();
    start(&[SERVICE]);
    assert!(!is_attached(&cgroup_of(SERVICE)));
    daemon::started();
    // No waiting: being ready means just that.
    assert!(is_attached(&cgroup_of(SERVICE)));
}

#[test]
fn a_unit_that_starts_later_gets_its_policy_and_loses_it_when_it_stops() {
    let _machine = TestMachine::enter();
    let (_units, id) = following();
    stop(&[SERVICE]);
    wait_detached(id);
}

#[test]
fn a_unit_that_is_restarted_has_its_policy_on_its_new_cgroup() {
    let _machine = TestMachine::enter();
    let (_units, mut id) = following();
    // Fewer than systemd allows in a row (DefaultStartLimitBurst=5).
    for _ in 0..3 {
        systemctl(&["restart", SERVICE]);
        wait_detached(id);
        let next = wait_attached(SERVICE);
        assert_ne!(next, id);
        id = next;
    }
}

#[test]
fn units_are_followed_again_after_the_bus_was_away() {
    let _machine = TestMachine::enter();
    let (_units, early) = following();
    let pid = daemon::pid();

    // Both: the socket alone would bring the bus back with the next client.
    stop(&["dbus.socket", "dbus.service"]);
    eventually("the daemon says that it follows no units", || {
        daemon::status_text().contains("not followed")
    });
    // What is attached needs nobody.
    assert!(attachments().contains(&early));
    // What happens meanwhile is made up for.
    start(&[OTHER]);
    stop(&[SERVICE]);
    assert!(!is_attached(&cgroup_of(OTHER)));
    start(&["dbus.socket", "dbus.service"]);
    wait_attached(OTHER);
    wait_detached(early);
    start(&[SERVICE]);
    wait_attached(SERVICE);
    assert_eq!(daemon::pid(), pid, "the daemon was restarted");
    eventually("the daemon says that it follows units", || {
        !daemon::status_text().contains("not followed")
    });
}

#[test]
fn units_are_followed_after_systemd_executed_itself_again() {
    let _machine = TestMachine::enter();
    let (_units, early) = following();
    let pid = daemon::pid();
    systemctl(&["daemon-reexec"]);
    start(&[OTHER]);
    wait_attached(OTHER);
    assert!(attachments().contains(&early));
    stop(&[SERVICE]);
    wait_detached(early);
    assert_eq!(daemon::pid(), pid, "the daemon was restarted");
}

#[test]
fn a_unit_without_a_policy_has_nothing_attached() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = units();
    units.write(
        "followed-without.service",
        &hog_service("system.slice", &[], "notify=READY=1 pause"),
    );
    daemon_reload();
    start(&["followed-without.service", SERVICE]);
    let id = wait_attached(SERVICE);
    assert_eq!(attachments(), [id].into());
    stop(&[SERVICE]);
    wait_for_property(SERVICE, "ActiveState", "inactive");
    wait_detached(id);
    assert_eq!(show("followed-without.service", "ActiveState"), "active");
    assert!(attachments().is_empty());
}
