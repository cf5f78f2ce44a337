// SPDX-License-Identifier: MIT OR Apache-2.0
//! TOML drop-ins: read, told what is wrong, written, read again, and put together.
#![no_main]

use bpf_oomd::config::fragment::Fragment;
use bpf_oomd::config::{Config, ParameterKind, ParameterSpec, Parameters};
use bpf_oomd::fault::Fault;
use bpf_oomd::policy::{Assignment, Key, MachineValue, Part, Pressure, Provenance, Section, Value};
use bpf_oomd_fuzz::{PROGRAMS, check_faults, files, one_line_down, paths, with_a_line_before};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

fuzz_target!(|input: &[u8]| {
    let files = files(input);
    let paths = paths(files.len(), "/etc/bpf-oomd/conf.d", ".toml");
    let mut fragments = Vec::new();
    for (path, content) in paths.iter().zip(files) {
        let read = parse(path, content);
        assert_eq!(read, parse(path, content), "read twice");
        let lower = parse(path, &with_a_line_before(content, b'\n'));
        match read {
            Ok(mut fragment) => {
                check_places(content, &fragment);
                check_written(&fragment);
                let longer = [content, b"\n# a comment"].concat();
                assert_eq!(
                    parse(path, &longer).as_ref(),
                    Ok(&fragment),
                    "a line behind"
                );
                fragments.push(fragment.clone());
                sections(&mut fragment, |section| {
                    section.values_mut().for_each(|it| it.at.line += 1);
                });
                parameters_of(&mut fragment, |(_, at)| at.line += 1);
                machine_of(&mut fragment, |at| at.line += 1);
                assert_eq!(lower, Ok(fragment), "a line before");
            }
            Err(faults) => {
                assert!(!faults.is_empty(), "refused without a fault");
                check_faults(path, &lines(content), &faults);
                assert_eq!(lower, Err(one_line_down(faults)), "a line before");
            }
        }
    }
    check_merged(&fragments);
});

const PARAMETERS: [(&str, ParameterKind); 4] = [
    ("spare", ParameterKind::Bytes),
    ("age", ParameterKind::Time),
    ("weight", ParameterKind::Number),
    ("root-too", ParameterKind::Bool),
];

fn parameters(policy: &str) -> Vec<ParameterSpec> {
    let all = PARAMETERS.into_iter().map(|(name, kind)| ParameterSpec {
        name: name.to_owned(),
        kind,
    });
    all.filter(|_| policy == "by-score").collect()
}

fn parse(path: &Path, content: &[u8]) -> Result<Fragment, Vec<Fault>> {
    Fragment::parse(path, content, &PROGRAMS, &parameters)
}

/// How long the lines of TOML are.
fn lines(content: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(content);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    text.split('\n').map(|line| line.chars().count()).collect()
}

fn sections(fragment: &mut Fragment, mut visit: impl FnMut(&mut Section)) {
    visit(&mut fragment.defaults);
    fragment.slices.values_mut().for_each(&mut visit);
    fragment
        .units
        .iter_mut()
        .for_each(|(_, section)| visit(section));
}

fn parameters_of(fragment: &mut Fragment, visit: impl FnMut(&mut (u64, Provenance))) {
    fragment
        .policies
        .values_mut()
        .flat_map(Parameters::values_mut)
        .for_each(visit);
}

fn machine_of(fragment: &mut Fragment, mut visit: impl FnMut(&mut Provenance)) {
    let said = fragment.machine.values_mut();
    said.for_each(|(_, at)| visit(at));
}

/// What is said has a place in the file, and there stands what TOML begins such a value with, or the name of a table.
fn check_places(content: &[u8], fragment: &Fragment) {
    let text = std::str::from_utf8(content).expect("a fragment of no text");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut places = Vec::new();
    let mut fragment = fragment.clone();
    sections(&mut fragment, |section| {
        places.extend(section.values().map(|assignment| assignment.at.clone()));
    });
    parameters_of(&mut fragment, |(_, at)| places.push(at.clone()));
    machine_of(&mut fragment, |at| places.push(at.clone()));
    for at in places {
        assert_eq!(at.file, fragment.path);
        let line = text.split('\n').nth(at.line as usize - 1);
        let line = line.unwrap_or_else(|| panic!("outside the file: {at}"));
        let value: String = line.chars().skip(at.column as usize - 1).collect();
        assert!(
            value.starts_with(
                |first: char| "\"'{[-+_".contains(first) || first.is_ascii_alphanumeric()
            ),
            "no value at {at}: {value:?}"
        );
    }
}

/// A fragment that is written in another way and read again says the same.
fn check_written(fragment: &Fragment) {
    let text = written(fragment);
    let mut again = match parse(&fragment.path, text.as_bytes()) {
        Ok(again) => again,
        Err(faults) => panic!("{faults:?} in\n{text}"),
    };
    let mut fragment = fragment.clone();
    for fragment in [&mut fragment, &mut again] {
        sections(fragment, |section| {
            for assignment in section.values_mut() {
                (assignment.at.line, assignment.at.column) = (0, 0);
            }
        });
        parameters_of(fragment, |(_, at)| (at.line, at.column) = (0, 0));
        machine_of(fragment, |at| (at.line, at.column) = (0, 0));
    }
    assert_eq!(fragment, again, "written as\n{text}");
}

fn written(fragment: &Fragment) -> String {
    let mut text = String::from("[defaults]\n");
    write_section(&mut text, &fragment.defaults, false);
    for (key, (value, _)) in &fragment.machine {
        let value = value.as_ref().map_or("''".to_owned(), of_the_machine);
        let _ = writeln!(text, "{} = {value}", key.name());
    }
    for (name, section) in &fragment.slices {
        let _ = writeln!(text, "[slice.'{name}']");
        write_section(&mut text, section, true);
    }
    for (pattern, section) in &fragment.units {
        let _ = writeln!(text, "[unit.'{pattern}']");
        write_section(&mut text, section, pattern.is_of_slices());
    }
    for (name, parameters) in &fragment.policies {
        let _ = writeln!(text, "[policy.'{name}']");
        for (name, (value, _)) in parameters {
            let (_, kind) = PARAMETERS
                .into_iter()
                .find(|(known, _)| known == name)
                .expect("a parameter that is known");
            let _ = match (kind, *value) {
                (ParameterKind::Bytes | ParameterKind::Time, u64::MAX) => {
                    writeln!(text, "{name} = 'infinity'")
                }
                (ParameterKind::Bytes, bytes) => writeln!(text, "{name} = '{bytes}B'"),
                (ParameterKind::Time, micros) => writeln!(text, "{name} = '{micros}us'"),
                (ParameterKind::Number, number) => writeln!(text, "{name} = {number}"),
                (ParameterKind::Bool, on) => writeln!(text, "{name} = {}", on == 1),
            };
        }
    }
    text
}

fn of_the_machine(value: &MachineValue) -> String {
    match value {
        MachineValue::Nominate(on) => on.to_string(),
        MachineValue::PreKill(programs) => {
            let programs: Vec<String> = programs.iter().map(|path| quoted(path)).collect();
            format!("[{}]", programs.join(", "))
        }
        other => format!("'{other}'"),
    }
}

/// A path as one of TOML's basic strings, in which there can be anything.
fn quoted(path: &Path) -> String {
    let path = path.to_str().expect("a path that TOML could say");
    let letters = path.chars().map(|letter| match letter {
        '"' | '\\' => format!("\\{letter}"),
        letter if letter.is_control() => format!("\\u{:04x}", u32::from(letter)),
        letter => letter.to_string(),
    });
    format!("\"{}\"", letters.collect::<String>())
}

fn write_section(text: &mut String, section: &Section, of_slices: bool) {
    for (key, Assignment { value, .. }) in section {
        let _ = match value {
            None => writeln!(text, "{key} = ''"),
            Some(Value::Enabled(on)) => writeln!(text, "{key} = {on}"),
            Some(Value::Pressure(Some(pressure))) => {
                writeln!(text, "{key} = {{ {} }}", parts(pressure, of_slices))
            }
            Some(value) => writeln!(text, "{key} = '{value}'"),
        };
    }
}

/// The parts of a pressure setting.
fn parts(pressure: &Pressure, of_slices: bool) -> String {
    let Pressure {
        trigger,
        lasts,
        min_usage,
        action,
        ..
    } = pressure;
    let mut text = format!(
        "resource = '{}', level = '{}', stall = '{}us', window = '{}us', for = '{}us', min-usage = '{min_usage}', action = '{action}'",
        trigger.resource,
        trigger.level,
        trigger.stall.as_micros(),
        trigger.window.as_micros(),
        lasts.as_micros(),
    );
    if of_slices {
        let applies_to = match pressure.applies_to {
            bpf_oomd::policy::AppliesTo::Slice => "slice",
            bpf_oomd::policy::AppliesTo::EachUnit => "each-unit",
        };
        let _ = write!(text, ", {} = '{applies_to}'", Part::AppliesTo.name());
    }
    text
}

/// What files say together does not depend on the order in which they are found, only on their names, and everything that is said
/// about a unit is found.
fn check_merged(fragments: &[Fragment]) {
    let config = Config::merge(fragments);
    assert_eq!(
        config,
        Config::merge(fragments.iter().rev()),
        "in any order"
    );
    for key in Key::ALL {
        let said: Vec<&Assignment> = fragments
            .iter()
            .filter_map(|fragment| fragment.defaults.get(&key))
            .collect();
        let history: Vec<&Assignment> = config.defaults().history(key).iter().collect();
        assert_eq!(history, said);
    }
    let patterns = || fragments.iter().flat_map(|fragment| &fragment.units);
    let slices = || fragments.iter().flat_map(|fragment| fragment.slices.keys());
    let names = patterns().map(|(pattern, _)| pattern.as_str());
    for name in names.chain(slices().map(String::as_str)) {
        let speaking: BTreeSet<&str> = patterns()
            .map(|(pattern, _)| pattern)
            .filter(|pattern| pattern.matches(name))
            .map(|pattern| pattern.as_str())
            .collect();
        let is_slice = slices().any(|slice| slice == name);
        let found = config.for_unit(name);
        assert_eq!(
            found.len(),
            speaking.len() + usize::from(is_slice),
            "{name}"
        );
    }
}
