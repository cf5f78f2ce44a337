// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is not to be a victim.
//!
//! Here a unit is held back by memory.high and nothing has a limit at which the kernel would kill: whoever dies dies by the daemon, and
//! whoever lives would have lived in spite of any race.

use bpf_oomd::events::stall::STALL_MESSAGE_ID;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{json, of};
use bpf_oomd_tests::systemctl::{eventually, show, signal};

use crate::{QUIET, SCENE, STALLING, kills, scene, stall_until_a_kill, wait_watched};

/// The slice stalls when one of its units does, and may kill again at once.
const SLICE: &str =
    "[slice.\"scene.slice\"]\npressure = \"memory full 100ms/1s\"\ncooldown = \"1s\"\n";

/// What is said about the unit that stalls.
fn preference(said: &str) -> String {
    format!("{SLICE}[unit.\"{STALLING}\"]\npreference = \"{said}\"\n")
}

/// Waits until the policy's program itself knows what is preferred.
#[track_caller]
fn wait_preferred(preference: &str) {
    wait_watched(SCENE);
    eventually("the preference is in force", || {
        let simulated = json(&["simulate", SCENE]);
        of(&simulated["candidates"], "unit", STALLING)["preference"] == preference
    });
}

/// The unit stalls; the other one dies for it.
#[track_caller]
fn the_other_one_dies() {
    let entry = stall_until_a_kill();
    assert_eq!(field(&entry, "VICTIM_UNIT"), QUIET);
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), SCENE);
    assert_eq!(show(STALLING, "ActiveState"), "active");
}

#[test]
fn a_unit_with_omit_lives_through_all_of_it() {
    let _machine = TestMachine::enter();
    let _scene = scene(&preference("omit"), &[]);
    wait_preferred("omit");
    let journal = Journal::from_now();
    the_other_one_dies();
    // It stalls on, and nobody is left that may die.
    let entry = journal.wait_for(&[
        &format!("MESSAGE_ID={STALL_MESSAGE_ID}"),
        "OOM_OUTCOME=nobody",
    ]);
    assert_eq!(field(&entry, "OOM_DOMAIN_UNIT"), SCENE);
    assert_eq!(journal.entries(&[&kills()]).len(), 1);
    assert_eq!(show(STALLING, "ActiveState"), "active");
}

#[test]
fn a_unit_with_avoid_dies_when_nobody_else_is_left() {
    let _machine = TestMachine::enter();
    let _scene = scene(&preference("avoid"), &[]);
    wait_preferred("avoid");
    let journal = Journal::from_now();
    signal(STALLING, "USR1");
    let entry = journal.wait_for(&[&kills(), &format!("OBJECT_SYSTEMD_UNIT={STALLING}")]);
    assert_eq!(field(&entry, "VICTIM_PREFERENCE"), "avoid");
    let victims: Vec<_> = journal.entries(&[&kills()]);
    let victims: Vec<&str> = victims
        .iter()
        .map(|entry| field(entry, "VICTIM_UNIT"))
        .collect();
    assert_eq!(victims, [QUIET, STALLING]);
}

#[test]
fn systemds_own_setting_is_honoured_and_comes_before_the_configuration() {
    let _machine = TestMachine::enter();
    let _scene = scene(&preference("none"), &["ManagedOOMPreference=omit"]);
    wait_preferred("omit");
    the_other_one_dies();
}
