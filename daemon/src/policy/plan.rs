// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what should be in the kernel and what is there to what has to be done.

use super::{CgroupId, Desired, OwnSettings, Policy};
use std::collections::BTreeMap;

/// What is in the kernel, or should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State<A> {
    /// What is attached to which cgroup.
    pub attachments: BTreeMap<CgroupId, A>,
    /// What which cgroup was told.
    pub settings: BTreeMap<CgroupId, OwnSettings>,
}

/// A policy program that is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// The policy.
    pub policy: Policy,
    /// Whether it is of this version. One that an older daemon left is replaced, whatever it is called.
    pub current: bool,
}

impl InForce {
    fn is(&self, policy: &Policy) -> bool {
        self.current && self.policy == *policy
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell a cgroup its settings, in place of those that it was told before.
    Tell(CgroupId, OwnSettings),
    /// Take away what a cgroup was told.
    Untell(CgroupId),
    /// Take away what is attached to this cgroup.
    Detach(CgroupId),
    /// Attach to this cgroup, which has nothing attached to it at that moment.
    Attach(CgroupId, Desired),
}

/// The actions that turn what there is (`have`) into what there should be (`want`), in the order in which they are to be done.
///
/// - What is as it should be is not touched. A change of settings touches no attachment.
/// - Settings are told before anything is attached that acts by them, and taken away after.
/// - A cgroup whose policy changes is detached and attached again at once: the kernel allows one attachment per cgroup and
///   has no way to exchange it. What is attached above covers the moment between.
/// - New attachments are made from the top down, so that slices cover what is below them as early as possible, and
///   they come before the attachments that are merely taken away.
pub fn plan(want: &State<Desired>, have: &State<InForce>) -> Vec<Action> {
    let told = want
        .settings
        .iter()
        .filter(|(id, settings)| have.settings.get(id) != Some(settings))
        .map(|(id, settings)| Action::Tell(*id, *settings));
    let untold = have
        .settings
        .keys()
        .filter(|id| !want.settings.contains_key(id))
        .map(|id| Action::Untell(*id));
    told.chain(attachments(&want.attachments, &have.attachments))
        .chain(untold)
        .collect()
}

fn attachments(
    desired: &BTreeMap<CgroupId, Desired>,
    attached: &BTreeMap<CgroupId, InForce>,
) -> Vec<Action> {
    let mut changes: Vec<(&CgroupId, &Desired)> = desired
        .iter()
        .filter(|(id, want)| !attached.get(id).is_some_and(|have| have.is(&want.policy)))
        .collect();
    changes.sort_by_key(|(id, want)| (want.depth, **id));

    let mut actions = Vec::new();
    for (id, want) in changes {
        if attached.contains_key(id) {
            actions.push(Action::Detach(*id));
        }
        actions.push(Action::Attach(*id, want.clone()));
    }
    actions.extend(
        attached
            .keys()
            .filter(|id| !desired.contains_key(id))
            .map(|id| Action::Detach(*id)),
    );
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Kill;
    use proptest::prelude::*;

    fn policies() -> impl Strategy<Value = Policy> {
        prop_oneof![
            Just(Policy::Kernel),
            Just(Policy::Bpf("a".into())),
            Just(Policy::Bpf("b".into())),
        ]
    }

    // Few ids, so that the two maps meet often.
    fn ids() -> impl Strategy<Value = CgroupId> {
        (0..12u64).prop_map(CgroupId)
    }

    fn desires() -> impl Strategy<Value = BTreeMap<CgroupId, Desired>> {
        prop::collection::btree_map(
            ids(),
            (policies(), 0..5usize).prop_map(|(policy, depth)| Desired {
                unit: format!("{policy}-{depth}.service"),
                policy,
                depth,
            }),
            0..10,
        )
    }

    fn settings() -> impl Strategy<Value = BTreeMap<CgroupId, OwnSettings>> {
        let one =
            prop::sample::select(&[Kill::Cgroup, Kill::Process][..]).prop_map(|kill| OwnSettings {
                kill: Some(kill),
                ..OwnSettings::default()
            });
        prop::collection::btree_map(ids(), one, 0..10)
    }

    fn wants() -> impl Strategy<Value = State<Desired>> {
        (desires(), settings()).prop_map(|(attachments, settings)| State {
            attachments,
            settings,
        })
    }

    fn in_force() -> impl Strategy<Value = InForce> {
        (policies(), any::<bool>()).prop_map(|(policy, current)| InForce { policy, current })
    }

    fn haves() -> impl Strategy<Value = State<InForce>> {
        let attached = prop::collection::btree_map(ids(), in_force(), 0..10);
        (attached, settings()).prop_map(|(attachments, settings)| State {
            attachments,
            settings,
        })
    }

    /// What the kernel does: one attachment per cgroup, a second is refused, and so is taking away what is not there.
    fn apply(have: &mut State<InForce>, action: &Action) -> Result<(), String> {
        match action {
            Action::Detach(id) => match have.attachments.remove(id) {
                Some(_) => Ok(()),
                None => Err(format!("nothing to detach from {id}")),
            },
            Action::Attach(id, want) => match have.attachments.insert(*id, attached(want)) {
                None => Ok(()),
                Some(_) => Err(format!("{id} is busy")),
            },
            Action::Tell(id, settings) => {
                have.settings.insert(*id, *settings);
                Ok(())
            }
            Action::Untell(id) => match have.settings.remove(id) {
                Some(_) => Ok(()),
                None => Err(format!("{id} was told nothing")),
            },
        }
    }

    fn attached(want: &Desired) -> InForce {
        InForce {
            policy: want.policy.clone(),
            current: true,
        }
    }

    fn goal(want: &State<Desired>) -> State<InForce> {
        State {
            attachments: want
                .attachments
                .iter()
                .map(|(id, want)| (*id, attached(want)))
                .collect(),
            settings: want.settings.clone(),
        }
    }

    proptest! {
        #[test]
        fn applying_the_plan_reaches_what_is_desired(want in wants(), mut have in haves()) {
            for action in plan(&want, &have.clone()) {
                prop_assert_eq!(apply(&mut have, &action), Ok(()));
            }
            prop_assert_eq!(have, goal(&want));
        }

        #[test]
        fn nothing_is_left_to_do_afterwards(want in wants()) {
            prop_assert_eq!(plan(&want, &goal(&want)), vec![]);
        }

        #[test]
        fn no_plan_is_shorter(want in wants(), have in haves()) {
            // One action per cgroup that gains or loses its policy, two per cgroup whose policy changes, and one per cgroup
            // that has to be told something else.
            fn ids<A, B>(a: &BTreeMap<CgroupId, A>, b: &BTreeMap<CgroupId, B>) -> Vec<CgroupId> {
                let all: std::collections::BTreeSet<CgroupId> = a.keys().chain(b.keys()).copied().collect();
                all.into_iter().collect()
            }
            let attachments: usize = ids(&want.attachments, &have.attachments)
                .into_iter()
                .map(|id| match (want.attachments.get(&id), have.attachments.get(&id)) {
                    (Some(w), Some(h)) if h.is(&w.policy) => 0,
                    (Some(_), Some(_)) => 2,
                    _ => 1,
                })
                .sum();
            let settings = ids(&want.settings, &have.settings)
                .into_iter()
                .filter(|id| want.settings.get(id) != have.settings.get(id))
                .count();
            prop_assert_eq!(plan(&want, &have).len(), attachments + settings);
        }

        #[test]
        fn a_plan_broken_off_anywhere_can_be_taken_up_again(
            want in wants(), mut have in haves(), stop in any::<prop::sample::Index>(),
        ) {
            let first = plan(&want, &have);
            for action in &first[..stop.index(first.len() + 1)] {
                prop_assert_eq!(apply(&mut have, action), Ok(()));
            }
            for action in plan(&want, &have.clone()) {
                prop_assert_eq!(apply(&mut have, &action), Ok(()));
            }
            prop_assert_eq!(have, goal(&want));
        }

        #[test]
        fn what_is_of_an_older_version_is_replaced(want in wants(), have in haves()) {
            let replaced: Vec<CgroupId> = plan(&want, &have).iter().filter_map(|action| match action {
                Action::Detach(id) => Some(*id),
                _ => None,
            }).collect();
            for (id, have) in &have.attachments {
                prop_assert!(have.current || replaced.contains(id));
            }
        }

        #[test]
        fn attachments_are_made_from_the_top_down(want in wants(), have in haves()) {
            let depths: Vec<usize> = plan(&want, &have).iter().filter_map(|action| match action {
                Action::Attach(_, want) => Some(want.depth),
                _ => None,
            }).collect();
            prop_assert!(depths.is_sorted());
        }

        #[test]
        fn settings_are_told_before_and_taken_away_after_everything_else(want in wants(), have in haves()) {
            let order: Vec<u8> = plan(&want, &have).iter().map(|action| match action {
                Action::Tell(..) => 0,
                Action::Detach(_) | Action::Attach(..) => 1,
                Action::Untell(_) => 2,
            }).collect();
            prop_assert!(order.is_sorted());
        }

        #[test]
        fn a_replaced_policy_is_absent_only_between_two_neighbouring_actions(
            want in wants(), have in haves(),
        ) {
            let actions = plan(&want, &have);
            for (at, action) in actions.iter().enumerate() {
                if let Action::Detach(id) = action && want.attachments.contains_key(id) {
                    let next = actions.get(at + 1);
                    prop_assert!(matches!(next, Some(Action::Attach(same, _)) if same == id), "{:?}", actions);
                }
            }
        }
    }
}
