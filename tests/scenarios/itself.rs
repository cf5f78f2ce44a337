// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon itself: its memory stays where it is, its own policies do not kill it, and when the kernel does not come to an end with what it
//! asked for, somebody else goes on.

use std::fs;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{links, wait_attached, watched};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::holder::Holder;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, show_number, signal, start, stop, systemctl,
    wait_for_property,
};
use bpf_oomd_tests::unbroken::Watcher;
use bpf_oomd_tests::units::{Units, hog_service, slice};

const SLICE: &str = "itself.slice";
const SERVICE: &str = "itself-one.service";
const POLICY: &str = "ManagedOOMPolicy=bpf:biggest-leaf";

#[test]
fn the_pages_of_the_daemons_program_are_locked_in_memory() {
    let _machine = TestMachine::enter();
    daemon::started();
    let path = format!("/proc/{}/smaps", daemon::pid());
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut of_files = 0;
    let mut file = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            // ADDRESSES PERMISSIONS OFFSET DEVICE INODE PATH
            [addresses, _, _, _, _, ref path @ ..] if addresses.contains('-') => {
                file = path
                    .first()
                    .copied()
                    .filter(|path| path.starts_with("/usr/"));
            }
            ["VmFlags:", ref flags @ ..] if let Some(file) = file => {
                assert!(flags.contains(&"lo"), "{file} is not locked: {line}");
                of_files += 1;
            }
            _ => {}
        }
    }
    // The program and the C library, at least.
    assert!(of_files >= 4, "{text}");
}

#[test]
fn in_a_slice_with_a_policy_of_its_own_the_daemon_lives_though_it_is_the_largest() {
    let _machine = TestMachine::enter();
    let mut units = Units::new();
    units.write(SLICE, &slice(&[POLICY]));
    units.write(
        SERVICE,
        &hog_service(SLICE, &[], "anon=2M notify=READY=1 usr1 anon=500M pause"),
    );
    stop(&[daemon::UNIT]);
    let place = format!("[Service]\nSlice={SLICE}\n{POLICY}\n");
    units.write_drop_in(daemon::UNIT, "50-place", &place);
    daemon_reload();
    daemon::started();
    start(&[SERVICE]);
    wait_attached(SLICE);
    wait_attached(daemon::UNIT);
    let usage = |unit: &str| {
        let file = cgroup_of(unit).join("memory.current");
        let text = fs::read_to_string(file).expect("memory.current");
        text.trim().parse::<u64>().expect("a number of bytes")
    };
    // Only a little more than is used now, so that the other one is the smaller one when it runs out.
    let limit = usage(SLICE) + daemon::resident() / 2;
    let limited = format!("MemoryMax={limit}");
    systemctl(&["set-property", "--runtime", SLICE, &limited]);
    let pid = daemon::pid();
    let journal = Journal::from_now();
    signal(SERVICE, "USR1");
    wait_for_property(SERVICE, "Result", "oom-kill");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), SERVICE);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    let victim: u64 = field(&entry, "VICTIM_BYTES").parse().expect("bytes");
    assert!(victim < daemon::resident(), "the victim had {victim} bytes");
    assert_eq!(daemon::pid(), pid);
    systemctl(&["revert", SLICE]);
    stop(&[daemon::UNIT]);
    drop(units);
    daemon::started();
    assert_ne!(show(daemon::UNIT, "Slice"), SLICE);
}

#[test]
fn a_load_that_does_not_end_trips_the_watchdog_and_what_is_in_force_stays() {
    let _machine = TestMachine::enter();
    let mut units = Units::new();
    units.write_drop_in(
        daemon::UNIT,
        "50-soon",
        "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n",
    );
    units.write(SLICE, &slice(&[POLICY]));
    units.write(
        SERVICE,
        &hog_service(
            SLICE,
            &[POLICY, "MemoryMax=40M"],
            "notify=READY=1 usr1 anon=64M pause",
        ),
    );
    daemon_reload();
    // Anew: one that was told of pressure before has its programs.
    stop(&[daemon::UNIT]);
    daemon::started();
    start(&[SERVICE]);
    wait_attached(SLICE);
    wait_attached(SERVICE);
    let before = links();
    let pid = daemon::pid();
    let watcher = Watcher::of_links(before.clone());
    let holder = Holder::at_a_program_load(pid);
    let mut configuration = Configuration::new();
    // The first that wants these programs.
    configuration.write(
        "50-pressure",
        "[slice.\"itself.slice\".pressure]\nstall = \"900ms\"\nfor = \"1h\"\n",
    );
    eventually("it loads a program", || holder.holds());
    // The policies need nobody for what they do meanwhile.
    let journal = Journal::from_now();
    signal(SERVICE, "USR1");
    wait_for_property(SERVICE, "Result", "oom-kill");
    holder.wait_killed();
    eventually("another daemon runs", || {
        let now = show_number(daemon::UNIT, "MainPID");
        now != 0 && now != u64::from(pid)
    });
    wait_for_property(daemon::UNIT, "ActiveState", "active");
    let after = links();
    let looks = watcher.end();
    // But for that of the unit that died.
    let lost: Vec<u32> = before
        .keys()
        .filter(|id| !after.contains_key(id))
        .copied()
        .collect();
    assert_eq!(lost.len(), 1, "{before:?} {after:?}");
    if let Some(missing) = &looks.missing {
        assert!(
            missing.starts_with(&format!("link {} ", lost[0])),
            "{missing}"
        );
    }
    journal.wait_for_message("init.scope", "Watchdog timeout");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), SERVICE);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    // And the other daemon comes to an end with it.
    eventually("the slice is watched", || watched().len() == 1);
    drop(units);
    systemctl(&["restart", daemon::UNIT]);
}
