// SPDX-License-Identifier: MIT OR Apache-2.0
//! The man pages say what the code does.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used)]

use bpf_oomd::engine::userspace::DEFAULT_PRESSURE;
use bpf_oomd::policy::{Key, Machine, MachineKey, Part, Value};
use bpf_oomd::systemd::value::TimeSpan;
use std::fs;
use std::path::Path;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../units/usr/share/man")
        .join(name);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.replace("\\-", "-")
}

/// Every `.BR NAME " (...)"` with the default that the text below it begins with.
fn described(page: &str) -> Vec<(String, Option<String>)> {
    let lines: Vec<&str> = page.lines().collect();
    lines
        .windows(2)
        .filter_map(|pair| {
            let (name, _) = pair[0].strip_prefix(".BR ")?.split_once(" \" (")?;
            let default = pair[1].strip_prefix("Default: ");
            let default = default
                .and_then(|text| text.split_once('.'))
                .map(|(value, _)| value);
            Some((name.to_owned(), default.map(str::to_owned)))
        })
        .collect()
}

#[test]
fn every_setting_is_described_with_its_default() {
    let mut expected: Vec<(String, Option<String>)> = Key::ALL
        .into_iter()
        .map(|key| {
            let default = Value::built_in(key).to_string();
            (key.name().to_owned(), Some(default))
        })
        .collect();
    let default = |part| match part {
        Part::Resource => Some("memory"),
        Part::Level => Some("full"),
        Part::Stall => None,
        Part::Window => Some("1s"),
        Part::For => Some("the window"),
        Part::MinUsage => Some("0"),
        Part::Action => Some("kill"),
        Part::AppliesTo => Some("slice"),
    };
    expected.extend(
        Part::ALL
            .into_iter()
            .map(|part| (part.name().to_owned(), default(part).map(str::to_owned))),
    );
    let machine = Machine::default();
    expected.extend(MachineKey::ALL.into_iter().map(|key| {
        let default = match key {
            MachineKey::Engine => Some(machine.engine.to_string()),
            MachineKey::MinAvailable => machine.min_available.map(|amount| amount.to_string()),
            MachineKey::MinSwap => machine.min_swap.map(|amount| amount.to_string()),
            MachineKey::Nominate => Some(machine.nominate.to_string()),
            MachineKey::PreKill => None,
            MachineKey::PreKillTimeout => Some(TimeSpan(machine.pre_kill_timeout).to_string()),
        };
        let default = default.unwrap_or("none".to_owned());
        (key.name().to_owned(), Some(default))
    }));
    assert_eq!(described(&page("man5/bpf-oomd.conf.5")), expected);
}

#[test]
fn what_is_watched_by_default_is_said() {
    let said = format!(".B {DEFAULT_PRESSURE}.\n");
    assert!(page("man5/bpf-oomd.conf.5").contains(&said), "{said}");
}

#[test]
fn every_setting_of_unit_files_is_described() {
    let page = page("man5/bpf-oomd.conf.5");
    for key in Key::ALL {
        if let Some(directive) = key.directive() {
            let line = format!("\n{directive}=|{}", key.name());
            assert!(page.contains(&line), "{directive}");
        }
    }
}

#[test]
fn what_cannot_be_a_default_is_said() {
    let page = page("man5/bpf-oomd.conf.5");
    let places = Key::ALL.into_iter().filter(|key| !key.is_for_defaults());
    assert_eq!(page.matches("Not for [defaults].").count(), places.count());
}

#[test]
fn the_vendors_defaults_are_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf.d");
    let mut files = 0;
    for entry in fs::read_dir(directory).unwrap() {
        assert_eq!(bpf_oomd::config::check_file(&entry.unwrap().path()), []);
        files += 1;
    }
    assert_ne!(files, 0);
}

/// What follows each `before` in a text, up to a `"`.
fn quoted<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let rest = text.split(before).skip(1);
    rest.filter_map(|rest| rest.split_once('"'))
        .map(|(found, _)| found)
        .collect()
}

fn installed(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../units/usr/share")
        .join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_polkit_is_asked_is_said() {
    let actions = installed("polkit-1/actions/org.bpfoomd1.policy");
    let page = page("man5/org.bpfoomd1.5");
    for action in quoted(&actions, "<action id=\"") {
        assert!(page.contains(action), "{action}");
    }
}

#[test]
fn every_member_on_the_bus_is_described_with_its_arguments_and_no_other() {
    let page = page("man5/org.bpfoomd1.5").replace("\\(dq", "\"");
    let mut members = 0;
    for interface in ["Manager", "Unit", "Policy"] {
        let xml = installed(&format!("dbus-1/interfaces/org.bpfoomd1.{interface}.xml"));
        let heading = format!("\n.BR org.bpfoomd1.{interface} ");
        let (_, section) = page.split_once(&heading).unwrap();
        let (section, _) = section.split_once("\n.SH ").unwrap();
        for kind in ["method", "signal", "property"] {
            for member in xml.split(&format!("<{kind} name=\"")).skip(1) {
                let (name, rest) = member.split_once('"').unwrap();
                let line = format!("\n.BI {name} \"");
                let (_, said) = section
                    .split_once(&line)
                    .unwrap_or_else(|| panic!("{interface}.{name} is not in the page"));
                let (said, _) = said.split_once('\n').unwrap();
                let types = match kind {
                    // Its own comes first, those of the next members after it.
                    "property" => quoted(rest, "type=\"")[..1].to_vec(),
                    _ => quoted(rest.split("<!--").next().unwrap(), "type=\""),
                };
                for expected in types {
                    assert!(said.contains(expected), "{interface}.{name}: {said}");
                }
                members += 1;
            }
        }
    }
    assert_eq!(page.matches("\n.BI ").count(), members);
}

#[test]
fn every_key_of_a_kills_record_is_described() {
    let page = page("man5/org.bpfoomd1.5").replace("\\(dq", "\"");
    for (key, signature, meaning) in bpf_oomd::bus::KILL_KEYS {
        let entry = format!("\n{key}\t{signature}\tT{{\n{meaning}\nT}}\n");
        assert!(page.contains(&entry), "{key}");
    }
    assert_eq!(
        page.matches('\t').count(),
        2 * bpf_oomd::bus::KILL_KEYS.len()
    );
}

/// A block of a page that is printed as it is.
#[derive(Debug)]
struct Block {
    page: String,
    section: String,
    text: String,
}

/// All blocks of all pages.
fn blocks() -> Vec<Block> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../units/usr/share/man");
    let mut blocks = Vec::new();
    for chapter in fs::read_dir(directory).unwrap() {
        let chapter = chapter.unwrap();
        for file in fs::read_dir(chapter.path()).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            let name = format!("{}/{file}", chapter.file_name().display());
            let text = page(&name).replace("\\(dq", "\"");
            // The other ways to print something as it is are not looked for.
            assert!(!text.contains("\n.EX"), "{name}");
            for section in text.split("\n.SH ").skip(1) {
                let (section, text) = section.split_once('\n').unwrap();
                for block in text.split(".nf\n").skip(1) {
                    let (block, _) = block.split_once("\n.fi").unwrap();
                    blocks.push(Block {
                        page: name.clone(),
                        section: section.to_owned(),
                        text: format!("{block}\n"),
                    });
                }
            }
        }
    }
    blocks
}

/// Whether a block shows what to write into a configuration file.
fn is_configuration(block: &Block) -> bool {
    let mut lines = block.text.lines();
    lines.any(|line| line.starts_with('[')) && block.page != "man1/bpf-oomctl.1"
}

/// What configuration files are shown with, tells the daemon something and has no fault.
#[test]
fn what_is_shown_of_configuration_files_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("50-example.toml");
    let blocks = blocks();
    let shown: Vec<&Block> = blocks.iter().filter(|it| is_configuration(it)).collect();
    assert_eq!(shown.len(), 2, "{shown:#?}");
    for block in shown {
        fs::write(&file, &block.text).unwrap();
        assert_eq!(bpf_oomd::config::check_file(&file), [], "{block:?}");
    }
}

/// Every block is one of those that a test looks at or runs, or none that can be run. Whoever adds another kind says here which it is.
#[test]
fn no_example_slips_through() {
    let (mut commands, mut programs) = (0, 0);
    for block in blocks() {
        let Block {
            page,
            section,
            text,
        } = &block;
        match (page.as_str(), section.as_str()) {
            // Where files are, and a drawing.
            ("man5/bpf-oomd.conf.5", "SYNOPSIS") | ("man8/bpf-oomd.8", "PRESSURE") => {}
            // Held against what is printed by the tests of ctl::json.
            ("man1/bpf-oomctl.1", "JSON") => {}
            // Run in the test machine, which finds them in the same way: tests/scenarios/man_pages.rs.
            (_, "EXAMPLES") => {
                for line in text.lines() {
                    let program = line.split(' ').next().unwrap();
                    let known = ["bpf-oomctl", "busctl", "journalctl", "systemctl"];
                    assert!(known.contains(&program), "{block:?}");
                    commands += 1;
                }
            }
            // Compiled by the tests of the package bpf-oomd-bpf.
            ("man7/bpf-oomd-policies.7", "WRITING ONE") => programs += 1,
            _ => assert!(is_configuration(&block), "{block:?}"),
        }
    }
    assert!(commands > 20, "{commands}");
    assert_eq!(programs, 1);
}

/// The others need the daemon, and are run in the test machine.
#[test]
fn examples_that_read_files_work() {
    let examples = blocks();
    let examples = examples.iter().filter(|it| it.section == "EXAMPLES");
    let read_files = examples.flat_map(|it| it.text.lines()).filter(|line| {
        ["bpf-oomctl check", "bpf-oomctl cat-config"]
            .iter()
            .any(|command| line.starts_with(command))
    });
    let mut count = 0;
    for line in read_files {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bpf-oomctl"))
            .args(line.split(' ').skip(1))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        count += 1;
    }
    assert_eq!(count, 2);
}
