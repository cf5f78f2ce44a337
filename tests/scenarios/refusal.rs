// SPDX-License-Identifier: MIT OR Apache-2.0
//! On a kernel without the interface the daemon does not start, and says so in one sentence.
//!
//! The kernel is what its type information says it is, and what the installed unit sees of that is exchanged here: the daemon, its
//! unit and systemd are real. That other kernels really lack these types is not for this machine to show.

use std::ffi::CStr;
use std::fs;

use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Entry, Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{
    daemon_reload, eventually, show, show_number, stop, systemctl_fails, systemctl_if_possible,
};
use bpf_oomd_tests::units::Units;
use bpf_oomd_tests::wait::all_the_time;
use std::time::Duration;

/// EX_UNAVAILABLE of sysexits.h.
const UNAVAILABLE: u64 = 69;

/// The type information of a kernel that has this struct, without members, and nothing else.
fn btf_with_struct(name: &CStr) -> Vec<u8> {
    // SAFETY: a new object, given back at the end; its raw data is copied before.
    unsafe {
        let btf = libbpf_sys::btf__new_empty();
        assert!(!btf.is_null());
        assert!(libbpf_sys::btf__add_struct(btf, name.as_ptr(), 8) > 0);
        let mut size = 0;
        let data = libbpf_sys::btf__raw_data(btf, &mut size);
        assert!(!data.is_null());
        let bytes =
            std::slice::from_raw_parts(data.cast::<u8>(), usize::try_from(size).expect("a size"));
        let bytes = bytes.to_vec();
        libbpf_sys::btf__free(btf);
        bytes
    }
}

/// Starts the daemon with a drop-in that lets it see another kernel, and returns what it says, at least one message.
fn refused(settings: &str) -> Vec<Entry> {
    stop(&[daemon::UNIT]);
    let journal = Journal::from_now();
    let mut units = Units::new();
    units.write_drop_in(
        daemon::UNIT,
        "50-other-kernel",
        &format!("[Service]\n{settings}\n"),
    );
    daemon_reload();
    systemctl_if_possible(&["reset-failed", daemon::UNIT]);
    systemctl_fails(&["start", daemon::UNIT]);
    assert_eq!(show(daemon::UNIT, "Result"), "exit-code");
    assert_eq!(show_number(daemon::UNIT, "ExecMainStatus"), UNAVAILABLE);
    // Starting again would not help.
    all_the_time(
        Duration::from_secs(3),
        "systemd starts it again and again",
        || show(daemon::UNIT, "ActiveState") == "failed",
    );
    assert_eq!(show_number(daemon::UNIT, "NRestarts"), 0);
    let said = || journal.entries(&["SYSLOG_IDENTIFIER=bpf-oomd"]);
    eventually("the daemon's message is in the journal", || {
        !said().is_empty()
    });
    let said = said();
    drop(units);
    daemon::started();
    said
}

#[test]
fn on_a_kernel_without_the_interface_the_daemon_says_so_in_one_sentence_and_does_not_start() {
    let _machine = TestMachine::enter();
    let btf = "/run/other-kernel.btf";
    fs::write(btf, btf_with_struct(c"task_struct")).expect("write type information");
    let said = refused(&format!("BindReadOnlyPaths={btf}:/sys/kernel/btf/vmlinux"));
    assert_eq!(said.len(), 1, "{said:#?}");
    let message = field(&said[0], "MESSAGE");
    assert!(message.contains("kernel"), "{message}");
    assert!(message.contains("bpf_oom_ops"), "{message}");
    assert_eq!(message.matches(['.', '\n']).count(), 1, "{message}");
    assert_eq!(field(&said[0], "PRIORITY"), "3");
    fs::remove_file(btf).expect("remove type information");
}

#[test]
fn on_a_kernel_that_hides_its_types_the_daemon_does_not_guess() {
    let _machine = TestMachine::enter();
    let said = refused("InaccessiblePaths=/sys/kernel/btf/vmlinux");
    assert_eq!(said.len(), 1, "{said:#?}");
    let message = field(&said[0], "MESSAGE");
    assert!(message.contains("/sys/kernel/btf/vmlinux"), "{message}");
}
