// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what should be attached and what is attached to what has to be done.

use super::{CgroupId, Policy};
use std::collections::BTreeMap;

/// What one cgroup should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The unit whose cgroup it is.
    pub unit: String,
    /// The policy it should have.
    pub policy: Policy,
    /// How many cgroups are above it; 0 for the system.
    pub depth: usize,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take away what is attached to this cgroup.
    Detach(CgroupId),
    /// Attach to this cgroup, which has nothing attached to it at that moment.
    Attach(CgroupId, Desired),
}

/// The actions that turn `attached` into `desired`, in the order in which they are to be done.
///
/// - A cgroup that already has what it should have is not touched.
/// - A cgroup whose policy changes is detached and attached again at once: the kernel allows one attachment per cgroup and
///   has no way to exchange it. What is attached above covers the moment between.
/// - New attachments are made from the top down, so that slices cover what is below them as early as possible, and
///   they come before the attachments that are merely taken away.
pub fn plan(
    desired: &BTreeMap<CgroupId, Desired>,
    attached: &BTreeMap<CgroupId, Policy>,
) -> Vec<Action> {
    let mut changes: Vec<(&CgroupId, &Desired)> = desired
        .iter()
        .filter(|(id, want)| attached.get(id) != Some(&want.policy))
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

    fn attachments() -> impl Strategy<Value = BTreeMap<CgroupId, Policy>> {
        prop::collection::btree_map(ids(), policies(), 0..10)
    }

    /// What the kernel does: one attachment per cgroup, a second is refused, and so is taking away what is not there.
    fn apply(attached: &mut BTreeMap<CgroupId, Policy>, action: &Action) -> Result<(), String> {
        match action {
            Action::Detach(id) => match attached.remove(id) {
                Some(_) => Ok(()),
                None => Err(format!("nothing to detach from {id}")),
            },
            Action::Attach(id, want) => match attached.insert(*id, want.policy.clone()) {
                None => Ok(()),
                Some(_) => Err(format!("{id} is busy")),
            },
        }
    }

    fn goal(desired: &BTreeMap<CgroupId, Desired>) -> BTreeMap<CgroupId, Policy> {
        desired
            .iter()
            .map(|(id, want)| (*id, want.policy.clone()))
            .collect()
    }

    proptest! {
        #[test]
        fn applying_the_plan_reaches_what_is_desired(want in desires(), mut have in attachments()) {
            for action in plan(&want, &have.clone()) {
                prop_assert_eq!(apply(&mut have, &action), Ok(()));
            }
            prop_assert_eq!(have, goal(&want));
        }

        #[test]
        fn nothing_is_left_to_do_afterwards(want in desires()) {
            prop_assert_eq!(plan(&want, &goal(&want)), vec![]);
        }

        #[test]
        fn no_plan_is_shorter(want in desires(), have in attachments()) {
            // One action per cgroup that gains or loses its policy, two per cgroup whose policy changes.
            let needed: usize = want.keys().chain(have.keys())
                .collect::<std::collections::BTreeSet<_>>().into_iter()
                .map(|id| match (want.get(id), have.get(id)) {
                    (Some(w), Some(h)) if w.policy == *h => 0,
                    (Some(_), Some(_)) => 2,
                    _ => 1,
                })
                .sum();
            prop_assert_eq!(plan(&want, &have).len(), needed);
        }

        #[test]
        fn a_plan_broken_off_anywhere_can_be_taken_up_again(
            want in desires(), mut have in attachments(), stop in any::<prop::sample::Index>(),
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
        fn attachments_are_made_from_the_top_down(want in desires(), have in attachments()) {
            let depths: Vec<usize> = plan(&want, &have).iter().filter_map(|action| match action {
                Action::Attach(_, want) => Some(want.depth),
                Action::Detach(_) => None,
            }).collect();
            prop_assert!(depths.is_sorted());
        }

        #[test]
        fn a_replaced_policy_is_absent_only_between_two_neighbouring_actions(
            want in desires(), have in attachments(),
        ) {
            let actions = plan(&want, &have);
            for (at, action) in actions.iter().enumerate() {
                if let Action::Detach(id) = action && want.contains_key(id) {
                    let next = actions.get(at + 1);
                    prop_assert!(matches!(next, Some(Action::Attach(same, _)) if same == id), "{:?}", actions);
                }
            }
        }
    }
}
