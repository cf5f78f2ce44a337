// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree that the project began with, and its policy: the largest leaf dies, and nothing else, every time.

use std::os::fd::{AsFd, OwnedFd};

use bpf_oomd::engine::kernel::struct_ops_link;
use bpf_oomd_bpf::{PolicyProgram, SharedMaps};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::TestMachine;

const TREES: u32 = 10;
const OOMS_PER_TREE: u32 = 10;

/// A slice of 80 MiB with 10 MiB that the kernel's killer would take, memory that nobody may take, and a slice of 30 and 20 MiB.
struct SeedTree {
    slice: Cgroup,
    larger: Cgroup,
    disliked: Hog,
    /// Grows from 12 to 40 MiB for each OOM, and shrinks again.
    unkillable: Hog,
    smaller: Hog,
    _link: OwnedFd,
    /// Removed with what is in them when they go out of scope.
    _others: [Cgroup; 4],
}

impl SeedTree {
    fn new(policy: &PolicyProgram, ooms: u32) -> Self {
        let slice = Cgroup::new("slice");
        slice.limit(80 * MIB);
        let (disliked, unkillable) = (slice.child("disliked"), slice.child("unkillable"));
        let inner = slice.child("inner");
        let (larger, smaller) = (inner.child("larger"), inner.child("smaller"));
        let directory = slice.open();
        let link = struct_ops_link(policy.struct_ops_map(), Some(directory.as_fd()));
        let grow_and_shrink = "wait anon=28M ready wait free ready ".repeat(ooms as usize);
        Self {
            disliked: Hog::ready(&disliked, "adj=1000 anon=10M ready hold"),
            unkillable: Hog::ready(
                &unkillable,
                &format!("adj=-1000 anon=12M ready {grow_and_shrink} hold"),
            ),
            smaller: Hog::ready(&smaller, "anon=20M ready hold"),
            slice,
            larger,
            _link: link.expect("attach"),
            _others: [disliked, unkillable, inner, smaller],
        }
    }

    /// One OOM, the `number`th of this tree from 1.
    fn run_out(&mut self, number: u32) {
        let mut victim = Hog::ready(&self.larger, "anon=30M ready hold");
        self.unkillable.go();
        assert!(victim.wait_killed());
        self.unkillable.wait_ready();
        assert!(self.disliked.is_running());
        assert!(self.unkillable.is_running());
        assert!(self.smaller.is_running());
        assert_eq!(self.slice.oom_kills(), u64::from(number));
        assert_eq!(self.larger.oom_kills(), u64::from(number));
        self.unkillable.go();
        self.unkillable.wait_ready();
    }
}

#[test]
fn a_hundred_times_the_largest_leaf_dies_and_only_that() {
    let _machine = TestMachine::enter();
    let shared = SharedMaps::new().expect("maps");
    let policy = PolicyProgram::load("biggest-leaf", &shared).expect("load the policy");
    for _ in 0..TREES {
        let mut tree = SeedTree::new(&policy, OOMS_PER_TREE);
        for number in 1..=OOMS_PER_TREE {
            tree.run_out(number);
        }
    }
}

#[test]
fn the_report_names_the_policy() {
    let _machine = TestMachine::enter();
    let shared = SharedMaps::new().expect("maps");
    let policy = PolicyProgram::load("biggest-leaf", &shared).expect("load the policy");
    let log = Kmsg::before_a_report();
    SeedTree::new(&policy, 1).run_out(1);
    assert_eq!(log.wait_for_report()[1], "oom_policy=biggest-leaf");
}
