// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters of a policy are changed while it is in use.

use bpf_oomd_bpf::{Excluded, MapError};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;

use crate::unit_tree::Loaded;

#[test]
fn min_size_leaves_smaller_leaves_alone_from_the_next_look_on() {
    let _machine = TestMachine::enter();
    let loaded = Loaded::new();
    let unit = Cgroup::new("unit");
    let _hog = Hog::ready(&unit, "anon=10M ready hold");
    assert_eq!(loaded.next(&unit), Some(unit.id()));
    let set = |value| loaded.policy.set_parameter("min-size", value);
    set(64 * MIB).expect("set min-size");
    let judged = loaded.ranking(&unit).candidates[0];
    assert_eq!(judged.excluded, Some(Excluded::ScoreZero));
    set(8 * MIB).expect("set min-size");
    assert_eq!(loaded.next(&unit), Some(unit.id()));
}

#[test]
fn a_parameter_that_is_not_there_cannot_be_set() {
    let _machine = TestMachine::enter();
    let result = Loaded::new().policy.set_parameter("max-size", 1);
    assert!(matches!(result, Err(MapError::NoSuchParameter(name)) if name == "max-size"));
}
