// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said about a unit: how it dies, that the kernel decides in it, and until when that is remembered.

use bpf_oomd_bpf::{CgroupSettings, Kill, PolicyMark};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::wait::eventually;

use crate::scene::run_out;
use crate::unit_tree::{Loaded, make, slice, trouble};

fn kill(kill: Kill) -> CgroupSettings {
    CgroupSettings {
        kill: Some(kill),
        ..CgroupSettings::default()
    }
}

fn policy(policy: PolicyMark) -> CgroupSettings {
    CgroupSettings {
        policy: Some(policy),
        ..CgroupSettings::default()
    }
}

/// A unit of 24 MiB in three processes, one of which has most of it.
struct Unit {
    cgroup: Cgroup,
    large: Hog,
    small: [Hog; 2],
}

impl Unit {
    fn new(parent: &Cgroup) -> Self {
        let cgroup = parent.child("unit");
        Self {
            large: Hog::ready(&cgroup, "anon=14M ready hold"),
            small: [
                Hog::ready(&cgroup, "anon=4M ready hold"),
                Hog::ready(&cgroup, "anon=4M ready hold"),
            ],
            cgroup,
        }
    }

    /// One OOM in the slice above. How many of the unit's processes died?
    fn suffer(&mut self, trouble: &mut Hog) -> u64 {
        make(trouble);
        assert!(self.large.wait_killed());
        let kills = self.cgroup.oom_kills();
        if kills == 1 {
            assert!(self.small.iter_mut().all(Hog::is_running));
        } else {
            assert!(self.small.iter_mut().all(|hog| hog.wait_killed()));
        }
        kills
    }
}

#[test]
fn without_any_settings_a_unit_dies_whole() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let (slice, _link) = slice(&loaded);
    let mut unit = Unit::new(&slice);
    let (_cgroup, mut trouble) = trouble(&slice);
    assert_eq!(unit.suffer(&mut trouble), 3);
    assert_eq!(loaded.kill().kill, Kill::Cgroup);
}

#[test]
fn kill_process_takes_only_the_largest_process() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let (slice, _link) = slice(&loaded);
    let mut unit = Unit::new(&slice);
    loaded.say(&unit.cgroup, kill(Kill::Process));
    let (_cgroup, mut trouble) = trouble(&slice);
    assert_eq!(unit.suffer(&mut trouble), 1);
    let record = loaded.kill();
    assert_eq!(record.kill, Kill::Process);
    assert_eq!(record.victim, unit.cgroup.id());
    assert_eq!(record.processes_total, 1);
}

#[test]
fn what_is_said_above_is_inherited_even_from_above_the_attachment() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    loaded
        .shared
        .put_settings(0, &kill(Kill::Process))
        .expect("put settings");
    let (slice, _link) = slice(&loaded);
    let inner = slice.child("inner");
    let mut unit = Unit::new(&inner);
    let (_cgroup, mut trouble) = trouble(&slice);
    assert_eq!(unit.suffer(&mut trouble), 1);
    assert_eq!(loaded.kill().kill, Kill::Process);
}

#[test]
fn the_nearer_wins() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let (slice, _link) = slice(&loaded);
    let inner = slice.child("inner");
    let mut unit = Unit::new(&inner);
    loaded.say(&slice, kill(Kill::Process));
    loaded.say(&inner, kill(Kill::Cgroup));
    // Says something, but not this.
    loaded.say(&unit.cgroup, policy(PolicyMark::Program));
    let (_cgroup, mut trouble) = trouble(&slice);
    assert_eq!(unit.suffer(&mut trouble), 3);
    assert_eq!(loaded.kill().kill, Kill::Cgroup);
}

#[test]
fn settings_hold_for_a_program_that_is_loaded_later() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let cgroup = Cgroup::new("slice");
    cgroup.limit(64 * MIB);
    loaded.say(&cgroup, kill(Kill::Process));
    loaded.policy =
        bpf_oomd_bpf::PolicyProgram::load("biggest-leaf", &loaded.shared).expect("load");
    let _link = loaded.attach(&cgroup);
    let mut unit = Unit::new(&cgroup);
    let (_cgroup, mut trouble) = trouble(&cgroup);
    assert_eq!(unit.suffer(&mut trouble), 1);
}

#[test]
fn a_unit_with_the_kernels_mark_is_left_to_the_kernel_below_a_program() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let (slice, _link) = slice(&loaded);
    let unit = slice.child("unit");
    let inside = unit.child("inside");
    unit.limit(16 * MIB);
    loaded.say(&unit, policy(PolicyMark::Kernel));
    let log = Kmsg::before_a_report();
    run_out(&inside);
    assert_eq!(log.wait_for_report()[1], "oom_policy=default");
    assert_eq!(loaded.kills(), []);

    // A mark is inherited as everything is, and the nearer wins.
    inside.limit(12 * MIB);
    run_out(&inside);
    assert_eq!(loaded.kills(), []);
    loaded.say(&inside, policy(PolicyMark::Program));
    run_out(&inside);
    let record = loaded.kill();
    assert_eq!(record.domain, inside.id());
    assert_eq!(record.attachment, slice.id());
}

#[test]
fn a_mark_above_the_attachment_does_not_count() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let above = Cgroup::new("above");
    let slice = above.child("slice");
    slice.limit(16 * MIB);
    loaded.say(&above, policy(PolicyMark::Kernel));
    let _link = loaded.attach(&slice);
    run_out(&slice);
    assert_eq!(loaded.kill().attachment, slice.id());
}

#[test]
fn an_attached_cgroup_that_is_removed_takes_its_settings_along() {
    let _machine = TestMachine::enter();
    let loaded = Loaded::new();
    let (attached, _link) = slice(&loaded);
    let id = attached.id();
    loaded.say(&attached, kill(Kill::Process));
    assert_eq!(
        loaded.shared.settings(id).expect("read settings"),
        Some(kill(Kill::Process))
    );
    attached.remove();
    eventually("the settings are still there", || {
        loaded.shared.settings(id).expect("read settings").is_none()
    });
    loaded
        .shared
        .remove_settings(id)
        .expect("nothing to remove");
}
