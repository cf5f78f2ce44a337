// SPDX-License-Identifier: MIT OR Apache-2.0
//! A user who hides: at a place that is too deep, too far down, or has a name that is no text. The largest dies all the same.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::deep::{by_descriptor, remove_below};
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::told;
use bpf_oomd_tests::session::UID;
use bpf_oomd_tests::systemctl::{cgroup_of, daemon_reload, eventually, show, show_number, start};
use bpf_oomd_tests::units::{Units, hog_service, slice};
use bpf_oomd_tests::user::as_user;

const SLICE: &str = "hide.slice";
const HIDING: &str = "hide-user.service";
const BYSTANDER: &str = "hide-bystander.service";

/// Lets the user move with their process to a place below their cgroup that is named by these, one in the other, and run out of memory there.
#[track_caller]
fn hides_at(names: &[&[u8]]) {
    let _machine = TestMachine::enter();
    daemon::started();
    let mut configuration = Configuration::new();
    configuration.write(
        "50-hide",
        "[slice.\"hide.slice\".pressure]\nstall = \"100ms\"\nwindow = \"1s\"\n",
    );
    let mut units = Units::new();
    let settings = ["ManagedOOMPolicy=bpf:biggest-leaf", "MemoryHigh=80M"];
    units.write(SLICE, &slice(&settings));
    units.write(
        HIDING,
        &hog_service(
            SLICE,
            &["User=tester", "Delegate=yes"],
            "notify=READY=1 usr1 anon=500M pause",
        ),
    );
    units.write(
        BYSTANDER,
        &hog_service(SLICE, &[], "anon=20M notify=READY=1 pause"),
    );
    daemon_reload();
    start(&[HIDING, BYSTANDER]);
    eventually("the slice is watched", || {
        told(&["pressure"]).contains(SLICE)
    });
    let own = cgroup_of(HIDING);
    let process = show(HIDING, "MainPID");
    as_user(UID, || {
        let mut place = File::open(&own).expect("a cgroup");
        let leaf = own.join("leaf");
        move_to(&leaf, &process);
        for name in names {
            let next = by_descriptor(&place).join(OsStr::from_bytes(name));
            fs::create_dir(&next).expect("a cgroup");
            let control = by_descriptor(&place).join("cgroup.subtree_control");
            fs::write(control, "+memory").expect("a controller");
            place = File::open(&next).expect("a cgroup");
        }
        fs::write(by_descriptor(&place).join("cgroup.procs"), &process).expect("to move");
        let pid: libc::pid_t = process.parse().expect("a process id");
        // SAFETY: takes two numbers.
        unsafe { libc::kill(pid, libc::SIGUSR1) };
    });
    let bystander = show_number(BYSTANDER, "MainPID");
    let journal = Journal::from_now();
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), HIDING);
    assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
    assert_eq!(show_number(BYSTANDER, "MainPID"), bystander);
    assert!(!field(&entry, "MESSAGE").contains(char::is_control));
    // systemd leaves what it finds no path for.
    if let Ok(directory) = File::open(&own) {
        eventually("nothing is left", || remove_below(&directory).is_ok());
        let _ = fs::remove_dir(&own);
    }
}

fn move_to(leaf: &Path, process: &str) {
    fs::create_dir(leaf).expect("a cgroup");
    fs::write(leaf.join("cgroup.procs"), process).expect("to move");
}

#[test]
fn a_name_that_is_no_text_is_no_place_to_hide() {
    hides_at(&[b"x\xff\xfe\x1b"]);
}

#[test]
fn a_path_that_is_too_long_is_no_place_to_hide() {
    hides_at(&[&[b'd'; 250][..]; 20]);
}

#[test]
fn a_hundred_levels_are_no_place_to_hide() {
    hides_at(&[&b"d"[..]; 100]);
}
