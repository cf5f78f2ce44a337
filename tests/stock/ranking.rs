// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ranking says what the kernel's files say, in the order of the policy.

use std::os::unix::fs::chown;

use bpf_oomd_bpf::{Candidate, Excluded, MapError, Preference, Ranking};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::tracee::Tracee;

use crate::tree::{Loaded, TOLERANCE, Tree, bytes};

impl Loaded {
    #[track_caller]
    fn ranking(&self, domain: &Cgroup) -> Ranking {
        self.policy.ranking(domain.id()).expect("run the ranking")
    }

    /// How a leaf is judged in a domain.
    #[track_caller]
    fn judge(&self, domain: &Cgroup, leaf: &Cgroup) -> Candidate {
        find(&self.ranking(domain), leaf)
            .unwrap_or_else(|| panic!("{} is no candidate", leaf.path().display()))
    }
}

fn find(ranking: &Ranking, leaf: &Cgroup) -> Option<Candidate> {
    let mut candidates = ranking.candidates.iter();
    candidates
        .find(|candidate| candidate.cgroup_id == leaf.id())
        .copied()
}

fn ids(ranking: &Ranking) -> Vec<u64> {
    let candidates = ranking.candidates.iter();
    candidates.map(|candidate| candidate.cgroup_id).collect()
}

fn ids_of<const N: usize>(cgroups: [&Cgroup; N]) -> Vec<u64> {
    cgroups.map(Cgroup::id).to_vec()
}

#[test]
fn it_is_what_cgroupfs_says_with_the_largest_first() {
    let _machine = TestMachine::enter();
    let tree = Tree::new();
    let ranking = tree.loaded.ranking(&tree.slice);
    assert_eq!(ids(&ranking), ids_of(tree.leaves()), "{ranking:#?}");
    assert_eq!(ranking.left_out, 0);
    for (leaf, candidate) in tree.leaves().into_iter().zip(&ranking.candidates) {
        let told = bytes(leaf);
        assert!(
            candidate.bytes.abs_diff(told) <= TOLERANCE,
            "{told} and {candidate:?}"
        );
        assert_eq!(candidate.score, candidate.bytes);
        assert_eq!(candidate.excluded, None);
        assert_eq!(candidate.preference, Preference::None);
    }
    let processes: Vec<u32> = ranking.candidates.iter().map(|c| c.processes).collect();
    assert_eq!(processes, [4, 1, 1, 1]);
}

#[test]
fn a_domain_is_what_is_inside_it_and_it_itself_if_it_is_a_leaf() {
    let _machine = TestMachine::enter();
    let tree = Tree::new();
    let inner = tree.loaded.ranking(&tree.inner);
    assert_eq!(ids(&inner), ids_of([&tree.largest, &tree.middle]));
    let small = tree.loaded.ranking(&tree.small);
    assert_eq!(ids(&small), [tree.small.id()]);
}

#[test]
fn the_system_is_a_domain() {
    let _machine = TestMachine::enter();
    let tree = Tree::new();
    let ranking = tree.loaded.policy.ranking(0).expect("run the ranking");
    for leaf in tree.leaves() {
        assert!(find(&ranking, leaf).is_some(), "{ranking:#?}");
    }
    // With init in it.
    let init = bpf_oomd_tests::cgroup::id_of("/sys/fs/cgroup/init.scope".as_ref());
    let init = ranking.candidates.iter().find(|c| c.cgroup_id == init);
    let excluded = init.expect("init.scope").excluded;
    assert_eq!(excluded, Some(Excluded::Unkillable));
}

#[test]
fn numbers_are_those_of_this_moment() {
    let _machine = TestMachine::enter();
    let loaded = Loaded::new();
    let unit = Cgroup::new("unit");
    let mut hog = Hog::ready(
        &unit,
        "anon=4M ready wait cache=/var/tmp/moment:32M ready wait free ready hold",
    );
    let before = loaded.judge(&unit, &unit).bytes;
    for _ in 0..2 {
        hog.go();
        hog.wait_ready();
        let now = loaded.judge(&unit, &unit).bytes;
        // The cache is not counted, however short a time it is there; what it costs the kernel is.
        assert!(now < before + 4 * MIB, "{before} and {now}");
    }
}

#[test]
fn a_process_that_must_not_die_keeps_its_leaf_out() {
    let _machine = TestMachine::enter();
    let tree = Tree::new();
    let mut guard = Hog::ready(&tree.largest, "adj=-1000 anon=1M ready hold");
    let judged = tree.loaded.judge(&tree.slice, &tree.largest);
    assert_eq!(judged.excluded, Some(Excluded::Unkillable));
    assert_eq!(judged.processes, 4);
    assert_eq!(tree.loaded.next(&tree.slice), Some(tree.middle.id()));
    assert!(guard.is_running());
}

#[test]
fn who_has_exited_or_was_chosen_already_is_nobody_to_kill() {
    let _machine = TestMachine::enter();
    let loaded = Loaded::new();
    let (slice, left) = (Cgroup::new("slice"), Cgroup::new("left"));
    let unit = slice.child("unit");
    let zombie = Hog::start(&left, "anon=1M exit=0");
    zombie.wait_zombie();
    assert_eq!(ids(&loaded.ranking(&left)), [0_u64; 0]);

    // The kernel's killer has chosen it, and it cannot get away.
    let mut victim = Hog::ready(&unit, "anon=4M ready wait anon=32M hold");
    let mut exiting = Tracee::stop_at_exit(victim.pid());
    unit.limit(16 * MIB);
    victim.go();
    exiting.wait_exiting();
    let judged = loaded.judge(&slice, &unit);
    assert_eq!(
        (judged.excluded, judged.processes),
        (Some(Excluded::NoProcess), 0)
    );
    exiting.let_go();
    assert!(victim.wait_killed());
}

#[test]
fn settings_say_who_is_spared() {
    let _machine = TestMachine::enter();
    let tree = Tree::new();
    tree.loaded.prefer(&tree.inner, Preference::Avoid);
    tree.loaded.prefer(&tree.small, Preference::Omit);
    let ranking = tree.loaded.ranking(&tree.slice);
    let order = [&tree.cached, &tree.largest, &tree.middle, &tree.small];
    assert_eq!(ids(&ranking), ids_of(order), "{ranking:#?}");
    let preferences: Vec<Preference> = ranking.candidates.iter().map(|c| c.preference).collect();
    assert_eq!(
        preferences,
        [
            Preference::None,
            Preference::Avoid,
            Preference::Avoid,
            Preference::Omit
        ]
    );
    assert_eq!(ranking.candidates[3].excluded, Some(Excluded::Omitted));
    // What is said above the domain does not count inside.
    assert_eq!(tree.loaded.next(&tree.inner), Some(tree.largest.id()));
}

#[test]
fn so_do_extended_attributes() {
    let _machine = TestMachine::enter();
    let tree = Tree::new();
    tree.largest.set_attribute("user.oomd_omit", "1");
    tree.middle.set_attribute("user.unrelated", "1");
    tree.middle.set_attribute("user.oomd_avoid", "yes");
    tree.cached.set_attribute("user.oomd_omit", "0");
    tree.cached.set_attribute("user.oomd_omitted", "1");
    let ranking = tree.loaded.ranking(&tree.slice);
    let order = [&tree.small, &tree.cached, &tree.middle, &tree.largest];
    assert_eq!(ids(&ranking), ids_of(order), "{ranking:#?}");
    assert_eq!(ranking.candidates[2].preference, Preference::Avoid);
    assert_eq!(ranking.candidates[3].excluded, Some(Excluded::Omitted));
    // Somebody else's word counts only where nothing but his own memory is at stake.
    chown(tree.largest.path(), Some(1234), Some(1234)).expect("chown");
    assert_eq!(tree.loaded.next(&tree.slice), Some(tree.largest.id()));
}

#[test]
fn parameters_are_obeyed_from_the_next_run_on() {
    let _machine = TestMachine::enter();
    let tree = Tree::new();
    let set = |name: &str, value| tree.loaded.policy.set_parameter(name, value);
    set("min-size", 12 * MIB).expect("set min-size");
    let judged = tree.loaded.judge(&tree.slice, &tree.small);
    assert_eq!(judged.excluded, Some(Excluded::ScoreZero));
    assert_eq!(tree.loaded.next(&tree.slice), Some(tree.largest.id()));
    set("min-size", 0).expect("set min-size");
    let judged = tree.loaded.judge(&tree.slice, &tree.small);
    assert_eq!(judged.excluded, None);
    assert!(
        matches!(set("max-size", 1), Err(MapError::NoSuchParameter(name)) if name == "max-size")
    );
}

#[test]
fn who_comes_and_goes_is_seen_in_the_next_run() {
    let _machine = TestMachine::enter();
    let loaded = Loaded::new();
    let slice = Cgroup::new("slice");
    assert_eq!(ids(&loaded.ranking(&slice)), [0_u64; 0]);
    let first = slice.child("first");
    let hog = Hog::ready(&first, "anon=2M ready hold");
    assert_eq!(ids(&loaded.ranking(&slice)), [first.id()]);
    let second = slice.child("second");
    let _other = Hog::ready(&second, "anon=6M ready hold");
    assert_eq!(ids(&loaded.ranking(&slice)), ids_of([&second, &first]));
    drop(hog);
    let gone = first.id();
    first.remove();
    assert_eq!(ids(&loaded.ranking(&slice)), [second.id()]);
    let ranking = loaded.policy.ranking(gone).expect("run the ranking");
    assert_eq!(ids(&ranking), [0_u64; 0]);
}

#[test]
fn many_leaves_are_all_there_each_time() {
    let _machine = TestMachine::enter();
    let loaded = Loaded::new();
    let slice = Cgroup::new("slice");
    let units: Vec<Cgroup> = (0..40).map(|n| slice.child(&format!("{n}"))).collect();
    let _hogs: Vec<Hog> = units
        .iter()
        .map(|unit| Hog::ready(unit, "anon=64K ready hold"))
        .collect();
    for _ in 0..3 {
        let ranking = loaded.ranking(&slice);
        assert_eq!((ranking.candidates.len(), ranking.left_out), (40, 0));
        assert!(ranking.candidates.is_sorted_by(|a, b| a.score >= b.score));
    }
}

#[test]
fn a_leaf_is_found_however_deep_it_is() {
    let _machine = TestMachine::enter();
    let loaded = Loaded::new();
    let domain = Cgroup::new("domain");
    let mut inside: Vec<Cgroup> = Vec::new();
    for _ in 0..100 {
        let above = inside.last().unwrap_or(&domain);
        inside.push(above.child("d"));
    }
    let leaf = inside.last().expect("the deepest");
    let _hog = Hog::ready(leaf, "anon=10M ready pause");
    let candidate = loaded.judge(&domain, leaf);
    assert_eq!((candidate.excluded, candidate.processes), (None, 1));
    assert!(candidate.bytes.abs_diff(bytes(leaf)) <= TOLERANCE);
    let ranking = loaded.policy.ranking(0).expect("run the ranking");
    assert!(find(&ranking, leaf).is_some(), "{ranking:#?}");
}
