// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the installed man pages show for a shell works.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bpf_oomd_tests::attachments::wait_attached;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{reset_policy, told};
use bpf_oomd_tests::systemctl::{daemon_reload, eventually, start, stop};
use bpf_oomd_tests::units::{Units, hog_service, slice};

/// The installed pages of the project.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for section in ["man1", "man5", "man7", "man8"] {
        let directory = fs::read_dir(format!("/usr/share/man/{section}")).expect("man pages");
        let files = directory.map(|file| file.expect("a file").path());
        pages.extend(files.filter(|path| path.display().to_string().contains("bpf")));
    }
    pages
}

/// The command lines in EXAMPLES of a page.
fn examples(page: &PathBuf) -> Vec<String> {
    let page = fs::read_to_string(page).expect("a page");
    let page = page.replace("\\-", "-");
    let Some((_, examples)) = page.split_once("\n.SH EXAMPLES\n") else {
        return Vec::new();
    };
    let (examples, _) = examples
        .split_once("\n.SH ")
        .expect("what comes after them");
    let blocks = examples.split(".nf\n").skip(1);
    let lines = blocks.flat_map(|block| {
        let (lines, _) = block.split_once("\n.fi").expect("an end");
        lines.lines()
    });
    lines.map(str::to_owned).collect()
}

/// How long an example may take, and what it ends with: what goes on until somebody ends it is ended.
fn limit(example: &str) -> (&'static str, i32) {
    let goes_on = ["--follow", "busctl monitor", "bpf-oomctl notify"];
    match goes_on.iter().any(|part| example.contains(part)) {
        true => ("3", 124),
        false => ("60", 0),
    }
}

#[test]
fn every_example_of_the_man_pages_works() {
    let _machine = TestMachine::enter();
    // One that has reported nothing yet.
    stop(&[daemon::UNIT]);
    daemon::started();
    let mut units = Units::new();
    units.write(
        "batch.slice",
        &slice(&["ManagedOOMPolicy=bpf:biggest-leaf"]),
    );
    let service = hog_service("batch.slice", &[], "anon=4M notify=READY=1 pause");
    units.write("batch.service", &service);
    daemon_reload();
    start(&["batch.service"]);
    wait_attached("batch.slice");
    eventually("the service is followed", || {
        told(&["list"]).contains("batch.service")
    });
    let pages = pages();
    assert_eq!(pages.len(), 5, "{pages:?}");
    let examples: Vec<String> = pages.iter().flat_map(examples).collect();
    assert!(examples.len() > 20, "{examples:?}");
    for example in examples {
        let (limit, status) = limit(&example);
        let mut command = Command::new("timeout");
        command.args([limit, "sh", "-c", &example]);
        if example.starts_with("bpf-oomctl notify") {
            // For somebody who has a session.
            command = Command::new("dbus-run-session");
            command.args(["--", "timeout", limit, "sh", "-c", &example]);
        }
        let output = command.output().expect("run an example");
        assert_eq!(output.status.code(), Some(status), "{example}: {output:?}");
        if example.starts_with("bpf-oomctl") {
            assert!(output.stderr.is_empty(), "{example}: {output:?}");
        }
    }
    reset_policy("batch.service");
}
