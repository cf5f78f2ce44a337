// SPDX-License-Identifier: MIT OR Apache-2.0
//! The man pages say what the code does.

use bpf_oomd::engine::userspace::DEFAULT_PRESSURE;
use bpf_oomd::policy::{Key, Machine, MachineKey, Part, Value};
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
fn the_example_is_valid() {
    let page = page("man5/bpf-oomd.conf.5");
    let (_, rest) = page
        .split_once(".nf\n# /etc/bpf-oomd/conf.d/50-batch.toml\n")
        .unwrap();
    let (example, _) = rest.split_once(".fi").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("50-batch.toml");
    fs::write(&file, example).unwrap();
    assert_eq!(bpf_oomd::config::check_file(&file), []);
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
        let entry = format!("\n{key}\t{signature}\t{meaning}\n");
        assert!(page.contains(&entry), "{key}");
    }
    assert_eq!(
        page.matches('\t').count(),
        2 * bpf_oomd::bus::KILL_KEYS.len()
    );
}

/// The command lines in EXAMPLES of a page.
fn examples(page: &str) -> Vec<String> {
    let (_, examples) = page.split_once("\n.SH EXAMPLES\n").expect("examples");
    let (examples, _) = examples
        .split_once("\n.SH ")
        .expect("what comes after them");
    let blocks = examples.split("\n.nf\n").skip(1);
    let lines = blocks.flat_map(|block| {
        let (lines, _) = block.split_once("\n.fi").expect("an end");
        lines.lines()
    });
    lines.map(str::to_owned).collect()
}

/// The others need the daemon, and are run in the test machine.
#[test]
fn examples_that_read_files_work() {
    let examples = examples(&page("man1/bpf-oomctl.1"));
    let read_files = examples.iter().filter(|line| {
        ["bpf-oomctl check", "bpf-oomctl cat-config"]
            .iter()
            .any(|command| line.starts_with(command))
    });
    let mut count = 0;
    for line in read_files {
        let mut words = line.split(' ').skip(1);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bpf-oomctl"))
            .args(words.by_ref())
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        count += 1;
    }
    assert_eq!(count, 2);
}
