// SPDX-License-Identifier: MIT OR Apache-2.0
//! A policy is one and the same on every kernel: where there are OOM handlers, the ranking for kernels without them is held against
//! the one that judges as the handler does.

use bpf_oomd_bpf::{Candidate, LoadError, PolicyProgram, Preference, Ranking};
use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Struct;

use crate::tree::{TOLERANCE, Tree};

fn kernel_has_handlers() -> bool {
    let types = Btf::from_vmlinux().expect("the kernel's types");
    types.type_by_name::<Struct<'_>>("bpf_oom_ops").is_some()
}

/// Those that only one of both reports have nobody in them who could die.
fn with_processes(ranking: &Ranking) -> Vec<Candidate> {
    let candidates = ranking.candidates.iter();
    candidates
        .filter(|candidate| candidate.processes > 0 || candidate.excluded.is_none())
        .copied()
        .collect()
}

#[track_caller]
fn assert_same(tree: &Tree, policy: &PolicyProgram, domain: &Cgroup) {
    let stock = tree.loaded.policy.ranking(domain.id()).expect("a ranking");
    let kernels = policy.ranking(domain.id()).expect("a ranking");
    let (stock, kernels) = (with_processes(&stock), with_processes(&kernels));
    assert_eq!(stock.len(), kernels.len(), "{stock:#?}\n{kernels:#?}");
    for (a, b) in stock.iter().zip(&kernels) {
        assert!(a.bytes.abs_diff(b.bytes) <= TOLERANCE, "{a:?} and {b:?}");
        assert!(a.score.abs_diff(b.score) <= TOLERANCE, "{a:?} and {b:?}");
        let the_same = Candidate {
            bytes: b.bytes,
            score: b.score,
            ..*a
        };
        assert_eq!(the_same, *b);
    }
}

#[test]
fn both_rank_a_tree_the_same_or_there_is_one_only() {
    let _machine = TestMachine::enter();
    let tree = Tree::new();
    let program = PolicyProgram::load("biggest-leaf", &tree.loaded.shared);
    if !kernel_has_handlers() {
        let refused = program.expect_err("no program without the interface");
        assert!(matches!(refused, LoadError::Refused { .. }), "{refused:?}");
        return;
    }
    let program = program.expect("load the policy");
    let _guard = Hog::ready(&tree.middle, "adj=-1000 anon=64K ready hold");
    let _empty = tree.slice.child("empty");
    tree.loaded.prefer(&tree.largest, Preference::Avoid);
    tree.cached.set_attribute("user.oomd_omit", "1");
    for domain in [&tree.slice, &tree.inner, &tree.small] {
        assert_same(&tree, &program, domain);
    }
    program.set_parameter("min-size", 1 << 20).expect("set");
    tree.loaded
        .policy
        .set_parameter("min-size", 1 << 20)
        .expect("set");
    assert_same(&tree, &program, &tree.slice);
}
