// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values, names and patterns: each line of an input is all of them. The first line is also a pattern for the others.
#![no_main]

use bpf_oomd::config::UnitPattern;
use bpf_oomd::policy::{Key, MachineKey, MachineValue, Part, Pressure, Value, closest};
use bpf_oomd::systemd::unit_name::{
    OBJECT_PREFIX, ROOT_SLICE, of_cgroup, of_object_path, parent_slice, section,
};
use bpf_oomd::systemd::value::{TimeSpan, parse_percent, parse_size, parse_time};
use bpf_oomd_fuzz::{PROGRAMS, check_message};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|input: &str| {
    let lines: Vec<&str> = input.split('\n').take(8).collect();
    for line in &lines {
        check_time(line);
        check_size(line);
        check_percent(line);
        check_values(line);
        check_unit_name(line);
        check_object_path(line);
        check_cgroup(line);
        check_suggestion(line);
    }
    check_pressure(&lines);
    check_pattern(lines[0], &lines);
});

fn check_time(text: &str) {
    let read = parse_time(text);
    if let Ok(Some(time)) = read {
        assert_eq!(parse_time(&TimeSpan(time).to_string()), read, "{time:?}");
        assert_eq!(parse_time(&format!("\t {text} ")), read, "with spaces");
    }
    if let Some(micros) = simple(text, &TIME_UNITS) {
        let time = u64::try_from(micros).ok().map(Duration::from_micros);
        assert_eq!(read.ok(), time.map(Some), "{text:?}");
    }
}

fn check_size(text: &str) {
    let read = parse_size(text);
    if let Ok(Some(bytes)) = read {
        for again in [
            format!("{bytes}"),
            format!("{bytes}B"),
            format!("\t {text} "),
        ] {
            assert_eq!(parse_size(&again), read, "{again:?}");
        }
    }
    if let Some(bytes) = simple(text, &SIZE_UNITS) {
        let bytes = u64::try_from(bytes).ok();
        assert_eq!(read.ok(), bytes.map(Some), "{text:?}");
    }
}

fn check_percent(text: &str) {
    if let Ok(hundredths) = parse_percent(text) {
        assert!(hundredths <= 10_000, "{hundredths}");
        let again = format!("{}.{:02}%", hundredths / 100, hundredths % 100);
        assert_eq!(parse_percent(&again), Ok(hundredths), "{again}");
    }
}

const TIME_UNITS: [(&[&str], u128); 9] = [
    (&["us", "usec", "\u{b5}s", "\u{3bc}s"], 1),
    (&["ms", "msec"], 1_000),
    (&["", "s", "sec", "second", "seconds"], 1_000_000),
    (&["m", "min", "minute", "minutes"], 60_000_000),
    (&["h", "hr", "hour", "hours"], 3_600_000_000),
    (&["d", "day", "days"], 86_400_000_000),
    (&["w", "week", "weeks"], 604_800_000_000),
    (&["M", "month", "months"], 2_629_800_000_000),
    (&["y", "year", "years"], 31_557_600_000_000),
];

const SIZE_UNITS: [(&[&str], u128); 7] = [
    (&["", "B"], 1),
    (&["K"], 1 << 10),
    (&["M"], 1 << 20),
    (&["G"], 1 << 30),
    (&["T"], 1 << 40),
    (&["P"], 1 << 50),
    (&["E"], 1 << 60),
];

/// What one number with one unit is, rounded down. None if it is anything else, or has more digits than can be counted here.
fn simple(text: &str, units: &[(&[&str], u128)]) -> Option<u128> {
    let is_of_name = |c: char| !c.is_ascii_digit() && c != '.';
    let (number, name) = text.split_at(text.find(is_of_name).unwrap_or(text.len()));
    let (_, unit) = units.iter().find(|(names, _)| names.contains(&name))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.len() > 16 || number == "." || fraction.contains('.') || number.is_empty() {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    // 16 digits and 2^60 are less than 2^128.
    Some(digits * unit / scale)
}

fn check_values(text: &str) {
    for key in Key::ALL {
        match Value::parse(key, text, &PROGRAMS) {
            Ok(value) => {
                assert_eq!(value.key(), key);
                let written = value.to_string();
                assert_eq!(
                    Value::parse(key, &written, &PROGRAMS),
                    Ok(value),
                    "{written:?}"
                );
            }
            Err(error) => check_message(&error.to_string()),
        }
    }
    for key in MachineKey::ALL {
        match MachineValue::parse(key, text) {
            Ok(value) => {
                let written = value.to_string();
                assert_eq!(MachineValue::parse(key, &written), Ok(value), "{written:?}");
            }
            Err(error) => check_message(&error.to_string()),
        }
    }
}

/// A pressure setting whose parts are lines.
fn check_pressure(lines: &[&str]) {
    match Pressure::from_parts(|which| part(lines, which)) {
        Ok(pressure) => {
            let window = Duration::from_millis(500)..=Duration::from_secs(10);
            assert!(window.contains(&pressure.trigger.window), "{pressure:?}");
            let stall = Duration::from_micros(1)..=pressure.trigger.window;
            assert!(stall.contains(&pressure.trigger.stall), "{pressure:?}");
            let again = Pressure::parse(&pressure.to_string()).map(|again| Pressure {
                applies_to: pressure.applies_to,
                ..again
            });
            assert_eq!(again, Ok(pressure));
        }
        Err((part, error)) => {
            check_message(&error.to_string());
            assert!(
                part.is_some() || self::part(lines, Part::Stall).is_none(),
                "{error}"
            );
        }
    }
}

fn part<'a>(lines: &[&'a str], which: Part) -> Option<&'a str> {
    let number = Part::ALL.into_iter().position(|part| part == which)?;
    lines.get(number).copied().filter(|text| !text.is_empty())
}

fn check_unit_name(name: &str) {
    let mut slice = name.to_owned();
    // Each step up is shorter, until the root is reached or there is no slice.
    while let Some(parent) = parent_slice(&slice) {
        assert!(
            parent.len() < slice.len() || parent == ROOT_SLICE,
            "{slice:?}"
        );
        slice = parent;
    }
    assert!(
        slice == ROOT_SLICE || !slice.ends_with(".slice"),
        "{name:?}"
    );
}

/// systemd's `bus_label_escape()`.
fn escaped(name: &str) -> String {
    let mut label = String::new();
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit());
        match plain {
            true => label.push(char::from(byte)),
            false => label.push_str(&format!("_{byte:02x}")),
        }
    }
    label
}

fn check_object_path(name: &str) {
    let _ = of_object_path(name);
    let _ = of_object_path(&format!("{OBJECT_PREFIX}{name}"));
    let path = format!("{OBJECT_PREFIX}{}", escaped(name));
    assert_eq!(of_object_path(&path).as_deref(), Some(name));
}

fn check_cgroup(path: &str) {
    let found = of_cgroup(path);
    for unit in [Some(&found.unit), found.user_unit.as_ref()]
        .into_iter()
        .flatten()
    {
        assert!(section(unit).is_some(), "{unit:?} in {path:?}");
    }
    assert!(found.user_unit.is_none() || found.unit.starts_with("user@"));
    if !found.unit.ends_with(".slice")
        && found.user_unit.is_none()
        && !found.unit.starts_with("user@")
    {
        // What is below a unit belongs to it.
        assert_eq!(
            of_cgroup(&format!("{path}/a.slice/b.service")),
            found,
            "{path:?}"
        );
    }
}

fn check_suggestion(typed: &str) {
    const WORDS: [&str; 4] = ["kernel", "bpf:biggest-leaf", "cgroup", "process"];
    if let Some(found) = closest(typed, WORDS) {
        assert!(WORDS.contains(&found));
        let lengths = [typed.chars().count(), found.len()];
        assert!(lengths[0].abs_diff(lengths[1]) <= lengths[0].max(lengths[1]) / 3);
    }
    for word in WORDS {
        assert_eq!(closest(&word.to_uppercase(), WORDS), Some(word));
    }
}

fn check_pattern(text: &str, names: &[&str]) {
    let pattern = match UnitPattern::new(text) {
        Ok(pattern) => pattern,
        Err(error) => return check_message(&error.to_string()),
    };
    assert_eq!(pattern.as_str(), text);
    assert_eq!(pattern.to_string(), text);
    assert_eq!(UnitPattern::new(text).as_ref(), Ok(&pattern));
    let tokens = tokens(text);
    let literals = tokens
        .iter()
        .filter(|token| matches!(token, Token::Literal(_)));
    assert_eq!(pattern.literals(), literals.count(), "{text:?}");
    assert!(!pattern.is_exact() || pattern.matches(text));
    for name in names.iter().filter(|name| name.len() <= 255) {
        let name_of_slice = name.ends_with(".slice");
        let expected = (!name_of_slice || text.ends_with(".slice")) && matches(&tokens, name);
        assert_eq!(pattern.matches(name), expected, "{text:?} {name:?}");
    }
}

enum Token {
    Any,
    One,
    Class(bool, Vec<(char, char)>),
    Literal(char),
}

/// What a pattern that is none of the refused consists of.
fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest: Vec<char> = pattern.chars().rev().collect();
    while let Some(character) = rest.pop() {
        tokens.push(match character {
            '*' => Token::Any,
            '?' => Token::One,
            '[' => {
                let negated = rest.last() == Some(&'!');
                if negated {
                    rest.pop();
                }
                let mut members = Vec::new();
                while let Some(member) = rest.pop() {
                    if member == ']' && !members.is_empty() {
                        break;
                    }
                    members.push(member);
                }
                let mut ranges = Vec::new();
                let mut members = &members[..];
                while let [first, after @ ..] = members {
                    match after {
                        ['-', last, after @ ..] => {
                            ranges.push((*first, *last));
                            members = after;
                        }
                        _ => {
                            ranges.push((*first, *first));
                            members = after;
                        }
                    }
                }
                Token::Class(negated, ranges)
            }
            _ => Token::Literal(character),
        });
    }
    tokens
}

/// Whether a name is one of a pattern: for each beginning of the pattern, which beginnings of the name are.
fn matches(tokens: &[Token], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match token {
                Token::Any => reached[at] || (at > 0 && next[at - 1]),
                _ if at == 0 => false,
                token => reached[at - 1] && is_one_of(token, name[at - 1]),
            };
        }
        reached = next;
    }
    reached[name.len()]
}

fn is_one_of(token: &Token, character: char) -> bool {
    match token {
        Token::Any | Token::One => true,
        Token::Literal(literal) => *literal == character,
        Token::Class(negated, ranges) => {
            let found = ranges
                .iter()
                .any(|(first, last)| (first..=last).contains(&&character));
            found != *negated
        }
    }
}
