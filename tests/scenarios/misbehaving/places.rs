// SPDX-License-Identifier: MIT OR Apache-2.0
//! File systems that are full, or not to be written to.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use bpf_oomd_tests::attachments::{attachments, is_attached, wait_attached};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{bpf_oomctl, json, property, refused, reset_policy, set_policy, told};
use bpf_oomd_tests::systemctl::{
    cgroup_of, eventually, signal, start, systemctl, wait_for_property,
};

const SERVICE: &str = "placed.service";
const POLICY: &str = "bpf:biggest-leaf";

/// Runs `mount` or `umount`.
#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

/// How large a file system is, and how much of it is free, in bytes.
fn size(path: &str) -> (u64, u64) {
    let output = Command::new("stat")
        .args(["--file-system", "--format=%S %b %f", path])
        .output()
        .expect("run stat");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|n| n.parse().expect("a number"))
        .collect();
    (numbers[0] * numbers[1], numbers[0] * numbers[2])
}

/// Something that is undone at the end, however the test ends.
struct Undo<F: FnMut()>(F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn with_run_full_what_is_set_is_refused_what_was_set_stays_and_nothing_is_lost() {
    let _machine = TestMachine::enter();
    let _units = super::limited(SERVICE);
    let before = attachments();
    set_policy(SERVICE, "kernel");
    let set = property("RuntimeSettings");
    let (all, free) = size("/run");
    let full = Undo(|| run("mount", &["-o", &format!("remount,size={all}"), "/run"]));
    let used = format!("remount,size={}", all - free);
    run("mount", &["-o", &used, "/run"]);
    let said = refused(&bpf_oomctl(&["set-policy", SERVICE, POLICY]));
    assert!(said.contains("No space left on device"), "{said}");
    let said = refused(&bpf_oomctl(&["set-policy", "other.slice", POLICY]));
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(property("RuntimeSettings"), set);
    assert!(!is_attached(&cgroup_of(SERVICE)));
    drop(full);
    // No file was left half.
    systemctl(&["restart", daemon::UNIT]);
    assert_eq!(property("RuntimeSettings"), set);
    set_policy(SERVICE, POLICY);
    assert_eq!(attachments(), before);
    reset_policy(SERVICE);
}

#[test]
fn a_time_that_ends_while_run_is_full_ends_and_the_file_is_written_when_there_is_room() {
    const STATE: &str = "/run/bpf-oomd/state/run-time.toml";
    let _machine = TestMachine::enter();
    let _units = super::limited(SERVICE);
    told(&["set-policy", "--for=20s", SERVICE, "kernel"]);
    let (all, free) = size("/run");
    let full = Undo(|| run("mount", &["-o", &format!("remount,size={all}"), "/run"]));
    run(
        "mount",
        &["-o", &format!("remount,size={}", all - free), "/run"],
    );
    eventually("the policy of the unit's files is in force", || {
        is_attached(&cgroup_of(SERVICE))
    });
    eventually("it is a fault", || {
        super::status().contains("cannot be written: No space left on device")
    });
    drop(full);
    eventually("it is none any more", || {
        !super::status().contains("cannot be written")
    });
    let text = fs::read_to_string(STATE).expect("what is set at run time");
    assert!(!text.contains(SERVICE), "{text}");
}

#[test]
fn with_etc_read_only_everything_else_can_be_changed() {
    let _machine = TestMachine::enter();
    let _units = super::limited(SERVICE);
    run("mount", &["--bind", "/etc", "/etc"]);
    let read_only = Undo(|| run("umount", &["/etc"]));
    run("mount", &["-o", "remount,bind,ro", "/etc"]);
    assert!(fs::write("/etc/bpf-oomd/conf.d/50-x.toml", "").is_err());
    set_policy(SERVICE, "kernel");
    assert!(!is_attached(&cgroup_of(SERVICE)));
    reset_policy(SERVICE);
    assert!(is_attached(&cgroup_of(SERVICE)));
    let mut configuration = Configuration::new();
    configuration.write("50-off", "[defaults]\nenabled = false\n");
    eventually("the configuration counts", || {
        !is_attached(&cgroup_of(SERVICE))
    });
    configuration.remove("50-off");
    wait_attached(SERVICE);
    systemctl(&["reload", daemon::UNIT]);
    assert!(is_attached(&cgroup_of(SERVICE)));
    drop(read_only);
}

#[test]
fn on_a_full_disk_policies_act_and_who_asks_is_told() {
    const FILLER: &str = "/var/tmp/filler";
    let _machine = TestMachine::enter();
    let _units = super::limited(SERVICE);
    let remove = Undo(|| drop(fs::remove_file(FILLER)));
    let file = fs::File::create(FILLER).expect("a file");
    // Root may use what is kept for root, too: until there is none.
    let mut step: i64 = 1 << 30;
    let mut length: i64 = 0;
    while step >= 4096 {
        // SAFETY: an open descriptor and numbers.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), length, step) } {
            0 => length += step,
            _ => step /= 2,
        }
    }
    println!("{length} bytes were free");
    assert!(fs::write(Path::new("/var/tmp/more"), [1; 8192]).is_err());
    signal(SERVICE, "USR1");
    wait_for_property(SERVICE, "Result", "oom-kill");
    eventually("the kill is listed", || {
        json(&["kills"])[0]["unit"] == SERVICE
    });
    assert_eq!(json(&["kills"])[0]["policy"], "biggest-leaf");
    start(&[SERVICE]);
    wait_attached(SERVICE);
    set_policy(SERVICE, "kernel");
    reset_policy(SERVICE);
    drop(remove);
    let _ = fs::remove_file("/var/tmp/more");
}
