// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policies come and go with drop-ins, and the unit runs on.

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, wait_attached, wait_detached};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::seed_units::{DISLIKED, LARGER, SERVICES, SLICE, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{daemon_reload, show, show_number, wait_for_property};

const POLICY: &str = "[Slice]\nManagedOOMPolicy=bpf:biggest-leaf\n";

fn main_pids() -> Vec<u64> {
    SERVICES
        .iter()
        .map(|unit| show_number(unit, "MainPID"))
        .collect()
}

#[test]
fn a_policy_added_by_a_drop_in_decides_the_next_oom_of_units_that_ran_before() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut tree = SeedUnits::start(&[]);
    assert!(attachments().is_empty());
    let pids = main_pids();

    tree.units.write_drop_in(SLICE, "50-policy", POLICY);
    daemon_reload();
    wait_attached(SLICE);
    assert_eq!(main_pids(), pids);

    let log = Kmsg::before_a_report();
    let journal = Journal::from_now();
    tree.run_out_of_memory();
    wait_for_property(UNKILLABLE, "StatusText", "grown");
    wait_for_property(LARGER, "Result", "oom-kill");
    assert_eq!(log.wait_for_report()[1], "oom_policy=biggest-leaf");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), LARGER);
    assert_eq!(show_number(DISLIKED, "MainPID"), pids[0]);
}

#[test]
fn a_policy_is_gone_when_its_drop_in_is() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut tree = SeedUnits::start(&[]);
    tree.units.write_drop_in(SLICE, "50-policy", POLICY);
    daemon_reload();
    let slice = wait_attached(SLICE);
    let pids = main_pids();

    tree.units.remove_drop_in(SLICE, "50-policy");
    daemon_reload();
    wait_detached(slice);
    assert_eq!(
        id_of(&tree.slice_cgroup()),
        slice,
        "the slice was restarted"
    );
    assert_eq!(main_pids(), pids);

    let log = Kmsg::before_a_report();
    tree.run_out_of_memory();
    wait_for_property(DISLIKED, "Result", "oom-kill");
    assert_eq!(log.wait_for_report()[1], "oom_policy=default");
}

#[test]
fn an_empty_assignment_in_a_later_drop_in_takes_the_policy_away() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut tree = SeedUnits::start(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    let slice = wait_attached(SLICE);
    tree.units
        .write_drop_in(SLICE, "50-reset", "[Slice]\nManagedOOMPolicy=\n");
    daemon_reload();
    wait_detached(slice);
    tree.units.remove_drop_in(SLICE, "50-reset");
    daemon_reload();
    assert_eq!(wait_attached(SLICE), slice);
    assert_eq!(show(SLICE, "ActiveState"), "active");
}
