// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stall alone is no reason to kill: each guard is seen holding a kill back, and letting it pass.

use std::time::{Duration, Instant};

use bpf_oomd_bpf::{CgroupSettings, Outcome, Pressure, Reason, Trigger};
use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::tracee::Tracee;
use bpf_oomd_tests::wait::eventually_within;

use crate::watching::{AT_ONCE, Domain, PATIENCE, Watching};

#[test]
fn a_stall_that_does_not_last_kills_nobody() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let mut domain = Domain::new(&watching);
    let patient = Pressure {
        lasts: Duration::from_secs(600),
        ..AT_ONCE
    };
    watching.watch(&domain.unit, patient);
    domain.stalling.go();
    watching.wait(&domain.unit, Outcome::TooShort, 4);
    assert!(domain.stalling.is_running());
    let outcomes = watching.outcomes(&domain.unit);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    // Three seconds are over, or will be.
    let patient = Pressure {
        lasts: Duration::from_secs(3),
        ..AT_ONCE
    };
    watching.say(&domain.unit, patient);
    assert!(domain.stalling.wait_killed_within(PATIENCE));
    let kills = watching.reports().kills;
    let Reason::Pressure(stall) = &kills[0].reason else {
        panic!("{kills:?}");
    };
    assert!(stall.lasted >= Duration::from_millis(2900), "{stall:?}");
    assert!(stall.stall >= Duration::from_millis(250), "{stall:?}");
}

#[test]
fn a_pause_begins_the_time_anew() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let mut domain = Domain::new(&watching);
    let patient = Pressure {
        // So little that the average over the pause would do.
        trigger: Trigger {
            stall: Duration::from_millis(10),
            ..AT_ONCE.trigger
        },
        lasts: Duration::from_secs(8),
        ..AT_ONCE
    };
    watching.watch(&domain.unit, patient);
    domain.stalling.go();
    watching.wait(&domain.unit, Outcome::TooShort, 4);
    domain.unit.write("memory.high", "max");
    domain.stalling.wait_ready();
    // Long after the last window with a stall in it.
    std::thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    let mut again = Hog::ready(&domain.unit, "ready wait anon=200M hold");
    domain.unit.write("memory.high", &(16 * MIB).to_string());
    again.go();
    eventually_within(PATIENCE, || match domain.unit.oom_kills() {
        0 => Err("nobody died".to_owned()),
        _ => Ok(()),
    });
    let after = began.elapsed();
    assert!(after >= Duration::from_secs(7), "after {after:?}");
}

#[test]
fn a_unit_that_uses_little_is_left_alone() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let mut domain = Domain::new(&watching);
    let large_only = Pressure {
        min_usage: 1024 * MIB,
        ..AT_ONCE
    };
    watching.watch(&domain.unit, large_only);
    domain.stalling.go();
    watching.wait(&domain.unit, Outcome::TooSmall, 2);
    assert!(domain.stalling.is_running());
    let small_too = Pressure {
        min_usage: 12 * MIB,
        ..AT_ONCE
    };
    watching.say(&domain.unit, small_too);
    assert!(domain.stalling.wait_killed_within(PATIENCE));
}

/// A task that is held back over memory.high sleeps for up to two seconds. If the limit is lifted meanwhile it sleeps on, and stalls on memory
/// that it could have.
#[test]
fn where_memory_can_be_had_nobody_is_killed() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let domain = Domain::new(&watching);
    let mut hog = Hog::start(&domain.unit, "churn=48M");
    // It may wake up before the trigger has seen enough of its sleep.
    eventually_within(PATIENCE, || {
        watching.watch_nothing();
        domain.unit.write("memory.high", &(16 * MIB).to_string());
        domain.unit.wait_for_stall(Duration::from_millis(100));
        domain.unit.write("memory.high", "max");
        watching.watch(&domain.unit, AT_ONCE);
        std::thread::sleep(Duration::from_millis(1500));
        match watching.count(&domain.unit, Outcome::NoShortage) {
            0 => Err(format!("{:?}", watching.outcomes(&domain.unit))),
            _ => Ok(()),
        }
    });
    assert!(hog.is_running());
    assert_eq!(domain.unit.oom_kills(), 0);
}

#[test]
fn while_a_victim_is_on_its_way_out_nobody_else_is_killed() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let domain = Domain::new(&watching);
    let unit = domain.cgroup.child("crowded");
    let (one, other) = (unit.child("one"), unit.child("other"));
    // Shared memory is not the reaper's to take: the unit goes on stalling.
    let mut victim = Hog::ready(&one, "shared=32M ready hold");
    let mut growing = Hog::ready(&other, "anon=4M ready wait anon=20M ready hold");
    watching.loaded.say(
        &unit,
        CgroupSettings {
            cooldown: Some(Duration::ZERO),
            ..CgroupSettings::default()
        },
    );
    watching.watch(&unit, AT_ONCE);
    let mut exiting = Tracee::stop_at_exit(victim.pid());
    unit.write("memory.high", &(20 * MIB).to_string());
    growing.go();
    exiting.wait_exiting();
    watching.wait(&unit, Outcome::Exiting, 2);
    assert!(growing.is_running());
    assert_eq!(unit.oom_kills(), 1);
    // Nobody has to be asked for that.
    assert_eq!(unit.value("memory.events", "oom"), 1);
    exiting.let_go();
    assert!(victim.wait_killed());
}

#[test]
fn a_kill_is_given_the_cooldown_to_take_effect() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let mut domain = Domain::new(&watching);
    let patience = |seconds| CgroupSettings {
        cooldown: Some(Duration::from_secs(seconds)),
        ..CgroupSettings::default()
    };
    watching.loaded.say(&domain.unit, patience(600));
    watching.watch(&domain.unit, AT_ONCE);
    domain.stalling.go();
    assert!(domain.stalling.wait_killed_within(PATIENCE));
    let mut again = Hog::start(&domain.unit, "anon=200M hold");
    watching.wait(&domain.unit, Outcome::Cooldown, 2);
    assert!(again.is_running());
    assert_eq!(domain.unit.oom_kills(), 1);
    watching.loaded.say(&domain.unit, patience(1));
    assert!(again.wait_killed_within(PATIENCE));
    assert_eq!(watching.reports().kills.len(), 2);
}
