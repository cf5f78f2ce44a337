// SPDX-License-Identifier: MIT OR Apache-2.0
//! A misspelt policy is told to whoever looks, and takes nothing away.

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, wait_attached};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::seed_units::{INNER, LARGER, SLICE, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{cgroup_of, daemon_reload, eventually, wait_for_property};

const MISSPELT: &str =
    "[Slice]\n# Decides for the inner slice.\nManagedOOMPolicy=bpf:bigest-leaf\n";

#[test]
fn a_misspelt_policy_is_told_with_file_line_and_suggestion_and_the_slice_above_decides() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut tree = SeedUnits::start(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    let slice = wait_attached(SLICE);
    let journal = Journal::from_now();
    let file = tree.units.write_drop_in(INNER, "50-policy", MISSPELT);
    daemon_reload();

    let file = file.to_str().expect("a path of text");
    let place = format!("{file}:3:18");
    let entry = journal.wait_for_message(daemon::UNIT, &place);
    let message = field(&entry, "MESSAGE");
    assert!(message.contains(INNER), "{message}");
    assert!(message.contains("\"bpf:bigest-leaf\""), "{message}");
    assert!(
        message.contains("did you mean \"bpf:biggest-leaf\"?"),
        "{message}"
    );
    assert_eq!(field(&entry, "CONFIG_FILE"), file);
    assert_eq!(field(&entry, "CONFIG_LINE"), "3");
    assert_eq!(field(&entry, "UNIT"), INNER);
    // An error, which journalctl shows in red.
    assert_eq!(field(&entry, "PRIORITY"), "3");
    eventually("the fault is in the daemon's status", || {
        let status = daemon::status_text();
        status.contains(&place) && status.contains("did you mean")
    });

    // The inner slice has no attachment of its own; what is above it covers it.
    assert!(!attachments().contains(&id_of(&cgroup_of(INNER))));
    assert!(attachments().contains(&slice));
    tree.run_out_of_memory();
    wait_for_property(UNKILLABLE, "StatusText", "grown");
    wait_for_property(LARGER, "Result", "oom-kill");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "OOM_ATTACHMENT_UNIT"), SLICE);
    assert_eq!(field(&entry, "VICTIM_UNIT"), LARGER);

    // Put right, it is in force, and the fault is history.
    tree.units
        .write_drop_in(INNER, "50-policy", &MISSPELT.replace("bigest", "biggest"));
    daemon_reload();
    wait_attached(INNER);
    eventually("the fault is gone from the daemon's status", || {
        !daemon::status_text().contains("fault")
    });
}

#[test]
fn a_policy_that_becomes_misspelt_stays_what_it_was() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut tree = SeedUnits::start(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    let slice = wait_attached(SLICE);
    let journal = Journal::from_now();
    let text = std::fs::read_to_string(&tree.slice_file).expect("the slice's file");
    tree.units
        .write(SLICE, &text.replace("bpf:biggest-leaf", "bpf:bigest-leaf"));
    daemon_reload();
    journal.wait_for_message(daemon::UNIT, "did you mean \"bpf:biggest-leaf\"?");
    assert!(attachments().contains(&slice));
}
