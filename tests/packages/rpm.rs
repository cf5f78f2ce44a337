// SPDX-License-Identifier: MIT OR Apache-2.0
//! The package for Fedora and the like, with rpm, on Debian: what it is made for is not to be had here. So rpm's list of packages is
//! empty, and dependencies are not looked at.

use std::fs;

use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{daemon_reload, systemctl};

use crate::installed::{EDITED, assert_gone, assert_runs, assert_upgrades, assert_works, edit};
use crate::{DIRECTORY, VERSION, files, run, told};

/// The installed package; removed at the end, however the test went.
struct Package;

impl Package {
    #[track_caller]
    fn install() -> Self {
        let package = Package;
        package.upgrade(1);
        // Whether it runs after installation is the distribution's decision, which is a preset; Debian's enables everything.
        systemctl(&["start", daemon::UNIT]);
        package
    }

    #[track_caller]
    fn upgrade(&self, release: u32) {
        let file = format!("{DIRECTORY}/bpf-oomd-{VERSION}-{release}.x86_64.rpm");
        told("rpm", &["--upgrade", "--nodeps", &file]);
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        let erased = run("rpm", &["--erase", "--nodeps", "bpf-oomd"]);
        println!("{}", String::from_utf8_lossy(&erased.stderr));
        // Nobody's files any more.
        let _ = fs::remove_dir_all("/etc/bpf-oomd");
        daemon_reload();
    }
}

#[test]
fn once_installed_and_started_it_works() {
    let _machine = TestMachine::enter();
    let _package = Package::install();
    assert_runs();
    assert_works();
    // Every file is there, and as it was packaged.
    assert_eq!(told("rpm", &["--verify", "--nodeps", "bpf-oomd"]), "");
}

#[test]
fn an_upgrade_restarts_it_and_keeps_attachments_and_edited_files() {
    let _machine = TestMachine::enter();
    let package = Package::install();
    let _tree = edit();
    assert_upgrades(|| package.upgrade(2));
}

#[test]
fn removed_it_is_gone_but_for_edited_files() {
    let _machine = TestMachine::enter();
    let before = files::all();
    let package = Package::install();
    let tree = edit();
    told("rpm", &["--erase", "--nodeps", "bpf-oomd"]);
    assert_gone();
    assert!(fs::exists(EDITED).expect("look"));
    drop(tree);
    drop(package);
    files::assert_same_as(&before);
}
