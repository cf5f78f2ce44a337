// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which value each setting of a unit has, and why.
//!
//! Who speaks, most important first: the unit's own sources (what is set at run time, then its files, then the configuration's sections
//! about it, the most specific first), those of the slices above it from the nearest up, the configuration's defaults, and what is built in. For each
//! setting the first one that says something decides; the others are kept for those who ask ([`explain`]).

use super::{AppliesTo, Assignment, Key, Layer, Policy, Pressure, Value};
use crate::systemd::unit_name;
use std::collections::BTreeMap;
use std::fmt;

/// Everything that is said, about every unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// By unit. Units that nothing is said about need not be here, as long as the slice they are in is known.
    pub units: BTreeMap<String, UnitSaid>,
    /// The configuration's `[defaults]`.
    pub defaults: Layer,
}

/// What is said about one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitSaid {
    /// Its own sources, most important first.
    pub sources: Vec<(Speaker, Layer)>,
    /// The slice it is in. None for the root slice.
    pub slice: Option<String>,
}

/// Who says something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Speaker {
    /// Somebody at run time; the text says who, when and for how long.
    RunTime(String),
    /// The unit's own files.
    UnitFiles,
    /// What systemd made of `ManagedOOMPreference=` in the unit's files: an extended attribute of its cgroup.
    Attribute,
    /// A section of the configuration, as it is headed there: `slice."NAME"`, `unit."GLOB"`.
    Section(String),
    /// The configuration's `[defaults]`.
    Defaults,
    /// Nobody.
    BuiltIn,
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speaker::RunTime(_) => f.write_str("run time"),
            Speaker::UnitFiles => f.write_str("unit files"),
            Speaker::Attribute => f.write_str("attribute of the cgroup"),
            Speaker::Section(heading) => write!(f, "[{heading}]"),
            Speaker::Defaults => f.write_str("[defaults]"),
            Speaker::BuiltIn => f.write_str("built in"),
        }
    }
}

impl Speaker {
    /// Where it said something, as people are told.
    pub fn place(&self, said: &Assignment) -> String {
        match self {
            Speaker::RunTime(how) => how.clone(),
            _ => said.at.to_string(),
        }
    }
}

impl World {
    /// The value of a setting that a unit's own sources say, with its place.
    pub fn own(&self, unit: &str, key: Key) -> Option<(&Value, &Speaker, &Assignment)> {
        self.own_by(unit, key, |_| true)
    }

    /// The same, of some speakers only.
    pub(crate) fn own_by(
        &self,
        unit: &str,
        key: Key,
        counts: impl Fn(&Speaker) -> bool,
    ) -> Option<(&Value, &Speaker, &Assignment)> {
        let sources = self.units.get(unit).map(|unit| unit.sources.iter());
        let said = sources
            .into_iter()
            .flatten()
            .filter(|(speaker, _)| counts(speaker))
            .find_map(|(speaker, layer)| {
                let (value, assignment) = layer.decides(key)?;
                Some((value, speaker, assignment))
            });
        // What is said for everything is said for the root slice: nothing is above it.
        let by_default = || {
            let (value, assignment) = self.defaults.decides(key)?;
            (unit == unit_name::ROOT_SLICE).then_some((value, &Speaker::Defaults, assignment))
        };
        said.or_else(by_default)
    }

    /// The value that a setting of a unit has.
    pub fn value(&self, unit: &str, key: Key) -> Value {
        self.value_from(unit, key, |about, value| is_meant(value, about, unit))
    }

    /// The same, of what is said about a unit or above it and counts.
    fn value_from(&self, unit: &str, key: Key, counts: impl Fn(&str, &Value) -> bool) -> Value {
        match self.said_from(unit, key, counts) {
            Some((value, ..)) => value.clone(),
            None => Value::built_in(key),
        }
    }

    /// Where the value that a setting of a unit has was said, as people are told: nothing for what is built in.
    pub fn place(&self, unit: &str, key: Key) -> String {
        let said = self.said_from(unit, key, |about, value| is_meant(value, about, unit));
        said.map_or(String::new(), |(_, speaker, said)| speaker.place(said))
    }

    /// The first of what is said about a unit or above it that counts, or else what is said for everything.
    fn said_from(
        &self,
        unit: &str,
        key: Key,
        counts: impl Fn(&str, &Value) -> bool,
    ) -> Option<(&Value, &Speaker, &Assignment)> {
        let mut next = Some(unit.to_owned());
        while let Some(about) = next {
            if let Some(said) = self.own(&about, key)
                && counts(&about, said.0)
            {
                return Some(said);
            }
            next = self.slice_of(&about);
        }
        let (value, assignment) = self.defaults.decides(key)?;
        Some((value, &Speaker::Defaults, assignment))
    }

    /// When a stall of the unit's cgroup is an OOM. Never where everything is turned off.
    pub fn pressure(&self, unit: &str) -> Option<Pressure> {
        self.if_enabled(unit, self.value(unit, Key::Pressure))
    }

    /// When a stall of a unit in this slice is an OOM, as far as nothing nearer to the unit says otherwise.
    pub(super) fn pressure_of_units_in(&self, slice: &str) -> Option<Pressure> {
        let value = self.value_from(slice, Key::Pressure, |_, value| is_for_units(value));
        self.if_enabled(slice, value)
    }

    fn if_enabled(&self, unit: &str, value: Value) -> Option<Pressure> {
        match (self.value(unit, Key::Enabled), value) {
            (Value::Enabled(true), Value::Pressure(pressure)) => pressure,
            _ => None,
        }
    }

    /// The policy that decides about a unit's own OOM: `kernel` also where everything is turned off.
    pub fn policy(&self, unit: &str) -> Policy {
        match (
            self.value(unit, Key::Enabled),
            self.value(unit, Key::Policy),
        ) {
            (Value::Enabled(true), Value::Policy(policy)) => policy,
            _ => Policy::Kernel,
        }
    }

    /// The slice a unit is in. A slice's place is in its name; it need not be asked for, and a wrong answer cannot make a loop.
    pub fn slice_of(&self, unit: &str) -> Option<String> {
        if is_slice(unit) {
            return unit_name::parent_slice(unit);
        }
        self.units.get(unit)?.slice.clone()
    }

    /// Everything that is said about a setting of a unit, the one that decides first, and then in the order in which they would
    /// decide if those before did not.
    pub fn explain(&self, unit: &str, key: Key) -> Vec<Statement> {
        let mut all = Vec::new();
        let mut next = Some(unit.to_owned());
        while let Some(about) = next {
            for (speaker, layer) in self.units.get(&about).map_or(&[][..], |unit| &unit.sources) {
                all.extend(statements(&about, speaker, layer, key));
            }
            next = self.slice_of(&about);
        }
        all.extend(statements(unit, &Speaker::Defaults, &self.defaults, key));
        all.push(Statement {
            about: unit.to_owned(),
            speaker: Speaker::BuiltIn,
            assignment: None,
            value: Some(Value::built_in(key)),
            verdict: Verdict::Overruled,
        });
        decide(&mut all, unit);
        all
    }

    /// The same for all settings, in their order.
    pub fn explain_all(&self, unit: &str) -> Vec<(Key, Statement)> {
        let of = |key| {
            let all = self.explain(unit, key).into_iter();
            all.map(move |statement| (key, statement))
        };
        Key::ALL.into_iter().flat_map(of).collect()
    }
}

/// Finds the statement that decides about `unit`. Of what is said about one unit the first counts, or none if that is not meant.
fn decide(all: &mut [Statement], unit: &str) {
    let mut passed: Option<String> = None;
    for statement in all.iter_mut().filter(|it| it.verdict == Verdict::Overruled) {
        let built_in = statement.speaker == Speaker::BuiltIn;
        if !built_in && passed.as_ref() == Some(&statement.about) {
            continue;
        }
        let value = statement.value.as_ref();
        if built_in || value.is_some_and(|value| is_meant(value, &statement.about, unit)) {
            statement.verdict = Verdict::Decides;
            return;
        }
        statement.verdict = Verdict::Elsewhere;
        passed = Some(statement.about.clone());
    }
}

/// Whether what is said about `about`, the unit itself or a slice above it, is meant for `unit`. All settings are, but a slice's pressure
/// is either its own or that of the units in it.
fn is_meant(value: &Value, about: &str, unit: &str) -> bool {
    let Value::Pressure(Some(pressure)) = value else {
        // That there is none is for both. A slice has no pressure that it inherits.
        return !matches!(value, Value::Pressure(None)) || about == unit || !is_slice(unit);
    };
    match pressure.applies_to {
        AppliesTo::EachUnit => !is_slice(unit),
        AppliesTo::Slice => about == unit,
    }
}

fn is_for_units(value: &Value) -> bool {
    !matches!(value, Value::Pressure(Some(pressure)) if pressure.applies_to == AppliesTo::Slice)
}

fn is_slice(unit: &str) -> bool {
    unit.ends_with(".slice")
}

/// What one source says about one setting, the assignment that counts first.
fn statements(about: &str, speaker: &Speaker, layer: &Layer, key: Key) -> Vec<Statement> {
    let history = layer.history(key);
    let last = history.len().wrapping_sub(1);
    history
        .iter()
        .enumerate()
        .rev()
        .map(|(index, assignment)| Statement {
            about: about.to_owned(),
            speaker: speaker.clone(),
            value: assignment.value.clone(),
            assignment: Some(assignment.clone()),
            verdict: if assignment.value.is_none() {
                Verdict::Resets
            } else if index == last {
                Verdict::Overruled
            } else if history[index + 1..]
                .iter()
                .any(|later| later.value.is_none())
            {
                Verdict::Reset
            } else {
                Verdict::SaidAgain
            },
        })
        .collect()
}

/// One thing that is said about a setting of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The unit that it is said about: the unit itself, or a slice above it.
    pub about: String,
    /// Who says it.
    pub speaker: Speaker,
    /// What is said. None for one that takes back what was said before.
    pub value: Option<Value>,
    /// Where. None for what is built in.
    pub assignment: Option<Assignment>,
    /// What comes of it.
    pub verdict: Verdict,
}

impl Statement {
    /// Where it is said, as people are told: nothing for what is built in.
    pub fn place(&self) -> String {
        let said = self.assignment.as_ref();
        said.map_or(String::new(), |said| self.speaker.place(said))
    }
}

/// What comes of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// This is the value.
    Decides,
    /// Somebody who comes first says something.
    Overruled,
    /// The same source says something else later.
    SaidAgain,
    /// The same source takes it back later.
    Reset,
    /// It takes back what the same source said before.
    Resets,
    /// It is not about this unit: a slice's own pressure, or that of its units.
    Elsewhere,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 6] = [
        Verdict::Decides,
        Verdict::Overruled,
        Verdict::SaidAgain,
        Verdict::Reset,
        Verdict::Resets,
        Verdict::Elsewhere,
    ];

    /// A word for it that does not change, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Decides => "decides",
            Verdict::Overruled => "overruled",
            Verdict::SaidAgain => "said-again",
            Verdict::Reset => "reset",
            Verdict::Resets => "resets",
            Verdict::Elsewhere => "elsewhere",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Decides => "decides",
            Verdict::Overruled => "overruled by what comes before it",
            Verdict::SaidAgain => "assigned again later",
            Verdict::Reset => "reset later",
            Verdict::Resets => "resets what was assigned before",
            Verdict::Elsewhere => "not about this unit",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Kill, Provenance};

    fn assignment(text: &str, line: u32) -> (Key, Assignment) {
        let at = Provenance {
            file: "f".into(),
            line,
            column: 1,
        };
        let value = match text {
            "" => None,
            text => Some(Value::parse(Key::Kill, text, &[]).unwrap()),
        };
        (Key::Kill, Assignment { value, at })
    }

    fn layer(texts: &[&str]) -> Layer {
        texts
            .iter()
            .zip(1..)
            .map(|(text, line)| assignment(text, line))
            .collect()
    }

    fn unit(slice: &str, sources: &[(Speaker, Layer)]) -> UnitSaid {
        UnitSaid {
            sources: sources.to_vec(),
            slice: Some(slice.to_owned()),
        }
    }

    fn section(heading: &str) -> Speaker {
        Speaker::Section(heading.to_owned())
    }

    fn told(world: &World, unit: &str) -> Vec<String> {
        world
            .explain(unit, Key::Kill)
            .into_iter()
            .map(|it| {
                let value = it.value.map_or("reset".into(), |value| value.to_string());
                format!("{value} {} {}: {}", it.about, it.speaker, it.verdict)
            })
            .collect()
    }

    #[test]
    fn the_whole_chain_is_told_losers_included() {
        let mut world = World {
            defaults: layer(&["process"]),
            ..World::default()
        };
        let files = (
            Speaker::UnitFiles,
            layer(&["process", "", "cgroup", "process"]),
        );
        let glob = (section("unit.\"*\""), layer(&["cgroup"]));
        let slice = (section("slice.\"a.slice\""), layer(&["process"]));
        world
            .units
            .insert("x.service".into(), unit("a-b.slice", &[files, glob]));
        world
            .units
            .insert("a.slice".into(), unit("-.slice", &[slice]));
        assert_eq!(
            told(&world, "x.service"),
            [
                "process x.service unit files: decides",
                "cgroup x.service unit files: assigned again later",
                "reset x.service unit files: resets what was assigned before",
                "process x.service unit files: reset later",
                "cgroup x.service [unit.\"*\"]: overruled by what comes before it",
                "process a.slice [slice.\"a.slice\"]: overruled by what comes before it",
                "process x.service [defaults]: overruled by what comes before it",
                "cgroup x.service built in: overruled by what comes before it",
            ]
        );
    }

    #[test]
    fn a_source_that_takes_back_what_it_said_says_nothing() {
        let mut world = World::default();
        let files = (Speaker::UnitFiles, layer(&["cgroup", ""]));
        let glob = (section("unit.\"*\""), layer(&["process"]));
        world
            .units
            .insert("x.service".into(), unit("a.slice", &[files, glob]));
        assert_eq!(
            world.value("x.service", Key::Kill),
            Value::Kill(Kill::Process)
        );
        assert_eq!(
            told(&world, "x.service")[..2],
            [
                "reset x.service unit files: resets what was assigned before",
                "cgroup x.service unit files: reset later",
            ]
        );
    }

    #[test]
    fn a_slice_that_systemd_has_not_loaded_is_passed_over() {
        let mut world = World::default();
        let slice = (section("slice.\"-.slice\""), layer(&["process"]));
        world.units.insert(
            "-.slice".into(),
            UnitSaid {
                sources: vec![slice],
                slice: None,
            },
        );
        world
            .units
            .insert("x.service".into(), unit("a-b-c.slice", &[]));
        assert_eq!(
            world.value("x.service", Key::Kill),
            Value::Kill(Kill::Process)
        );
        assert_eq!(
            world.value("unknown.service", Key::Kill),
            Value::built_in(Key::Kill)
        );
    }

    fn pressure(text: &str) -> Layer {
        let value = Value::parse(Key::Pressure, text, &[]).unwrap();
        let at = Provenance {
            file: "f".into(),
            line: 1,
            column: 1,
        };
        let value = Some(value);
        [(Key::Pressure, Assignment { value, at })]
            .into_iter()
            .collect()
    }

    fn each_unit(text: &str) -> Layer {
        let at = Provenance {
            file: "f".into(),
            line: 1,
            column: 1,
        };
        let value = Some(Value::Pressure(Some(Pressure {
            applies_to: AppliesTo::EachUnit,
            ..Pressure::parse(text).unwrap()
        })));
        [(Key::Pressure, Assignment { value, at })]
            .into_iter()
            .collect()
    }

    fn slices(outer: Layer, inner: Layer) -> World {
        let mut world = World::default();
        let said = |name: &str, layer| unit("-.slice", &[(section(name), layer)]);
        world.units.insert("a.slice".into(), said("outer", outer));
        world.units.insert("a-b.slice".into(), said("inner", inner));
        world
            .units
            .insert("x.service".into(), unit("a-b.slice", &[]));
        world
    }

    #[test]
    fn a_slices_own_pressure_is_not_that_of_its_units() {
        let world = slices(each_unit("memory full 1ms/1s"), pressure("io full 2ms/1s"));
        let stall = |unit| world.pressure(unit).map(|it| it.trigger.to_string());
        assert_eq!(stall("x.service").as_deref(), Some("memory full 1ms/1s"));
        assert_eq!(stall("a-b.slice").as_deref(), Some("io full 2ms/1s"));
        assert_eq!(stall("a.slice"), None);
        let verdicts = |unit| -> Vec<Verdict> {
            let all = world.explain(unit, Key::Pressure);
            all.into_iter().map(|it| it.verdict).collect()
        };
        use Verdict::{Decides, Elsewhere, Overruled};
        assert_eq!(verdicts("x.service"), [Elsewhere, Decides, Overruled]);
        assert_eq!(verdicts("a-b.slice"), [Decides, Overruled, Overruled]);
        assert_eq!(verdicts("a.slice"), [Elsewhere, Decides]);
    }

    #[test]
    fn that_there_is_none_ends_what_is_said_above() {
        let world = slices(each_unit("memory full 1ms/1s"), pressure("none"));
        assert_eq!(world.pressure("x.service"), None);
        assert_eq!(world.pressure("a-b.slice"), None);
    }
}
