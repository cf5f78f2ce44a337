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
    assert!(unit_file().contains("\nRestartPreventExitStatus=2 69\n"));
}

#[test]
fn the_unit_file_keeps_what_was_set_at_run_time_over_a_restart_only() {
    let state = bpf_oomd::core::STATE_DIRECTORY;
    let directory = state.strip_prefix("/run/").unwrap();
    let unit = unit_file();
    assert!(unit.contains(&format!("\nRuntimeDirectory={directory}\n")));
    assert!(unit.contains("\nRuntimeDirectoryPreserve=restart\n"));
}

#[test]
fn files_of_the_bus_say_the_names_that_the_daemon_uses() {
    use bpf_oomd::bus::NAME;
    let bus = installed("share/dbus-1/system.d/org.bpfoomd1.conf");
    assert!(bus.contains(&format!("<allow own=\"{NAME}\"/>")));
    assert!(bus.contains(&format!("<allow send_destination=\"{NAME}\"/>")));
    let activation = installed("share/dbus-1/system-services/org.bpfoomd1.service");
    assert!(activation.contains(&format!("\nName={NAME}\n")));
    // Only an enabled daemon has the alias that the bus starts.
    let alias = format!("dbus-{NAME}.service");
    assert!(activation.contains(&format!("\nSystemdService={alias}\n")));
    let unit = unit_file();
    let (_, install) = unit.split_once("[Install]").unwrap();
    assert!(install.contains(&format!("\nAlias={alias}\n")));
    assert!(unit.contains(&format!("\nBusName={NAME}\n")));
}

fn unit_file() -> String {
    installed("lib/systemd/system/bpf-oomd.service")
}

fn installed(name: &str) -> String {
    let path = format!("{}/../units/usr/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
