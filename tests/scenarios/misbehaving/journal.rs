// SPDX-License-Identifier: MIT OR Apache-2.0
//! A journal that stands still, or is not there.

use std::io;
use std::os::unix::net::UnixDatagram;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{json, reset_policy, set_policy};
use bpf_oomd_tests::systemctl::{eventually, signal, start, stop, wait_for_property};

const JOURNALD: &str = "systemd-journald.service";
/// The service would be started by its sockets.
const ALL_OF_IT: [&str; 4] = [
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
    "systemd-journald-audit.socket",
    JOURNALD,
];
const SERVICE: &str = "untold.service";

/// The journal reads nothing, and as much waits for it as can.
struct Still;

impl Still {
    #[track_caller]
    fn stand() -> Self {
        signal(JOURNALD, "STOP");
        let socket = UnixDatagram::unbound().expect("a socket");
        socket.set_nonblocking(true).expect("a socket of that kind");
        let still = Still;
        let send = || {
            socket.send_to(
                b"MESSAGE=filler\nPRIORITY=7\n",
                "/run/systemd/journal/socket",
            )
        };
        for _ in 0..100_000 {
            match send() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return still,
                Err(error) => panic!("the journal: {error}"),
            }
        }
        panic!("the journal takes any number of messages");
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        signal(JOURNALD, "CONT");
    }
}

#[test]
fn a_journal_that_stands_still_holds_up_nobody_and_is_told_of_kills_later() {
    let _machine = TestMachine::enter();
    let _units = super::limited(SERVICE);
    let pid = daemon::pid();
    let journal = Journal::from_now();
    let still = Still::stand();
    signal(SERVICE, "USR1");
    wait_for_property(SERVICE, "Result", "oom-kill");
    // Who asks is told at once.
    eventually("the kill is listed", || {
        json(&["kills"])[0]["unit"] == SERVICE
    });
    set_policy(SERVICE, "kernel");
    reset_policy(SERVICE);
    drop(still);
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), SERVICE);
    journal.wait_for_message(daemon::UNIT, "was reset by uid 0");
    assert_eq!(daemon::pid(), pid);
}

/// Nobody keeps a journal, nor listens where one is asked to.
struct Absent;

impl Absent {
    #[track_caller]
    fn stop() -> Self {
        stop(&ALL_OF_IT);
        Absent
    }
}

impl Drop for Absent {
    fn drop(&mut self) {
        start(&ALL_OF_IT);
    }
}

#[test]
fn without_a_journal_everything_goes_on_and_it_is_told_of_kills_when_it_is_back() {
    let _machine = TestMachine::enter();
    let _units = super::limited(SERVICE);
    let pid = daemon::pid();
    let journal = Journal::from_now();
    let absent = Absent::stop();
    set_policy(SERVICE, "kernel");
    reset_policy(SERVICE);
    assert_eq!(daemon::pid(), pid);
    // The next one finds no journal when it starts.
    signal(daemon::UNIT, "KILL");
    daemon::wait_for_another(pid);
    let pid = daemon::pid();
    signal(SERVICE, "USR1");
    wait_for_property(SERVICE, "Result", "oom-kill");
    eventually("the kill is listed", || {
        json(&["kills"])[0]["unit"] == SERVICE
    });
    drop(absent);
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), SERVICE);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    assert_eq!(daemon::pid(), pid);
}
