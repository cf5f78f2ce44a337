// SPDX-License-Identifier: MIT OR Apache-2.0
//! Precedence: by examples, and against a slow model that is written differently.

use super::*;
use crate::policy::{Assignment, Key, Provenance, Value};
use proptest::prelude::*;
use std::path::PathBuf;

fn fragment(name: &str, text: &str) -> Fragment {
    let path = PathBuf::from("/etc/bpf-oomd/conf.d").join(name);
    Fragment::parse(&path, text.as_bytes(), &["p"], &|_| Vec::new()).unwrap()
}

fn rules(config: &Config, unit: &str) -> Vec<String> {
    let rules = config.for_unit(unit);
    rules.iter().map(|(rule, _)| rule.to_string()).collect()
}

/// A layer's history as `FILE VALUE`, with nothing for a value that is taken back.
fn history(layer: &Layer, key: Key) -> Vec<String> {
    let said = layer.history(key).iter();
    said.map(|Assignment { value, at }| {
        let file = at.file.file_name().unwrap().to_str().unwrap();
        let value = value.as_ref().map(Value::to_string).unwrap_or_default();
        format!("{file} {value}")
    })
    .collect()
}

#[test]
fn what_is_said_later_wins_and_the_rest_is_remembered() {
    let early = fragment("10.toml", "[defaults]\nkill = 'process'\ncooldown = '1s'\n");
    let late = fragment("90.toml", "[defaults]\nkill = 'cgroup'\n");
    let config = Config::merge([&late, &early]);
    let defaults = config.defaults();
    assert_eq!(
        history(defaults, Key::Kill),
        ["10.toml process", "90.toml cgroup"]
    );
    let value = |key| Some(defaults.decides(key)?.0.to_string());
    assert_eq!(value(Key::Kill).as_deref(), Some("cgroup"));
    assert_eq!(value(Key::Cooldown).as_deref(), Some("1s"));
    assert_eq!(value(Key::Policy), None);
}

#[test]
fn names_are_sorted_whatever_the_directory() {
    let mut high = fragment("50.toml", "[defaults]\nkill = 'process'\n");
    high.path = "/etc/bpf-oomd/conf.d/50.toml".into();
    let mut low = fragment("60.toml", "[defaults]\nkill = 'cgroup'\n");
    low.path = "/usr/lib/bpf-oomd/conf.d/60.toml".into();
    let config = Config::merge([&low, &high]);
    let (last, _) = config.defaults().decides(Key::Kill).unwrap();
    assert_eq!(last.to_string(), "cgroup");
}

#[test]
fn an_empty_string_takes_back_what_was_said_before() {
    let files = [
        fragment("1.toml", "[unit.'a.service']\nkill = 'process'\n"),
        fragment("2.toml", "[unit.'a.service']\nkill = ''\n"),
    ];
    let config = Config::merge(&files);
    let layers = config.for_unit("a.service");
    assert_eq!(layers[0].1.decides(Key::Kill), None);
    assert_eq!(
        history(layers[0].1, Key::Kill),
        ["1.toml process", "2.toml "]
    );
    let third = fragment("3.toml", "[unit.'a.service']\nkill = 'cgroup'\n");
    let config = Config::merge(files.iter().chain([&third]));
    assert!(
        config.for_unit("a.service")[0]
            .1
            .decides(Key::Kill)
            .is_some()
    );
}

#[test]
fn a_pressure_is_replaced_whole() {
    let files = [
        fragment(
            "1.toml",
            "[slice.'a.slice'.pressure]\nstall = '10ms'\nresource = 'io'\n",
        ),
        fragment("2.toml", "[slice.'a.slice'.pressure]\nstall = '20ms'\n"),
    ];
    let config = Config::merge(&files);
    let layers = config.for_unit("a.slice");
    let (pressure, _) = layers[0].1.decides(Key::Pressure).unwrap();
    assert_eq!(pressure.to_string(), "memory full 20ms/1s");
}

#[test]
fn the_most_specific_section_is_first() {
    let one = fragment(
        "1.toml",
        "[unit.'*']\n[unit.'a*.service']\n[unit.'abc.service']\n[unit.'*c.service']\n[unit.'??c.service']\n\
         [unit.'a?c.service']\n[unit.'[a]bc.service']\n[unit.'abc.slice']\n[unit.'*.slice']\n[slice.'abc.slice']\n",
    );
    let two = fragment("2.toml", "[unit.'a*.service']\n[unit.'*']\n");
    let config = Config::merge([&one, &two]);
    assert_eq!(
        rules(&config, "abc.service"),
        [
            "[unit.\"abc.service\"]",
            "[unit.\"[a]bc.service\"]",
            "[unit.\"a?c.service\"]",
            "[unit.\"??c.service\"]",
            "[unit.\"a*.service\"]",
            "[unit.\"*c.service\"]",
            "[unit.\"*\"]",
        ]
    );
    assert_eq!(
        rules(&config, "abc.slice"),
        [
            "[slice.\"abc.slice\"]",
            "[unit.\"abc.slice\"]",
            "[unit.\"*.slice\"]"
        ]
    );
    assert_eq!(rules(&config, "x.scope"), ["[unit.\"*\"]"]);
}

#[test]
fn parameters_are_replaced_one_by_one() {
    let spec = |_: &str| {
        ["a", "b"]
            .map(|name| super::super::ParameterSpec {
                name: name.into(),
                kind: super::super::ParameterKind::Number,
            })
            .to_vec()
    };
    let parse = |name: &str, text: &str| {
        Fragment::parse(Path::new(name), text.as_bytes(), &["p"], &spec).unwrap()
    };
    let files = [
        parse("/x/2.toml", "[policy.p]\nb = 3\n"),
        parse("/x/1.toml", "[policy.p]\na = 1\nb = 2\n"),
    ];
    let config = Config::merge(&files);
    let values: Vec<(&str, u64)> = config
        .parameters("p")
        .unwrap()
        .iter()
        .map(|(name, (value, _))| (name.as_str(), *value))
        .collect();
    assert_eq!(values, [("a", 1), ("b", 3)]);
    assert_eq!(config.parameters("q"), None);
}

#[test]
fn among_two_hundred_files_each_of_a_thousand_units_finds_its_own() {
    let files: Vec<Fragment> = (0..200)
        .map(|n| {
            let text: String = (0..20)
                .map(|m| format!("[unit.'u{}.service']\nkill = 'process'\n", n * 20 + m))
                .chain([format!("[unit.'x{n}*']\nkill = 'cgroup'\n")])
                .collect();
            fragment(&format!("{n}.toml"), &text)
        })
        .collect();
    let config = Config::merge(&files);
    let found: usize = (0..1000)
        .map(|n| config.for_unit(&format!("u{n}.service")).len())
        .sum();
    assert_eq!(found, 1000);
}

const NAMES: [&str; 9] = [
    "*",
    "a*",
    "*.service",
    "a?.service",
    "[ab]b.service",
    "ab.service",
    "b.service",
    "*.slice",
    "a.slice",
];
const UNITS: [&str; 5] = ["ab.service", "b.service", "x.scope", "a.slice", "-.slice"];
const KILLS: [&str; 3] = ["process", "cgroup", ""];

/// One statement: the section it is in, and the value of `kill`.
type Said = (&'static str, &'static str);

/// What is said in a file about units, a slice and everything.
type File = (Vec<Said>, Option<&'static str>, Option<&'static str>);

/// Files by their names.
fn files() -> impl Strategy<Value = BTreeMap<String, File>> {
    let kill = || prop::sample::select(&KILLS[..]);
    let units = prop::collection::btree_map(prop::sample::select(&NAMES[..]), kill(), 0..5)
        .prop_map(|map| map.into_iter().collect::<Vec<Said>>())
        .prop_shuffle();
    let file = (units, prop::option::of(kill()), prop::option::of(kill()));
    prop::collection::btree_map("[a-c0-9]{1,2}\\.toml", file, 0..6)
}

proptest! {
    #[test]
    fn merging_is_what_the_slow_model_says(files in files(), seed in any::<u64>()) {
        let mut fragments: Vec<Fragment> = files
            .iter()
            .map(|(name, (units, slice, defaults))| {
                let mut text = String::new();
                for (section, kill) in units {
                    text += &format!("[unit.'{section}']\nkill = '{kill}'\n");
                }
                for (section, kill) in [("[slice.'a.slice']", slice), ("[defaults]", defaults)] {
                    if let Some(kill) = kill {
                        text += &format!("{section}\nkill = '{kill}'\n");
                    }
                }
                fragment(name, &text)
            })
            .collect();
        let config = Config::merge(&fragments);

        // In any order the same.
        fragments.reverse();
        let length = fragments.len().max(1);
        fragments.rotate_left(usize::try_from(seed % length as u64).unwrap());
        prop_assert_eq!(&Config::merge(&fragments), &config);

        for unit in UNITS {
            // The model: all statements in one list, a regular expression by hand, and one sort of the distinct sections.
            let said: Vec<(&String, Said)> = files
                .iter()
                .flat_map(|(name, (units, _, _))| units.iter().map(move |said| (name, *said)))
                .collect();
            let mut sections: Vec<(usize, &str)> = said.iter().map(|(_, (section, _))| *section).enumerate().collect();
            sections.retain(|(at, section)| !said[at + 1..].iter().any(|(_, (later, _))| later == section));
            sections.retain(|(_, section)| slow_match(section, unit));
            sections.sort_by(|(at, a), (bt, b)| {
                let rank = |section: &str| {
                    let plain = section.replace("[ab]", "").replace(['*', '?'], "").len();
                    (section == unit, plain, section.len())
                };
                rank(b).cmp(&rank(a)).then(bt.cmp(at))
            });
            let mut expected: Vec<(String, Vec<String>)> = Vec::new();
            let of_slice: Vec<String> = files
                .iter()
                .filter_map(|(name, (_, slice, _))| Some(format!("{name} {}", (*slice)?)))
                .collect();
            if unit == "a.slice" && !of_slice.is_empty() {
                expected.push(("[slice.\"a.slice\"]".to_owned(), of_slice));
            }
            for (_, section) in sections {
                let values = said
                    .iter()
                    .filter(|(_, (other, _))| *other == section)
                    .map(|(name, (_, kill))| format!("{name} {kill}"))
                    .collect();
                expected.push((format!("[unit.{section:?}]"), values));
            }
            let found: Vec<(String, Vec<String>)> = config
                .for_unit(unit)
                .into_iter()
                .map(|(rule, layer)| (rule.to_string(), history(layer, Key::Kill)))
                .collect();
            prop_assert_eq!(found, expected);
        }
        let defaults: Vec<String> = files
            .iter()
            .filter_map(|(name, (_, _, defaults))| Some(format!("{name} {}", (*defaults)?)))
            .collect();
        prop_assert_eq!(history(config.defaults(), Key::Kill), defaults);
    }
}

/// What the patterns of this test match, by cases.
fn slow_match(pattern: &str, unit: &str) -> bool {
    let is_slice = unit.ends_with(".slice");
    match pattern {
        "*" => !is_slice,
        "a*" => !is_slice && unit.starts_with('a'),
        "*.service" => unit.ends_with(".service"),
        "a?.service" => unit.len() == 10 && unit.starts_with('a') && unit.ends_with(".service"),
        "[ab]b.service" => unit == "ab.service" || unit == "bb.service",
        "*.slice" => is_slice,
        exact => exact == unit,
    }
}

#[test]
fn a_rule_has_its_place() {
    let config = Config::merge([&fragment(
        "1.toml",
        "[unit.'a.service']\nkill = 'process'\n",
    )]);
    let layers = config.for_unit("a.service");
    let Provenance { line, column, .. } = layers[0].1.decides(Key::Kill).unwrap().1.at;
    assert_eq!((line, column), (2, 8));
}
