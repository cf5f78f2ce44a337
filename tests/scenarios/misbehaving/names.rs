// SPDX-License-Identifier: MIT OR Apache-2.0
//! Units whose cgroups are others by the time that they are looked at, and units with unusual names.

use std::fs;

use bpf_oomd_tests::attachments::{attachments, is_attached, wait_attached, wait_detached};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{json, of, reset_policy, set_policy, told};
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, signal, start, stop, systemctl,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};

const POLICY: &str = "ManagedOOMPolicy=bpf:biggest-leaf";

#[test]
fn what_has_the_name_of_a_cgroup_that_is_gone_is_not_taken_for_it() {
    const SERVICE: &str = "again.service";
    const OTHER: &str = "again-other.service";
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    for name in [SERVICE, OTHER] {
        let text = hog_service("system.slice", &[POLICY], "notify=READY=1 pause");
        units.write(name, &text);
    }
    daemon_reload();
    start(&[SERVICE, OTHER]);
    let before = [wait_attached(SERVICE), wait_attached(OTHER)];
    let path = cgroup_of(OTHER);
    // It hears of nothing until it is over.
    signal(daemon::UNIT, "STOP");
    for _ in 0..3 {
        systemctl(&["restart", SERVICE]);
    }
    stop(&[OTHER]);
    // Somebody else's, at the same place.
    fs::create_dir(&path).expect("a cgroup");
    let (now, foreign) = (id_of(&cgroup_of(SERVICE)), id_of(&path));
    signal(daemon::UNIT, "CONT");
    eventually("the last one has the policy", || {
        attachments().contains(&now)
    });
    for id in before {
        wait_detached(id);
    }
    assert_eq!(attachments(), [now].into());
    assert!(!attachments().contains(&foreign));
    fs::remove_dir(&path).expect("remove a cgroup");
}

#[test]
fn units_have_their_policy_whatever_they_are_called() {
    let _machine = TestMachine::enter();
    daemon::started();
    let longest = |suffix: &str| "n".repeat(255 - suffix.len()) + suffix;
    let slice_name = longest(".slice");
    let services = [
        longest(".service"),
        r"odd\x2dname\x20\xc3\xa4:_.-x.service".to_owned(),
        r"at@\x2fdev\x2fnull@x.service".to_owned(),
        r"\x2d\x2d.service".to_owned(),
        "_2d.service".to_owned(),
        "cgroup.procs.service".to_owned(),
    ];
    let mut units = Units::new();
    units.write(&slice_name, &slice(&[POLICY]));
    for name in &services {
        let text = hog_service(&slice_name, &[POLICY], "notify=READY=1 pause");
        units.write(name, &text);
    }
    daemon_reload();
    for name in &services {
        start(&["--", name]);
        wait_attached(name);
    }
    wait_attached(&slice_name);
    let all = attachments();
    assert_eq!(all.len(), services.len() + 1);
    for name in services.iter().chain([&slice_name]) {
        assert!(told(&["explain", "--", name]).contains("bpf:biggest-leaf"));
        set_policy(name, "kernel");
        assert!(!is_attached(&cgroup_of(name)), "{name}");
        reset_policy(name);
        assert!(is_attached(&cgroup_of(name)), "{name}");
        assert_eq!(of(&json(&["list"]), "name", name)["attached"], true);
    }
    let simulated = told(&["simulate", "--", &slice_name]);
    for name in &services {
        assert!(simulated.contains(name.as_str()), "{name}: {simulated}");
    }
    // What is kept for the next daemon has names of its own.
    systemctl(&["restart", daemon::UNIT]);
    assert_eq!(attachments(), all);
    assert!(
        !daemon::status_text().contains("fault"),
        "{}",
        daemon::status_text()
    );
}
