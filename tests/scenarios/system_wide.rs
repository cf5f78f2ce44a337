// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole machine runs out of memory, with a policy on `-.slice`.
//!
//! A test target of its own, for a machine with little memory (512 MB) and a boot of its own: every page is used, and what such
//! an OOM leaves behind is nothing for other tests to build on.

mod usable;

use std::fs;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, watched};
use bpf_oomd_tests::cgroup::{MIB, id_of};
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field, number};
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::{TestMachine, meminfo, vmstat};
use bpf_oomd_tests::swap::Swap;
use bpf_oomd_tests::systemctl::{
    PATIENCE, cgroup_of, daemon_reload, eventually, show, show_number, signal, start,
    wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service};
use bpf_oomd_tests::wait::eventually_within;

const MANY: &str = "system-many.service";
const ONE: &str = "system-one.service";
const GROWING: &str = "system-growing.service";
const PROCESSES: u64 = 8;

fn megabytes(bytes: u64) -> String {
    format!("{}M", bytes / MIB)
}

/// A unit that uses 40% of what there is in eight processes, one that uses 25% in one process, and one that does `grow` with half of
/// it, more than the rest, when it is told to. The kernel's own killer compares processes; the policy compares units.
#[track_caller]
fn scene(units: &mut Units, grow: &str, settings: &[&str]) {
    let available = meminfo("MemAvailable:");
    assert!(
        available < 2048 * MIB,
        "this test is for a machine with little memory; {} MiB are available here",
        available / MIB
    );
    let service = |steps: &str, settings: &[&str]| hog_service("system.slice", settings, steps);
    units.write(
        MANY,
        &service(
            &format!(
                "fork={} anon={} notify=READY=1 pause",
                PROCESSES - 1,
                megabytes(available * 40 / 100 / PROCESSES)
            ),
            // Otherwise systemd stops the unit at the first kill, and ends some of the others itself.
            &["OOMPolicy=continue"],
        ),
    );
    units.write(
        ONE,
        &service(
            &format!(
                "anon={} notify=READY=1 pause",
                megabytes(available * 25 / 100)
            ),
            &[],
        ),
    );
    units.write(
        GROWING,
        &service(
            &format!(
                "notify=READY=1 usr1 {grow}={} notify=STATUS=grown pause",
                megabytes(available * 50 / 100)
            ),
            // It is what the machine is for: never the victim.
            &[&["OOMScoreAdjust=-1000"], settings].concat(),
        ),
    );
    daemon_reload();
    start(&[MANY, ONE, GROWING]);
    let expected = available * 38 / 100;
    let usage = cgroup_of(MANY).join("memory.current");
    eventually("all processes have their memory", || {
        let text = fs::read_to_string(&usage).expect("memory.current");
        text.trim().parse::<u64>().expect("bytes") >= expected
    });
}

#[test]
fn with_the_policy_on_the_root_slice_the_largest_unit_of_the_system_dies() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write_drop_in(
        "-.slice",
        "50-policy",
        "[Slice]\nManagedOOMPolicy=bpf:biggest-leaf\n",
    );
    scene(&mut units, "anon", &[]);
    // 0 is the system.
    eventually("the policy is on the system", || attachments().contains(&0));
    let victim = id_of(&cgroup_of(MANY));
    let survivors = [ONE, GROWING, daemon::UNIT, "dbus.service"];
    let before = survivors.map(|unit| show_number(unit, "MainPID"));
    let kills = vmstat("oom_kill");
    let log = Kmsg::before_a_report();
    let journal = Journal::from_now();

    signal(GROWING, "USR1");
    eventually_within(PATIENCE, || {
        let status = show(GROWING, "StatusText");
        (status == "grown")
            .then_some(())
            .ok_or_else(|| format!("{GROWING} says {status:?}"))
    });
    wait_for_property(MANY, "ActiveState", "failed");

    assert_eq!(vmstat("oom_kill") - kills, PROCESSES);
    assert_eq!(survivors.map(|unit| show_number(unit, "MainPID")), before);
    let report = log.wait_for_report();
    assert_eq!(report[1], "oom_policy=biggest-leaf");
    assert!(
        report
            .iter()
            .any(|line| line.contains("Out of memory: ") || line.contains("global_oom")),
        "{report:#?}"
    );

    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "OOM_REASON"), "system");
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    assert_eq!(number(&entry, "OOM_DOMAIN_ID"), 0);
    assert_eq!(field(&entry, "OOM_ATTACHMENT_UNIT"), "-.slice");
    assert_eq!(field(&entry, "VICTIM_UNIT"), MANY);
    assert_eq!(number(&entry, "VICTIM_CGROUP_ID"), victim);
    assert_eq!(number(&entry, "VICTIM_PROCESSES_TOTAL"), PROCESSES);

    units.remove_drop_in("-.slice", "50-policy");
    daemon_reload();
    eventually("the policy is off the system", || attachments().is_empty());
}

#[test]
fn without_a_policy_the_kernel_takes_the_largest_process() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    scene(&mut units, "anon", &[]);
    assert!(attachments().is_empty());
    let victim = id_of(&cgroup_of(ONE));
    let log = Kmsg::before_a_report();
    let journal = Journal::from_now();
    signal(GROWING, "USR1");
    eventually_within(PATIENCE, || {
        let result = show(ONE, "Result");
        (result == "oom-kill")
            .then_some(())
            .ok_or_else(|| format!("{ONE} ended with {result:?}"))
    });
    assert_eq!(log.wait_for_report()[1], "oom_policy=default");
    assert_eq!(show(MANY, "ActiveState"), "active");

    let entry = journal.wait_for(&[
        &format!("MESSAGE_ID={KILL_MESSAGE_ID}"),
        &format!("VICTIM_UNIT={ONE}"),
    ]);
    assert_eq!(field(&entry, "OOM_POLICY"), "kernel");
    assert_eq!(field(&entry, "OOM_REASON"), "system");
    assert_eq!(number(&entry, "OOM_DOMAIN_ID"), 0);
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), "-.slice");
    assert_eq!(number(&entry, "VICTIM_CGROUP_ID"), victim);
    assert!(number(&entry, "OOM_DOMAIN_BYTES") >= number(&entry, "VICTIM_BYTES"));
    assert_ne!(number(&entry, "VICTIM_BYTES"), 0);
    assert_eq!(number(&entry, "VICTIM_PROCESSES_TOTAL"), 1);
}

#[test]
fn a_stall_of_the_whole_system_costs_its_largest_unit() {
    let _machine = TestMachine::enter();
    daemon::started();
    let _swap = Swap::on(1024 * MIB);
    let mut units = Units::new();
    units.write_drop_in(
        "-.slice",
        "50-policy",
        "[Slice]\nManagedOOMPolicy=bpf:biggest-leaf\nManagedOOMPolicyPressure=memory some 10%/1s\n",
    );
    // It fits into memory and swap, but not into memory.
    scene(&mut units, "churn", &["MemorySwapMax=infinity"]);
    eventually("the system is watched", || watched().contains(&0));
    let survivors = [ONE, GROWING, daemon::UNIT, "dbus.service"];
    let before = survivors.map(|unit| show_number(unit, "MainPID"));
    let log = Kmsg::before_a_report();
    let journal = Journal::from_now();

    signal(GROWING, "USR1");
    wait_for_property(MANY, "ActiveState", "failed");
    assert_eq!(survivors.map(|unit| show_number(unit, "MainPID")), before);
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "OOM_REASON"), "pressure");
    assert_eq!(number(&entry, "OOM_DOMAIN_ID"), 0);
    assert_eq!(field(&entry, "VICTIM_UNIT"), MANY);
    assert_eq!(field(&entry, "OOM_STALL_LEVEL"), "some");
    assert_ne!(number(&entry, "OOM_STALL_SCANNED"), 0);
    let report = log.wait_for_report();
    assert!(
        report
            .iter()
            .any(|line| line.contains("constraint=CONSTRAINT_BPF_PSI_MEM")
                && line.contains("global_oom")),
        "{report:#?}"
    );
}
