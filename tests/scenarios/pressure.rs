// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pressure with real systemd: a unit that stalls dies of its trigger, its neighbour lives, and new units are watched from their birth.

use std::path::Path;
use std::time::Duration;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd::events::stall::STALL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{links, watched};
use bpf_oomd_tests::cgroup::{MIB, id_of, pressure_of};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Entry, Journal, field, number};
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::{TestMachine, meminfo};
use bpf_oomd_tests::oomctl::{property, told};
use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::programs;
use bpf_oomd_tests::swap::Swap;
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, signal, start, stop, systemctl, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};
use bpf_oomd_tests::wait::since_boot;

const SLICE: &str = "scene.slice";
const STALLING: &str = "scene-stalling.service";
const QUIET: &str = "scene-quiet.service";
/// Of the triggers in these tests.
const WINDOW: Duration = Duration::from_secs(1);

const EACH_UNIT: &str =
    "[slice.\"scene.slice\".pressure]\nstall = \"100ms\"\napplies-to = \"each-unit\"\n";

/// A slice with a policy, and in it a unit that will want 500 MB and is held back over 40, and one of 20 MB. `configuration` is what is
/// configured, `settings` what the first unit says itself.
#[track_caller]
fn scene(configuration: &str, settings: &[&str]) -> (Configuration, Units) {
    daemon::started();
    let mut files = Configuration::new();
    files.write("50-scene", configuration);
    let mut units = Units::new();
    units.write(
        SLICE,
        &slice(&[
            "ManagedOOMPolicy=bpf:biggest-leaf",
            "MemorySwapMax=infinity",
        ]),
    );
    let stalling = [&["MemoryHigh=40M"], settings].concat();
    units.write(
        STALLING,
        &hog_service(
            SLICE,
            &stalling,
            "anon=10M notify=READY=1 usr1 anon=500M pause",
        ),
    );
    units.write(
        QUIET,
        &hog_service(SLICE, &[], "anon=20M notify=READY=1 pause"),
    );
    daemon_reload();
    start(&[STALLING, QUIET]);
    (files, units)
}

/// How long all tasks of a cgroup have waited for memory so far.
fn stalled(cgroup: &Path) -> Duration {
    pressure_of(cgroup, "memory", "full")
}

#[track_caller]
fn wait_watched(unit: &str) {
    let id = id_of(&cgroup_of(unit));
    eventually("the unit has its trigger", || watched().contains(&id));
}

/// Lets the unit stall until it has died. Returns the record, and how long after the beginning of the stall it was made.
#[track_caller]
fn stall_until_death() -> (Entry, Duration) {
    let cgroup = cgroup_of(STALLING);
    let journal = Journal::from_now();
    let before = stalled(&cgroup);
    signal(STALLING, "USR1");
    let mut began = Duration::ZERO;
    eventually("the unit stalls", || {
        let so_far = stalled(&cgroup) - before;
        began = since_boot() - so_far;
        so_far > Duration::from_millis(20)
    });
    wait_for_property(STALLING, "Result", "oom-kill");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    let killed = Duration::from_micros(number(&entry, "OOM_BOOTTIME_USEC"));
    (entry, killed.saturating_sub(began))
}

#[track_caller]
fn check_death(entry: &Entry, after: Duration) {
    assert!(after <= 2 * WINDOW, "it took {after:?}");
    assert_eq!(field(entry, "VICTIM_UNIT"), STALLING);
    assert_eq!(field(entry, "OOM_DOMAIN_UNIT"), STALLING);
    assert_eq!(field(entry, "OOM_REASON"), "pressure");
    assert_eq!(field(entry, "OOM_STALL_RESOURCE"), "memory");
    assert_eq!(field(entry, "OOM_STALL_LEVEL"), "full");
    assert_eq!(number(entry, "OOM_STALL_WINDOW_USEC"), 1_000_000);
    let stall = number(entry, "OOM_STALL_USEC");
    assert!((100_000..=1_000_000).contains(&stall), "{stall}");
    // From the trigger, not from a limit.
    let used = number(entry, "OOM_DOMAIN_BYTES");
    assert!(used < 200 * MIB, "{used}");
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn without_swap_a_unit_over_memory_high_dies_of_its_stall() {
    let _machine = TestMachine::enter();
    let _scene = scene("", &["ManagedOOMPolicyPressure=memory full 100ms/1s"]);
    wait_watched(STALLING);
    let log = Kmsg::before_a_report();
    let cgroup = id_of(&cgroup_of(STALLING));
    let (entry, after) = stall_until_death();
    check_death(&entry, after);
    assert_eq!(number(&entry, "OOM_DOMAIN_ID"), cgroup);
    assert_eq!(field(&entry, "OOM_STALL_HELD_BACK"), "true");
    let message = field(&entry, "MESSAGE");
    assert!(message.contains("held back by memory.high"), "{message}");
    let report = log.wait_for_report();
    assert!(
        report
            .iter()
            .any(|line| line.contains("constraint=CONSTRAINT_BPF_PSI_MEM")),
        "{report:#?}"
    );
}

#[test]
fn with_swap_too() {
    let _machine = TestMachine::enter();
    let _swap = Swap::on(1024 * MIB);
    let _scene = scene(
        "",
        &[
            "ManagedOOMPolicyPressure=memory full 100ms/1s",
            "MemorySwapMax=infinity",
        ],
    );
    wait_watched(STALLING);
    let (entry, after) = stall_until_death();
    check_death(&entry, after);
    assert_ne!(number(&entry, "OOM_STALL_SCANNED"), 0);
}

#[test]
fn units_of_a_slice_are_watched_before_their_first_process_runs() {
    let _machine = TestMachine::enter();
    let _scene = scene(EACH_UNIT, &[]);
    wait_watched(STALLING);
    wait_watched(QUIET);
    stop(&[STALLING]);

    let program = Program::load(programs::FIRST_PROCESS);
    program.set("above", id_of(&cgroup_of(SLICE)));
    let _link = program.attach("first_run");
    start(&[STALLING]);
    let id = id_of(&cgroup_of(STALLING));
    assert_ne!(program.get("processes"), 0);
    assert_eq!(program.get_at("cgroup_id", 0), id);
    assert_eq!(program.get_at("triggers", 0), 1);
    let (entry, after) = stall_until_death();
    check_death(&entry, after);
}

#[test]
fn a_units_own_pressure_comes_before_its_slices_and_none_means_none() {
    let _machine = TestMachine::enter();
    let (mut configuration, _units) = scene(EACH_UNIT, &[]);
    wait_watched(STALLING);
    // Nobody may be killed for this.
    configuration.write(
        "60-own",
        "[unit.\"scene-stalling.service\"]\npressure = \"none\"\n",
    );
    let id = id_of(&cgroup_of(STALLING));
    eventually("the trigger is ignored", || !watched().contains(&id));
    let cgroup = cgroup_of(STALLING);
    let before = stalled(&cgroup);
    signal(STALLING, "USR1");
    eventually("it stalls for seconds", || {
        stalled(&cgroup) - before > 4 * WINDOW
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
fn a_dry_run_says_who_would_have_died() {
    let _machine = TestMachine::enter();
    let _scene = scene(
        "[slice.\"scene.slice\".pressure]\nlevel = \"some\"\nstall = \"100ms\"\naction = \"report\"\n",
        &[],
    );
    wait_watched(SLICE);
    let journal = Journal::from_now();
    signal(STALLING, "USR1");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={STALL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "OOM_OUTCOME"), "reported");
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), SLICE);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    assert_eq!(field(&entry, "VICTIM_UNIT"), STALLING);
    let message = field(&entry, "MESSAGE");
    assert!(
        message.contains("would have chosen scene-stalling.service"),
        "{message}"
    );
    assert_eq!(show(STALLING, "ActiveState"), "active");
    assert_eq!(show(QUIET, "ActiveState"), "active");
}

#[test]
fn events_that_did_not_act_are_shown_with_the_reason() {
    let _machine = TestMachine::enter();
    let _scene = scene(
        "",
        &["ManagedOOMPolicyPressure=memory full 100ms/1s min-usage=600M"],
    );
    wait_watched(STALLING);
    let line = || -> String {
        let text = told(&["pressure"]);
        let line = text.lines().find(|line| line.starts_with(STALLING));
        line.map_or(String::new(), str::to_owned)
    };
    let setting = "memory full 100ms/1s min-usage=600M";
    assert_eq!(line(), format!("{STALLING}  {setting}  none"));
    signal(STALLING, "USR1");
    eventually("it is left alone because it uses little", || {
        line().contains("too-small ")
    });
    assert_eq!(show(STALLING, "ActiveState"), "active");
}

#[test]
fn what_is_refused_is_told_and_the_rest_is_watched() {
    let _machine = TestMachine::enter();
    daemon::started();
    let journal = Journal::from_now();
    let _scene = scene("", &["ManagedOOMPolicyPressure=memory full 100ms/100ms"]);
    journal.wait_for_message(daemon::UNIT, "expected a window from 500ms to 10s");
    assert!(!watched().contains(&id_of(&cgroup_of(STALLING))));
}

#[test]
fn five_hundred_units_are_watched_by_one_attachment_and_wake_nobody_while_nothing_happens() {
    const MANY: usize = 500;
    let _machine = TestMachine::enter();
    let mut units = Units::new();
    units.start_slices("many", MANY);
    daemon::restart_without_watchdog(&mut units);
    let links_before = links().len();
    let before = kernel_memory();

    let mut configuration = Configuration::new();
    configuration.write(
        "50-many",
        "[unit.\"many*.slice\"]\npressure = \"memory full 400ms/1s\"\n",
    );
    eventually("all slices are watched", || watched().len() == MANY);
    assert_eq!(links().len(), links_before + 1);
    let each = kernel_memory().saturating_sub(before) / MANY as u64;
    println!("a unit that is watched costs the kernel {each} bytes");
    assert!(each < 64 * 1024, "{each} bytes");

    let mut counted = wakeups_counted();
    daemon::wait_for_a_minute_of_sleep(|switches| {
        let now = wakeups_counted();
        // Whoever asked has come and gone, which may be one.
        assert!(
            now - counted <= switches + 1,
            "it counted {}",
            now - counted
        );
        counted = now;
    });
    drop(units);
    systemctl(&["restart", daemon::UNIT]);
}

/// The daemon's own count.
fn wakeups_counted() -> u64 {
    let text = property("Wakeups");
    let count = text.strip_prefix("t ").expect("a 64-bit number");
    count.parse().expect("a number")
}

/// Stacks of kernel threads and memory of the kernel that it cannot give back, in bytes.
fn kernel_memory() -> u64 {
    ["SUnreclaim:", "KernelStack:", "Percpu:"]
        .into_iter()
        .map(meminfo)
        .sum()
}
