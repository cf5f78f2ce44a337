// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients of the bus that mean harm: others get their answers all the same, and the daemon does not grow.

use std::fs;
use std::time::{Duration, Instant};

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::wait_attached;
use bpf_oomd_tests::bus::{MANAGER, MANAGER_PATH, UNIT};
use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl;
use bpf_oomd_tests::raw_bus::{NOBODY, RawClient, call};
use bpf_oomd_tests::seed_units::{SLICE, SeedUnits};
use bpf_oomd_tests::systemctl::{eventually, signal, start, stop, systemctl};

const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
const POLKIT: &str = "polkit.service";

/// A bus that keeps less for each client than usual, so that it is full sooner.
struct SmallBus;

impl SmallBus {
    const FILE: &str = "/etc/dbus-1/system.d/zz-small.conf";

    #[track_caller]
    fn new() -> Self {
        let limits = ["max_incoming_bytes", "max_outgoing_bytes"];
        let limits = limits.map(|name| format!("  <limit name=\"{name}\">1000000</limit>\n"));
        let text = format!("<busconfig>\n{}</busconfig>\n", limits.concat());
        fs::create_dir_all("/etc/dbus-1/system.d").expect("a directory");
        fs::write(Self::FILE, text).expect("write a file of the bus");
        systemctl(&["reload", "dbus.service"]);
        SmallBus
    }
}

impl Drop for SmallBus {
    fn drop(&mut self) {
        // The daemon has its limits from when it connected.
        let _ = fs::remove_file(Self::FILE);
        systemctl(&["reload", "dbus.service"]);
        stop(&[daemon::UNIT]);
        daemon::started();
    }
}

/// Whether somebody else gets an answer before long.
fn answers() -> bool {
    let start = Instant::now();
    let output = oomctl::call_as_nobody("GetUnit", &["s", SLICE]);
    output.status.success() && start.elapsed() < Duration::from_secs(5)
}

#[test]
fn who_asks_for_much_and_never_reads_holds_up_nobody_for_long() {
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    let _bus = SmallBus::new();
    daemon::started();
    let tree = SeedUnits::start(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    wait_attached(SLICE);
    assert!(answers());
    let pid = daemon::pid();
    let before = (daemon::descriptors(), daemon::resident());
    let journal = Journal::from_now();
    let mut deaf = RawClient::connect_as(NOBODY);
    deaf.ask_the_bus("AddMatch", &("type='signal',sender='org.bpfoomd1'",));
    // Not so many that the bus has something to say about it, which would be in its queue before the answers are.
    const CALLS: usize = 100;
    let everything = (OBJECT_MANAGER, "GetManagedObjects");
    for _ in 0..CALLS {
        let sent = deaf.call(MANAGER_PATH, everything, &());
        sent.expect("somebody listens");
    }
    tree.run_out_of_memory();
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    let number = |name: &str| -> u64 { field(&entry, name).parse().expect("a number") };
    let late = number("__MONOTONIC_TIMESTAMP").saturating_sub(number("OOM_BOOTTIME_USEC"));
    let grown = daemon::resident().saturating_sub(before.1);
    println!("the kill was told after {late} us; {grown} bytes more are resident");
    assert!(late < 2_000_000, "the kill was told after {late} us");
    journal.wait_for_message(daemon::UNIT, "The bus takes nothing any more");
    let grown = daemon::resident().saturating_sub(before.1);
    println!("{grown} bytes more are resident in the end");
    assert!(grown < 16 * MIB, "{grown} bytes");
    eventually("somebody else gets an answer", answers);
    // It is still there and goes on, but by now it can fill nothing but its own queue.
    let rest = journal_of_stalls(&journal);
    for _ in 0..2 {
        for _ in 0..CALLS {
            let _ = deaf.call(MANAGER_PATH, everything, &());
        }
        eventually("somebody else gets an answer", answers);
    }
    assert_eq!(journal_of_stalls(&journal), rest);
    let grown = daemon::resident().saturating_sub(before.1);
    assert!(grown < 16 * MIB, "{grown} bytes");
    drop(deaf);
    assert_eq!(daemon::pid(), pid);
    eventually("descriptors are closed again", || {
        daemon::descriptors() <= before.0
    });
}

/// How often the daemon gave up a connection.
fn journal_of_stalls(journal: &Journal) -> usize {
    let entries = journal.entries(&[&format!("_SYSTEMD_UNIT={}", daemon::UNIT)]);
    let mut stalls = entries.iter().filter_map(|entry| entry.get("MESSAGE"));
    stalls
        .by_ref()
        .filter(|said| said.contains("takes nothing any more"))
        .count()
}

#[test]
fn one_client_can_let_so_many_calls_wait_and_no_more() {
    const WAITING: usize = 32;
    const MORE: usize = 20;
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    daemon::started();
    let _tree = SeedUnits::start(&[]);
    start(&[POLKIT]);
    // Nobody answers whether it may.
    signal(POLKIT, "STOP");
    let mut client = RawClient::connect_as(NOBODY);
    for _ in 0..WAITING + MORE {
        let policy = (SLICE, "kernel", 0_u64);
        let sent = client.call(MANAGER_PATH, (MANAGER, "SetPolicy"), &policy);
        sent.expect("somebody listens");
    }
    let told = client.read_until("org.freedesktop.DBus.Error.LimitsExceeded", MORE);
    // The others wait, and are in nobody's way.
    let others = answers();
    signal(POLKIT, "CONT");
    assert!(!told.contains("AccessDenied"), "{told}");
    assert!(others, "nobody else gets an answer");
    let denied = client.read_until("org.bpfoomd1.set-policy", WAITING);
    assert!(!denied.contains("LimitsExceeded"), "{denied}");
    // And then there is room again.
    let sent = client.call(MANAGER_PATH, (MANAGER, "GetUnit"), &(SLICE,));
    sent.expect("somebody listens");
    client.read_until("/org/bpfoomd1/unit/seed_2eslice", 1);
}

#[test]
fn what_is_no_object_path_reaches_nobody_and_what_is_nobodys_is_refused() {
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    daemon::started();
    let pid = daemon::pid();
    let good = call(MANAGER_PATH, (MANAGER, "ListUnits"), &());
    let good = good.data().to_vec();
    let at = good
        .windows(MANAGER_PATH.len())
        .position(|window| window == MANAGER_PATH.as_bytes())
        .expect("the path");
    for bad in [
        "/org//pfoomd1",
        "/org/bpfoomd/",
        "org/bpfoomd1/",
        "/org/bpf-omd1",
        "/org/bpf\0omd1",
    ] {
        let mut bytes = good.clone();
        bytes[at..at + bad.len()].copy_from_slice(bad.as_bytes());
        let mut client = RawClient::connect_as(NOBODY);
        client.write(&bytes).expect("the bus listens");
        client.wait_closed();
    }
    // Paths that are some, of nobody.
    let long = format!("/org/bpfoomd1/unit/{}", "x".repeat(50_000));
    let mut client = RawClient::connect_as(NOBODY);
    let paths = [
        &*long,
        "/",
        "/org/bpfoomd1/unit/__",
        "/org/bpfoomd1/unit/_00",
        "/org/bpfoomd1/unit/_2",
    ];
    for path in paths {
        let sent = client.call(path, (UNIT, "Simulate"), &());
        sent.expect("somebody listens");
    }
    client.read_until("org.freedesktop.DBus.Error.Unknown", paths.len());
    assert_eq!(daemon::pid(), pid);
}
