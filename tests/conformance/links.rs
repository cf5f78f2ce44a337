// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links of struct_ops maps to cgroups and to the system.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use bpf_oomd_tests::attach::{
    Link, LinkCreate, attach, attach_to_system, fd_number, link, register, try_attach,
};
use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::ids::BpfObjects;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::program::Program;

use crate::scene::{attachments_called, errno, handler, limited, run_out};
use bpf_oomd_tests::programs;

#[test]
fn a_link_by_relative_fd_attaches_to_that_cgroup_and_no_other() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    let elsewhere = limited("elsewhere");
    let handler = handler();
    let _link = attach(&handler, "handler", &here);

    run_out(&elsewhere);
    assert!(attachments_called(&handler).is_empty());
    run_out(&here);
    assert_eq!(attachments_called(&handler), [here.id()]);
}

#[test]
fn a_link_without_relative_fd_attaches_to_the_system() {
    let _machine = TestMachine::enter();
    let somewhere = limited("somewhere");
    let handler = handler();
    let _link = attach_to_system(&handler, "handler");

    run_out(&somewhere);
    assert_eq!(attachments_called(&handler), [0]);
    assert_eq!(handler.get("call_domain"), somewhere.id());
}

#[test]
fn closing_the_link_detaches() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    let handler = handler();

    drop(attach(&handler, "handler", &here));
    drop(attach_to_system(&handler, "handler"));
    run_out(&here);
    assert!(attachments_called(&handler).is_empty());
}

#[test]
fn detaching_an_open_link_makes_room_for_another() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    let handler = handler();

    let first = attach(&handler, "handler", &here);
    first.detach().expect("BPF_LINK_DETACH");
    run_out(&here);
    assert!(attachments_called(&handler).is_empty());

    let _second = attach(&handler, "handler", &here);
    run_out(&here);
    assert_eq!(attachments_called(&handler), [here.id()]);
}

#[test]
fn a_pinned_link_stays_attached_after_it_was_closed() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    let handler = handler();
    let path = format!("/sys/fs/bpf/bpf-oomd-test-{}", std::process::id());

    attach(&handler, "handler", &here).pin(&path).expect("pin");
    run_out(&here);
    assert_eq!(attachments_called(&handler), [here.id()]);

    let adopted = Link::open_pinned(&path).expect("open the pinned link");
    std::fs::remove_file(&path).expect("remove the pin");
    assert_eq!(adopted.cgroup_id(), here.id());
    drop(adopted);
    run_out(&here);
    assert_eq!(attachments_called(&handler), [here.id()]);
}

#[test]
fn link_info_and_fdinfo_say_the_cgroup() {
    let _machine = TestMachine::enter();
    let here = limited("here");
    let handler = handler();

    let to_cgroup = attach(&handler, "handler", &here);
    assert_eq!(to_cgroup.cgroup_id(), here.id());
    assert_eq!(to_cgroup.fdinfo("cgroup_id"), Some(here.id().to_string()));

    let to_system = attach_to_system(&handler, "handler");
    assert_eq!(to_system.cgroup_id(), 0);
    assert_eq!(to_system.fdinfo("cgroup_id"), None);
}

#[test]
fn a_bad_cgroup_fd_is_refused_and_leaks_nothing() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    {
        let handler = handler();
        register(&handler, "handler").expect("register");
        let links = BpfObjects::now().link_count();
        let file = File::open("/dev/null").expect("open /dev/null");
        let directory = File::open("/").expect("open /");
        let (socket, _peer) = UnixStream::pair().expect("socket pair");
        let not_open = 1 << 20;
        for (what, fd) in [
            ("a number that is not open", not_open),
            ("a device", fd_number(file.as_fd())),
            (
                "a directory of another file system",
                fd_number(directory.as_fd()),
            ),
            ("a socket", fd_number(socket.as_fd())),
        ] {
            for _ in 0..20 {
                let create = LinkCreate {
                    relative_fd: fd,
                    ..LinkCreate::of(&handler, "handler")
                };
                assert_eq!(errno(create.call()), Some(libc::EBADF), "{what}");
            }
        }
        assert_eq!(BpfObjects::now().link_count(), links);
    }
    before.wait_until_back();
}

#[test]
fn a_cgroup_without_the_memory_controller_is_refused_and_leaks_nothing() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    let parent = limited("parent");
    let child = parent.child_without_memory("child");
    {
        let handler = handler();
        for _ in 0..20 {
            let result = try_attach(&handler, "handler", Some(&child));
            assert_eq!(errno(result), Some(libc::ENODEV));
        }
        // Nor has it gone to the parent instead.
        run_out(&parent);
        assert!(attachments_called(&handler).is_empty());
    }
    before.wait_until_back();
}

#[test]
fn a_removed_cgroup_is_refused_and_leaks_nothing() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    {
        let handler = handler();
        register(&handler, "handler").expect("register");
        let gone = Cgroup::new("gone");
        let directory = gone.open();
        gone.remove();
        for _ in 0..20 {
            let result = link(&handler, "handler", Some(directory.as_fd()));
            assert_eq!(errno(result), Some(libc::ENODEV));
        }
    }
    before.wait_until_back();
}

#[test]
fn a_struct_ops_type_that_knows_no_cgroups_refuses_one() {
    let _machine = TestMachine::enter();
    let before = BpfObjects::now();
    {
        let here = Cgroup::new("here");
        let pressure = Program::load(programs::PSI);
        let result = try_attach(&pressure, "pressure", Some(&here));
        assert_eq!(errno(result), Some(libc::EINVAL));
        assert_eq!(pressure.get("inits"), 0);
    }
    before.wait_until_back();
}

#[test]
fn unknown_link_flags_are_refused() {
    let _machine = TestMachine::enter();
    let handler = handler();
    register(&handler, "handler").expect("register");
    for flags in [1, 1 << 7, 1 << 31] {
        let create = LinkCreate {
            flags,
            ..LinkCreate::of(&handler, "handler")
        };
        assert_eq!(errno(create.call()), Some(libc::EINVAL), "flags {flags:#x}");
    }
    // The same attribute without flags is all right.
    LinkCreate::of(&handler, "handler").call().expect("attach");
}

#[test]
fn registration_without_a_link_is_refused() {
    let _machine = TestMachine::enter();
    let handler = handler();
    assert_eq!(
        errno(register(&handler, "linkless")),
        Some(libc::EOPNOTSUPP)
    );
}

#[test]
fn a_map_without_the_mandatory_handler_is_refused() {
    let _machine = TestMachine::enter();
    let handler = handler();
    assert_eq!(
        errno(try_attach(&handler, "without_handler", None)),
        Some(libc::EINVAL)
    );
}

#[test]
fn a_name_that_is_no_single_line_is_refused() {
    let _machine = TestMachine::enter();
    let handler = handler();
    for name in ["ill_named", "long_named"] {
        assert_eq!(
            errno(register(&handler, name)),
            Some(libc::EINVAL),
            "{name}"
        );
    }
}
