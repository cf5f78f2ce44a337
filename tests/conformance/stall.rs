// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stall becomes an OOM, and whoever has the say about OOMs decides.

use std::time::Duration;

use bpf_oomd_bpf::pressure::{Action, Level, Resource};
use bpf_oomd_bpf::{CgroupPressure, Outcome, Pressure, Reason, Trigger};
use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::wait::{all_the_time, eventually_within};

use crate::watching::{AT_ONCE, Domain, PATIENCE, Watching, reader, stall_until_the_kernel_kills};

/// The kernel's report has this in it.
#[track_caller]
fn says(log: &Kmsg, part: &str) {
    let report = log.wait_for_report();
    assert!(report.iter().any(|line| line.contains(part)), "{report:#?}");
}

#[test]
fn the_unit_that_stalls_dies_and_its_record_says_why() {
    let _machine = TestMachine::enter();
    let log = Kmsg::before_a_report();
    let mut watching = Watching::new();
    let mut domain = Domain::new(&watching);
    watching.watch(&domain.unit, AT_ONCE);
    domain.stalling.go();
    assert!(domain.stalling.wait_killed_within(PATIENCE));
    assert!(domain.quiet.is_running());
    assert_eq!(domain.unit.oom_kills(), 1);
    // Not because it ran into a limit.
    assert_eq!(domain.unit.value("memory.events", "max"), 0);

    let reports = watching.reports();
    assert_eq!(reports.kills.len(), 1, "{reports:?}");
    let kill = &reports.kills[0];
    assert_eq!(kill.domain, domain.unit.id());
    assert_eq!(kill.attachment, domain.cgroup.id());
    assert_eq!(kill.victim, domain.unit.id());
    let Reason::Pressure(stall) = &kill.reason else {
        panic!("{kill:?}");
    };
    assert_eq!(
        (stall.resource, stall.level),
        (Resource::Memory, Level::Full)
    );
    assert_eq!(stall.window, Duration::from_millis(500));
    assert!(stall.stall >= Duration::from_millis(100), "{stall:?}");
    assert!(stall.stall <= stall.window, "{stall:?}");
    assert!(stall.over_high && stall.high_events > 0, "{stall:?}");
    watching.wait(&domain.unit, Outcome::Killed, 1);

    says(&log, "constraint=CONSTRAINT_BPF_PSI_MEM");
    says(&log, "oom_policy=biggest-leaf");
}

#[test]
fn a_stall_of_the_domain_costs_its_biggest_leaf() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let mut domain = Domain::new(&watching);
    // It stalls, but is not the biggest.
    let other = domain.cgroup.child("other");
    let mut bigger = Hog::ready(&other, "anon=48M ready hold");
    watching.watch(
        &domain.cgroup,
        Pressure {
            trigger: Trigger {
                level: Level::Some,
                ..AT_ONCE.trigger
            },
            ..AT_ONCE
        },
    );
    domain.stalling.go();
    assert!(bigger.wait_killed_within(PATIENCE));
    assert!(domain.quiet.is_running());
    let reports = watching.reports();
    assert_eq!(reports.kills[0].domain, domain.cgroup.id());
    assert_eq!(reports.kills[0].victim, other.id());
}

#[test]
fn where_the_kernel_decides_the_kernel_kills() {
    let _machine = TestMachine::enter();
    let log = Kmsg::before_a_report();
    let mut watching = Watching::new();
    let domain = stall_until_the_kernel_kills(&mut watching);
    let reports = watching.reports();
    assert_eq!(reports.kills, []);
    assert_eq!(reports.stalls.len(), 1, "{reports:?}");
    assert_eq!(reports.stalls[0].outcome, Outcome::KernelKilled);
    assert_eq!(reports.stalls[0].domain, domain.unit.id());
    says(&log, "oom_policy=default");
}

#[test]
fn where_nobody_can_die_that_is_told_and_not_in_every_window() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let domain = Domain::new(&watching);
    let unit = domain.cgroup.child("unkillable");
    unit.write("memory.high", &(16 * MIB).to_string());
    let mut hog = Hog::start(&unit, "adj=-1000 anon=200M hold");
    watching.watch(&unit, AT_ONCE);
    watching.wait(&unit, Outcome::Nobody, 3);
    assert!(hog.is_running());
    let told = watching.reports().stalls;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].outcome, Outcome::Nobody);
}

#[test]
fn a_dry_run_tells_and_kills_nobody_and_changes_no_later_decision() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let mut domain = Domain::new(&watching);
    watching.watch(
        &domain.unit,
        Pressure {
            action: Action::Report,
            ..AT_ONCE
        },
    );
    domain.stalling.go();
    watching.wait(&domain.unit, Outcome::Reported, 3);
    assert!(domain.stalling.is_running());
    assert_eq!(domain.unit.oom_kills(), 0);
    let reports = watching.reports();
    assert_eq!(reports.kills, []);
    // Not for every event: as often as there could be kills.
    assert_eq!(reports.stalls.len(), 1, "{reports:?}");
    assert_eq!(reports.stalls[0].outcome, Outcome::Reported);
    assert!(reports.stalls[0].usage >= 16 * MIB);
    // In earnest now: no cooldown of a kill that never was is in the way.
    watching.say(&domain.unit, AT_ONCE);
    assert!(domain.stalling.wait_killed_within(PATIENCE));
    let held = watching.count(&domain.unit, Outcome::Cooldown);
    assert_eq!(held, 0);
}

#[test]
fn io_alone_kills_nobody_where_memory_is_watched() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let domain = Domain::new(&watching);
    watching.watch(&domain.unit, AT_ONCE);
    let mut reader = reader(&domain.unit);
    let io = |domain: &Domain| domain.unit.pressure("io", "some");
    let before = io(&domain);
    all_the_time(Duration::from_secs(4), "somebody died", || {
        reader.is_running() && domain.unit.oom_kills() == 0
    });
    let stalled = io(&domain) - before;
    assert!(
        stalled >= Duration::from_millis(400),
        "only {stalled:?} of io"
    );
    assert_eq!(watching.outcomes(&domain.unit), []);
}

#[test]
fn io_kills_where_it_is_watched() {
    let _machine = TestMachine::enter();
    let log = Kmsg::before_a_report();
    let mut watching = Watching::new();
    let domain = Domain::new(&watching);
    let mut reader = reader(&domain.unit);
    watching.watch(
        &domain.unit,
        Pressure {
            trigger: Trigger {
                resource: Resource::Io,
                level: Level::Some,
                stall: Duration::from_millis(20),
                window: Duration::from_millis(500),
            },
            ..AT_ONCE
        },
    );
    assert!(reader.wait_killed_within(PATIENCE));
    says(&log, "constraint=CONSTRAINT_BPF_PSI_IO");
}

#[test]
fn a_stall_of_the_system_is_seen() {
    let _machine = TestMachine::enter();
    let mut watching = Watching::new();
    let mut domain = Domain::new(&watching);
    let report = Pressure {
        trigger: Trigger {
            level: Level::Some,
            ..AT_ONCE.trigger
        },
        // In earnest it is tried in a machine of its own.
        action: Action::Report,
        ..AT_ONCE
    };
    let said = CgroupPressure {
        own: Some(Some(report)),
        units: None,
    };
    let shared = &watching.loaded.shared;
    shared.put_pressure(0, &said).expect("put pressure");
    assert_eq!(watching.create(&[(0, report.trigger)]), [None]);
    domain.stalling.go();
    eventually_within(PATIENCE, || {
        let watch = watching.loaded.shared.watch(0).expect("look up");
        match watch.map_or(0, |watch| watch.count(Outcome::Reported)) {
            0 => Err(format!("not reported: {watch:?}")),
            _ => Ok(()),
        }
    });
    let told = watching.reports().stalls;
    assert_eq!((told[0].domain, told[0].outcome), (0, Outcome::Reported));
}
