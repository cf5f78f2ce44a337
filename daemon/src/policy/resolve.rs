// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which policy a unit has, and why.
//!
//! Today a policy is said in unit files. A unit's own files come first, then those of the nearest slice above it that
//! says something, then the default: `kernel`.
//!
//! A policy that a unit inherits needs no attachment on the unit. The kernel's OOM walk goes up from the cgroup that ran
//! out, so the slice's attachment covers everything below it, from the first instruction of its first process.

use super::{CgroupId, Desired, Policy, Provenance};
use crate::systemd::unit_name;
use std::collections::BTreeMap;

/// What a unit's own files say, taken together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declaration {
    /// The last valid assignment that was not reset after.
    pub policy: Option<(Policy, Provenance)>,
    /// Whether the assignment that should have decided is unusable: it is misspelt, or it may be in a file that
    /// could not be read.
    pub faulty: bool,
}

/// The policy of its own that a unit has, given what its files say now and what was in force before.
///
/// Bad input does not take a good policy away: as long as the deciding assignment is faulty, what was in force stays in force
/// (`last_good`). Where nothing was in force yet, a faulty assignment counts as not written: an earlier valid one in
/// the unit's files decides, as systemd does it, and else the slice above.
pub fn in_force(
    declared: &Declaration,
    last_good: Option<&(Policy, Provenance)>,
) -> Option<(Policy, Provenance)> {
    match last_good {
        Some(good) if declared.faulty => Some(good.clone()),
        _ => declared.policy.clone(),
    }
}

/// What resolution needs to know of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitPolicy {
    /// The policy of its own, by [`in_force`].
    pub own: Option<(Policy, Provenance)>,
    /// The slice it is in. None for the root slice.
    pub slice: Option<String>,
    /// Its cgroup and how many cgroups are above that, while it has one.
    pub cgroup: Option<(CgroupId, usize)>,
}

/// Why a unit has the policy it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Its own files say so.
    Own(Provenance),
    /// The nearest slice above it that says something.
    Slice(String, Provenance),
    /// Nobody says anything.
    Default,
}

/// The policy a unit has, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The policy.
    pub policy: Policy,
    /// Where it was said.
    pub source: Source,
}

/// The policy of a unit. Unknown units, and slices systemd has not loaded, say nothing.
pub fn resolve(units: &BTreeMap<String, UnitPolicy>, unit: &str) -> Resolution {
    if let Some((policy, at)) = units.get(unit).and_then(|known| known.own.as_ref()) {
        return Resolution {
            policy: policy.clone(),
            source: Source::Own(at.clone()),
        };
    }
    above(units, unit)
}

/// The policy that covers a unit from above, its own left out.
fn above(units: &BTreeMap<String, UnitPolicy>, unit: &str) -> Resolution {
    let mut next = slice_of(units, unit);
    while let Some(slice) = next {
        if let Some((policy, at)) = units.get(&slice).and_then(|known| known.own.as_ref()) {
            return Resolution {
                policy: policy.clone(),
                source: Source::Slice(slice, at.clone()),
            };
        }
        next = unit_name::parent_slice(&slice);
    }
    Resolution {
        policy: Policy::Kernel,
        source: Source::Default,
    }
}

/// The slice a unit is in. A slice's place is in its name; it need not be asked for, and a wrong answer cannot make a loop.
fn slice_of(units: &BTreeMap<String, UnitPolicy>, unit: &str) -> Option<String> {
    if unit.ends_with(".slice") {
        return unit_name::parent_slice(unit);
    }
    units.get(unit)?.slice.clone()
}

/// What should be attached where.
///
/// `kernel` needs something in the kernel only where a policy program above would otherwise decide for the unit:
/// the walk does not stop at a cgroup that has no attachment.
pub fn desired(units: &BTreeMap<String, UnitPolicy>) -> BTreeMap<CgroupId, Desired> {
    units
        .iter()
        .filter_map(|(name, unit)| {
            let (policy, _) = unit.own.as_ref()?;
            let (id, depth) = unit.cgroup?;
            if *policy == Policy::Kernel && above(units, name).policy == Policy::Kernel {
                return None;
            }
            let want = Desired {
                unit: name.clone(),
                policy: policy.clone(),
                depth,
            };
            Some((id, want))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(file: &str) -> Provenance {
        Provenance {
            file: file.into(),
            line: 2,
            column: 18,
        }
    }

    fn bpf(name: &str) -> Policy {
        Policy::Bpf(name.into())
    }

    fn unit(slice: Option<&str>, own: Option<Policy>, id: u64, depth: usize) -> UnitPolicy {
        UnitPolicy {
            own: own.map(|policy| (policy, at("f"))),
            slice: slice.map(str::to_owned),
            cgroup: Some((CgroupId(id), depth)),
        }
    }

    fn world(units: &[(&str, UnitPolicy)]) -> BTreeMap<String, UnitPolicy> {
        units
            .iter()
            .map(|(name, unit)| ((*name).to_owned(), unit.clone()))
            .collect()
    }

    #[test]
    fn the_units_own_policy_comes_first_then_the_nearest_slice_then_the_default() {
        let units = world(&[
            ("-.slice", unit(None, None, 0, 0)),
            ("a.slice", unit(Some("-.slice"), Some(bpf("top")), 1, 1)),
            ("a-b.slice", unit(Some("a.slice"), None, 2, 2)),
            (
                "own.service",
                unit(Some("a-b.slice"), Some(bpf("mine")), 3, 3),
            ),
            ("below.service", unit(Some("a-b.slice"), None, 4, 3)),
            ("alone.service", unit(Some("system.slice"), None, 5, 2)),
        ]);
        assert_eq!(resolve(&units, "own.service").source, Source::Own(at("f")));
        assert_eq!(
            resolve(&units, "below.service"),
            Resolution {
                policy: bpf("top"),
                source: Source::Slice("a.slice".into(), at("f")),
            }
        );
        assert_eq!(resolve(&units, "alone.service").source, Source::Default);
    }

    #[test]
    fn a_slice_that_systemd_has_not_loaded_is_passed_over() {
        let units = world(&[
            ("-.slice", unit(None, Some(bpf("all")), 0, 0)),
            ("x.service", unit(Some("a-b-c.slice"), None, 1, 4)),
        ]);
        assert_eq!(
            resolve(&units, "x.service").source,
            Source::Slice("-.slice".into(), at("f"))
        );
    }

    #[test]
    fn an_inherited_policy_needs_no_attachment() {
        let units = world(&[
            ("a.slice", unit(Some("-.slice"), Some(bpf("p")), 1, 1)),
            ("x.service", unit(Some("a.slice"), None, 2, 2)),
        ]);
        assert_eq!(
            desired(&units).into_keys().collect::<Vec<_>>(),
            [CgroupId(1)]
        );
    }

    #[test]
    fn a_unit_without_a_cgroup_needs_no_attachment() {
        let mut stopped = unit(Some("-.slice"), Some(bpf("p")), 1, 1);
        stopped.cgroup = None;
        assert_eq!(desired(&world(&[("x.service", stopped)])), BTreeMap::new());
    }

    #[test]
    fn kernel_is_put_into_the_kernel_only_where_a_program_above_would_decide() {
        let below = |slice: Option<Policy>| {
            let units = world(&[
                ("a.slice", unit(Some("-.slice"), slice, 1, 1)),
                (
                    "x.service",
                    unit(Some("a.slice"), Some(Policy::Kernel), 2, 2),
                ),
            ]);
            desired(&units).contains_key(&CgroupId(2))
        };
        assert!(below(Some(bpf("p"))));
        assert!(!below(Some(Policy::Kernel)));
        assert!(!below(None));
    }

    #[test]
    fn kernel_on_a_slice_ends_what_is_above_it_for_everything_below() {
        let units = world(&[
            ("-.slice", unit(None, Some(bpf("p")), 0, 0)),
            ("a.slice", unit(Some("-.slice"), Some(Policy::Kernel), 1, 1)),
            (
                "x.service",
                unit(Some("a.slice"), Some(Policy::Kernel), 2, 2),
            ),
            ("y.service", unit(Some("a.slice"), None, 3, 2)),
        ]);
        assert_eq!(resolve(&units, "y.service").policy, Policy::Kernel);
        assert_eq!(
            desired(&units).into_keys().collect::<Vec<_>>(),
            [CgroupId::SYSTEM, CgroupId(1)]
        );
    }

    #[test]
    fn a_fault_on_a_running_unit_leaves_its_last_good_policy_in_force() {
        let good = (bpf("p"), at("old"));
        let faulty = Declaration {
            policy: None,
            faulty: true,
        };
        assert_eq!(in_force(&faulty, Some(&good)), Some(good));
    }

    #[test]
    fn a_fault_with_no_last_good_policy_counts_as_not_written() {
        let earlier = Some((bpf("p"), at("fragment")));
        let faulty = Declaration {
            policy: earlier.clone(),
            faulty: true,
        };
        assert_eq!(in_force(&faulty, None), earlier);
        let only = Declaration {
            policy: None,
            faulty: true,
        };
        assert_eq!(in_force(&only, None), None);
    }

    #[test]
    fn a_policy_that_is_removed_or_reset_does_not_come_back_as_last_good() {
        let good = (bpf("p"), at("old"));
        assert_eq!(in_force(&Declaration::default(), Some(&good)), None);
    }

    const NAMES: [&str; 6] = [
        "-.slice",
        "a.slice",
        "a-b.slice",
        "b.slice",
        "x.service",
        "y.scope",
    ];

    fn worlds() -> impl Strategy<Value = BTreeMap<String, UnitPolicy>> {
        let policy = prop_oneof![
            Just(None),
            Just(Some(Policy::Kernel)),
            Just(Some(bpf("p"))),
            Just(Some(bpf("q"))),
        ];
        let one = (
            policy,
            // Any slice, also for slices, where only the name counts.
            prop::option::of(prop::sample::select(&NAMES[..4])),
            any::<bool>(),
        );
        prop::collection::btree_map(prop::sample::select(&NAMES[..]), one, 0..6).prop_map(|units| {
            units
                .into_iter()
                .enumerate()
                .map(|(i, (name, (own, slice, running)))| {
                    let mut known = unit(slice, own, i as u64, 1);
                    if !running {
                        known.cgroup = None;
                    }
                    (name.to_owned(), known)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn resolution_ends_and_has_a_reason(units in worlds(), name in prop::sample::select(&NAMES[..])) {
            let resolution = resolve(&units, name);
            match resolution.source {
                Source::Own(_) => prop_assert!(units[name].own.is_some()),
                Source::Slice(slice, _) => prop_assert_eq!(&units[&slice].own.as_ref().unwrap().0, &resolution.policy),
                Source::Default => prop_assert_eq!(resolution.policy, Policy::Kernel),
            }
        }

        #[test]
        fn what_the_kernel_walks_into_is_what_was_resolved(units in worlds()) {
            // Walk up as the kernel does, over a world in which everything is running, and stop at the first cgroup
            // that has something attached.
            let running: BTreeMap<String, UnitPolicy> = units.into_iter().enumerate().map(|(i, (name, mut unit))| {
                unit.cgroup = Some((CgroupId(i as u64), 1));
                (name, unit)
            }).collect();
            let attached = desired(&running);
            for name in running.keys() {
                let mut here = Some(name.clone());
                let mut met = Policy::Kernel;
                while let Some(unit) = here {
                    let id = running.get(&unit).and_then(|known| known.cgroup);
                    if let Some(want) = id.and_then(|(id, _)| attached.get(&id)) {
                        met = want.policy.clone();
                        break;
                    }
                    here = slice_of(&running, &unit);
                }
                prop_assert_eq!(met, resolve(&running, name).policy, "{}", name);
            }
        }
    }
}
