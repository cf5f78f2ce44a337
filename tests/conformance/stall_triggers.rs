// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which cgroups have a trigger, from when until when.

use std::time::Duration;

use bpf_oomd_bpf::pressure::Level;
use bpf_oomd_bpf::{CgroupPressure, Outcome, Pressure, Trigger};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::machine::{TestMachine, meminfo};
use bpf_oomd_tests::wait::{all_the_time, eventually_within};

use crate::watching::{AT_ONCE, Domain, PATIENCE, Watching};

fn each_unit(pressure: Option<Pressure>) -> CgroupPressure {
    CgroupPressure {
        own: None,
        units: Some(pressure),
    }
}

fn trigger(watching: &Watching, cgroup: &Cgroup) -> Option<Trigger> {
    let watch = watching.loaded.shared.watch(cgroup.id()).expect("look up");
    watch.map(|watch| watch.trigger)
}

#[test]
fn a_new_unit_in_the_slice_has_its_trigger_at_birth() {
    let _machine = TestMachine::enter();
    let watching = Watching::new();
    let slice = Cgroup::new("a.slice");
    watching.put(&slice, each_unit(Some(AT_ONCE)));
    let _births = watching.births();
    // mkdir(2) has returned, nobody can be inside yet.
    let unit = slice.child("x.service");
    assert_eq!(trigger(&watching, &unit), Some(AT_ONCE.trigger));
    let inner = slice.child("a-b.slice");
    let scope = inner.child("y.scope");
    assert_eq!(trigger(&watching, &scope), Some(AT_ONCE.trigger));
    // Neither a slice nor what a unit makes inside itself is a unit.
    assert_eq!(trigger(&watching, &inner), None);
    let payload = unit.child("payload.service");
    assert_eq!(trigger(&watching, &payload), None);
    let elsewhere = Cgroup::new("z.service");
    assert_eq!(trigger(&watching, &elsewhere), None);
}

#[test]
fn the_nearest_slice_that_says_something_decides() {
    let _machine = TestMachine::enter();
    let watching = Watching::new();
    let other = Pressure {
        trigger: Trigger {
            level: Level::Some,
            ..AT_ONCE.trigger
        },
        ..AT_ONCE
    };
    let outer = Cgroup::new("a.slice");
    let (inner, spared) = (outer.child("a-b.slice"), outer.child("a-c.slice"));
    watching.put(&outer, each_unit(Some(AT_ONCE)));
    watching.put(&inner, each_unit(Some(other)));
    watching.put(&spared, each_unit(None));
    // What is said of a slice's own pressure is not said of its units.
    let own = outer.child("a-d.slice");
    watching.say(&own, other);
    let _births = watching.births();
    let unit = |slice: &Cgroup| trigger(&watching, &slice.child("x.service"));
    assert_eq!(unit(&outer), Some(AT_ONCE.trigger));
    assert_eq!(unit(&inner), Some(other.trigger));
    assert_eq!(unit(&spared), None);
    assert_eq!(unit(&own), Some(AT_ONCE.trigger));
}

#[test]
fn a_unit_of_a_slice_dies_of_its_stall() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let slice = Cgroup::new("a.slice");
    watching.put(&slice, each_unit(Some(AT_ONCE)));
    let _policy = watching.loaded.attach(&slice);
    let _births = watching.births();
    let unit = slice.child("x.service");
    let mut hog = crate::watching::stalling(&unit);
    hog.go();
    assert!(hog.wait_killed_within(PATIENCE));
    assert_eq!(watching.reports().kills[0].domain, unit.id());
}

#[test]
fn a_cgroup_that_goes_away_leaves_nothing_and_is_told_once() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let slice = Cgroup::new("a.slice");
    watching.put(&slice, each_unit(Some(AT_ONCE)));
    let births = watching.births();
    let unit = slice.child("x.service");
    let id = unit.id();
    watching.say(&unit, AT_ONCE);
    unit.remove();
    let shared = &watching.loaded.shared;
    eventually_within(PATIENCE, || match shared.watched().count() {
        0 => Ok(()),
        left => Err(format!("{left} entries left")),
    });
    assert_eq!(shared.pressure(id).expect("look up"), None);
    // Nothing comes later.
    drop(births);
    assert_eq!(watching.reports().gone, [id]);
}

#[test]
fn two_thousand_units_leave_nothing() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let slice = Cgroup::new("a.slice");
    watching.put(&slice, each_unit(Some(AT_ONCE)));
    let _births = watching.births();
    let round = |watching: &mut Watching, units: u32| {
        let mut gone = 0;
        for number in 0..units {
            let unit = slice.child(&format!("x{number}.service"));
            assert_eq!(trigger(watching, &unit), Some(AT_ONCE.trigger));
            unit.remove();
            if number % 100 == 0 {
                gone += watching.reports().gone.len();
            }
        }
        eventually_within(PATIENCE, || {
            match watching.loaded.shared.watched().count() {
                0 => Ok(()),
                left => Err(format!("{left} entries left")),
            }
        });
        eventually_within(PATIENCE, || {
            gone += watching.reports().gone.len();
            match gone {
                all if all == units as usize => Ok(()),
                some => Err(format!("{some} of {units} were told")),
            }
        });
    };
    // What is kept for later is there after these.
    round(&mut watching, 200);
    let before = kernel_memory();
    round(&mut watching, 2000);
    let after = eventually_within(PATIENCE, || match kernel_memory() {
        now if now < before + 4 * MIB => Ok(now),
        now => Err(format!("{before} bytes before, {now} after")),
    });
    println!("kernel memory: {before} bytes before, {after} after 2000 units");
    assert_eq!(watching.loaded.shared.lost().expect("lost"), 0);
}

/// Stacks of kernel threads, and memory of the kernel that it cannot give back, in bytes.
fn kernel_memory() -> u64 {
    meminfo("SUnreclaim:") + meminfo("KernelStack:") + meminfo("Percpu:")
}

#[test]
fn what_is_not_said_any_more_does_nothing() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let mut domain = Domain::new(&watching);
    watching.watch(&domain.unit, AT_ONCE);
    // Another window: the trigger is not of that stall.
    watching.say(
        &domain.unit,
        Pressure {
            trigger: Trigger {
                window: Duration::from_secs(1),
                ..AT_ONCE.trigger
            },
            ..AT_ONCE
        },
    );
    domain.stalling.go();
    domain.unit.wait_for_stall(Duration::from_millis(100));
    all_the_time(Duration::from_secs(2), "somebody died", || {
        domain.stalling.is_running()
    });
    assert_eq!(watching.outcomes(&domain.unit), []);
    watching.say(&domain.unit, AT_ONCE);
    watching.wait(&domain.unit, Outcome::Killed, 1);
}

#[test]
fn triggers_that_cannot_be_made_are_told() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let here = Cgroup::new("here");
    let gone = {
        let gone = Cgroup::new("gone");
        let id = gone.id();
        gone.remove();
        id
    };
    let wanted = [
        (gone, AT_ONCE.trigger),
        (here.id(), AT_ONCE.trigger),
        (
            here.id(),
            Trigger {
                window: Duration::from_millis(10),
                ..AT_ONCE.trigger
            },
        ),
    ];
    let results = watching.create(&wanted[..2]);
    assert_eq!(results, [Some(libc::ENOENT), None]);
    assert_eq!(watching.create(&wanted[2..]), [Some(libc::EINVAL)]);
}
