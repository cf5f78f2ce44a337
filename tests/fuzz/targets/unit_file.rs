// SPDX-License-Identifier: MIT OR Apache-2.0
//! A unit's fragment and drop-ins: the first file of an input is the unit's name, the others are its files.
#![no_main]

use bpf_oomd::fault::Fault;
use bpf_oomd::policy::{Assignment, Key, Layer, Value};
use bpf_oomd::systemd::directives::{self, Declaration};
use bpf_oomd::systemd::syntax::{self, Item};
use bpf_oomd::systemd::unit_name::section;
use bpf_oomd_fuzz::{PROGRAMS, check_faults, files, one_line_down, paths, with_a_line_before};
use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fuzz_target!(|input: &[u8]| {
    let files = files(input);
    let unit = String::from_utf8_lossy(files[0]);
    let unit = unit.trim_end_matches('\n');
    let paths = paths(files.len() - 1, "/etc/systemd/system", ".conf");
    let files = &files[1..];
    for content in files {
        check_syntax(content);
    }
    let (declaration, faults) = read(unit, &paths, files);
    check_each(unit, &paths, files, &declaration, &faults);
    check_in_force(&declaration);
    check_written(unit, &declaration);
});

fn read(unit: &str, paths: &[PathBuf], files: &[&[u8]]) -> (Declaration, Vec<Fault>) {
    let content = |path: &Path| {
        let number = paths.iter().position(|known| known == path);
        Ok(files[number.expect("a file that is asked for")].to_vec())
    };
    directives::read(unit, paths, content, &PROGRAMS)
}

/// Files say together what they say one after the other, and comments say nothing.
fn check_each(
    unit: &str,
    paths: &[PathBuf],
    files: &[&[u8]],
    declaration: &Declaration,
    faults: &[Fault],
) {
    let mut together = Declaration::default();
    let mut all_faults = Vec::new();
    for (path, content) in paths.iter().zip(files) {
        let alone = |content: &[u8]| read(unit, std::slice::from_ref(path), &[content]);
        let (said, faults) = alone(content);
        assert_eq!(alone(content), (said.clone(), faults.clone()), "read twice");
        check_faults(path, &lines(content), &faults);
        assert!(
            said.faulty.is_empty() || !faults.is_empty(),
            "{:?}",
            said.faulty
        );

        let longer = [content, &b"\n# a comment\n ; another"[..]].concat();
        assert_eq!(
            alone(&longer),
            (said.clone(), faults.clone()),
            "lines behind"
        );
        // The one end of a line that nothing which follows belongs to.
        let (lower, lower_faults) = alone(&with_a_line_before(content, 0));
        assert_eq!(lower_faults, one_line_down(faults.clone()), "a line before");
        assert_eq!(lower.faulty, said.faulty, "a line before");
        assert_eq!(lower.said, one_line_down_said(&said.said), "a line before");

        for key in Key::ALL {
            let history = said.said.history(key);
            for assignment in history {
                assert_eq!(&assignment.at.file, path);
                together.said.push(key, assignment.clone());
            }
            if said.faulty.contains(&key) {
                together.faulty.insert(key);
            } else if !history.is_empty() {
                together.faulty.remove(&key);
            }
        }
        all_faults.extend(faults);
    }
    assert_eq!(declaration, &together, "files together");
    assert_eq!(faults, all_faults, "files together");
}

fn one_line_down_said(said: &Layer) -> Layer {
    let mut lower = Layer::default();
    for key in Key::ALL {
        for assignment in said.history(key) {
            let mut assignment = assignment.clone();
            assignment.at.line += 1;
            lower.push(key, assignment);
        }
    }
    lower
}

/// How long the lines of a unit file are. They end at LF, CR, NUL or several different ones of these, of which NUL is the last.
fn lines(content: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(content);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines = vec![0];
    let mut end = String::new();
    for character in text.chars() {
        let is_end = ['\n', '\r', '\0'].contains(&character);
        if !end.is_empty() && (!is_end || end.contains(character) || end.contains('\0')) {
            lines.push(0);
            end.clear();
        }
        match lines.last_mut() {
            Some(length) if !is_end => *length += 1,
            _ => end.push(character),
        }
    }
    lines
}

/// With nothing in force before, what is valid counts; with something in force, faulty settings keep it.
fn check_in_force(declaration: &Declaration) {
    let nothing = Layer::default();
    let new = directives::in_force(declaration.clone(), &nothing);
    assert_eq!(new, declaration.said);
    let mut before = Layer::default();
    for key in Key::ALL {
        let at = bpf_oomd::policy::Provenance {
            file: "/before".into(),
            line: 1,
            column: 1,
        };
        let value = Some(Value::built_in(key));
        before.push(key, Assignment { value, at });
    }
    let now = directives::in_force(declaration.clone(), &before);
    for key in Key::ALL {
        let keeps = declaration.faulty.contains(&key) && before.decides(key).is_some();
        let expected = if keeps { &before } else { &declaration.said };
        assert_eq!(now.history(key), expected.history(key), "{key}");
    }
}

/// A unit file with the values that count says the same.
fn check_written(unit: &str, declaration: &Declaration) {
    let Some(section) = section(unit) else {
        assert!(declaration.said.is_empty(), "{unit} has no cgroup");
        return;
    };
    for prefix in ["", "X-"] {
        let mut text = format!("[{section}]\n");
        for key in Key::ALL {
            if let Some((value, _)) = declaration.said.decides(key) {
                let directive = key.directive().expect("a setting of unit files");
                text += &format!("{prefix}{directive}={value}\n");
            }
        }
        let (again, faults) = read(unit, &["/again".into()], &[text.as_bytes()]);
        assert_eq!(faults, [], "{text}");
        for key in Key::ALL {
            let value = |layer: &Layer| layer.decides(key).map(|(value, _)| value.clone());
            assert_eq!(value(&again.said), value(&declaration.said), "{text}");
        }
    }
}

/// What is found in a file, in few words.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Section(String),
    Assignment(String, String),
    Fault,
}

/// Compares with a much simpler reader, for files that have nothing difficult in them.
fn check_syntax(content: &[u8]) {
    let mut found = Vec::new();
    syntax::parse(content, |at, item| {
        found.push((
            at.line as usize,
            match item {
                Item::Section(name) => Found::Section(name),
                Item::Assignment { key, value, .. } => Found::Assignment(key, value),
                Item::Fault(_) => Found::Fault,
            },
        ));
        ControlFlow::Continue(())
    });
    match std::str::from_utf8(content) {
        Ok(text) if !text.contains(['\\', '\r', '\0', '\u{feff}']) => {
            assert_eq!(found, simple(text));
        }
        _ => {}
    }
    // Whoever has found enough is not called again.
    let mut times = 0;
    syntax::parse(content, |_, _| {
        times += 1;
        ControlFlow::Break(())
    });
    assert_eq!(times, found.len().min(1));
}

fn simple(text: &str) -> Vec<(usize, Found)> {
    let spaces = [' ', '\t'];
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.trim_matches(spaces);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let item = match (line.strip_prefix('['), line.split_once('=')) {
            (Some(header), _) => match header.strip_suffix(']') {
                Some(name) => Found::Section(name.to_owned()),
                None => {
                    found.push((number, Found::Fault));
                    break;
                }
            },
            (None, Some((key, value))) if !key.is_empty() => Found::Assignment(
                key.trim_matches(spaces).to_owned(),
                value.trim_matches(spaces).to_owned(),
            ),
            (None, _) => Found::Fault,
        };
        found.push((number, item));
    }
    found
}
