// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many short units leave nothing behind.

use bpf_oomd_tests::attachments::{attachments, settings, wait_attached};
use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::ids::BpfObjects;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{PATIENCE, daemon_reload, eventually, show_number, start, stop};
use bpf_oomd_tests::units::{Units, hog_service};
use bpf_oomd_tests::wait::eventually_within;

const BATCH: usize = 50;
const ROUNDS: usize = 5;

/// What memory may have grown by, in bytes: less than 1.1 KiB for each of 500 units. An allocator does not give back every page, but
/// a record kept for each unit (its name, its files, its cgroup's path) would be found.
const RESIDENT_SLACK: u64 = MIB / 2;

fn names(template: &str, round: usize) -> Vec<String> {
    (0..BATCH)
        .map(|number| format!("{template}@{round}-{number}.service"))
        .collect()
}

/// Half of the units stay until all of them are attached; the others are gone before anyone can look.
fn one_round(units: &mut Units, round: usize) {
    let held = names("churn-held", round);
    let held: Vec<&str> = held.iter().map(String::as_str).collect();
    for name in &held {
        units.stop_at_the_end(name);
    }
    start(&held);
    eventually_within(PATIENCE, || match attachments().len() {
        BATCH => Ok(()),
        found => Err(format!("{found} attachments for {BATCH} units")),
    });
    let short = names("churn-short", round);
    let short: Vec<&str> = short.iter().map(String::as_str).collect();
    start(&short);
    stop(&held);
    eventually("all attachments are gone", || attachments().is_empty());
}

#[test]
fn after_500_short_units_everything_is_back_where_it_was() {
    let _machine = TestMachine::enter();
    daemon::started();
    let policy = "ManagedOOMPolicy=bpf:biggest-leaf";
    let mut units = Units::new();
    units.write(
        "churn-held@.service",
        &hog_service("churn.slice", &[policy], "notify=READY=1 pause"),
    );
    units.write(
        "churn-short@.service",
        &format!("[Service]\nType=oneshot\nSlice=churn.slice\nExecStart=/bin/true\n{policy}\n"),
    );
    // Runs all the time, so that the slice is the same before and after.
    units.write(
        "churn-stays.service",
        &hog_service("churn.slice", &[], "notify=READY=1 pause"),
    );
    daemon_reload();
    start(&["churn-stays.service"]);
    // The program is loaded, and buffers have grown to what a batch needs.
    one_round(&mut units, 0);
    one_round(&mut units, 1);
    eventually("settings are gone", || settings().is_empty());
    let objects = BpfObjects::now();
    let descriptors = daemon::descriptors();
    let kept = show_number(daemon::UNIT, "NFileDescriptorStore");
    let resident = daemon::resident();
    let pid = daemon::pid();

    for round in 2..2 + ROUNDS {
        one_round(&mut units, round);
    }

    objects.wait_until_back();
    eventually("settings are gone", || settings().is_empty());
    eventually("descriptors are closed", || {
        daemon::descriptors() <= descriptors
    });
    eventually("systemd keeps no more than before", || {
        show_number(daemon::UNIT, "NFileDescriptorStore") == kept
    });
    eventually_within(PATIENCE, || {
        let now = daemon::resident();
        if now <= resident + RESIDENT_SLACK {
            Ok(())
        } else {
            Err(format!("{resident} bytes resident before, {now} now"))
        }
    });
    assert_eq!(daemon::pid(), pid, "the daemon was restarted");
    // It still does its work.
    units.stop_at_the_end("churn-held@last.service");
    start(&["churn-held@last.service"]);
    wait_attached("churn-held@last.service");
}
