// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nothing happens.

use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::told;
use bpf_oomd_tests::systemctl::{eventually, systemctl};

use crate::{SCENE, scene, wait_watched};

#[test]
fn a_hundred_watched_units_and_a_watched_machine_wake_nobody_while_nothing_happens() {
    const MANY: usize = 100;
    let _machine = TestMachine::enter();
    let (mut configuration, mut units) = scene("", &[]);
    units.start_slices("many", MANY);
    daemon::restart_without_watchdog(&mut units);
    configuration.write(
        "60-many",
        "[defaults]\nmin-available = \"5%\"\nmin-swap = \"5%\"\n\
         [slice.\"scene.slice\"]\npressure = \"memory full 400ms/1s\"\n\
         [unit.\"many*.slice\"]\npressure = \"memory full 400ms/1s\"\n",
    );
    eventually("all slices are watched", || {
        let text = told(&["pressure"]);
        text.lines().filter(|line| line.starts_with("many")).count() == MANY
    });
    wait_watched(SCENE);
    daemon::wait_for_a_minute_of_sleep(|_| {});
    drop(units);
    systemctl(&["restart", daemon::UNIT]);
}
