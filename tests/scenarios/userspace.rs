// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same policies on a kernel as distributions ship it: the daemon watches, the policy's program chooses, the daemon kills.
//!
//! A test target of its own, for a machine with a stock kernel (`tests/vm/run --stock 6.12 -- userspace --test-threads=1`).

#[path = "userspace/before_a_kill.rs"]
mod before_a_kill;
#[path = "userspace/hostile.rs"]
mod hostile;
#[path = "userspace/life.rs"]
mod life;
#[path = "userspace/memory_is_gone.rs"]
mod memory_is_gone;
#[path = "userspace/nominate.rs"]
mod nominate;
#[path = "userspace/rights.rs"]
mod rights;
#[path = "userspace/spared.rs"]
mod spared;
#[path = "userspace/still.rs"]
mod still;
#[path = "userspace/victims.rs"]
mod victims;

use std::time::Duration;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd::events::stall::STALL_MESSAGE_ID;
use bpf_oomd_tests::cgroup::{MIB, id_of, pressure_of};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Entry, Journal, field, number};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{json, listed, of, told, wait_in_force};
use bpf_oomd_tests::seed_units::{DISLIKED, LARGER, SLICE, SMALLER, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, show_number, signal, start, stop, systemctl_fails,
    systemctl_if_possible, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};
use bpf_oomd_tests::wait::all_the_time;

const SCENE: &str = "scene.slice";
const STALLING: &str = "scene-stalling.service";
const QUIET: &str = "scene-quiet.service";

/// What makes a unit that is held back by memory.high die soon.
const SOON: &str = "ManagedOOMPolicyPressure=memory full 100ms/1s";

fn kills() -> String {
    format!("MESSAGE_ID={KILL_MESSAGE_ID}")
}

/// The line of a unit that is watched for pressure, as people see it.
fn watched(unit: &str) -> Option<String> {
    let text = told(&["pressure"]);
    let line = text.lines().find(|line| line.starts_with(unit));
    line.map(str::to_owned)
}

#[track_caller]
fn wait_watched(unit: &str) {
    eventually("the unit is watched", || watched(unit).is_some());
}

/// The seed tree without a limit at which the kernel would kill: it is held back instead.
#[track_caller]
fn seed(settings: &[&str]) -> SeedUnits {
    let held_back = ["MemoryMax=infinity", "MemoryHigh=80M"];
    SeedUnits::start(&[&held_back, settings].concat())
}

/// All services of the tree but the victim are as they were.
#[track_caller]
fn check_only_victim(victim: &str) {
    for unit in [DISLIKED, UNKILLABLE, LARGER, SMALLER] {
        let expected = if unit == victim { "failed" } else { "active" };
        wait_for_property(unit, "ActiveState", expected);
    }
}

#[test]
fn the_largest_unit_of_a_slice_that_stalls_dies_and_only_it() {
    let _machine = TestMachine::enter();
    daemon::started();
    let tree = seed(&["ManagedOOMPolicy=bpf:biggest-leaf", SOON]);
    wait_in_force(SLICE);
    wait_watched(SLICE);
    let slice = id_of(&cgroup_of(SLICE));
    let victim = id_of(&cgroup_of(LARGER));
    let pid = show_number(LARGER, "MainPID");
    let journal = Journal::from_now();

    tree.run_out_of_memory();
    wait_for_property(UNKILLABLE, "StatusText", "grown");
    check_only_victim(LARGER);

    let entry = journal.wait_for(&[&kills(), &format!("OBJECT_SYSTEMD_UNIT={LARGER}")]);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    assert_eq!(field(&entry, "OOM_REASON"), "pressure");
    assert_eq!(number(&entry, "OOM_DOMAIN_ID"), slice);
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), SLICE);
    assert_eq!(field(&entry, "OOM_ATTACHMENT_UNIT"), SLICE);
    assert_eq!(field(&entry, "VICTIM_UNIT"), LARGER);
    assert_eq!(number(&entry, "VICTIM_CGROUP_ID"), victim);
    assert_eq!(field(&entry, "OOM_KILL"), "cgroup");
    let bytes = number(&entry, "VICTIM_BYTES");
    assert!((28 * MIB..=34 * MIB).contains(&bytes), "{bytes}");
    let processes = field(&entry, "VICTIM_PROCESSES");
    assert!(processes.starts_with(&format!("{pid} ")), "{processes}");
    assert_eq!(number(&entry, "OOM_STALL_WINDOW_USEC"), 1_000_000);
    assert_eq!(journal.entries(&[&kills()]).len(), 1);
    assert_eq!(listed(LARGER)["kills"], 1);
}

/// A slice with a policy, and in it a unit that will want 500 MB and is held back over 40, and one of 20 MB. `configuration` is what is
/// configured, `settings` what the first unit says itself. If nothing is configured for the slice, it is not watched itself.
#[track_caller]
fn scene(configuration: &str, settings: &[&str]) -> (Configuration, Units) {
    daemon::started();
    let mut files = Configuration::new();
    let quiet = match configuration.contains("scene.slice") {
        true => "",
        false => "[slice.\"scene.slice\"]\npressure = \"none\"\n",
    };
    files.write("50-scene", &format!("{quiet}{configuration}"));
    let mut units = Units::new();
    units.write(SCENE, &slice(&["ManagedOOMPolicy=bpf:biggest-leaf"]));
    units.write(
        STALLING,
        &hog_service(
            SCENE,
            &[&["MemoryHigh=40M"], settings].concat(),
            "anon=10M notify=READY=1 usr1 anon=500M pause",
        ),
    );
    units.write(
        QUIET,
        &hog_service(SCENE, &[], "anon=20M notify=READY=1 pause"),
    );
    daemon_reload();
    start(&[STALLING, QUIET]);
    wait_in_force(SCENE);
    (files, units)
}

/// Lets the unit stall until somebody has died for it.
#[track_caller]
fn stall_until_a_kill() -> Entry {
    let journal = Journal::from_now();
    signal(STALLING, "USR1");
    journal.wait_for(&[&kills()])
}

#[test]
fn a_unit_over_memory_high_dies_of_its_stall_and_its_neighbour_lives() {
    let _machine = TestMachine::enter();
    let _scene = scene("", &[SOON]);
    wait_watched(STALLING);
    let entry = stall_until_a_kill();
    assert_eq!(field(&entry, "VICTIM_UNIT"), STALLING);
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), STALLING);
    assert_eq!(field(&entry, "OOM_ATTACHMENT_UNIT"), SCENE);
    let used = number(&entry, "OOM_DOMAIN_BYTES");
    assert!(used < 200 * MIB, "{used}");
    let stall = number(&entry, "OOM_STALL_USEC");
    assert!((100_000..=1_000_000).contains(&stall), "{stall}");
    // As with a kill by the kernel.
    wait_for_property(STALLING, "Result", "oom-kill");
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn new_units_of_a_slice_are_watched_and_a_change_of_the_configuration_counts_at_once() {
    let _machine = TestMachine::enter();
    let (mut configuration, _units) = scene(
        "[slice.\"scene.slice\".pressure]\nstall = \"100ms\"\napplies-to = \"each-unit\"\n",
        &[],
    );
    wait_watched(QUIET);
    stop(&[STALLING]);
    start(&[STALLING]);
    wait_watched(STALLING);
    configuration.write(
        "60-own",
        "[unit.\"scene-stalling.service\"]\npressure = \"none\"\n",
    );
    eventually("it is not watched any more", || watched(STALLING).is_none());
    let cgroup = cgroup_of(STALLING);
    let before = pressure_of(&cgroup, "memory", "full");
    signal(STALLING, "USR1");
    eventually("it stalls for seconds", || {
        pressure_of(&cgroup, "memory", "full") - before > Duration::from_secs(4)
    });
    assert_eq!(show(STALLING, "ActiveState"), "active");
    // And with one of its own, it dies.
    configuration.write(
        "60-own",
        "[unit.\"scene-stalling.service\"]\npressure = \"memory full 50%/2s for=0\"\n",
    );
    wait_for_property(STALLING, "Result", "oom-kill");
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn of_a_unit_that_says_so_only_the_largest_process_dies() {
    const MANY: &str = "scene-many.service";
    let _machine = TestMachine::enter();
    let (_configuration, mut units) = scene("", &[]);
    units.write(
        MANY,
        &hog_service(
            SCENE,
            &[
                "MemoryHigh=40M",
                SOON,
                "ManagedOOMPolicyKill=process",
                "OOMPolicy=continue",
                "Type=notify",
                "NotifyAccess=all",
            ],
            "fork=2 anon=2M notify=READY=1 usr1 anon=500M pause",
        ),
    );
    daemon_reload();
    start(&[MANY]);
    wait_watched(MANY);
    let cgroup = cgroup_of(MANY);
    let processes = || {
        let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("there are three", || processes().len() == 3);
    let main = show(MANY, "MainPID");
    let children: Vec<String> = processes().into_iter().filter(|pid| *pid != main).collect();
    let journal = Journal::from_now();
    // One of them grows; the others wait.
    let grow = std::process::Command::new("sh")
        .args(["-c", &format!("kill -USR1 {}", children[0])])
        .status()
        .expect("run sh");
    assert!(grow.success());
    let entry = journal.wait_for(&[&kills()]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), MANY);
    assert_eq!(field(&entry, "OOM_KILL"), "process");
    assert_eq!(number(&entry, "VICTIM_PROCESSES_TOTAL"), 3);
    let killed = field(&entry, "VICTIM_PROCESSES");
    assert!(killed.starts_with(&format!("{} ", children[0])), "{killed}");
    assert_eq!(killed.lines().count(), 1, "{killed}");
    eventually("one is gone", || processes().len() == 2);
    assert!(!processes().contains(&children[0]));
    assert_eq!(show(MANY, "MainPID"), main);
}

#[test]
fn a_dry_run_says_who_would_have_died() {
    let _machine = TestMachine::enter();
    let _scene = scene(
        "[slice.\"scene.slice\".pressure]\nlevel = \"some\"\nstall = \"100ms\"\naction = \"report\"\n",
        &[],
    );
    wait_watched(SCENE);
    let journal = Journal::from_now();
    signal(STALLING, "USR1");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={STALL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "OOM_OUTCOME"), "reported");
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), SCENE);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    assert_eq!(field(&entry, "VICTIM_UNIT"), STALLING);
    assert_eq!(show(STALLING, "ActiveState"), "active");
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn events_that_did_not_act_are_shown_with_the_reason() {
    let _machine = TestMachine::enter();
    let _scene = scene("", &[&format!("{SOON} min-usage=600M")]);
    wait_watched(STALLING);
    signal(STALLING, "USR1");
    eventually("it is left alone because it uses little", || {
        watched(STALLING).is_some_and(|line| line.contains("too-small "))
    });
    assert_eq!(show(STALLING, "ActiveState"), "active");
}

#[test]
fn what_is_left_to_the_kernel_is_left_alone_and_the_kernels_kill_is_recorded() {
    const LIMITED: &str = "scene-limited.service";
    let _machine = TestMachine::enter();
    let (_configuration, mut units) = scene("", &[]);
    units.write(
        LIMITED,
        &hog_service(
            SCENE,
            &["MemoryMax=24M", "ManagedOOMPolicy=kernel", SOON],
            "notify=READY=1 usr1 anon=64M pause",
        ),
    );
    daemon_reload();
    start(&[LIMITED]);
    eventually("it is known", || listed(LIMITED)["policy"] == "kernel");
    let cgroup = id_of(&cgroup_of(LIMITED));
    let pid = show_number(LIMITED, "MainPID");
    let journal = Journal::from_now();
    signal(LIMITED, "USR1");
    wait_for_property(LIMITED, "Result", "oom-kill");
    let entry = journal.wait_for(&[&kills(), &format!("OBJECT_SYSTEMD_UNIT={LIMITED}")]);
    assert_eq!(field(&entry, "OOM_POLICY"), "kernel");
    assert_eq!(field(&entry, "OOM_REASON"), "limit");
    assert_eq!(number(&entry, "OOM_DOMAIN_ID"), cgroup);
    let processes = field(&entry, "VICTIM_PROCESSES");
    assert!(processes.starts_with(&format!("{pid} ")), "{processes}");
    assert_eq!(journal.entries(&[&kills()]).len(), 1);
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn a_policy_alone_is_asked_when_its_slice_stands_still() {
    let _machine = TestMachine::enter();
    daemon::started();
    let tree = seed(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    wait_in_force(SLICE);
    eventually("it is watched by default", || {
        watched(SLICE).is_some_and(|line| line.contains("memory full 500ms/1s for=3s"))
    });
    tree.run_out_of_memory();
    wait_for_property(UNKILLABLE, "StatusText", "grown");
    check_only_victim(LARGER);
}

#[test]
fn with_a_machine_low_on_memory_the_policy_of_the_root_slice_is_asked() {
    let _machine = TestMachine::enter();
    let (mut configuration, _units) = scene(
        "[slice.\"-.slice\"]\npolicy = \"bpf:biggest-leaf\"\npressure = \"none\"\n",
        &["ManagedOOMPolicyPressure=none"],
    );
    wait_in_force("-.slice");
    // It waits for memory, by a limit of its own; that the machine has less than nearly all of it available is so all the time.
    let journal = Journal::from_now();
    signal(STALLING, "USR1");
    all_the_time(
        Duration::from_secs(2),
        "somebody is killed though nothing is said",
        || journal.entries(&[&kills()]).is_empty(),
    );
    configuration.write("60-machine", "[defaults]\nmin-available = \"99%\"\n");
    let entry = journal.wait_for(&[&kills()]);
    assert_eq!(field(&entry, "OOM_REASON"), "system");
    assert_eq!(field(&entry, "OOM_ATTACHMENT_UNIT"), "-.slice");
    assert_eq!(field(&entry, "VICTIM_UNIT"), STALLING);
    // The cooldown keeps everybody else alive.
    configuration.remove("60-machine");
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn bpf_oomctl_says_what_there_is_and_what_is_missing() {
    let _machine = TestMachine::enter();
    let _scene = scene("", &[SOON]);
    wait_watched(STALLING);
    let status = json(&["status"]);
    assert_eq!(status["engine"], "userspace");
    let parts = &status["kernel_interface"];
    assert_eq!(of(parts, "name", "oom-handlers")["present"], false);
    for name in [
        "iterators",
        "pressure-files",
        "memory-events",
        "cgroup-kill",
        "process-release",
    ] {
        assert_eq!(of(parts, "name", name)["present"], true, "{parts}");
    }
    let text = told(&["status"]);
    assert!(
        text.contains("oom-handlers: missing. The daemon chooses and kills"),
        "{text}"
    );
    let simulated = told(&["simulate", SCENE]);
    assert!(simulated.contains(QUIET), "{simulated}");
    let explained = told(&["explain", STALLING]);
    assert!(explained.contains("bpf:biggest-leaf"), "{explained}");
    assert!(told(&["list"]).contains("bpf:biggest-leaf"));
    assert!(told(&["tree"]).contains(SCENE));
}

#[test]
fn asked_for_the_kernels_engine_it_refuses_and_says_why() {
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    let mut configuration = Configuration::new();
    configuration.write("50-engine", "[defaults]\nengine = \"kernel\"\n");
    let journal = Journal::from_now();
    systemctl_if_possible(&["reset-failed", daemon::UNIT]);
    systemctl_fails(&["start", daemon::UNIT]);
    assert_eq!(show_number(daemon::UNIT, "ExecMainStatus"), 69);
    journal.wait_for_message(daemon::UNIT, "it lacks OOM handlers (struct bpf_oom_ops)");
    configuration.remove("50-engine");
    daemon::started();
    // The start-up line.
    journal.wait_for_message(daemon::UNIT, "Engine: userspace; the kernel has");
}

#[test]
fn stopping_leaves_everybody_alone() {
    let _machine = TestMachine::enter();
    let _scene = scene("", &[SOON]);
    wait_watched(STALLING);
    stop(&[daemon::UNIT]);
    let cgroup = cgroup_of(STALLING);
    signal(STALLING, "USR1");
    eventually("it stalls for seconds", || {
        pressure_of(&cgroup, "memory", "full") > Duration::from_secs(4)
    });
    assert_eq!(show(STALLING, "ActiveState"), "active");
    daemon::started();
    wait_for_property(STALLING, "Result", "oom-kill");
}

#[test]
fn a_unit_at_its_limit_with_nothing_left_to_reclaim_is_the_policys_before_the_kernel_kills() {
    const FULL: &str = "scene-full.service";
    let _machine = TestMachine::enter();
    let (_configuration, mut units) = scene("", &[]);
    units.write(
        FULL,
        &hog_service(
            SCENE,
            // Nothing but its limit is to tell of it.
            &["MemoryMax=96M", "ManagedOOMPolicyPressure=none"],
            "anon=93M notify=READY=1 usr1 cache=/var/tmp/scene-full:96M pause",
        ),
    );
    daemon_reload();
    start(&[FULL]);
    eventually("it is known", || {
        listed(FULL)["policy"] == "bpf:biggest-leaf"
    });
    let cgroup = id_of(&cgroup_of(FULL));
    let journal = Journal::from_now();
    signal(FULL, "USR1");
    let entry = journal.wait_for(&[&kills()]);
    let _ = std::fs::remove_file("/var/tmp/scene-full");
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    assert_eq!(field(&entry, "OOM_REASON"), "limit");
    assert_eq!(number(&entry, "OOM_DOMAIN_ID"), cgroup);
    assert_eq!(field(&entry, "VICTIM_UNIT"), FULL);
    assert_eq!(show(QUIET, "ActiveState"), "active");
}
