// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is attached stays in force whatever happens to the daemon, and the next daemon goes on with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, links, settings, wait_attached, watched};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::ids::BpfObjects;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::told;
use bpf_oomd_tests::systemctl::{
    PATIENCE, cgroup_of, daemon_reload, eventually, show, show_number, signal, start, stop,
    systemctl, wait_for_property,
};
use bpf_oomd_tests::unbroken::Watcher;
use bpf_oomd_tests::units::{Units, hog_service, slice};
use bpf_oomd_tests::wait::eventually_within;

const SLICE: &str = "kept.slice";
const SERVICE: &str = "kept-one.service";
const OTHER: &str = "kept-two.service";
const LATER: &str = "kept-three.service";
const POLICY: &str = "ManagedOOMPolicy=bpf:biggest-leaf";

/// Each unit in the slice is watched for a stall that does not come, and so is one that comes later.
const PRESSURE: &str = "[slice.\"kept.slice\".pressure]\nstall = \"900ms\"\nfor = \"1h\"\napplies-to = \"each-unit\"\n";

/// The daemon stays dead until somebody starts it.
const DEAD: &str = "[Service]\nRestartSec=1h\nRestartSteps=0\nRestartMaxDelaySec=infinity\n";

struct Scene {
    units: Units,
    files: Configuration,
}

/// A slice with a policy and a limit, and in it one unit with a policy of its own and one without; a third does not run.
#[track_caller]
fn scene(configuration: &str) -> Scene {
    daemon::started();
    let mut files = Configuration::new();
    files.write("50-kept", configuration);
    let mut units = Units::new();
    units.write(SLICE, &slice(&[POLICY, "MemoryMax=80M"]));
    units.write(
        SERVICE,
        &hog_service(
            SLICE,
            &[POLICY],
            "anon=10M notify=READY=1 usr1 anon=200M pause",
        ),
    );
    units.write(
        OTHER,
        &hog_service(SLICE, &[], "anon=10M notify=READY=1 pause"),
    );
    units.write(
        LATER,
        &hog_service(SLICE, &[POLICY], "anon=10M notify=READY=1 pause"),
    );
    daemon_reload();
    start(&[SERVICE, OTHER]);
    wait_attached(SERVICE);
    Scene { units, files }
}

/// Waits until both units have their trigger. It is there a moment before the link that holds it, which is the system's.
#[track_caller]
fn wait_watched() {
    eventually("both units are watched", || {
        watched().len() == 2 && attachments().contains(&0)
    });
}

/// Kills the daemon, which then stays dead.
#[track_caller]
fn kill(units: &mut Units) {
    units.write_drop_in(daemon::UNIT, "50-dead", DEAD);
    daemon_reload();
    signal(daemon::UNIT, "KILL");
    wait_for_property(daemon::UNIT, "SubState", "auto-restart");
    assert_eq!(show_number(daemon::UNIT, "MainPID"), 0);
}

/// Starts the daemon that was killed.
#[track_caller]
fn revive(units: &mut Units) {
    units.remove_drop_in(daemon::UNIT, "50-dead");
    daemon_reload();
    start(&[daemon::UNIT]);
}

/// What the daemon does for what is there is over: it has said so, and nothing changes any more. The kernel frees what is not used any
/// more one after the other, in its own time.
#[track_caller]
fn settled() -> (BpfObjects, u64) {
    const QUIET: Duration = Duration::from_secs(2);
    let look = || {
        (
            BpfObjects::now(),
            show_number(daemon::UNIT, "NFileDescriptorStore"),
        )
    };
    let mut seen = look();
    let mut since = Instant::now();
    eventually_within(PATIENCE, || {
        let now = look();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        let quiet = since.elapsed() >= QUIET;
        quiet
            .then(|| seen.clone())
            .ok_or_else(|| "BPF objects come and go".into())
    })
}

#[test]
fn a_restart_and_a_crash_detach_nothing_and_make_nothing_anew() {
    let _machine = TestMachine::enter();
    let scene = scene(PRESSURE);
    wait_watched();
    let (objects, kept) = settled();
    let before = links();
    let told_before = settings();
    assert!(kept > 0, "systemd keeps nothing");
    let descriptors = daemon::descriptors();
    for way in ["restart", "kill", "term"] {
        let pid = daemon::pid();
        let watcher = Watcher::of_links(before.clone());
        match way {
            "restart" => drop(systemctl(&["restart", daemon::UNIT])),
            "kill" => signal(daemon::UNIT, "KILL"),
            // Whoever does that does not ask systemd to stop the service.
            _ => signal(daemon::UNIT, "TERM"),
        }
        daemon::wait_for_another(pid);
        watcher.assert_unbroken();
        assert_eq!(links(), before, "{way}");
        let (objects_now, kept_now) = settled();
        assert_eq!(objects_now, objects, "{way}");
        assert_eq!(kept_now, kept, "{way}");
        assert_eq!(settings(), told_before, "{way}");
        eventually("no more descriptors are open", || {
            daemon::descriptors() <= descriptors
        });
        // Every unit is known to be attached, and whose it is.
        let shown = told(&["explain", SERVICE]);
        assert!(shown.contains("bpf:biggest-leaf"), "{shown}");
        assert!(
            daemon::status_text().contains("2 attached"),
            "{}",
            daemon::status_text()
        );
    }
    drop(scene);
}

#[test]
fn a_daemon_that_hangs_is_replaced_without_a_gap() {
    let _machine = TestMachine::enter();
    let mut scene = scene("");
    scene.units.write_drop_in(
        daemon::UNIT,
        "50-soon",
        "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n",
    );
    daemon_reload();
    systemctl(&["restart", daemon::UNIT]);
    let before = links();
    let pid = daemon::pid();
    let watcher = Watcher::of_links(before.clone());
    signal(daemon::UNIT, "STOP");
    daemon::wait_for_another(pid);
    watcher.assert_unbroken();
    assert_eq!(links(), before);
    scene.units.remove_drop_in(daemon::UNIT, "50-soon");
    daemon_reload();
    systemctl(&["restart", daemon::UNIT]);
}

#[test]
fn stopping_lets_go_of_everything_that_was_kept() {
    let _machine = TestMachine::enter();
    // systemd attaches BPF programs of its own to units; these are there before and after.
    let scene = scene(PRESSURE);
    stop(&[daemon::UNIT]);
    eventually("nothing is attached", || attachments().is_empty());
    assert_eq!(show_number(daemon::UNIT, "NFileDescriptorStore"), 0);
    let none = BpfObjects::now();
    daemon::started();
    wait_attached(SERVICE);
    wait_watched();
    // What was adopted goes as well.
    systemctl(&["restart", daemon::UNIT]);
    stop(&[daemon::UNIT]);
    eventually("nothing is attached", || attachments().is_empty());
    none.wait_until_back();
    assert_eq!(show_number(daemon::UNIT, "NFileDescriptorStore"), 0);
    daemon::started();
    drop(scene);
}

#[test]
fn a_kill_while_no_daemon_runs_is_told_once_by_the_next_one() {
    let _machine = TestMachine::enter();
    let mut scene = scene("");
    let journal = Journal::from_now();
    kill(&mut scene.units);
    let before = links();
    signal(SERVICE, "USR1");
    wait_for_property(SERVICE, "Result", "oom-kill");
    let told = || journal.entries(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(told().len(), 0);
    revive(&mut scene.units);
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), SERVICE);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    // Not by any later one again.
    systemctl(&["restart", daemon::UNIT]);
    assert_eq!(told().len(), 1);
    // The slice was covered all the time.
    let slice = id_of(&cgroup_of(SLICE));
    let of_slice = |links: &BTreeMap<u32, u64>| -> BTreeSet<u32> {
        let on_it = links.iter().filter(|(_, cgroup)| **cgroup == slice);
        on_it.map(|(id, _)| *id).collect()
    };
    assert_eq!(of_slice(&links()), of_slice(&before));
    assert!(
        !daemon::status_text().contains("lost"),
        "{}",
        daemon::status_text()
    );
}

#[test]
fn what_changed_while_no_daemon_ran_is_put_right_by_the_next_one() {
    let _machine = TestMachine::enter();
    let mut scene = scene(PRESSURE);
    wait_watched();
    let on_slice = id_of(&cgroup_of(SLICE));
    let before = links();
    kill(&mut scene.units);
    // One unit ends, one comes, one gets another cgroup, one gets a policy, and the configuration is another one.
    start(&[LATER]);
    let later = id_of(&cgroup_of(LATER));
    eventually("a unit is watched from its birth", || {
        watched().contains(&later)
    });
    stop(&[SERVICE]);
    scene
        .units
        .write_drop_in(OTHER, "50-policy", &format!("[Service]\n{POLICY}\n"));
    scene.files.write("50-kept", "");
    daemon_reload();
    systemctl(&["restart", OTHER]);
    revive(&mut scene.units);
    let expected = [on_slice, later, id_of(&cgroup_of(OTHER))];
    assert_eq!(attachments(), expected.into());
    eventually("nothing is watched", || watched().is_empty());
    // The slice's, which nobody changed, is the same.
    let same = |links: &BTreeMap<u32, u64>| -> Vec<u32> {
        let on_it = links.iter().filter(|(_, cgroup)| **cgroup == on_slice);
        on_it.map(|(id, _)| *id).collect()
    };
    assert_eq!(same(&links()), same(&before));
    eventually("what was said about units that are gone is gone", || {
        settings() == expected.into()
    });
    // And nothing is left in the store of what went.
    let kept = show_number(daemon::UNIT, "NFileDescriptorStore");
    systemctl(&["restart", daemon::UNIT]);
    assert_eq!(show_number(daemon::UNIT, "NFileDescriptorStore"), kept);
}

/// Where the daemon is installed, and where the test puts another one.
const DAEMON: &str = "/usr/lib/bpf-oomd/bpf-oomd";
const ANOTHER: &str = "/usr/local/lib/bpf-oomd-another";

/// Another build of the daemon, from which some bytes differ.
struct AnotherBuild;

impl AnotherBuild {
    /// Replaces `from` by `to`, of the same length, wherever the daemon has it.
    #[track_caller]
    fn make(from: &[u8], to: &[u8]) -> Self {
        assert_eq!(from.len(), to.len());
        let mut bytes = fs::read(DAEMON).expect("the daemon's program");
        let places: Vec<usize> = (0..bytes.len() - from.len())
            .filter(|at| bytes[*at..].starts_with(from))
            .collect();
        assert!(!places.is_empty(), "nothing to change");
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        fs::write(ANOTHER, bytes).expect("write another daemon");
        fs::set_permissions(ANOTHER, fs::Permissions::from_mode(0o755)).expect("chmod");
        AnotherBuild
    }

    /// Lets it be the service's program.
    #[track_caller]
    fn use_it(units: &mut Units) {
        let text = format!("[Service]\nExecStart=\nExecStart={ANOTHER}\n");
        units.write_drop_in(daemon::UNIT, "50-another", &text);
        daemon_reload();
    }
}

impl Drop for AnotherBuild {
    fn drop(&mut self) {
        let _ = fs::remove_file(ANOTHER);
    }
}

/// Begins with the other build, and goes on with the installed one. Returns what there was before.
#[track_caller]
fn upgrade(scene: &mut Scene) -> BTreeMap<u32, u64> {
    stop(&[daemon::UNIT]);
    AnotherBuild::use_it(&mut scene.units);
    daemon::started();
    wait_attached(SERVICE);
    wait_watched();
    let before = links();
    let cover = [cgroup_of(SLICE), cgroup_of(SERVICE)];
    let watcher = Watcher::of_cover(cover.iter().map(|cgroup| id_of(cgroup)).collect());
    scene.units.remove_drop_in(daemon::UNIT, "50-another");
    daemon_reload();
    systemctl(&["restart", daemon::UNIT]);
    watcher.assert_unbroken();
    before
}

/// The installed daemon has replaced everything, and nothing of the other one is left.
#[track_caller]
fn assert_replaced(before: &BTreeMap<u32, u64>) {
    let now = links();
    let cgroups =
        |links: &BTreeMap<u32, u64>| -> BTreeSet<u64> { links.values().copied().collect() };
    assert_eq!(cgroups(&now), cgroups(before));
    eventually("no old link is left", || {
        let now = links();
        before.keys().all(|id| !now.contains_key(id))
    });
    assert_eq!(watched().len(), 2);
    // As much as there would be without a past.
    let (upgraded, kept) = settled();
    stop(&[daemon::UNIT]);
    eventually("nothing is attached", || attachments().is_empty());
    daemon::started();
    wait_attached(SERVICE);
    wait_watched();
    let (fresh, of_fresh) = settled();
    assert_eq!(fresh.counts(), upgraded.counts(), "links, maps, programs");
    assert_eq!(of_fresh, kept);
}

#[test]
fn programs_of_an_older_version_are_replaced_one_by_one_and_kills_are_not_forgotten() {
    let _machine = TestMachine::enter();
    let mut scene = scene(PRESSURE);
    // In every object, and in nothing else: the compiler's name.
    let _build = AnotherBuild::make(b"clang version 19", b"clang version 18");
    let journal = Journal::from_now();
    let before = upgrade(&mut scene);
    assert_replaced(&before);
    assert_eq!(
        journal
            .entries(&["MESSAGE_ID=69721dcd6eaa432c83e1cf34827ac75a"])
            .len(),
        0
    );
}

#[test]
fn maps_of_an_older_layout_are_left_with_their_programs() {
    let _machine = TestMachine::enter();
    let mut scene = scene(PRESSURE);
    // A comment in what C and Rust tell each other, from which the version of the layout is made.
    let _build = AnotherBuild::make(
        b"/* What dies in the leaf that was chosen. */",
        b"/* Who  dies in the leaf that was chosen. */",
    );
    let before = upgrade(&mut scene);
    assert_replaced(&before);
}

#[test]
fn what_is_of_an_unknown_version_stays_in_force_and_is_told() {
    let _machine = TestMachine::enter();
    let mut scene = scene("");
    let before = links();
    // As if a daemon with other names had put them into the store.
    let text = format!(
        "[Service]\nSystemCallFilter=@system-service\nExecStart=\nExecStart=/bin/sh -c 'LISTEN_FDNAMES=$(echo :$LISTEN_FDNAMES | sed \"s/:1/:2/g; s/^://\"); exec {DAEMON}'\n"
    );
    scene.units.write_drop_in(daemon::UNIT, "50-names", &text);
    daemon_reload();
    let journal = Journal::from_now();
    systemctl(&["restart", daemon::UNIT]);
    assert_eq!(links(), before);
    let entry = journal.wait_for_message(daemon::UNIT, "another version of bpf-oomd left");
    assert!(field(&entry, "MESSAGE").contains("2.maps."), "{entry:?}");
    // What it would attach there it cannot, and says so of the unit.
    journal.wait_for(&[
        "MESSAGE_ID=69721dcd6eaa432c83e1cf34827ac75a",
        &format!("UNIT={SERVICE}"),
    ]);
    assert_eq!(show(SERVICE, "ActiveState"), "active");
    scene.units.remove_drop_in(daemon::UNIT, "50-names");
    daemon_reload();
    stop(&[daemon::UNIT]);
    eventually("nothing is attached", || attachments().is_empty());
    daemon::started();
}

#[test]
fn what_systemd_has_no_room_for_is_in_force_all_the_same_and_is_a_fault() {
    let _machine = TestMachine::enter();
    let mut scene = scene("");
    stop(&[daemon::UNIT]);
    let text = "[Service]\nFileDescriptorStoreMax=12\n";
    scene.units.write_drop_in(daemon::UNIT, "50-small", text);
    daemon_reload();
    let journal = Journal::from_now();
    daemon::started();
    wait_attached(SERVICE);
    journal.wait_for_message(daemon::UNIT, "(FileDescriptorStoreMax=)");
    assert_eq!(show_number(daemon::UNIT, "NFileDescriptorStore"), 12);
    assert_eq!(attachments().len(), 2);
    // What was kept in part only is of no use to the next one, which begins anew with that.
    systemctl(&["restart", daemon::UNIT]);
    wait_attached(SERVICE);
    assert_eq!(attachments().len(), 2);
    stop(&[daemon::UNIT]);
    scene.units.remove_drop_in(daemon::UNIT, "50-small");
    daemon_reload();
    daemon::started();
}
