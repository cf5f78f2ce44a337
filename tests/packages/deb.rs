// SPDX-License-Identifier: MIT OR Apache-2.0
//! The package for Debian, with apt.

use std::path::Path;

use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::systemctl;

use crate::installed::{EDITED, assert_gone, assert_runs, assert_upgrades, assert_works, edit};
use crate::{DIRECTORY, VERSION, files, run, told};

/// The installed package; purged at the end, however the test went.
struct Package;

impl Package {
    #[track_caller]
    fn install() -> Self {
        let package = Package;
        package.upgrade(1);
        package
    }

    #[track_caller]
    fn upgrade(&self, revision: u32) {
        let file = format!("{DIRECTORY}/bpf-oomd_{VERSION}-{revision}_amd64.deb");
        told("apt-get", &["install", "--yes", &file]);
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        let purged = run("apt-get", &["purge", "--yes", "bpf-oomd"]);
        println!("{}", String::from_utf8_lossy(&purged.stdout));
    }
}

#[test]
fn once_installed_it_runs_and_works() {
    let _machine = TestMachine::enter();
    let _package = Package::install();
    assert_runs();
    assert_works();
}

#[test]
fn an_upgrade_restarts_it_and_keeps_attachments_and_edited_files() {
    let _machine = TestMachine::enter();
    let package = Package::install();
    let _tree = edit();
    assert_upgrades(|| package.upgrade(2));
}

#[test]
fn an_upgrade_does_not_enable_what_was_disabled() {
    let _machine = TestMachine::enter();
    let package = Package::install();
    systemctl(&["disable", "--now", daemon::UNIT]);
    package.upgrade(2);
    for question in ["is-enabled", "is-active"] {
        let answer = run("systemctl", &[question, daemon::UNIT]);
        assert!(!answer.status.success(), "{question}: {answer:?}");
    }
}

#[test]
fn removed_it_is_gone_but_for_edited_files_and_purged_those_too() {
    let _machine = TestMachine::enter();
    let before = files::all();
    let package = Package::install();
    let tree = edit();
    told("apt-get", &["remove", "--yes", "bpf-oomd"]);
    assert_gone();
    assert!(Path::new(EDITED).exists());
    drop(tree);
    drop(package);
    assert_gone();
    files::assert_same_as(&before);
}
