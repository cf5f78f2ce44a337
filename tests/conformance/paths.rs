// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records say where what they tell of was, because it may be gone when they are read.

use std::ffi::OsStr;
use std::path::Path;

use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::machine::TestMachine;

use crate::scene::{SMALL, run_out};
use crate::unit_tree::{Loaded, Two, make};

#[test]
fn a_kill_says_where_the_domain_and_the_victim_are() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    make(&mut two.trouble);
    assert!(two.large.wait_killed());
    let kill = two.loaded.kill();
    assert_eq!(kill.domain_path, Some(two.slice.path_in_the_tree()));
    assert_eq!(kill.victim_path, Some(two.larger.path_in_the_tree()));
}

#[test]
fn a_victim_that_is_gone_when_its_record_is_read_is_known_by_its_path() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let slice = Cgroup::new("slice");
    let _link = loaded.attach(&slice);
    let unit = slice.child("unit");
    unit.limit(SMALL);
    run_out(&unit);
    let (id, path) = (unit.id(), unit.path_in_the_tree());
    unit.remove();
    let kill = loaded.kill();
    assert_eq!((kill.domain, kill.victim), (id, id));
    assert_eq!(kill.domain_path.as_deref(), Some(path.as_str()));
    assert_eq!(kill.victim_path, Some(path));
}

#[test]
fn a_path_that_is_too_long_ends_where_a_name_ends() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let slice = Cgroup::new("slice");
    slice.limit(SMALL);
    let _link = loaded.attach(&slice);
    // As long as a name can be.
    let name = "n".repeat(255);
    let mut levels = vec![slice.child(&name)];
    for _ in 0..4 {
        let next = levels[levels.len() - 1].child(&name);
        levels.push(next);
    }
    run_out(&levels[4]);
    let kill = loaded.kill();
    assert_eq!(kill.victim, levels[4].id());
    let told = kill.victim_path.expect("a path");
    let whole = levels[4].path_in_the_tree();
    let cut = told.strip_suffix("/…").expect("a mark");
    assert!(cut.len() > 700, "{told}");
    assert!(whole.starts_with(&format!("{cut}/")), "{told}");
    // Inner ones first.
    while let Some(level) = levels.pop() {
        level.remove();
    }
}

#[test]
fn the_deepest_cgroup_whose_settings_count_is_known_by_its_path() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let slice = Cgroup::new("slice");
    slice.limit(SMALL);
    let _link = loaded.attach(&slice);
    let depth = |cgroup: &Cgroup| Path::new(&cgroup.path_in_the_tree()).components().count() - 1;
    let mut levels = vec![slice.child("d")];
    while depth(&levels[levels.len() - 1]) < 64 {
        let next = levels[levels.len() - 1].child("d");
        levels.push(next);
    }
    let last = &levels[levels.len() - 1];
    run_out(last);
    assert_eq!(loaded.kill().victim_path, Some(last.path_in_the_tree()));
    let deeper = last.child("deeper");
    run_out(&deeper);
    let told = loaded.kill().victim_path.expect("a path");
    assert_eq!(told, last.path_in_the_tree() + "/…");
    deeper.remove();
    while let Some(level) = levels.pop() {
        level.remove();
    }
}

#[test]
fn whoever_makes_a_cgroup_cannot_write_lines_of_a_record() {
    let _machine = TestMachine::enter();
    let mut loaded = Loaded::new();
    let slice = Cgroup::new("slice");
    slice.limit(SMALL);
    let _link = loaded.attach(&slice);
    let odd = slice.child("a\u{1b}b");
    assert_eq!(odd.path().file_name(), Some(OsStr::new("a\u{1b}b")));
    run_out(&odd);
    let expected = slice.path_in_the_tree() + "/a\\x1bb";
    assert_eq!(loaded.kill().victim_path, Some(expected));
}
