// SPDX-License-Identifier: MIT OR Apache-2.0
//! Getting and putting memory cgroups. That the verifier refuses a leak is in `verifier.rs`.

use bpf_oomd_tests::cgroup::{Cgroup, id_of};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::wait::eventually;

use bpf_oomd_tests::programs;

#[test]
fn the_root_memcg_is_the_root() {
    let _machine = TestMachine::enter();
    let memcg = Program::load(programs::MEMCG);
    memcg.run("look_up_root");
    assert_eq!(memcg.get("found"), 1);
    assert_eq!(memcg.get("found_id"), id_of("/sys/fs/cgroup".as_ref()));
    assert!(memcg.get_signed("usage") > 0);
}

#[test]
fn a_cgroups_own_css_gives_its_memcg() {
    let _machine = TestMachine::enter();
    let here = Cgroup::new("here");
    let memcg = Program::load(programs::MEMCG);
    memcg.set("cgroup_id", here.id());
    memcg.run("look_up");
    assert_eq!(memcg.get("found"), 1);
    assert_eq!(memcg.get("found_id"), here.id());
}

#[test]
fn a_cgroup_without_the_memory_controller_gives_no_memcg() {
    let _machine = TestMachine::enter();
    let parent = Cgroup::new("parent");
    let child = parent.child_without_memory("child");
    let memcg = Program::load(programs::MEMCG);
    memcg.set("cgroup_id", child.id());
    memcg.run("look_up");
    assert_eq!(memcg.get("found"), 0);
}

#[test]
fn a_memcgs_css_and_those_below_it_give_their_memcgs() {
    let _machine = TestMachine::enter();
    let top = Cgroup::new("top");
    let units = [top.child("a"), top.child("b"), top.child("c")];
    let below = units[1].child("below");
    let memcg = Program::load(programs::MEMCG);
    memcg.set("cgroup_id", top.id());
    memcg.run("walk");

    let mut found = memcg.get_all("walked_id", memcg.get("walked"));
    assert_eq!(found[0], top.id(), "pre-order begins at the top");
    found.sort_unstable();
    let mut expected = vec![top.id(), below.id()];
    expected.extend(units.iter().map(Cgroup::id));
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn what_was_put_does_not_hold_a_removed_cgroup() {
    let _machine = TestMachine::enter();
    let parent = Cgroup::new("parent");
    let child = parent.child("child");
    let memcg = Program::load(programs::MEMCG);
    memcg.set("cgroup_id", child.id());
    memcg.set("rounds", 1000);
    memcg.run("look_up");
    assert_eq!(memcg.get("found"), 1000);

    child.remove();
    eventually("the removed memcg is still there", || {
        parent.value("cgroup.stat", "nr_dying_descendants") == 0
            && parent
                .optional_value("cgroup.stat", "nr_dying_subsys_memory")
                .unwrap_or(0)
                == 0
    });
}
