// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file says, and what it is told about every kind of mistake.

use super::super::ParameterKind;
use super::*;
use crate::policy::{Assignment, Machine};
use proptest::prelude::*;
use std::time::Duration;

const PROGRAMS: [&str; 2] = ["biggest-leaf", "by-score"];
const PATH: &str = "/etc/bpf-oomd/conf.d/50-user.toml";

fn parameters(policy: &str) -> Vec<ParameterSpec> {
    let spec = |name: &str, kind| ParameterSpec {
        name: name.into(),
        kind,
    };
    match policy {
        "by-score" => vec![
            spec("spare", ParameterKind::Bytes),
            spec("age", ParameterKind::Time),
            spec("weight", ParameterKind::Number),
            spec("root-too", ParameterKind::Bool),
        ],
        _ => Vec::new(),
    }
}

fn parse(text: impl AsRef<[u8]>) -> Result<Fragment, Vec<Fault>> {
    Fragment::parse(Path::new(PATH), text.as_ref(), &PROGRAMS, &parameters)
}

/// Faults as `LINE:COLUMN: MESSAGE`.
fn faults(text: impl AsRef<[u8]>) -> Vec<String> {
    let prefix = format!("{PATH}:");
    let told = parse(text).err().unwrap_or_default();
    told.iter()
        .map(|fault| fault.to_string().strip_prefix(&prefix).unwrap().to_owned())
        .collect()
}

/// The only fault.
fn fault(text: impl AsRef<[u8]>) -> String {
    let [fault] = &faults(text)[..] else {
        panic!("not one fault")
    };
    fault.clone()
}

/// Settings as `KEY=VALUE@LINE:COLUMN`.
fn settings(section: &Section) -> Vec<String> {
    section
        .iter()
        .map(|(key, Assignment { value, at })| {
            let value = value.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{key}={value}@{}:{}", at.line, at.column)
        })
        .collect()
}

#[test]
fn everything_that_can_be_said() {
    let fragment = parse(
        r#"
[defaults]
enabled = true
policy = "kernel"
kill = "process"
cooldown = "20s"

[slice."user.slice"]
policy = "bpf:biggest-leaf"

[slice."user.slice".pressure]
stall = "40%"
applies-to = "each-unit"

[slice."-.slice"]
enabled = false

[unit."z*.service"]
preference = 'avoid'

[unit."sshd.service"]
preference = "omit"
pressure = { resource = "io", level = "some", stall = "400ms", window = "2s" }

[policy."by-score"]
spare = "64M"
age = "1min 30s"
weight = 0x10
root-too = true
"#,
    )
    .unwrap();
    assert_eq!(fragment.path, Path::new(PATH));
    assert_eq!(
        settings(&fragment.defaults),
        [
            "enabled=true@3:11",
            "policy=kernel@4:10",
            "kill=process@5:8",
            "cooldown=20s@6:12"
        ]
    );
    assert_eq!(
        settings(&fragment.slices["user.slice"]),
        [
            "policy=bpf:biggest-leaf@9:10",
            "pressure=memory full 400ms/1s@11:21"
        ]
    );
    assert_eq!(
        settings(&fragment.slices["-.slice"]),
        ["enabled=false@16:11"]
    );
    let units: Vec<(&str, Vec<String>)> = fragment
        .units
        .iter()
        .map(|(pattern, section)| (pattern.as_str(), settings(section)))
        .collect();
    assert_eq!(
        units,
        [
            ("z*.service", vec!["preference=avoid@19:14".to_owned()]),
            (
                "sshd.service",
                vec![
                    "preference=omit@22:14".to_owned(),
                    "pressure=io some 400ms/2s@23:12".to_owned()
                ]
            ),
        ]
    );
    let values: Vec<(&str, u64)> = fragment.policies["by-score"]
        .iter()
        .map(|(name, (value, _))| (name.as_str(), *value))
        .collect();
    assert_eq!(
        values,
        [
            ("age", 90_000_000),
            ("root-too", 1),
            ("spare", 64 << 20),
            ("weight", 16)
        ]
    );
    let (_, at) = &fragment.policies["by-score"]["spare"];
    assert_eq!(at.to_string(), format!("{PATH}:26:9"));
}

#[test]
fn an_empty_string_takes_back_any_setting() {
    let text = "[slice.'a.slice']\nenabled=''\npolicy=''\nkill=''\npreference=''\ncooldown=''\npressure=''\nwarn=''\n";
    let fragment = parse(text).unwrap();
    let section = &fragment.slices["a.slice"];
    assert_eq!(section.len(), Key::ALL.len());
    assert!(
        section
            .values()
            .all(|assignment| assignment.value.is_none())
    );
}

#[test]
fn nothing_is_said_by_nothing() {
    for text in [
        "",
        "\n# nothing\n",
        "\u{feff}",
        "[defaults]\n[slice]\n[unit]\n",
    ] {
        let fragment = parse(text).unwrap();
        let nothing = Fragment {
            path: PATH.into(),
            ..Fragment::default()
        };
        assert_eq!(fragment, nothing, "{text:?}");
    }
}

#[test]
fn a_byte_order_mark_has_no_column_and_a_second_one_is_a_fault() {
    assert_eq!(
        faults("\u{feff}\u{feff}enabled = true\n"),
        ["1:1: found \"\\u{feff}\", invalid unquoted key, expected letters, numbers, `-`, `_`"]
    );
    assert_eq!(
        fault("\u{feff}kill='process'"),
        "1:1: \"kill\" is in no section, expected it in [defaults], [slice.\"NAME\"] or [unit.\"NAME\"]"
    );
}

#[test]
fn what_is_not_utf_8_is_told_with_its_place() {
    assert_eq!(
        fault(b"# \xc3\xa4\n# \xc3\xa4\xff\n[x]\n"),
        "2:4: found the byte 0xff, expected text in UTF-8"
    );
}

#[test]
fn what_is_no_toml_is_told_and_the_rest_is_read() {
    assert_eq!(
        faults(
            "[defaults]\nkill = process\nkill\ncooldown = \"10s\npolicy =\n[slice.\"a.slice\"\nx y = 1\nkill = 7\n[defaults.\"x\"]\n"
        ),
        [
            "2:8: found \"process\", string values must be quoted, expected literal string",
            "3:5: key with no value, expected `=`",
            "4:16: invalid basic string, expected `\"`",
            "5:9: string values must be quoted, expected literal string",
            "6:17: unclosed table, expected `]`",
            "7:3: key with no value, expected `=`",
            "9:11: unknown setting \"x\", expected one of: enabled, policy, kill, cooldown, warn, engine, min-available, min-swap, nominate, pre-kill, pre-kill-timeout",
        ]
    );
    assert_eq!(
        faults("[defaults]\nkill = 'process'\nkill = 'cgroup'\n[defaults]\n"),
        [
            "3:1: found \"kill\", duplicate key",
            "4:2: found \"defaults\", duplicate key"
        ]
    );
}

#[test]
fn an_unknown_section_gets_a_suggestion() {
    assert_eq!(
        fault("[defualts]\nkill = 'process'\n"),
        "1:2: unknown section \"defualts\", expected one of: defaults, slice, unit, policy; did you mean \"defaults\"?"
    );
}

#[test]
fn an_unknown_setting_gets_a_suggestion() {
    assert_eq!(
        fault("[unit.\"a.service\"]\n  polcy = 'kernel'\n"),
        "2:3: unknown setting \"polcy\", expected one of: enabled, policy, kill, preference, cooldown, warn, pressure; did you \
         mean \"policy\"?"
    );
    assert_eq!(
        fault("[defaults]\ncoldown = '1s'\n"),
        "2:1: unknown setting \"coldown\", expected one of: enabled, policy, kill, cooldown, warn, engine, min-available, min-swap, nominate, pre-kill, pre-kill-timeout; did you mean \"cooldown\"?"
    );
}

#[test]
fn what_is_said_about_the_machine_is_for_defaults_only() {
    let fragment = parse(
        "[defaults]\nengine = 'kernel'\nkill = 'process'\nmin-available = '5%'\nmin-swap = ''\n",
    )
    .unwrap();
    assert_eq!(settings(&fragment.defaults), ["kill=process@3:8"]);
    let said = fragment
        .machine
        .iter()
        .map(|(key, (value, at))| format!("{} {value:?} {}:{}", key.name(), at.line, at.column));
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            "engine Some(Engine(Kernel)) 2:10",
            "min-available Some(MinAvailable(Hundredths(500))) 4:17",
            "min-swap None 5:12",
        ]
    );
    assert_eq!(
        faults(
            "engine = 'auto'\n[defaults]\nengine = true\nmin-swap = '-1'\nmin-available = 7\n[unit.'a.service']\nengine = 'auto'\n"
        ),
        [
            "1:1: \"engine\" is in no section, expected it in [defaults]",
            "3:10: found a boolean, expected a string such as \"auto\"",
            "4:12: found \"-1\", expected a size such as \"4096\", \"64M\" or \"1.5G\" (base 1024)",
            "5:17: found an integer, expected a string such as \"64M\" or \"5%\"",
            "7:1: \"engine\" is for [defaults] only",
        ]
    );
}

#[test]
fn what_is_not_for_everything_is_refused_in_defaults() {
    assert_eq!(
        faults("[defaults]\npreference = 'omit'\npressure.stall = '1s'\n"),
        [
            "2:1: \"preference\" is not for [defaults], expected one of: enabled, policy, kill, cooldown, warn, engine, min-available, min-swap, nominate, pre-kill, pre-kill-timeout",
            "3:1: \"pressure\" is not for [defaults], expected one of: enabled, policy, kill, cooldown, warn, engine, min-available, min-swap, nominate, pre-kill, pre-kill-timeout",
        ]
    );
}

#[test]
fn a_value_of_another_type_is_told_with_an_example() {
    assert_eq!(
        faults(
            "[slice.'a.slice']\nenabled = 'yes'\npolicy = 1\nkill = true\npreference = ['omit']\ncooldown = 1.5\npressure = \
             '1s'\n[unit.'a.service']\npolicy = 2026-01-01\nkill = {}\npressure = 1\n"
        ),
        [
            "2:11: found a string, expected true or false",
            "3:10: found an integer, expected a string such as \"kernel\"",
            "4:8: found a boolean, expected a string such as \"process\"",
            "5:14: found an array, expected a string such as \"avoid\"",
            "6:12: found a float, expected a string such as \"10s\"",
            "7:12: found \"1s\", expected \"none\" or \"RESOURCE LEVEL STALL/WINDOW\", such as \"memory full 400ms/1s\"",
            "9:10: found a date or time, expected a string such as \"kernel\"",
            "10:8: found a table, expected a string such as \"process\"",
            "11:12: found an integer, expected a table such as { stall = \"400ms\" }, or \"none\"",
        ]
    );
    assert_eq!(
        faults("defaults = 1\nslice = 'x'\npolicy = 'kernel'\n[unit]\npolicy = 1\n"),
        [
            "1:12: found an integer, expected a table such as [defaults]",
            "2:9: found a string, expected a table such as [slice.\"user.slice\"]",
            "3:10: found a string, expected a table such as [policy.\"NAME\"]",
            "5:10: found an integer, expected a table such as [unit.\"sshd.service\"]",
        ]
    );
    assert_eq!(
        fault("[[unit]]\nkill = 'process'\n"),
        "1:3: found an array, expected a table such as [unit.\"sshd.service\"]"
    );
}

#[test]
fn a_value_that_is_none_is_told_as_everywhere() {
    assert_eq!(
        faults(
            "[defaults]\npolicy = \"bpf:bigest-leaf\"\nkill = \"proces\"\ncooldown = \"2h\"\n[unit.'*']\npreference = 'never'\n"
        ),
        [
            "2:10: unknown policy \"bpf:bigest-leaf\", expected one of: kernel, bpf:biggest-leaf, bpf:by-score; did you mean \
             \"bpf:biggest-leaf\"?",
            "3:8: unknown value \"proces\", expected one of: cgroup, process; did you mean \"process\"?",
            "4:12: found \"2h\", expected a time span from 0 to 1h",
            "6:14: unknown value \"never\", expected one of: none, avoid, omit",
        ]
    );
}

#[test]
fn all_parts_of_a_pressure_are_looked_at() {
    assert_eq!(
        faults(
            "[slice.'a.slice'.pressure]\nresource = 'memry'\nlevel = 1\nstall = '20s'\nwindow = '1min'\napplies-to = 'unit'\nstal = \
             '1s'\n"
        ),
        [
            "2:12: unknown value \"memry\", expected one of: memory, io, cpu; did you mean \"memory\"?",
            "3:9: found an integer, expected a string such as \"full\"",
            "5:10: found \"1min\", expected a window from 500ms to 10s",
            "6:14: unknown value \"unit\", expected one of: slice, each-unit",
            "7:1: unknown part of pressure \"stal\", expected one of: resource, level, stall, window, for, min-usage, action, applies-to; did you \
             mean \"stall\"?",
        ]
    );
    assert_eq!(
        fault("[slice.'a.slice']\npressure = { stall = '2s' }\n"),
        "2:22: found \"2s\", expected a stall from 1us to the window (1s), or a percentage of it"
    );
}

#[test]
fn a_pressure_without_a_stall_is_told_where_it_is() {
    let message = "there is no \"stall\", expected for example stall = \"400ms\"";
    assert_eq!(
        faults("[slice.'a.slice'.pressure]\n[slice.'b.slice']\npressure = { level = 'some' }\n"),
        [format!("1:18: {message}"), format!("3:12: {message}")]
    );
}

#[test]
fn whose_pressure_it_is_can_be_said_of_slices_only() {
    assert_eq!(
        fault("[unit.'a.service'.pressure]\nstall = '1s'\napplies-to = 'each-unit'\n"),
        "3:1: \"applies-to\" is for slices only"
    );
    for slices in ["slice.'a.slice'", "unit.'a.slice'", "unit.'user-*.slice'"] {
        let text = format!("[{slices}.pressure]\nstall = '1s'\napplies-to = 'each-unit'\n");
        assert!(parse(text).is_ok(), "{slices}");
    }
}

#[test]
fn programs_before_a_kill_are_an_array_of_paths() {
    let text = "[defaults]\nnominate = true\npre-kill = ['/usr/local/sbin/a', '/b c']\npre-kill-timeout = '1s'\n";
    let fragment = parse(text).unwrap();
    let mut machine = Machine::default();
    machine.extend(&fragment.machine);
    assert!(machine.nominate);
    let programs: Vec<_> = machine.pre_kill.iter().map(|it| it.to_str()).collect();
    assert_eq!(programs, [Some("/usr/local/sbin/a"), Some("/b c")]);
    assert_eq!(machine.pre_kill_timeout, Duration::from_secs(1));
    // An empty string takes back what earlier files say.
    machine.extend(&parse("[defaults]\npre-kill = ''\n").unwrap().machine);
    assert_eq!(machine.pre_kill.len(), 0);
    assert_eq!(
        faults(
            "[defaults]\npre-kill = ['/a',\n  'b', 7, '/c/../d']\nnominate = 'yes'\npre-kill-timeout = '2min'\n[unit.'a.service']\npre-kill = ['/a']\n"
        ),
        [
            "3:3: found \"b\", expected the absolute path of a program, without \"..\"",
            "3:8: expected the path of a program as a string",
            "3:11: found \"/c/../d\", expected the absolute path of a program, without \"..\"",
            "4:12: found a string, expected true or false",
            "5:20: found \"2min\", expected a time span from 0 to 1min",
            "7:1: \"pre-kill\" is for [defaults] only",
        ]
    );
    let many = "'/a', ".repeat(9);
    assert_eq!(
        fault(format!("[defaults]\npre-kill = [{many}]\n")),
        "2:61: expected no more than 8 programs"
    );
}

#[test]
fn a_name_of_no_unit_is_told() {
    assert_eq!(
        faults(
            "[unit.sshd]\n[unit.\"a[\"]\n[unit.'x.timer']\n[slice.user]\n[slice.\"user-*.slice\"]\n"
        ),
        [
            "1:7: \"sshd\" is no unit, expected a name that ends in .service, .slice, .scope, .socket, .mount or .swap, or a \
             pattern with *; did you mean \"sshd.service\"?",
            "2:7: \"a[\" is no pattern: invalid range pattern, expected the wildcards *, ?, [a-z] and [!a]",
            "3:7: \"x.timer\" has no cgroup, expected a name that ends in .service, .slice, .scope, .socket, .mount or .swap",
            "4:8: \"user\" is no slice, expected a name such as \"user.slice\"; did you mean \"user.slice\"?",
            "5:8: \"user-*.slice\" is a pattern, expected the name of a slice such as \"user.slice\"; patterns are for \
             [unit.\"user-*.slice\"]",
        ]
    );
}

#[test]
fn a_name_without_quotes_is_told_and_what_is_below_is_read() {
    assert_eq!(
        faults("[unit.sshd.service]\nkil = 'process'\n[slice.user.slice.pressure]\nstall = '1s'\n"),
        [
            "1:7: the name is not in quotes, expected [unit.\"sshd.service\"]",
            "2:1: unknown setting \"kil\", expected one of: enabled, policy, kill, preference, cooldown, warn, pressure; did you mean \
             \"kill\"?",
            "3:8: the name is not in quotes, expected [slice.\"user.slice\"]",
        ]
    );
}

#[test]
fn an_unknown_policy_program_gets_a_suggestion() {
    assert_eq!(
        faults("[policy.by-scor]\nweight = 1\n[policy.\"bpf:by-score\"]\n"),
        [
            "1:9: unknown policy program \"by-scor\", expected one of: biggest-leaf, by-score; did you mean \"by-score\"?",
            "3:9: unknown policy program \"bpf:by-score\", did you mean \"by-score\"?",
        ]
    );
}

#[test]
fn a_wrong_parameter_is_told() {
    assert_eq!(
        faults(
            "[policy.by-score]\nwieght = 1\nweight = -1\nspare = '1k'\nage = 10\nroot-too = 'yes'\n"
        ),
        [
            "2:1: unknown parameter of by-score \"wieght\", expected one of: spare, age, weight, root-too; did you mean \
             \"weight\"?",
            "3:10: found -1, expected 0 to 18446744073709551615",
            "4:9: found \"1k\", expected a size such as \"4096\", \"64M\" or \"1.5G\" (base 1024)",
            "5:7: found an integer, expected a string such as \"10s\"",
            "6:12: found a string, expected true or false",
        ]
    );
    assert_eq!(
        faults("[policy.by-score]\nweight = 1.5\nspare = 64\nage = 'x'\n"),
        [
            "2:10: found a float, expected an integer such as 100",
            "3:9: found an integer, expected a string such as \"64M\"",
            "4:7: found \"x\", expected a time span such as \"400ms\", \"10s\" or \"1min 30s\"",
        ]
    );
    assert_eq!(
        fault("[policy.biggest-leaf]\nx = 1\n"),
        "2:1: unknown parameter of biggest-leaf \"x\", there are none here"
    );
}

#[test]
fn endless_things_are_cut_in_messages() {
    let long = "x".repeat(1 << 18);
    for text in [
        format!("[{long}]\n"),
        format!("[defaults]\n{long} = 1\nkill = {long}\npolicy = '{long}'\n"),
        format!("[unit.{long}]\n[slice.{long}]\n[policy.{long}]\n"),
        format!("[policy.by-score]\nweight = {}\n", "9".repeat(1 << 18)),
    ] {
        for fault in faults(text) {
            assert!(fault.len() < 400, "{}", fault.len());
        }
    }
}

#[test]
fn a_line_full_of_faults_does_not_take_long() {
    let many: String = (0..20_000).map(|n| format!("a{n}={{}},")).collect();
    let start = std::time::Instant::now();
    let faults = faults(format!("unit={{{many}}}"));
    let last = faults.last().unwrap();
    assert!(last.ends_with(": and 19980 more from here on"), "{last}");
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn of_many_faults_the_first_are_told_in_the_order_of_the_file() {
    // Lines that are no TOML are found before everything else.
    let told = faults(format!("[defaults]\nkil = 1\n{}", "x\n".repeat(50)));
    assert_eq!(told.len(), 21);
    assert!(told[0].starts_with("2:1: unknown setting"), "{}", told[0]);
    assert!(told[19].starts_with("21:2: "), "{}", told[19]);
    assert_eq!(told[20], "22:2: and 31 more from here on");
}

/// Whether a place is one in a text: on one of its lines, and in it or right behind it.
fn is_inside(text: &str, fault: &Fault) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(at) = fault.position else {
        return false;
    };
    let line = text.split('\n').nth(at.line as usize - 1);
    line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&(at.column as usize)))
}

fn pieces() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "[",
        "]",
        "[defaults]\n",
        "[slice.\"a.slice\"]\n",
        "[unit.\"*\"]",
        "[policy.by-score]",
        "\n",
        "=",
        ".",
        "\"",
        "'",
        "'''",
        "{",
        "}",
        ",",
        " ",
        "\r\n",
        "#",
        "kill",
        "policy",
        "pressure",
        "stall",
        "enabled",
        "weight",
        "true",
        "\"10s\"",
        "'process'",
        "12",
        "-1",
        "1.5",
        "ä",
        "\u{feff}",
        "\\",
        "\0",
        "[[unit]]",
        "unit",
        "slice",
        "defaults",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_with_places(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(faults) = parse(&bytes) {
            prop_assert!(!faults.is_empty());
            let text = String::from_utf8_lossy(&bytes);
            for fault in faults {
                prop_assert!(is_inside(&text, &fault), "{}", fault);
            }
        }
    }

    // Text that hits the syntax more often than random bytes do.
    #[test]
    fn any_text_is_read_or_refused_with_places(pieces in prop::collection::vec(pieces(), 0..40)) {
        let text = pieces.concat();
        if let Err(faults) = parse(&text) {
            prop_assert!(!faults.is_empty());
            prop_assert!(faults.is_sorted_by_key(|fault| fault.position));
            for fault in faults {
                prop_assert!(is_inside(&text, &fault), "{}", fault);
            }
        }
    }
}

#[test]
fn what_is_nested_without_end_is_refused() {
    const SIZE: usize = 1 << 20;
    for (piece, end) in [
        ("a.", "a=1"),
        ("[", "a]"),
        ("a={", "}"),
        ("a=[", "]"),
        ("'''", "'"),
    ] {
        let text = piece.repeat(SIZE / piece.len());
        assert!(!faults(format!("{text}{end}\n")).is_empty(), "{piece}");
        assert!(!faults(format!("[{text}a]\n")).is_empty(), "{piece}");
    }
}

#[test]
fn a_key_of_too_many_parts_is_a_fault_of_the_file() {
    let parts = |count: usize| format!("[defaults]\n{} = 1\n", vec!["kill"; count].join("."));
    assert_eq!(
        faults(parts(80)),
        ["2:1: found a table, expected a string such as \"process\""]
    );
    assert_eq!(faults(parts(81)), [" a key has more than 80 parts"]);
}

#[test]
fn a_file_full_of_faults_does_not_take_long() {
    const SIZE: usize = 1 << 16;
    for piece in [
        "[[unit]]\n",
        "kill\n",
        "= 1\n",
        "x y = 1\n",
        "[unit.'*']\n",
        "[x]\nkill\n",
        "a.b.c=1\n",
        "[a.b]\n",
        "a=1 b=2 ",
    ] {
        let start = std::time::Instant::now();
        assert!(!faults(piece.repeat(SIZE / piece.len())).is_empty());
        assert!(
            start.elapsed().as_secs() < 20,
            "{piece:?} {:?}",
            start.elapsed()
        );
    }
}
