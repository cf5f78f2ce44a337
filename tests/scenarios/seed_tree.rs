// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree that the project began with, made of real units.

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, wait_attached};
use bpf_oomd_tests::cgroup::{MIB, id_of};
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field, number};
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::seed_units::{DISLIKED, LARGER, SERVICES, SLICE, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{cgroup_of, eventually, show, show_number, wait_for_property};

fn main_pids() -> Vec<(&'static str, u64)> {
    SERVICES
        .iter()
        .map(|unit| (*unit, show_number(unit, "MainPID")))
        .collect()
}

/// `oom_kill` of the text of a memory.events file.
fn oom_kills(events: &str) -> u64 {
    let line = events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no oom_kill in {events:?}"))
}

/// All but the victim are what they were; the victim was killed, once, by an OOM.
#[track_caller]
fn assert_only_victim(tree: &SeedUnits, victim: &str, before: &[(&'static str, u64)]) {
    wait_for_property(victim, "Result", "oom-kill");
    wait_for_property(victim, "ActiveState", "failed");
    let events = tree
        .last_events(victim)
        .expect("the victim's memory.events");
    assert_eq!(oom_kills(&events), 1, "{victim}: {events}");
    // The whole tree's count: nobody else died either.
    let events = std::fs::read_to_string(tree.slice_cgroup().join("memory.events"))
        .expect("the slice's memory.events");
    assert_eq!(oom_kills(&events), 1, "{SLICE}: {events}");
    for (unit, pid) in before {
        if *unit != victim {
            assert_eq!(show(unit, "ActiveState"), "active", "{unit}");
            assert_eq!(show_number(unit, "MainPID"), *pid, "{unit}");
        }
    }
}

#[test]
fn the_largest_unit_of_a_slice_with_the_policy_dies_and_only_it() {
    let _machine = TestMachine::enter();
    daemon::started();
    let tree = SeedUnits::start(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    let slice = wait_attached(SLICE);
    let victim = id_of(&cgroup_of(LARGER));
    let before = main_pids();
    let victim_pid = show(LARGER, "MainPID");
    let log = Kmsg::before_a_report();
    let journal = Journal::from_now();

    tree.run_out_of_memory();
    wait_for_property(UNKILLABLE, "StatusText", "grown");
    assert_only_victim(&tree, LARGER, &before);

    let report = log.wait_for_report();
    assert_eq!(report[1], "oom_policy=biggest-leaf");
    let killed: Vec<_> = report
        .iter()
        .filter(|line| line.contains("Killed process"))
        .collect();
    assert_eq!(killed.len(), 1, "{killed:?}");
    assert!(
        killed[0].contains(&format!("Killed process {victim_pid} ")),
        "{killed:?}"
    );

    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "_SYSTEMD_UNIT"), daemon::UNIT);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    assert_eq!(field(&entry, "OOM_REASON"), "limit");
    assert_eq!(number(&entry, "OOM_DOMAIN_ID"), slice);
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), SLICE);
    assert_eq!(field(&entry, "OOM_ATTACHMENT_UNIT"), SLICE);
    assert_eq!(field(&entry, "VICTIM_UNIT"), LARGER);
    assert_eq!(number(&entry, "VICTIM_CGROUP_ID"), victim);
    // The unkillable one is none.
    assert_eq!(number(&entry, "OOM_CANDIDATES"), 3);
    let bytes = number(&entry, "VICTIM_BYTES");
    assert!((30 * MIB..34 * MIB).contains(&bytes), "{bytes}");
    assert_eq!(number(&entry, "VICTIM_SCORE"), bytes);
    let usage = number(&entry, "OOM_DOMAIN_BYTES");
    assert!((70 * MIB..=80 * MIB).contains(&usage), "{usage}");
    assert_eq!(number(&entry, "VICTIM_PROCESSES_TOTAL"), 1);
    let process: Vec<&str> = field(&entry, "VICTIM_PROCESSES").split(' ').collect();
    assert_eq!([process[0], process[2]], [&*victim_pid, "bpf-oomd-hog"]);
    let bytes: u64 = process[1].parse().expect("a process's bytes");
    assert!((30 * MIB..34 * MIB).contains(&bytes), "{process:?}");
    let message = field(&entry, "MESSAGE");
    assert!(
        message.contains(SLICE) && message.contains("biggest-leaf") && message.contains(LARGER),
        "{message}"
    );
    assert_eq!(
        journal
            .entries(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")])
            .len(),
        1
    );
}

#[test]
fn journalctl_of_the_victims_unit_says_why_it_died() {
    let _machine = TestMachine::enter();
    daemon::started();
    let tree = SeedUnits::start(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    wait_attached(SLICE);
    let journal = Journal::from_now();
    tree.run_out_of_memory();
    wait_for_property(LARGER, "Result", "oom-kill");
    // What `journalctl --unit=` looks for besides the unit's own entries.
    let entry = journal.wait_for(&[
        &format!("OBJECT_SYSTEMD_UNIT={LARGER}"),
        &format!("MESSAGE_ID={KILL_MESSAGE_ID}"),
    ]);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
}

#[test]
fn without_a_policy_the_report_says_default() {
    let _machine = TestMachine::enter();
    daemon::started();
    let tree = SeedUnits::start(&[]);
    assert!(attachments().is_empty(), "{:?}", attachments());
    let before = main_pids();
    let disliked_pid = show(DISLIKED, "MainPID");
    let log = Kmsg::before_a_report();
    let journal = Journal::from_now();

    tree.run_out_of_memory();
    // The unit that asked to be killed first gives way first, but its 10 MiB are not enough.
    wait_for_property(DISLIKED, "Result", "oom-kill");
    let report = log.wait_for_report();
    assert_eq!(report[1], "oom_policy=default");
    wait_for_property(UNKILLABLE, "StatusText", "grown");

    let policies: Vec<String> = log
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("oom_policy="))
        .collect();
    assert!(
        policies.iter().all(|line| line == "oom_policy=default"),
        "{policies:?}"
    );
    assert_eq!(show_number(UNKILLABLE, "MainPID"), before[1].1);
    // The kernel's kills are told like a policy's, where one looks for what happened to the unit.
    let kill = format!("MESSAGE_ID={KILL_MESSAGE_ID}");
    let entry = journal.wait_for(&[&format!("OBJECT_SYSTEMD_UNIT={DISLIKED}"), &kill]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), DISLIKED);
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), SLICE);
    assert_eq!(field(&entry, "OOM_REASON"), "limit");
    assert_eq!(field(&entry, "OOM_KILL"), "process");
    assert_eq!(field(&entry, "VICTIM_OOM_SCORE_ADJ"), "1000");
    let bytes = number(&entry, "VICTIM_BYTES");
    assert!((10 * MIB..12 * MIB).contains(&bytes), "{bytes}");
    let process: Vec<&str> = field(&entry, "VICTIM_PROCESSES").split(' ').collect();
    assert_eq!([process[0], process[2]], [&*disliked_pid, "bpf-oomd-hog"]);
    let message = field(&entry, "MESSAGE");
    assert!(
        message.starts_with(&format!("{SLICE} ran out of memory (used "))
            && message.contains(&format!("): the kernel chose {DISLIKED}, 10."))
            && message.ends_with("M in 1 process (bpf-oomd-hog)"),
        "{message}"
    );
    eventually("each kill is told once", || {
        journal.entries(&[&kill]).len() == policies.len()
    });
    let kills = journal.entries(&[&kill]);
    assert!(
        kills
            .iter()
            .all(|entry| field(entry, "OOM_POLICY") == "kernel"),
        "{kills:#?}"
    );
}
