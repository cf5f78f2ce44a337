// SPDX-License-Identifier: MIT OR Apache-2.0
//! The history of kills, their numbers and the counters go on over a restart and a crash, and end when the service is stopped.

use bpf_oomd_tests::attachments::wait_attached;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{Value, json, of};
use bpf_oomd_tests::restless::restart_at_once;
use bpf_oomd_tests::seed_units::{LARGER, SLICE, SeedUnits};
use bpf_oomd_tests::systemctl::{
    daemon_reload, eventually, signal, start, stop, systemctl, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service};

/// Runs out of its own memory, and the kernel's killer chooses.
const ALONE: &str = "alone.service";

/// What is told of the past.
#[derive(Debug, PartialEq)]
struct Past {
    kills: Value,
    counters: [Value; 3],
    /// How often two units were victims.
    victims: [Value; 2],
}

fn past() -> Past {
    let status = json(&["status"]);
    let counters = &status["counters"];
    let units = json(&["list", "--all"]);
    Past {
        kills: json(&["kills"]),
        counters: ["kills", "kernel-kills", "lost-records"].map(|name| counters[name].clone()),
        victims: [LARGER, ALONE].map(|unit| of(&units, "name", unit)["kills"].clone()),
    }
}

/// Waits until the daemon knows of so many kills.
#[track_caller]
fn wait_for_kills(count: usize) {
    eventually(&format!("{count} kills are listed"), || {
        json(&["kills"]).as_array().map(Vec::len) == Some(count)
    });
}

#[test]
fn who_was_killed_is_known_until_the_service_is_stopped() {
    let _machine = TestMachine::enter();
    let mut units = Units::new();
    restart_at_once(&mut units);
    units.write(
        ALONE,
        &hog_service(
            "system.slice",
            &["MemoryMax=24M", "ManagedOOMPolicy=kernel"],
            "notify=READY=1 usr1 anon=64M pause",
        ),
    );
    stop(&[daemon::UNIT]);
    daemon::started();
    let tree = SeedUnits::start(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    wait_attached(SLICE);
    start(&[ALONE]);
    signal(ALONE, "USR1");
    wait_for_kills(1);
    tree.run_out();
    wait_for_kills(2);
    let before = past();
    assert_eq!(before.kills[0]["unit"], ALONE);
    assert_eq!(before.kills[1]["unit"], LARGER);
    assert_eq!(before.counters, [1, 1, 0].map(Value::from));
    assert_eq!(before.victims, [1, 1].map(Value::from));

    for way in ["restart", "KILL"] {
        let pid = daemon::pid();
        match way {
            "restart" => drop(systemctl(&["restart", daemon::UNIT])),
            name => signal(daemon::UNIT, name),
        }
        daemon::wait_for_another(pid);
        assert_eq!(past(), before, "{way}");
    }

    // What happens while there is no daemon has the next number.
    units.write_drop_in(
        daemon::UNIT,
        "50-at-once",
        "[Service]\nRestartSec=1h\nRestartSteps=0\n",
    );
    daemon_reload();
    start(&[ALONE]);
    signal(daemon::UNIT, "KILL");
    wait_for_property(daemon::UNIT, "SubState", "auto-restart");
    signal(ALONE, "USR1");
    wait_for_property(ALONE, "Result", "oom-kill");
    daemon::started();
    wait_for_kills(3);
    let now = past();
    assert_eq!(now.kills[0], before.kills[0]);
    assert_eq!(now.kills[1], before.kills[1]);
    assert_eq!(
        (&now.kills[2]["id"], &now.kills[2]["unit"]),
        (&3.into(), &ALONE.into())
    );
    assert_eq!(now.counters, [1, 2, 0].map(Value::from));
    assert_eq!(now.victims, [1, 2].map(Value::from));

    // With the service goes what it kept.
    stop(&[daemon::UNIT]);
    assert!(!std::path::Path::new("/run/bpf-oomd/state").exists());
    daemon::started();
    let after = past();
    assert_eq!(after.kills, Value::Array(Vec::new()));
    assert_eq!(after.counters, [0, 0, 0].map(Value::from));
    assert_eq!(after.victims, [0, 0].map(Value::from));
}
