// SPDX-License-Identifier: MIT OR Apache-2.0
//! `handle_cgroup_offline` of an OOM policy: the attachment ends with its cgroup.

use bpf_oomd_tests::attach::attach;
use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::ids::BpfObjects;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::wait::eventually;

use crate::scene::{SMALL, attachments_called, handler, limited, run_out};

/// Waits until the callback has been called that often, and returns the cgroups it was called for.
#[track_caller]
fn offline(handler: &Program, count: u64) -> Vec<u64> {
    eventually("handle_cgroup_offline is not called", || {
        handler.get("offlines") >= count
    });
    assert_eq!(handler.get("offlines"), count);
    let cgroups = handler.get_all("offline_cgroup", count);
    // It is the attachment's own cgroup.
    assert_eq!(handler.get_all("offline_attachment", count), cgroups);
    cgroups
}

#[test]
fn it_is_called_once_per_attached_cgroup() {
    let _machine = TestMachine::enter();
    let slice = Cgroup::new("slice");
    let handler = handler();
    let _slice_link = attach(&handler, "handler", &slice);
    let mut expected = Vec::new();
    let mut links = Vec::new();
    for number in 0..10 {
        let unit = slice.child(&format!("unit{number}"));
        let unattached = slice.child(&format!("unattached{number}"));
        links.push(attach(&handler, "handler", &unit));
        expected.push(unit.id());
        unit.remove();
        unattached.remove();
    }
    assert_eq!(offline(&handler, 10), expected);

    // Closing a link whose cgroup is gone is no second end.
    drop(links);
    let slice_id = slice.id();
    slice.remove();
    expected.push(slice_id);
    assert_eq!(offline(&handler, 11), expected);
}

#[test]
fn it_is_not_called_after_detaching() {
    let _machine = TestMachine::enter();
    let handler = handler();
    let slice = Cgroup::new("slice");
    for number in 0..10 {
        let unit = slice.child(&format!("unit{number}"));
        drop(attach(&handler, "handler", &unit));
        unit.remove();
    }
    // The one after them is called, so the others have had their time.
    let last = slice.child("last");
    let last_id = last.id();
    let _link = attach(&handler, "handler", &last);
    last.remove();
    assert_eq!(offline(&handler, 1), [last_id]);
}

#[test]
fn a_link_whose_cgroup_is_gone_still_says_which_it_was() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    {
        let handler = handler();
        let here = Cgroup::new("here");
        let id = here.id();
        let link = attach(&handler, "handler", &here);
        here.remove();
        offline(&handler, 1);
        assert_eq!(link.cgroup_id(), id);
        assert_eq!(link.fdinfo("cgroup_id"), Some(id.to_string()));
    }
    before.wait_until_back();
}

#[test]
fn taking_the_memory_controller_away_ends_the_attachment_too() {
    let _machine = TestMachine::enter();
    let parent = Cgroup::new("parent");
    let child = parent.child("child");
    let handler = handler();
    let first = attach(&handler, "handler", &child);
    parent.disable_memory_below();
    assert_eq!(offline(&handler, 1), [child.id()]);

    // The same cgroup with a memcg again has no attachment, and can have one.
    parent.write("cgroup.subtree_control", "+memory");
    child.limit(SMALL);
    run_out(&child);
    assert!(attachments_called(&handler).is_empty());
    let _second = attach(&handler, "handler", &child);
    // The old link is none of the new memcg's business.
    drop(first);
    run_out(&child);
    assert_eq!(attachments_called(&handler), [child.id()]);
}

#[test]
fn an_attachment_that_ended_is_not_called_for_an_oom_above() {
    let _machine = TestMachine::enter();
    let slice = limited("slice");
    let handler = handler();
    let gone = slice.child("gone");
    let _link = attach(&handler, "handler", &gone);
    gone.remove();
    offline(&handler, 1);
    let unit = slice.child("unit");
    run_out(&unit);
    assert!(attachments_called(&handler).is_empty());
}
