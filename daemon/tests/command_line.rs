// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon's command line and exit status: what its unit file relies on.

use std::process::{Command, Output};

fn bpf_oomd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bpf-oomd"))
        .args(arguments)
        .env_remove("JOURNAL_STREAM")
        .env_remove("NOTIFY_SOCKET")
        .output()
        .expect("the daemon was built with this test")
}

#[test]
fn the_version_is_told() {
    let output = bpf_oomd(&["--version"]);
    assert!(output.status.success());
    let expected = concat!("bpf-oomd ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn unknown_arguments_are_refused() {
    for arguments in [&["--verson"][..], &["--version", "x"], &[""]] {
        let output = bpf_oomd(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            String::from_utf8(output.stderr)
                .unwrap()
                .contains("expected none")
        );
    }
}

#[test]
fn the_unit_file_does_not_restart_after_an_exit_status_that_will_not_change() {
    let unit = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../units/usr/lib/systemd/system/bpf-oomd.service"
    );
    let text = std::fs::read_to_string(unit).unwrap();
    assert!(text.contains("\nRestartPreventExitStatus=2 69\n"));
}
