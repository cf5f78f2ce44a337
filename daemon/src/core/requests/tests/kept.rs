// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a core has counted and kept is what the next one begins with.

use super::*;
use crate::core::history::tests::record;
use crate::events::record::Killer;

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("tree")).unwrap();
    root
}

#[test]
fn a_core_goes_on_where_the_one_before_it_ended() {
    let root = root();
    let mut first = core(&root);
    for (time, killer) in (1..).zip([Killer::Policy, Killer::Kernel, Killer::Policy]) {
        let mut kill = record(time);
        kill.killer = killer;
        kill.unit = Some("x.service".into());
        first.keep_kill(kill);
    }
    let before = first.shown().clone();
    assert_eq!(
        (before.counters.kills, before.counters.kernel_kills),
        (2, 1)
    );
    let mut next = core(&root);
    let now = next.shown().clone();
    assert_eq!(now.counters, before.counters);
    assert_eq!((now.last_kill, before.last_kill), (3, 3));
    assert_eq!(next.history.after(0), first.history.after(0));
    next.keep_kill(record(4));
    assert_eq!(next.shown().last_kill, 4);
    assert_eq!(next.history.after(3).len(), 1);
}

#[test]
fn that_kills_cannot_be_kept_is_a_fault_and_they_are_told_all_the_same() {
    let root = root();
    let in_the_way = root.path().join("state/kills.json");
    fs::create_dir_all(&in_the_way).unwrap();
    let mut core = core(&root);
    core.keep_kill(record(1));
    core.reconcile();
    let status = core.status();
    assert!(status.contains("1 fault: kept kills: "), "{status}");
    assert_eq!(core.history.after(0).len(), 1);
    fs::remove_dir(in_the_way).unwrap();
    core.keep_kill(record(2));
    core.reconcile();
    assert!(!core.status().contains("fault"), "{}", core.status());
}
