// SPDX-License-Identifier: MIT OR Apache-2.0
//! A victim that does not get away holds off the next kill, and a cooldown never hands an OOM to the kernel's killer.

use std::fs;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use bpf_oomd::engine::kernel::struct_ops_link;
use bpf_oomd_bpf::{CgroupSettings, Reason};
use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::tracee::Tracee;
use bpf_oomd_tests::wait::all_the_time;

use crate::unit_tree::{Loaded, Two, make};

fn cooldown(cooldown: Duration) -> CgroupSettings {
    CgroupSettings {
        cooldown: Some(cooldown),
        ..CgroupSettings::default()
    }
}

impl Two {
    /// The slice runs out, with a cooldown that no test sees the end of. The larger unit is the victim, and stays on its way out for as
    /// long as the result lives.
    fn kill_larger(&mut self) -> Tracee {
        self.loaded
            .say(&self.slice, cooldown(Duration::from_secs(3600)));
        let mut exiting = Tracee::stop_at_exit(self.large.pid());
        self.trouble.go();
        exiting.wait_exiting();
        exiting
    }
}

#[test]
fn a_victim_that_is_still_exiting_costs_nobody_elses_life() {
    let _machine = TestMachine::enter();
    // The smaller one is whom the kernel's killer would take.
    let mut two = Two::doing("anon=14M ready hold", "adj=1000 anon=10M ready hold");
    let exiting = two.kill_larger();
    all_the_time(Duration::from_secs(1), "somebody died", || {
        two.slice.oom_kills() == 1 && two.small.is_running()
    });
    exiting.let_go();
    assert!(two.large.wait_killed());
    two.trouble.wait_ready();
    assert!(two.small.is_running());
    assert_eq!(two.loaded.kill().victim, two.larger.id());

    // Within the cooldown, with nobody exiting, the policy decides as ever.
    two.trouble.go();
    two.trouble.wait_ready();
    two.large = Hog::ready(&two.larger, "anon=14M ready hold");
    make(&mut two.trouble);
    assert!(two.large.wait_killed());
    assert!(two.small.is_running());
    assert_eq!(two.loaded.kill().victim, two.larger.id());
    assert_eq!(two.slice.oom_kills(), 2);
}

#[test]
fn a_victim_with_nothing_left_to_give_holds_off_nobody_whatever_the_cooldown() {
    let _machine = TestMachine::enter();
    // Shared memory is not the reaper's to take.
    let mut two = Two::doing("shared=14M ready hold", "anon=10M ready hold");
    let exiting = two.kill_larger();
    assert!(two.small.wait_killed());
    two.trouble.wait_ready();
    let kills = two.loaded.kills();
    let victims: Vec<_> = kills.iter().map(|kill| kill.victim).collect();
    assert_eq!(victims, [two.larger.id(), two.smaller.id()]);
    exiting.let_go();
}

/// The system with two units that are larger than anything else in it, and the policy attached to all of it. The kernel itself waits for
/// victims in a domain that runs out; only when somebody presses the key for a kill it asks at once, and so it is up to the policy to wait.
struct System {
    large: Hog,
    small: Hog,
    larger: Cgroup,
    smaller: Cgroup,
    _link: OwnedFd,
    loaded: Loaded,
}

impl System {
    fn new(said: Duration) -> Self {
        let loaded = Loaded::new();
        loaded
            .shared
            .put_settings(0, &cooldown(said))
            .expect("put settings");
        let (larger, smaller) = (Cgroup::new("larger"), Cgroup::new("smaller"));
        Self {
            large: Hog::ready(&larger, "anon=200M ready hold"),
            small: Hog::ready(&smaller, "anon=150M ready hold"),
            larger,
            smaller,
            _link: struct_ops_link(loaded.policy.struct_ops_map(), None).expect("attach"),
            loaded,
        }
    }

    /// Kills the larger unit, which stays on its way out for as long as the result lives.
    fn kill_larger(&mut self) -> Tracee {
        let mut exiting = Tracee::stop_at_exit(self.large.pid());
        press_the_key();
        exiting.wait_exiting();
        let kill = self.loaded.kill();
        assert_eq!(
            (kill.victim, kill.reason),
            (self.larger.id(), Reason::Sysrq)
        );
        exiting
    }

    #[track_caller]
    fn expect_smaller_killed(&mut self) {
        assert!(self.small.wait_killed());
        let kill = self.loaded.kill();
        assert_eq!(
            (kill.victim, kill.reason),
            (self.smaller.id(), Reason::Sysrq)
        );
    }
}

/// Sysrq-f.
fn press_the_key() {
    fs::write("/proc/sysrq-trigger", "f").expect("press the key");
}

#[test]
fn within_the_cooldown_a_handler_waits_and_does_not_leave_it_to_the_kernel() {
    let _machine = TestMachine::enter();
    let mut system = System::new(Duration::from_secs(3600));
    let exiting = system.kill_larger();
    press_the_key();
    // Less than it takes the reaper to come.
    all_the_time(Duration::from_secs(1), "somebody died", || {
        system.small.is_running()
    });
    assert_eq!(system.loaded.kills(), []);
    exiting.let_go();
    assert!(system.large.wait_killed());

    press_the_key();
    system.expect_smaller_killed();
}

#[test]
fn after_the_cooldown_somebody_else_dies() {
    let _machine = TestMachine::enter();
    let mut system = System::new(Duration::from_millis(500));
    let exiting = system.kill_larger();
    sleep(Duration::from_millis(600));
    // The first one that is met begins no new cooldown: it is known since the kill.
    press_the_key();
    system.expect_smaller_killed();
    exiting.let_go();
}

#[test]
fn without_a_cooldown_nobody_is_waited_for() {
    let _machine = TestMachine::enter();
    let mut system = System::new(Duration::ZERO);
    let exiting = system.kill_larger();
    press_the_key();
    system.expect_smaller_killed();
    exiting.let_go();
}
