// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is not to be a victim, said in a configuration file and as systemd says it.

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{settings, wait_attached};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::seed_units::{LARGER, SLICE, SMALLER, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, systemctl, wait_for_property,
};

const POLICY: &str = "ManagedOOMPolicy=bpf:biggest-leaf";

/// Lets the tree run out of memory, of which the larger unit is not to be the victim.
#[track_caller]
fn the_smaller_one_dies(tree: &SeedUnits) {
    let journal = Journal::from_now();
    tree.run_out_of_memory();
    wait_for_property(UNKILLABLE, "StatusText", "grown");
    wait_for_property(SMALLER, "Result", "oom-kill");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), SMALLER);
    assert_eq!(show(LARGER, "ActiveState"), "active");
}

#[track_caller]
fn wait_told(unit: &str) {
    let id = id_of(&cgroup_of(unit));
    eventually("the unit's settings are told", || settings().contains(&id));
}

#[test]
fn omit_and_avoid_of_a_configuration_file_are_honoured() {
    let _machine = TestMachine::enter();
    daemon::started();
    for preference in ["omit", "avoid"] {
        let tree = SeedUnits::start(&[POLICY]);
        let mut configuration = Configuration::new();
        let text = format!("[unit.\"{LARGER}\"]\npreference = \"{preference}\"\n");
        configuration.write("50-spared", &text);
        wait_attached(SLICE);
        wait_told(LARGER);
        the_smaller_one_dies(&tree);
    }
}

#[test]
fn systemds_own_setting_is_honoured_and_comes_before_the_configuration() {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut tree = SeedUnits::start(&[POLICY]);
    let mut configuration = Configuration::new();
    let text = format!("[unit.\"{LARGER}\"]\npreference = \"none\"\ncooldown = \"20s\"\n");
    configuration.write("50-none", &text);
    wait_attached(SLICE);
    wait_told(LARGER);
    tree.units.write_drop_in(
        LARGER,
        "50-preference",
        "[Service]\nManagedOOMPreference=omit\n",
    );
    daemon_reload();
    // systemd passes it on when it starts the unit.
    systemctl(&["restart", LARGER]);
    wait_told(LARGER);
    eventually("the preference of the unit's files decides", || {
        explained(LARGER).contains("  preference: omit")
    });
    the_smaller_one_dies(&tree);
}

fn explained(unit: &str) -> String {
    let output = std::process::Command::new("bpf-oomctl")
        .args(["explain", unit])
        .output()
        .expect("run bpf-oomctl");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}
