// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policies and settings in configuration files: in force at once, and only what changed is touched.

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, links, wait_attached, wait_detached};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field, number};
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::{TestMachine, vmstat};
use bpf_oomd_tests::seed_units::{DISLIKED, LARGER, SLICE, SMALLER, SeedUnits};
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show_number, start, systemctl, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};

const SEED_POLICY: &str = "[slice.\"seed.slice\"]\npolicy = \"bpf:biggest-leaf\"\n";

#[test]
fn a_slices_file_decides_the_next_oom_and_is_history_when_it_is_removed() {
    let _machine = TestMachine::enter();
    daemon::started();
    let tree = SeedUnits::start(&[]);
    let mut configuration = Configuration::new();
    configuration.write("50-seed", SEED_POLICY);
    let slice = wait_attached(SLICE);
    let journal = Journal::from_now();
    assert_eq!(tree.run_out(), "oom_policy=biggest-leaf");
    wait_for_property(LARGER, "Result", "oom-kill");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), LARGER);
    configuration.remove("50-seed");
    wait_detached(slice);
}

#[test]
fn what_a_units_own_files_say_comes_before_every_section() {
    let _machine = TestMachine::enter();
    daemon::started();
    let tree = SeedUnits::start(&["ManagedOOMPolicy=kernel"]);
    let mut configuration = Configuration::new();
    configuration.write("50-seed", SEED_POLICY);
    configuration.write(
        "60-unit",
        "[unit.\"seed-*.service\"]\npolicy = \"bpf:biggest-leaf\"\n",
    );
    // The units below have one of their own, so the file was read.
    wait_attached(SMALLER);
    assert!(!attachments().contains(&id_of(&tree.slice_cgroup())));
    assert_eq!(tree.run_out(), "oom_policy=default");
    wait_for_property(DISLIKED, "Result", "oom-kill");
}

#[test]
fn a_unit_below_a_slice_with_a_policy_can_be_left_to_the_kernel() {
    const UNIT: &str = "scene-own.service";
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write(
        "scene.slice",
        &slice(&["ManagedOOMPolicy=bpf:biggest-leaf"]),
    );
    units.write(
        UNIT,
        &hog_service(
            "scene.slice",
            &["MemoryMax=40M", "OOMPolicy=continue"],
            "fork=1 anon=4M notify=READY=1 usr1 anon=60M pause",
        ),
    );
    daemon_reload();
    let mut configuration = Configuration::new();
    configuration.write(
        "50-own",
        "[unit.\"scene-own.service\"]\npolicy = \"kernel\"\n",
    );
    start(&[UNIT]);
    wait_attached("scene.slice");
    let id = id_of(&cgroup_of(UNIT));
    eventually("the unit's settings are told", || {
        bpf_oomd_tests::attachments::settings().contains(&id)
    });
    let log = Kmsg::before_a_report();
    systemctl(&["kill", "--kill-whom=main", "--signal", "USR1", "--", UNIT]);
    assert_eq!(log.wait_for_report()[1], "oom_policy=default");
}

#[test]
fn kill_process_takes_the_largest_process_of_the_victim_and_no_other() {
    const MANY: &str = "scene-many.service";
    const GROWING: &str = "scene-growing.service";
    let _machine = TestMachine::enter();
    daemon::started();
    let mut configuration = Configuration::new();
    configuration.write(
        "50-scene",
        "[slice.\"scene.slice\"]\npolicy = \"bpf:biggest-leaf\"\n\n[unit.\"scene-m?ny.service\"]\nkill = \"process\"\n",
    );
    let mut units = Units::new();
    units.write("scene.slice", &slice(&["MemoryMax=80M"]));
    units.write(
        MANY,
        &hog_service(
            "scene.slice",
            &["OOMPolicy=continue"],
            "fork=3 anon=10M notify=READY=1 pause",
        ),
    );
    units.write(
        GROWING,
        &hog_service(
            "scene.slice",
            &["OOMScoreAdjust=-1000"],
            "anon=4M notify=READY=1 usr1 anon=36M notify=STATUS=grown pause",
        ),
    );
    daemon_reload();
    start(&[MANY, GROWING]);
    wait_attached("scene.slice");
    let id = id_of(&cgroup_of(MANY));
    eventually("the unit's settings are told", || {
        bpf_oomd_tests::attachments::settings().contains(&id)
    });
    eventually("all processes have their memory", || {
        show_number(MANY, "MemoryCurrent") >= 40 << 20
    });
    let kills = vmstat("oom_kill");
    let journal = Journal::from_now();
    bpf_oomd_tests::systemctl::signal(GROWING, "USR1");
    wait_for_property(GROWING, "StatusText", "grown");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), MANY);
    assert_eq!(number(&entry, "VICTIM_PROCESSES_TOTAL"), 1);
    assert_eq!(vmstat("oom_kill") - kills, 1);
}

#[test]
fn a_change_for_one_of_many_units_touches_one_attachment() {
    const MANY: usize = 500;
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    let names: Vec<String> = (0..MANY).map(|n| format!("many{n}.slice")).collect();
    for name in &names {
        units.stop_at_the_end(name);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    start(&all);
    let mut configuration = Configuration::new();
    configuration.write(
        "50-many",
        "[unit.\"many*.slice\"]\npolicy = \"bpf:biggest-leaf\"\n",
    );
    eventually("all slices have their attachment", || {
        attachments().len() == MANY
    });
    let before = links();
    let seventh = id_of(&cgroup_of("many7.slice"));

    configuration.write("60-seven", "[slice.\"many7.slice\"]\npolicy = \"kernel\"\n");
    wait_detached(seventh);
    let mut expected = before.clone();
    expected.retain(|_, cgroup| *cgroup != seventh);
    assert_eq!(links(), expected);

    // A setting touches none.
    configuration.write("70-all", "[unit.\"many*.slice\"]\ncooldown = \"1min\"\n");
    eventually("all slices are told", || {
        bpf_oomd_tests::attachments::settings().len() >= MANY
    });
    assert_eq!(links(), expected);

    configuration.remove("60-seven");
    wait_attached("many7.slice");
    let mut after = links();
    after.retain(|_, cgroup| *cgroup != seventh);
    assert_eq!(after, expected);
}

#[test]
fn a_link_and_a_file_changed_in_place_are_noticed() {
    let _machine = TestMachine::enter();
    daemon::started();
    let tree = SeedUnits::start(&[]);
    let slice = id_of(&tree.slice_cgroup());
    // Not in a place that the daemon's unit hides from it, such as /var/tmp.
    let target = "/run/bpf-oomd/linked.toml";
    let mut configuration = Configuration::new();
    let link = configuration.write("50-link", "");
    std::fs::write(target, SEED_POLICY).expect("write the target");
    std::fs::remove_file(&link).expect("remove the file");
    std::os::unix::fs::symlink(target, &link).expect("put a link in its place");
    wait_attached(SLICE);
    std::fs::write(target, "# nothing\n").expect("write the target");
    wait_detached(slice);
    std::fs::write(target, SEED_POLICY).expect("write the target");
    wait_attached(SLICE);
    std::fs::remove_file(target).expect("remove the target");
}

#[test]
fn all_of_systemds_places_for_drop_ins_count() {
    const UNITS: [&str; 3] = [
        "scene-a.service",
        "scene-b@one.service",
        "scene-c-d.service",
    ];
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    for unit in ["scene-a.service", "scene-b@.service", "scene-c-d.service"] {
        let steps = "notify=READY=1 pause";
        units.write(unit, &hog_service("system.slice", &[], steps));
    }
    units.stop_at_the_end(UNITS[1]);
    daemon_reload();
    start(&UNITS);
    let policy = "[Service]\nManagedOOMPolicy=bpf:biggest-leaf\n";
    // For each unit another place: that of its type's prefix, of its template, and of its name up to a dash.
    for (place, unit) in [
        ("scene-b@.service", UNITS[1]),
        ("scene-c-.service", UNITS[2]),
    ] {
        units.write_drop_in(place, "50-policy", policy);
        daemon_reload();
        let id = wait_attached(unit);
        assert_eq!(attachments(), [id].into(), "{place}");
        units.remove_drop_in(place, "50-policy");
        daemon_reload();
        wait_detached(id);
    }
    // All services there are; this one has one of its own against it.
    units.write_drop_in(UNITS[0], "60-own", "[Service]\nManagedOOMPolicy=kernel\n");
    units.write_drop_in("service", "50-policy", policy);
    daemon_reload();
    wait_attached(UNITS[1]);
    wait_attached("dbus.service");
    assert!(!attachments().contains(&id_of(&cgroup_of(UNITS[0]))));
}

#[test]
fn the_vendors_defaults_protect_what_a_machine_needs() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut configuration = Configuration::new();
    configuration.unmask_vendors();
    wait_attached("user.slice");
    let dbus = id_of(&cgroup_of("dbus.service"));
    eventually("dbus.service is told to be omitted", || {
        bpf_oomd_tests::attachments::settings().contains(&dbus)
    });
    assert!(
        !daemon::status_text().contains("fault"),
        "{}",
        daemon::status_text()
    );
}
