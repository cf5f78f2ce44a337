// SPDX-License-Identifier: MIT OR Apache-2.0
//! The project's pressure program beside the policy `biggest-leaf`, for tests of what it makes of stalls.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use bpf_oomd::engine::kernel::struct_ops_link;
use bpf_oomd_bpf::pressure::{Action, Level, Resource};
use bpf_oomd_bpf::{
    CgroupPressure, CgroupSettings, Event, KernelKillRecord, KillRecord, Outcome, PolicyMark,
    Pressure, PressureProgram, PressureRecord, Trigger,
};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::wait::eventually_within;

use crate::unit_tree::Loaded;

/// A stall on memory of 100 ms in half a second is an OOM, at once.
pub const AT_ONCE: Pressure = Pressure {
    trigger: Trigger {
        resource: Resource::Memory,
        level: Level::Full,
        stall: Duration::from_millis(100),
        window: Duration::from_millis(500),
    },
    lasts: Duration::ZERO,
    min_usage: 0,
    action: Action::Kill,
};

/// Events come after half a second; this is long enough for some, also on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Both programs, loaded; dropping it takes the triggers away.
pub struct Watching {
    pub loaded: Loaded,
    pub program: PressureProgram,
    links: Vec<OwnedFd>,
}

/// What was reported.
#[derive(Debug, Default)]
pub struct Reports {
    pub kills: Vec<KillRecord>,
    pub kernel_kills: Vec<KernelKillRecord>,
    pub stalls: Vec<PressureRecord>,
    /// Cgroups that are gone with their trigger.
    pub gone: Vec<u64>,
}

impl Watching {
    #[track_caller]
    pub fn new() -> Self {
        let loaded = Loaded::new();
        let program = PressureProgram::load(&loaded.shared).expect("load the pressure program");
        Self {
            loaded,
            program,
            links: Vec::new(),
        }
    }

    /// Says when a cgroup's own stall is an OOM, without watching it.
    #[track_caller]
    pub fn say(&self, cgroup: &Cgroup, pressure: Pressure) {
        let own = Some(Some(pressure));
        self.put(cgroup, CgroupPressure { own, units: None });
    }

    /// Says something about a cgroup.
    #[track_caller]
    pub fn put(&self, cgroup: &Cgroup, said: CgroupPressure) {
        let put = self.loaded.shared.put_pressure(cgroup.id(), &said);
        put.expect("put pressure");
    }

    /// Says when a cgroup's own stall is an OOM, and watches for it.
    #[track_caller]
    pub fn watch(&mut self, cgroup: &Cgroup, pressure: Pressure) {
        self.say(cgroup, pressure);
        let results = self.create(&[(cgroup.id(), pressure.trigger)]);
        assert_eq!(results, [None]);
    }

    /// Takes all triggers away.
    pub fn watch_nothing(&mut self) {
        self.links.clear();
    }

    /// Makes triggers; gives the errno of those that were not made.
    #[track_caller]
    pub fn create(&mut self, triggers: &[(u64, Trigger)]) -> Vec<Option<i32>> {
        let free = self
            .program
            .others()
            .nth(self.links.len())
            .expect("a struct_ops map that is free");
        let link = self.attach(free, triggers);
        self.links.push(link);
        self.program.results(triggers.len()).expect("results")
    }

    /// Gives new cgroups what is said for them, as long as the link is kept.
    #[track_caller]
    pub fn births(&self) -> OwnedFd {
        self.attach(self.program.births(), &[])
    }

    #[track_caller]
    fn attach(&self, map: BorrowedFd<'_>, triggers: &[(u64, Trigger)]) -> OwnedFd {
        self.program
            .prepare(triggers)
            .expect("say which triggers to make");
        struct_ops_link(map, None).expect("attach the pressure program")
    }

    /// How often an event of a cgroup had this outcome.
    #[track_caller]
    pub fn count(&self, cgroup: &Cgroup, outcome: Outcome) -> u64 {
        let watch = self.loaded.shared.watch(cgroup.id()).expect("look up");
        watch.map_or(0, |watch| watch.count(outcome))
    }

    /// The outcomes of a cgroup's events so far, without those that there were none of.
    pub fn outcomes(&self, cgroup: &Cgroup) -> Vec<(Outcome, u64)> {
        Outcome::ALL
            .into_iter()
            .map(|outcome| (outcome, self.count(cgroup, outcome)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Waits until an outcome was counted that often.
    #[track_caller]
    pub fn wait(&self, cgroup: &Cgroup, outcome: Outcome, count: u64) {
        eventually_within(PATIENCE, || {
            if self.count(cgroup, outcome) >= count {
                return Ok(());
            }
            let outcomes = self.outcomes(cgroup);
            Err(format!("not {count} times {outcome:?}: {outcomes:?}"))
        });
    }

    /// What was reported since the last call.
    #[track_caller]
    pub fn reports(&mut self) -> Reports {
        let mut reports = Reports::default();
        let drained = self.loaded.shared.drain(|event| match event {
            Event::Kill(kill) => reports.kills.push(kill),
            Event::KernelKill(kill) => reports.kernel_kills.push(kill),
            Event::Pressure(record) => reports.stalls.push(record),
            Event::CgroupOffline {
                cgroup_id,
                policy: None,
                ..
            } => reports.gone.push(cgroup_id),
            Event::CgroupOffline { .. } => {}
        });
        drained.expect("read events");
        reports
    }
}

/// A domain with a unit that stalls (see [`stalling`]) and one that does not. The policy is attached to the domain.
pub struct Domain {
    pub stalling: Hog,
    pub quiet: Hog,
    pub unit: Cgroup,
    _neighbour: Cgroup,
    pub cgroup: Cgroup,
    _link: OwnedFd,
}

impl Domain {
    #[track_caller]
    pub fn new(watching: &Watching) -> Self {
        let cgroup = Cgroup::new("domain");
        let link = watching.loaded.attach(&cgroup);
        let (unit, neighbour) = (cgroup.child("unit"), cgroup.child("neighbour"));
        let quiet = Hog::ready(&neighbour, "anon=8M ready hold");
        Self {
            stalling: stalling(&unit),
            quiet,
            unit,
            _neighbour: neighbour,
            cgroup,
            _link: link,
        }
    }
}

/// A domain whose stalling unit was left to the kernel, and killed by it for its stall.
#[track_caller]
pub fn stall_until_the_kernel_kills(watching: &mut Watching) -> Domain {
    let mut domain = Domain::new(watching);
    let kernel = CgroupSettings {
        policy: Some(PolicyMark::Kernel),
        ..CgroupSettings::default()
    };
    watching.loaded.say(&domain.unit, kernel);
    watching.watch(&domain.unit, AT_ONCE);
    domain.stalling.go();
    assert!(domain.stalling.wait_killed_within(PATIENCE));
    watching.wait(&domain.unit, Outcome::KernelKilled, 1);
    domain
}

/// A process that waits and is then, at [`Hog::go`], held back nearly all of the time: over its cgroup's memory.high, and there is nothing
/// to reclaim.
#[track_caller]
pub fn stalling(cgroup: &Cgroup) -> Hog {
    cgroup.write("memory.high", &(16 * MIB).to_string());
    Hog::ready(cgroup, "anon=12M ready wait anon=500M ready hold")
}

/// A process that does nothing but wait for a disk.
#[track_caller]
pub fn reader(cgroup: &Cgroup) -> Hog {
    Hog::ready(cgroup, "ready direct=/dev/vda")
}
