// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is never chosen, and who only if there is nobody else: by settings and by systemd-oomd's extended attributes.

use std::os::unix::fs::chown;

use bpf_oomd_bpf::{CgroupSettings, Excluded, Preference};
use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::machine::TestMachine;

use crate::unit_tree::{Two, make};

const SOMEBODY: u32 = 1234;

fn prefer(preference: Preference) -> CgroupSettings {
    CgroupSettings {
        preference: Some(preference),
        ..CgroupSettings::default()
    }
}

#[track_caller]
fn give_to_somebody(cgroup: &Cgroup) {
    chown(cgroup.path(), Some(SOMEBODY), Some(SOMEBODY)).expect("chown");
}

impl Two {
    /// The next OOM takes the larger unit and no other.
    #[track_caller]
    fn expect_larger(&mut self) {
        assert_eq!(self.loaded.next(&self.slice), Some(self.larger.id()));
        make(&mut self.trouble);
        assert!(self.large.wait_killed());
        assert!(self.small.is_running());
        assert_eq!(self.loaded.kill().victim, self.larger.id());
    }

    /// The next OOM takes the smaller unit and no other, and the ranking says why.
    #[track_caller]
    fn expect_smaller(&mut self, larger: Preference) {
        let ranking = self.loaded.ranking(&self.slice);
        assert_eq!(
            ranking.victim().map(|candidate| candidate.cgroup_id),
            Some(self.smaller.id())
        );
        let judged = ranking
            .candidates
            .iter()
            .find(|candidate| candidate.cgroup_id == self.larger.id())
            .expect("the larger unit");
        assert_eq!(judged.preference, larger);
        let excluded = (larger == Preference::Omit).then_some(Excluded::Omitted);
        assert_eq!(judged.excluded, excluded);
        make(&mut self.trouble);
        assert!(self.small.wait_killed());
        assert!(self.large.is_running());
        let record = self.loaded.kill();
        assert_eq!(record.victim, self.smaller.id());
        assert_eq!(record.preference, Preference::None);
    }
}

#[test]
fn without_a_preference_the_larger_unit_dies() {
    let _machine = TestMachine::enter();
    Two::new().expect_larger();
}

#[test]
fn an_omitted_unit_is_never_chosen() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    two.loaded.say(&two.larger, prefer(Preference::Omit));
    two.expect_smaller(Preference::Omit);
    assert_eq!(two.loaded.next(&two.slice), None);
}

#[test]
fn an_avoided_unit_is_chosen_only_when_nobody_else_is_left() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    two.loaded.say(&two.larger, prefer(Preference::Avoid));
    two.expect_smaller(Preference::Avoid);
    assert_eq!(two.loaded.next(&two.slice), Some(two.larger.id()));
    // Now it is alone with 14 MiB, which is not enough to run out: another one to be avoided, and smaller, joins it.
    two.loaded.say(&two.smaller, prefer(Preference::Avoid));
    two.small = Hog::ready(&two.smaller, "anon=10M ready hold");
    make(&mut two.trouble);
    assert!(two.large.wait_killed());
    assert!(two.small.is_running());
    let record = two.loaded.kill();
    assert_eq!(record.victim, two.larger.id());
    assert_eq!(record.preference, Preference::Avoid);
}

#[test]
fn a_preference_said_above_a_leaf_is_inherited_and_the_nearer_wins() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    two.loaded.say(two.inner(), prefer(Preference::Omit));
    two.expect_smaller(Preference::Omit);
    two.small = Hog::ready(&two.smaller, "anon=10M ready hold");
    two.loaded.say(&two.larger, prefer(Preference::None));
    two.expect_larger();
}

#[test]
fn what_the_domain_says_of_itself_does_not_count_inside_it() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    two.loaded.say(&two.slice, prefer(Preference::Omit));
    two.slice.set_attribute("user.oomd_omit", "1");
    two.expect_larger();
}

#[test]
fn a_domain_without_cgroups_inside_speaks_for_itself() {
    let _machine = TestMachine::enter();
    let two = Two::new();
    two.loaded.say(&two.larger, prefer(Preference::Omit));
    assert_eq!(two.loaded.next(&two.larger), None);
    two.loaded.say(&two.larger, prefer(Preference::Avoid));
    assert_eq!(two.loaded.next(&two.larger), Some(two.larger.id()));
}

#[test]
fn the_attribute_for_omitting_is_honoured() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    two.larger.set_attribute("user.oomd_omit", "1");
    two.expect_smaller(Preference::Omit);
}

#[test]
fn the_attribute_for_avoiding_is_honoured() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    two.larger.set_attribute("user.oomd_avoid", "1");
    two.expect_smaller(Preference::Avoid);
}

#[test]
fn attributes_are_inherited_from_a_cgroup_between_leaf_and_domain() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    two.inner().set_attribute("user.oomd_omit", "yes");
    two.expect_smaller(Preference::Omit);
}

#[test]
fn attributes_are_found_among_many_with_names_like_theirs() {
    let _machine = TestMachine::enter();
    let two = Two::new();
    for number in 0..40 {
        two.larger.set_attribute(&format!("user.a{number}"), "1");
        two.larger.set_attribute(&format!("user.z{number}"), "1");
    }
    for name in [
        "user.oomd_avoi",
        "user.oomd_avoid2",
        "user.oomd_omi",
        "user.oomd_omit_",
        "user.oomd_omit.and.more",
    ] {
        two.larger.set_attribute(name, "1");
    }
    let preference = |two: &Two| two.loaded.ranking(&two.larger).candidates[0].preference;
    assert_eq!(preference(&two), Preference::None);
    two.larger.set_attribute("user.oomd_avoid", "1");
    assert_eq!(preference(&two), Preference::Avoid);
    // Of both, omitting is the stronger.
    two.larger.set_attribute("user.oomd_omit", "1");
    assert_eq!(preference(&two), Preference::Omit);
}

#[test]
fn an_attribute_is_true_as_systemd_reads_it() {
    let _machine = TestMachine::enter();
    let two = Two::new();
    for (value, expected) in [
        ("1", Preference::Omit),
        ("yes", Preference::Omit),
        ("Y", Preference::Omit),
        ("true", Preference::Omit),
        ("T", Preference::Omit),
        ("TRUE", Preference::Omit),
        ("on", Preference::Omit),
        ("oN", Preference::Omit),
        ("0", Preference::None),
        ("no", Preference::None),
        ("false", Preference::None),
        ("off", Preference::None),
        ("o", Preference::None),
        ("", Preference::None),
        // What begins as one that is true does.
        ("10", Preference::None),
        ("1\n", Preference::None),
        ("1 ", Preference::None),
        ("ye", Preference::None),
        ("yess", Preference::None),
        ("yesterday", Preference::None),
        ("tru", Preference::None),
        ("one", Preference::None),
        // What is one but for a bit.
        ("\u{11}", Preference::None),
        ("Q", Preference::None),
        // systemd refuses a NUL, wherever it is.
        ("1\0", Preference::None),
        ("yes\0day", Preference::None),
        ("\0", Preference::None),
    ] {
        two.larger.set_attribute("user.oomd_omit", value);
        let judged = two.loaded.ranking(&two.larger).candidates[0];
        assert_eq!(judged.preference, expected, "{value:?}");
    }
}

#[test]
fn attributes_of_roots_cgroups_come_before_settings() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    two.larger.set_attribute("user.oomd_omit", "1");
    two.loaded.say(&two.larger, prefer(Preference::None));
    two.expect_smaller(Preference::Omit);
}

#[test]
fn settings_come_before_attributes_of_a_users_cgroup() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    give_to_somebody(&two.slice);
    give_to_somebody(&two.larger);
    two.larger.set_attribute("user.oomd_omit", "1");
    two.loaded.say(&two.larger, prefer(Preference::None));
    two.expect_larger();
}

#[test]
fn a_users_attributes_do_not_count_in_roots_domain_but_settings_do() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    give_to_somebody(&two.larger);
    two.larger.set_attribute("user.oomd_omit", "1");
    two.expect_larger();
    two.large = Hog::ready(&two.larger, "anon=14M ready hold");
    two.loaded.say(&two.larger, prefer(Preference::Omit));
    two.expect_smaller(Preference::Omit);
}

#[test]
fn a_users_attributes_count_in_that_users_domain() {
    let _machine = TestMachine::enter();
    let mut two = Two::new();
    give_to_somebody(&two.slice);
    give_to_somebody(&two.larger);
    two.larger.set_attribute("user.oomd_omit", "1");
    two.expect_smaller(Preference::Omit);
}
