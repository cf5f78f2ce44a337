// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has to be in the kernel, so that what is resolved is what happens.
//!
//! A policy that a unit inherits needs no attachment on the unit. The kernel's OOM walk goes up from the cgroup that ran
//! out, so the slice's attachment covers everything below it, from the first instruction of its first process. The same is true of
//! all other settings: each cgroup is told only what is said about it, and the policy program looks upwards.

use super::{
    AppliesTo, CgroupId, Key, Kill, Policy, Preference, Pressure, Speaker, Trigger, Value, World,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The cgroups that there are: by unit, with how many are above it.
pub type Cgroups = BTreeMap<String, (CgroupId, usize)>;

/// An attachment that one cgroup should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The unit whose cgroup it is.
    pub unit: String,
    /// The policy program.
    pub policy: Policy,
    /// How many cgroups are above it; 0 for the system.
    pub depth: usize,
}

/// What a cgroup is told, for policy programs to find: what is said about it, and nothing that it inherits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnSettings {
    /// What of it is killed.
    pub kill: Option<Kill>,
    /// Whether it may be a victim.
    pub preference: Option<Preference>,
    /// How long a kill in it is given to take effect.
    pub cooldown: Option<Duration>,
    /// Who decides about its own OOM. A cgroup without an attachment is passed by, so the kernel's killer has to be named.
    pub decider: Option<Decider>,
    /// When a stall of it is an OOM; never, if that is None.
    pub pressure: Option<Option<Pressure>>,
    /// The same of each unit in a slice.
    pub units_pressure: Option<Option<Pressure>>,
    /// How long before it is killed it is told, as a victim. For an engine that has the time.
    pub warn: Option<Duration>,
}

/// Who decides about an OOM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// A policy program.
    Program,
    /// The kernel's own killer.
    Kernel,
}

/// What should be attached where.
pub fn desired_attachments(world: &World, cgroups: &Cgroups) -> BTreeMap<CgroupId, Desired> {
    cgroups
        .iter()
        .filter_map(|(unit, (id, depth))| {
            let policy = own_policy(world, unit)?;
            let want = Desired {
                unit: unit.clone(),
                policy,
                depth: *depth,
            };
            (want.policy != Policy::Kernel).then_some((*id, want))
        })
        .collect()
}

/// What each cgroup should be told. Those that nothing is said about are left out.
pub fn desired_settings(world: &World, cgroups: &Cgroups) -> BTreeMap<CgroupId, OwnSettings> {
    cgroups
        .iter()
        .map(|(unit, (id, _))| (*id, own_settings(world, unit)))
        .filter(|(_, settings)| *settings != OwnSettings::default())
        .collect()
}

/// Which cgroups should be watched for what.
pub fn desired_triggers(world: &World, cgroups: &Cgroups) -> BTreeMap<CgroupId, Trigger> {
    cgroups
        .iter()
        .filter_map(|(unit, (id, _))| Some((*id, world.pressure(unit)?.trigger)))
        .collect()
}

/// The policy of a unit, if anything is said about it that decides the matter for the unit itself.
fn own_policy(world: &World, unit: &str) -> Option<Policy> {
    let said = [Key::Policy, Key::Enabled]
        .into_iter()
        .any(|key| world.own(unit, key).is_some());
    said.then(|| world.policy(unit))
}

fn own_settings(world: &World, unit: &str) -> OwnSettings {
    let own = |key| world.own(unit, key);
    OwnSettings {
        kill: match own(Key::Kill) {
            Some((Value::Kill(kill), ..)) => Some(*kill),
            _ => None,
        },
        // Programs read attributes themselves, as they are at the moment, and let them decide before what is told here.
        preference: match world.own_by(unit, Key::Preference, |by| *by != Speaker::Attribute) {
            Some((Value::Preference(preference), ..)) => Some(*preference),
            _ => None,
        },
        cooldown: match own(Key::Cooldown) {
            Some((Value::Cooldown(time), ..)) => Some(*time),
            _ => None,
        },
        decider: own_policy(world, unit).map(|policy| match policy {
            Policy::Kernel => Decider::Kernel,
            Policy::Bpf(_) => Decider::Program,
        }),
        pressure: own_pressure(world, unit),
        units_pressure: own_pressure_of_units(world, unit),
        warn: match own(Key::Warn) {
            Some((Value::Warn(time), ..)) => Some(*time),
            _ => None,
        },
    }
}

fn own_pressure(world: &World, unit: &str) -> Option<Option<Pressure>> {
    if unit.ends_with(".slice") {
        // A slice has none unless it is said.
        return world.pressure(unit).map(Some);
    }
    let said = [Key::Pressure, Key::Enabled]
        .into_iter()
        .any(|key| world.own(unit, key).is_some());
    said.then(|| world.pressure(unit))
}

/// What was said further up is told again where turning on or off changes what comes of it.
fn own_pressure_of_units(world: &World, unit: &str) -> Option<Option<Pressure>> {
    if !unit.ends_with(".slice") {
        return None;
    }
    let of_units = match world.own(unit, Key::Pressure) {
        Some((Value::Pressure(Some(pressure)), ..)) => pressure.applies_to == AppliesTo::EachUnit,
        said => said.is_some(),
    };
    let said = of_units || world.own(unit, Key::Enabled).is_some();
    said.then(|| world.pressure_of_units_in(unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Assignment, Layer, Provenance, UnitSaid};
    use crate::systemd::unit_name::ROOT_SLICE;
    use proptest::prelude::*;

    const UNITS: [(&str, Option<&str>); 7] = [
        (ROOT_SLICE, None),
        ("a.slice", Some(ROOT_SLICE)),
        ("a-b.slice", Some("a.slice")),
        ("c.slice", Some(ROOT_SLICE)),
        ("x.service", Some("a-b.slice")),
        ("y.service", Some("c.slice")),
        ("z.scope", Some(ROOT_SLICE)),
    ];

    fn said(value: Value) -> (Key, Assignment) {
        let at = Provenance {
            file: "f".into(),
            line: 1,
            column: 1,
        };
        let key = value.key();
        let value = Some(value);
        (key, Assignment { value, at })
    }

    fn layer(values: &[Value]) -> Layer {
        values.iter().cloned().map(said).collect()
    }

    fn world(sections: &[(&str, &[Value])], defaults: &[Value]) -> World {
        let mut world = World {
            defaults: layer(defaults),
            ..World::default()
        };
        for (name, slice) in UNITS {
            let sources = sections
                .iter()
                .filter(|(about, _)| *about == name)
                .map(|(_, values)| (Speaker::UnitFiles, layer(values)))
                .collect();
            let slice = slice.map(str::to_owned);
            world
                .units
                .insert(name.to_owned(), UnitSaid { sources, slice });
        }
        world
    }

    /// Everything is running; the root slice stands for the system.
    fn cgroups() -> Cgroups {
        UNITS
            .into_iter()
            .enumerate()
            .map(|(id, (name, _))| (name.to_owned(), (CgroupId(id as u64), 1)))
            .collect()
    }

    fn bpf(name: &str) -> Value {
        Value::Policy(Policy::Bpf(name.into()))
    }

    fn attached(world: &World) -> Vec<String> {
        desired_attachments(world, &cgroups())
            .into_values()
            .map(|want| format!("{} {}", want.unit, want.policy))
            .collect()
    }

    #[test]
    fn an_inherited_policy_needs_no_attachment() {
        let world = world(&[("a.slice", &[bpf("p")])], &[]);
        assert_eq!(attached(&world), ["a.slice bpf:p"]);
    }

    #[test]
    fn a_default_policy_is_attached_to_the_system() {
        assert_eq!(attached(&world(&[], &[bpf("p")])), ["-.slice bpf:p"]);
        let kernel = Value::Policy(Policy::Kernel);
        let world = world(&[(ROOT_SLICE, &[kernel])], &[bpf("p")]);
        assert_eq!(attached(&world), [""; 0]);
        assert_eq!(world.policy("z.scope"), Policy::Kernel);
    }

    #[test]
    fn a_unit_without_a_cgroup_needs_nothing() {
        let world = world(&[("x.service", &[bpf("p")])], &[]);
        assert_eq!(desired_attachments(&world, &Cgroups::new()).len(), 0);
        assert_eq!(desired_settings(&world, &Cgroups::new()).len(), 0);
    }

    #[test]
    fn what_is_turned_off_is_the_kernels() {
        let world = world(
            &[
                ("a.slice", &[bpf("p"), Value::Enabled(false)]),
                ("x.service", &[bpf("q")]),
                ("a-b.slice", &[Value::Kill(Kill::Process)]),
            ],
            &[],
        );
        assert_eq!(attached(&world), [""; 0]);
        assert_eq!(world.policy("x.service"), Policy::Kernel);
        let settings = desired_settings(&world, &cgroups());
        assert_eq!(settings[&CgroupId(4)].decider, Some(Decider::Kernel));
    }

    #[test]
    fn what_is_turned_on_again_below_has_the_policy_from_above() {
        let world = world(
            &[
                ("a.slice", &[bpf("p"), Value::Enabled(false)]),
                ("x.service", &[Value::Enabled(true)]),
            ],
            &[],
        );
        assert_eq!(attached(&world), ["x.service bpf:p"]);
    }

    #[test]
    fn what_attributes_say_is_left_to_the_programs() {
        let mut world = world(&[], &[]);
        let omit = layer(&[Value::Preference(Preference::Omit)]);
        let unit = world.units.get_mut("x.service").unwrap();
        unit.sources = vec![
            (Speaker::Attribute, omit),
            (
                Speaker::Section("unit.\"x.service\"".into()),
                layer(&[Value::Preference(Preference::Avoid)]),
            ),
        ];
        let settings = desired_settings(&world, &cgroups());
        assert_eq!(settings[&CgroupId(4)].preference, Some(Preference::Avoid));
        assert_eq!(settings.len(), 1);
    }

    fn values() -> impl Strategy<Value = Vec<Value>> {
        let policy = prop_oneof![
            Just(Policy::Kernel),
            Just(Policy::Bpf("p".into())),
            Just(Policy::Bpf("q".into())),
        ];
        (
            prop::option::of(policy.prop_map(Value::Policy)),
            prop::option::of(any::<bool>().prop_map(Value::Enabled)),
            prop::option::of(
                prop::sample::select(&[Kill::Cgroup, Kill::Process][..]).prop_map(Value::Kill),
            ),
            prop::option::of((0..9u64).prop_map(|s| Value::Cooldown(Duration::from_secs(s)))),
            prop::option::of(pressures()),
        )
            .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect())
    }

    fn pressures() -> impl Strategy<Value = Value> {
        let applies_to = prop::sample::select(&[AppliesTo::Slice, AppliesTo::EachUnit][..]);
        prop::option::of((1..9u64, applies_to)).prop_map(|said| {
            Value::Pressure(said.map(|(stall, applies_to)| Pressure {
                applies_to,
                ..Pressure::parse(&format!("memory full {stall}ms/1s")).unwrap()
            }))
        })
    }

    /// Any units say anything that can be said: only slices speak for the units in them, and not everything can be a default.
    fn worlds() -> impl Strategy<Value = World> {
        let said = prop::collection::vec(values(), UNITS.len());
        (said, values()).prop_map(|(mut said, mut defaults)| {
            defaults.retain(|value| value.key().is_for_defaults());
            for ((name, _), values) in UNITS.iter().zip(&mut said) {
                for value in values {
                    if let Value::Pressure(Some(pressure)) = value
                        && !name.ends_with(".slice")
                    {
                        pressure.applies_to = AppliesTo::Slice;
                    }
                }
            }
            let sections = UNITS.iter().zip(&said);
            let sections: Vec<(&str, &[Value])> = sections
                .map(|((name, _), values)| (*name, &values[..]))
                .collect();
            world(&sections, &defaults)
        })
    }

    proptest! {
        /// Walks up as the kernel and the policy programs do.
        #[test]
        fn what_happens_in_the_kernel_is_what_was_resolved(
            world in worlds(),
        ) {
            let cgroups = cgroups();
            let attached = desired_attachments(&world, &cgroups);
            let settings = desired_settings(&world, &cgroups);
            for (name, _) in UNITS {
                let mut chain = Vec::new();
                let mut next = Some(name.to_owned());
                while let Some(unit) = next {
                    chain.push(cgroups[&unit].0);
                    next = world.slice_of(&unit);
                }
                let nearest = |f: &dyn Fn(&OwnSettings) -> Option<Value>| {
                    chain.iter().find_map(|id| settings.get(id).and_then(f))
                };
                let decider = chain.iter().find_map(|id| Some((id, settings.get(id)?.decider?)));
                let met = match decider {
                    Some((id, Decider::Program)) => attached[id].policy.clone(),
                    Some((_, Decider::Kernel)) | None => Policy::Kernel,
                };
                prop_assert_eq!(met, world.policy(name), "{}", name);
                let kill = nearest(&|it| it.kill.map(Value::Kill));
                prop_assert_eq!(
                    kill.unwrap_or(Value::built_in(Key::Kill)), world.value(name, Key::Kill)
                );
                let cooldown = nearest(&|it| it.cooldown.map(Value::Cooldown));
                prop_assert_eq!(
                    cooldown.unwrap_or(Value::built_in(Key::Cooldown)), world.value(name, Key::Cooldown)
                );
                // As `oomd_pressure_key()` in pressure.bpf.h does.
                let told = |id: &CgroupId| settings.get(id).copied().unwrap_or_default();
                let own = told(&chain[0]).pressure;
                let above = chain[1..].iter().find_map(|id| told(id).units_pressure);
                let met = own.or(above.filter(|_| !name.ends_with(".slice"))).flatten();
                prop_assert_eq!(met, world.pressure(name), "{}", name);
                let trigger = desired_triggers(&world, &cgroups).get(&cgroups[name].0).copied();
                prop_assert_eq!(trigger, met.map(|pressure| pressure.trigger));
            }
        }

        #[test]
        fn whatever_decides_is_what_the_value_is(
            world in worlds(),
        ) {
            for (name, _) in UNITS {
                for key in Key::ALL {
                    let all = world.explain(name, key);
                    let decides: Vec<_> = all
                        .iter()
                        .filter(|it| it.verdict == crate::policy::Verdict::Decides)
                        .collect();
                    prop_assert_eq!(
                        decides.first().and_then(|it| it.value.clone()), Some(world.value(name, key))
                    );
                    prop_assert_eq!(decides.len(), 1);
                }
            }
        }
    }
}
