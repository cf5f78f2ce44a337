// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `bpf-oomctl` says, on a running system and as somebody who may do nothing.

use std::process::Output;

use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::bpf_oomctl_as_nobody as bpf_oomctl;
use bpf_oomd_tests::seed_units::{LARGER, SeedUnits};
use bpf_oomd_tests::systemctl::stop;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn explain_tells_the_whole_chain_of_a_running_unit() {
    let _machine = TestMachine::enter();
    // Without the daemon: files are read as they are at the moment.
    stop(&[daemon::UNIT]);
    let mut tree = SeedUnits::start(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    let mut configuration = Configuration::new();
    let file = configuration.write(
        "50-seed",
        "[defaults]\ncooldown = \"5s\"\n[unit.\"seed-l*\"]\ncooldown = \"1min\"\nkill = \"process\"\n",
    );
    let drop_in = tree.units.write_drop_in(
        LARGER,
        "50-kill",
        "[Service]\nManagedOOMPolicyKill=cgroup\n",
    );
    bpf_oomd_tests::systemctl::daemon_reload();
    let output = bpf_oomctl(&["explain", LARGER]);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output);
    let file = file.display();
    for line in [
        format!(
            "    * bpf:biggest-leaf: unit files of seed.slice, {}:4:18: decides",
            tree.slice_file.display()
        ),
        format!(
            "    * cgroup: unit files, {}:2:22: decides",
            drop_in.display()
        ),
        format!("    - process: [unit.\"seed-l*\"], {file}:5:8: overruled by what comes before it"),
        format!("    * 1min: [unit.\"seed-l*\"], {file}:4:12: decides"),
        format!("    - 5s: [defaults], {file}:2:12: overruled by what comes before it"),
    ] {
        assert!(
            said.lines().any(|found| found == line),
            "no {line:?} in\n{said}"
        );
    }
}

#[test]
fn explain_knows_units_that_do_not_run_and_refuses_what_has_no_cgroup() {
    let _machine = TestMachine::enter();
    let output = bpf_oomctl(&["explain", "nowhere.service"]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output).contains("  policy: kernel"));
    let output = bpf_oomctl(&["explain", "x.timer"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn check_says_the_same_as_the_daemon_and_cat_config_shows_what_is_in_force() {
    let _machine = TestMachine::enter();
    assert_eq!(bpf_oomctl(&["check"]).status.code(), Some(0));
    let mut configuration = Configuration::new();
    let file = configuration.write("50-bad", "[unit.\"x.service\"]\nkil = \"cgroup\"\n");
    let output = bpf_oomctl(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(
        said.starts_with(&format!("{}:2:1: ", file.display())),
        "{said}"
    );
    assert!(said.contains("did you mean \"kill\"?"), "{said}");
    let shown = text(&bpf_oomctl(&["cat-config"]));
    assert!(
        shown.contains(&format!("# {}\n[unit.\"x.service\"]\n", file.display())),
        "{shown}"
    );
    assert!(
        shown.contains("# /etc/bpf-oomd/conf.d/50-bpf-oomd.toml (masked)"),
        "{shown}"
    );
}
