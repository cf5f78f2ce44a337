// SPDX-License-Identifier: MIT OR Apache-2.0
//! The package for Debian, with apt.

use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::systemctl;

use crate::package::{Package, is_removed, is_upgraded, runs_and_works};
use crate::{DIRECTORY, VERSION, run, told};

struct Deb;

impl Package for Deb {
    #[track_caller]
    fn install() -> Self {
        let package = Deb;
        package.upgrade(1);
        package
    }

    #[track_caller]
    fn upgrade(&self, number: u32) {
        let file = format!("{DIRECTORY}/bpf-oomd_{VERSION}-{number}_amd64.deb");
        told("apt-get", &["install", "--yes", &file]);
    }

    #[track_caller]
    fn remove(&self) {
        told("apt-get", &["remove", "--yes", "bpf-oomd"]);
    }
}

impl Drop for Deb {
    fn drop(&mut self) {
        let purged = run("apt-get", &["purge", "--yes", "bpf-oomd"]);
        println!("{}", String::from_utf8_lossy(&purged.stdout));
    }
}

#[test]
fn once_installed_it_runs_and_works() {
    let _machine = TestMachine::enter();
    runs_and_works::<Deb>();
}

#[test]
fn an_upgrade_restarts_it_and_keeps_attachments_and_edited_files() {
    let _machine = TestMachine::enter();
    is_upgraded::<Deb>();
}

#[test]
fn an_upgrade_does_not_enable_what_was_disabled() {
    let _machine = TestMachine::enter();
    let package = Deb::install();
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
    is_removed::<Deb>();
}
