// SPDX-License-Identifier: MIT OR Apache-2.0
//! A limit that leaves the daemon no memory for more.

use std::fs;

use bpf_oomd_tests::attachments::{links, wait_attached, watched};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::Journal;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{cgroup_of, daemon_reload, eventually, start, stop, systemctl};
use bpf_oomd_tests::unbroken::Watcher;
use bpf_oomd_tests::units::{Units, hog_service, slice};

const SLICE: &str = "small.slice";
const SERVICE: &str = "small-one.service";
const POLICY: &str = "ManagedOOMPolicy=bpf:biggest-leaf";

#[test]
fn a_limit_that_leaves_no_memory_for_programs_is_told_and_what_is_in_force_stays() {
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    daemon::started();
    let mut units = Units::new();
    units.write(SLICE, &slice(&[POLICY]));
    units.write(
        SERVICE,
        &hog_service(SLICE, &[POLICY], "notify=READY=1 pause"),
    );
    daemon_reload();
    start(&[SERVICE]);
    wait_attached(SLICE);
    wait_attached(SERVICE);
    let before = links();
    let watcher = Watcher::of_links(before.clone());
    let usage = || {
        let file = cgroup_of(daemon::UNIT).join("memory.current");
        let text = fs::read_to_string(file).expect("memory.current");
        text.trim().parse::<u64>().expect("a number of bytes")
    };
    let journal = Journal::from_now();
    let pid = daemon::pid();
    let limit = format!("MemoryMax={}", usage() + 64 * 1024);
    systemctl(&["set-property", "--runtime", daemon::UNIT, &limit]);
    let mut configuration = Configuration::new();
    // The first that wants these programs, and their maps.
    configuration.write(
        "50-pressure",
        "[slice.\"small.slice\".pressure]\nstall = \"900ms\"\nfor = \"1h\"\n",
    );
    eventually("something is told", || {
        let entries = journal.entries(&[&format!("_SYSTEMD_UNIT={}", daemon::UNIT)]);
        let said: Vec<_> = entries
            .iter()
            .filter_map(|entry| entry.get("MESSAGE"))
            .collect();
        said.iter()
            .any(|text| text.contains("annot allocate memory"))
    });
    println!(
        "{}; pid {pid}, then {}",
        daemon::status_text(),
        daemon::pid()
    );
    assert_eq!(links(), before);
    systemctl(&["revert", daemon::UNIT]);
    systemctl(&[
        "set-property",
        "--runtime",
        daemon::UNIT,
        "MemoryMax=infinity",
    ]);
    eventually("the slice is watched", || watched().len() == 1);
    watcher.assert_unbroken();
    systemctl(&["revert", daemon::UNIT]);
}
