// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the daemon may do, one right less at a time: each of them is needed for something, and without it the daemon says so. The rights for
//! killing itself are in `userspace/rights.rs`.

use std::fs;

use bpf_oomd_tests::attachments::{attachments, is_attached};
use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::journal::Journal;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::told;
use bpf_oomd_tests::rights::{Without, allowed_calls};
use bpf_oomd_tests::systemctl::{cgroup_of, daemon_reload, eventually, start, stop};
use bpf_oomd_tests::units::{Units, hog_service};

const SERVICE: &str = "rights.service";

/// A service with a policy.
#[track_caller]
fn service() -> Units {
    let mut units = Units::new();
    units.write(
        SERVICE,
        &hog_service(
            "system.slice",
            &["ManagedOOMPolicy=bpf:biggest-leaf"],
            "notify=READY=1 pause",
        ),
    );
    daemon_reload();
    start(&[SERVICE]);
    units
}

/// The numbers of the capabilities that a process can have at most (linux/capability.h).
#[track_caller]
fn capabilities(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let set = text.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = u64::from_str_radix(set.expect("a set of capabilities").trim(), 16);
    let set = set.expect("a number");
    (0..u64::BITS).filter(|n| set & 1 << n != 0).collect()
}

#[test]
fn the_daemon_has_the_rights_for_which_there_is_a_reason_and_no_other() {
    let _machine = TestMachine::enter();
    daemon::started();
    // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SYS_RESOURCE, CAP_SYSLOG, CAP_PERFMON, CAP_BPF: each has a test here or in
    // `userspace/rights.rs`.
    assert_eq!(capabilities(daemon::pid()), [1, 2, 5, 24, 34, 38, 39]);
    let allowed = allowed_calls();
    for call in ["bpf", "open_by_handle_at", "pidfd_send_signal", "mlockall"] {
        assert!(allowed.contains(call), "{call}");
    }
    // Some of each kind; that it makes none that is not allowed is seen when tests run below bpf-oomd-calls.
    for call in [
        "ptrace",
        "mount",
        "chroot",
        "ioctl",
        "fork",
        "execveat",
        "kill",
        "rt_sigqueueinfo",
        "listen",
        "bind",
        "setsockopt",
        "chmod",
        "fchmodat",
        "chown",
        "ftruncate",
        "fsync",
        "mknodat",
        "linkat",
        "symlinkat",
        "splice",
        "setns",
        "setuid",
        "setresgid",
        "setpriority",
        "sched_setscheduler",
        "keyctl",
        "shmget",
        "mq_open",
        "io_setup",
        "io_uring_setup",
        "perf_event_open",
        "userfaultfd",
        "process_vm_writev",
        "init_module",
        "kexec_load",
        "settimeofday",
        "swapoff",
        "reboot",
    ] {
        assert!(!allowed.contains(call), "{call}");
    }
}

#[test]
fn without_cap_bpf_the_daemon_has_no_maps_and_says_so() {
    let _machine = TestMachine::enter();
    let journal = Journal::from_now();
    let _without = Without::right("CAP_BPF");
    journal.wait_for_message(daemon::UNIT, "BPF cannot be used: ");
    journal.wait_for_message(daemon::UNIT, "Operation not permitted");
}

#[test]
fn without_cap_perfmon_no_program_loads_and_units_say_so() {
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    let _units = service();
    let journal = Journal::from_now();
    let _without = Without::right("CAP_PERFMON");
    let entry = journal.wait_for_message(daemon::UNIT, "does not load: ");
    println!("{:?}", entry["MESSAGE"]);
    assert!(!is_attached(&cgroup_of(SERVICE)));
}

#[test]
fn without_cap_dac_read_search_cgroups_that_are_no_units_have_no_path() {
    let _machine = TestMachine::enter();
    let mut configuration = Configuration::new();
    configuration.write(
        "50-system",
        "[slice.\"-.slice\"]\npolicy = \"bpf:biggest-leaf\"\n",
    );
    daemon::started();
    let cgroup = Cgroup::new("no-unit");
    let _hog = Hog::ready(&cgroup, "adj=0 anon=10M ready pause");
    let path = cgroup.path_in_the_tree();
    let simulated = || told(&["simulate", "-.slice"]);
    eventually("the policy is in force", || simulated().contains(&path));
    let without = Without::right("CAP_DAC_READ_SEARCH");
    eventually("the policy is in force", || attachments() == [0].into());
    let shown = simulated();
    assert!(!shown.contains(&path), "{shown}");
    drop(without);
    eventually("it has its path again", || simulated().contains(&path));
}
