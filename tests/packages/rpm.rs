// SPDX-License-Identifier: MIT OR Apache-2.0
//! The package for Fedora and the like, with rpm, on Debian: what it is made for is not to be had here. So rpm's list of packages is
//! empty, and dependencies are not looked at.

use std::fs;

use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::{daemon_reload, systemctl};

use crate::package::{Package, is_removed, is_upgraded, runs_and_works};
use crate::{DIRECTORY, VERSION, run, told};

struct Rpm;

impl Package for Rpm {
    #[track_caller]
    fn install() -> Self {
        let package = Rpm;
        package.upgrade(1);
        // Whether it runs after installation is the distribution's decision, which is a preset; Debian's enables everything.
        systemctl(&["start", daemon::UNIT]);
        package
    }

    #[track_caller]
    fn upgrade(&self, number: u32) {
        let file = format!("{DIRECTORY}/bpf-oomd-{VERSION}-{number}.x86_64.rpm");
        told("rpm", &["--upgrade", "--nodeps", &file]);
    }

    #[track_caller]
    fn remove(&self) {
        told("rpm", &["--erase", "--nodeps", "bpf-oomd"]);
    }
}

impl Drop for Rpm {
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
    let _package: Rpm = runs_and_works();
    // Every file is there, and as it was packaged.
    assert_eq!(told("rpm", &["--verify", "--nodeps", "bpf-oomd"]), "");
}

#[test]
fn an_upgrade_restarts_it_and_keeps_attachments_and_edited_files() {
    let _machine = TestMachine::enter();
    is_upgraded::<Rpm>();
}

#[test]
fn removed_it_is_gone_but_for_edited_files() {
    let _machine = TestMachine::enter();
    is_removed::<Rpm>();
}
