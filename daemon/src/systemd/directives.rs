// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a unit's files say about memory: `ManagedOOMPolicy=` and its like.
//!
//! Each setting may be written with an `X-` before it too, which systemd reads without a warning; both are one setting.
//! It counts in the section that belongs to the unit's kind, as systemd's own resource settings do. Files are read in the
//! order in which systemd reads them, fragment first and then drop-ins; the last assignment wins, and an
//! empty one resets. As everywhere in systemd, an assignment that is not understood is reported and otherwise taken as not
//! written, but it is remembered that it was there (see [`Declaration::faulty`]).

use super::files::ReadError;
use super::syntax::{self, Item, Position, SyntaxFault};
use super::unit_name;
use crate::fault::{self, Fault};
use crate::policy::{Assignment, Key, Layer, Provenance, Value, closest, shown};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What a unit's own files say, taken together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declaration {
    /// All valid assignments.
    pub said: Layer,
    /// Settings of which the assignment that should have decided is unusable: it is misspelt, or it may be in a file that could
    /// not be read.
    pub faulty: BTreeSet<Key>,
}

/// What a unit's files say in effect, given what they say now and what was in force before.
///
/// Bad input does not take a good value away: as long as the deciding assignment is faulty, what was in force stays in force
/// (`last_good`). Where nothing was in force yet, a faulty assignment counts as not written: an earlier valid one in
/// the unit's files decides, as systemd does it, and else whoever speaks next.
pub fn in_force(declared: Declaration, last_good: &Layer) -> Layer {
    let mut said = declared.said;
    for key in declared.faulty {
        if last_good.decides(key).is_some() {
            said.take_from(last_good, key);
        }
    }
    said
}

/// Reads what the files of a unit say. `paths` are its fragment and drop-ins in order, `content` gives what is in one of them, and
/// `programs` are the names of the policy programs there are.
pub fn read(
    unit: &str,
    paths: &[PathBuf],
    content: impl Fn(&Path) -> Result<Vec<u8>, ReadError>,
    programs: &[&str],
) -> (Declaration, Vec<Fault>) {
    let mut said = Said {
        section: unit_name::section(unit),
        programs,
        declaration: Declaration::default(),
        faults: Vec::new(),
    };
    for path in paths {
        match content(path) {
            Ok(content) => said.file(path, &content),
            // It may say anything.
            Err(error) => said.fault(&all_keys(), Fault::of_file(path, error)),
        }
    }
    (said.declaration, said.faults)
}

struct Said<'a> {
    section: Option<&'static str>,
    programs: &'a [&'a str],
    declaration: Declaration,
    faults: Vec<Fault>,
}

impl Said<'_> {
    fn file(&mut self, path: &Path, content: &[u8]) {
        let others = std::mem::take(&mut self.faults);
        let mut section: Option<String> = None;
        syntax::parse(content, |at, item| {
            match item {
                Item::Section(name) => section = Some(name),
                Item::Assignment {
                    key,
                    value,
                    value_at,
                } => self.assignment(path, section.as_deref(), at, &key, value_at, &value),
                Item::Fault(fault) => self.syntax_fault(path, at, &fault),
            }
            ControlFlow::Continue(())
        });
        let faults = std::mem::replace(&mut self.faults, others);
        self.faults.extend(fault::told(faults));
    }

    fn assignment(
        &mut self,
        path: &Path,
        section: Option<&str>,
        key_at: Position,
        name: &str,
        value_at: Position,
        value: &str,
    ) {
        let Some(key) = setting(name) else {
            if let Some(meant) = mistyped(name) {
                let message = format!("unknown setting {name:?}; did you mean {meant:?}?");
                self.faults.push(Fault::at(path, key_at, message));
            }
            return;
        };
        if self.section.is_none() || section != self.section {
            // Sections with "X-" are other programs' business, for systemd too.
            if !section.is_some_and(|name| name.starts_with("X-")) {
                self.faults
                    .push(Fault::at(path, key_at, self.misplaced(name, section)));
            }
            return;
        }
        let value = match value {
            "" => None,
            text => match Value::parse(key, text, self.programs) {
                Ok(value) => Some(value),
                Err(error) => {
                    return self.fault(&[key], Fault::at(path, value_at, error));
                }
            },
        };
        let at = Provenance {
            file: path.to_owned(),
            line: value_at.line,
            column: value_at.column,
        };
        self.declaration.said.push(key, Assignment { value, at });
        self.declaration.faulty.remove(&key);
    }

    /// Faults of lines that have nothing to do with this project are left to systemd, which reports them all.
    fn syntax_fault(&mut self, path: &Path, at: Position, fault: &SyntaxFault) {
        match fault {
            // Whatever stands below it is not read.
            SyntaxFault::SectionHeader(_) | SyntaxFault::TooLong => {
                self.fault(&all_keys(), Fault::at(path, at, fault));
            }
            SyntaxFault::NotUtf8(line) | SyntaxFault::MissingEquals(line) => {
                let word = line.split(['=', ' ', '\t']).next().unwrap_or_default();
                if let Some(key) = setting(word) {
                    self.fault(&[key], Fault::at(path, at, fault));
                }
            }
            SyntaxFault::MissingKey => {}
        }
    }

    /// A fault that hides what the file says about these settings.
    fn fault(&mut self, about: &[Key], fault: Fault) {
        self.declaration.faulty.extend(about);
        self.faults.push(fault);
    }

    fn misplaced(&self, key: &str, section: Option<&str>) -> String {
        let found = match section {
            Some(name) => format!("in section [{}]", shown(name).escape_debug()),
            None => "before any section".to_owned(),
        };
        match self.section {
            Some(expected) => {
                format!("{key}= is ignored {found}, expected in section [{expected}]")
            }
            None => format!("{key}= is ignored {found}: this kind of unit has no cgroup"),
        }
    }
}

/// Everything that unit files say.
fn all_keys() -> Vec<Key> {
    Key::ALL
        .into_iter()
        .filter(|key| key.directive().is_some())
        .collect()
}

/// The setting of that name, with or without "X-".
fn setting(name: &str) -> Option<Key> {
    let name = name.strip_prefix("X-").unwrap_or(name);
    Key::ALL
        .into_iter()
        .find(|key| key.directive() == Some(name))
}

/// The setting that was meant by a name which is none. Only names that begin as ours do: systemd has settings of its own that are
/// not far from them.
fn mistyped(name: &str) -> Option<&'static str> {
    let bare = match name.get(..2) {
        Some(prefix) if prefix.eq_ignore_ascii_case("X-") => &name[2..],
        _ => name,
    };
    let ours = bare
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    let names = Key::ALL.into_iter().filter_map(Key::directive);
    ours.then(|| closest(bare, names)).flatten()
}

/// What all settings begin with. systemd's own `ManagedOOMPreference=` does not.
const PREFIX: &str = "ManagedOOMPol";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Kill, Policy};

    const PROGRAMS: [&str; 1] = ["biggest-leaf"];

    /// What files `/0`, `/1` and so on say.
    fn declared(unit: &str, contents: &[impl AsRef<[u8]>]) -> (Declaration, Vec<String>) {
        let paths: Vec<PathBuf> = (0..contents.len())
            .map(|number| format!("/{number}").into())
            .collect();
        let content = |path: &Path| {
            let number = paths.iter().position(|known| known == path).unwrap();
            Ok(contents[number].as_ref().to_vec())
        };
        let (declaration, faults) = read(unit, &paths, content, &PROGRAMS);
        (declaration, faults.iter().map(Fault::to_string).collect())
    }

    fn policy(unit: &str, contents: &[&str]) -> Option<String> {
        let (declaration, faults) = declared(unit, contents);
        assert_eq!(faults, [""; 0]);
        assert!(declaration.faulty.is_empty());
        let decides = declaration.said.decides(Key::Policy);
        decides.map(|(value, assignment)| format!("{value} {}", assignment.at))
    }

    #[test]
    fn the_setting_is_read_in_the_section_of_each_kind_of_unit() {
        for (unit, section) in [
            ("x.service", "Service"),
            ("x.slice", "Slice"),
            ("x.scope", "Scope"),
            ("x.socket", "Socket"),
            ("x.mount", "Mount"),
            ("x.swap", "Swap"),
        ] {
            let file = format!("[{section}]\nManagedOOMPolicy=bpf:biggest-leaf\n");
            assert_eq!(
                policy(unit, &[&file]).as_deref(),
                Some("bpf:biggest-leaf /0:2:18")
            );
        }
    }

    #[test]
    fn both_spellings_are_one_setting_and_the_last_assignment_wins() {
        assert_eq!(
            policy(
                "x.service",
                &[
                    "[Service]\nX-ManagedOOMPolicy=kernel\nManagedOOMPolicy=bpf:biggest-leaf",
                    "[Service]\nX-ManagedOOMPolicy = kernel",
                ]
            )
            .as_deref(),
            Some("kernel /1:2:22")
        );
    }

    #[test]
    fn an_empty_assignment_resets() {
        let fragment = "[Service]\nManagedOOMPolicy=kernel\n";
        assert_eq!(
            policy("x.service", &[fragment, "[Service]\nManagedOOMPolicy=\n"]),
            None
        );
        assert_eq!(
            policy(
                "x.service",
                &[
                    fragment,
                    "[Service]\nX-ManagedOOMPolicy=\nManagedOOMPolicy=bpf:biggest-leaf"
                ]
            )
            .as_deref(),
            Some("bpf:biggest-leaf /1:3:18")
        );
    }

    #[test]
    fn a_misspelt_policy_is_told_with_its_place_and_a_suggestion() {
        let (declaration, faults) = declared(
            "x.service",
            &["[Unit]\n[Service]\nManagedOOMPolicy= bpf:bigest-leaf\n"],
        );
        assert!(declaration.said.is_empty());
        assert!(declaration.faulty.contains(&Key::Policy));
        assert_eq!(
            faults,
            [
                "/0:3:19: unknown policy \"bpf:bigest-leaf\", expected one of: kernel, bpf:biggest-leaf; \
              did you mean \"bpf:biggest-leaf\"?"
            ]
        );
    }

    #[test]
    fn a_fault_is_outdone_by_a_later_assignment_but_still_told() {
        for later in ["ManagedOOMPolicy=kernel", "ManagedOOMPolicy="] {
            let drop_in = format!("[Service]\n{later}");
            let (declaration, faults) = declared(
                "x.service",
                &["[Service]\nManagedOOMPolicy=nonsense", &drop_in],
            );
            assert!(declaration.faulty.is_empty());
            assert_eq!(faults.len(), 1);
        }
    }

    #[test]
    fn a_faulty_drop_in_leaves_what_the_fragment_says() {
        let (declaration, _) = declared(
            "x.service",
            &[
                "[Service]\nManagedOOMPolicy=kernel",
                "[Service]\nManagedOOMPolicy=kernal",
            ],
        );
        assert!(declaration.faulty.contains(&Key::Policy));
        let (value, _) = declaration.said.decides(Key::Policy).unwrap();
        assert_eq!(*value, Value::Policy(Policy::Kernel));
    }

    #[test]
    fn a_setting_in_the_wrong_section_is_told_and_ignored() {
        let (declaration, faults) = declared("x.service", &["[Unit]\nManagedOOMPolicy=kernel\n"]);
        assert_eq!(declaration, Declaration::default());
        assert_eq!(
            faults,
            [
                "/0:2:1: ManagedOOMPolicy= is ignored in section [Unit], expected in section [Service]"
            ]
        );
        let (_, faults) = declared(
            "x.timer",
            &["X-ManagedOOMPolicy=kernel\n[Timer]\nManagedOOMPolicy=a\n"],
        );
        assert_eq!(
            faults,
            [
                "/0:1:1: X-ManagedOOMPolicy= is ignored before any section: this kind of unit has no cgroup",
                "/0:3:1: ManagedOOMPolicy= is ignored in section [Timer]: this kind of unit has no cgroup"
            ]
        );
        assert_eq!(
            policy("x.service", &["[X-Other]\nManagedOOMPolicy=kernel\n"]),
            None
        );
    }

    #[test]
    fn wrong_letter_case_gets_a_suggestion() {
        let (declaration, faults) =
            declared("x.service", &["[Service]\nManagedOomPolicy=kernel\n"]);
        assert_eq!(declaration, Declaration::default());
        assert_eq!(
            faults,
            ["/0:2:1: unknown setting \"ManagedOomPolicy\"; did you mean \"ManagedOOMPolicy\"?"]
        );
    }

    #[test]
    fn systemds_own_settings_are_left_alone() {
        let file = "[Service]\nManagedOOMSwap=kill\nManagedOOMPreference=avoid\nrubbish\n=x\nExecStart=\u{e9}";
        assert_eq!(policy("x.service", &[file]), None);
    }

    #[test]
    fn lines_about_the_policy_that_cannot_be_read_are_faults() {
        for line in [
            &b"ManagedOOMPolicy kernel"[..],
            b"X-ManagedOOMPolicy=kern\xffel",
        ] {
            let file = [b"[Service]\n", line].concat();
            let (declaration, faults) = declared("x.service", &[file]);
            assert_eq!(declaration.faulty, [Key::Policy].into());
            assert_eq!(faults.len(), 1);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_may_say_anything() {
        let content = |_: &Path| Err(ReadError::NotRegular);
        let (declaration, faults) = read("x.service", &["/dir.conf".into()], content, &PROGRAMS);
        assert_eq!(declaration.faulty, all_keys().into_iter().collect());
        assert_eq!(faults[0].to_string(), "/dir.conf: not a regular file");
    }

    #[test]
    fn a_broken_file_does_not_take_the_others_along() {
        let (declaration, faults) = declared(
            "x.service",
            &[
                "[Service\nManagedOOMPolicy=kernel",
                "[Service]\nManagedOOMPolicy=bpf:biggest-leaf",
            ],
        );
        assert!(!declaration.faulty.contains(&Key::Policy));
        assert_eq!(faults.len(), 1);
        let (_, assignment) = declaration.said.decides(Key::Policy).unwrap();
        assert_eq!(assignment.at.file, Path::new("/1"));
    }

    #[test]
    fn every_setting_of_unit_files_is_read() {
        let (declaration, faults) = declared(
            "x.service",
            &[
                "[Service]\nManagedOOMPolicyKill=process\nX-ManagedOOMPolicyCooldown=1min 30s\n\
                 ManagedOOMPolicyPressure=memory full 40%/1s\n",
                "[Service]\nManagedOOMPolicyKill=\n",
            ],
        );
        assert_eq!(faults, [""; 0]);
        let said = |key| {
            let decides = declaration.said.decides(key);
            decides.map(|(value, assignment)| format!("{value} {}", assignment.at))
        };
        assert_eq!(said(Key::Kill), None);
        assert_eq!(declaration.said.history(Key::Kill).len(), 2);
        assert_eq!(said(Key::Cooldown).as_deref(), Some("1min 30s /0:3:28"));
        assert_eq!(
            said(Key::Pressure).as_deref(),
            Some("memory full 400ms/1s /0:4:26")
        );
    }

    #[test]
    fn a_value_that_no_setting_has_is_a_fault_of_that_setting_alone() {
        let (declaration, faults) = declared(
            "x.slice",
            &[
                "[Slice]\nManagedOOMPolicy=kernel\nManagedOOMPolicyKill=all\nManagedOOMPolicyCooldown=2h\n",
            ],
        );
        assert_eq!(declaration.faulty, [Key::Kill, Key::Cooldown].into());
        assert!(declaration.said.decides(Key::Policy).is_some());
        assert_eq!(
            faults,
            [
                "/0:3:22: unknown value \"all\", expected one of: cgroup, process",
                "/0:4:26: found \"2h\", expected a time span from 0 to 1h",
            ]
        );
    }

    #[test]
    fn a_mistyped_setting_gets_a_suggestion() {
        let (_, faults) = declared(
            "x.slice",
            &[
                "[Slice]\nX-ManagedOOMPolicyColdown=1s\nManagedOOMPollicy=kernel\nManagedOOMMemoryPressure=kill\n",
            ],
        );
        assert_eq!(
            faults,
            [
                "/0:2:1: unknown setting \"X-ManagedOOMPolicyColdown\"; did you mean \"ManagedOOMPolicyCooldown\"?",
                "/0:3:1: unknown setting \"ManagedOOMPollicy\"; did you mean \"ManagedOOMPolicy\"?",
            ]
        );
    }

    #[test]
    fn endless_and_unreadable_things_are_cut_and_escaped_in_messages() {
        let long = "\u{4}x".repeat(1 << 16);
        for file in [
            format!("[{long}]\nManagedOOMPolicy=kernel\n"),
            format!("[{long}\n"),
            format!("[Slice]\nManagedOOMPolicy={long}\n"),
            format!("[Slice]\nManagedOOMPolicy {long}\n"),
            format!("[Slice]\nManagedOOMPolicyPressure={long} {long} {long}/{long}\n"),
        ] {
            let (_, faults) = declared("x.slice", &[&file]);
            assert_eq!(faults.len(), 1);
            assert!(faults[0].len() < 800, "{}", faults[0].len());
            assert!(!faults[0].contains(char::is_control), "{}", faults[0]);
        }
    }

    #[test]
    fn of_many_faults_in_a_file_the_first_are_told() {
        let full = format!("[Slice]\n{}", "ManagedOOMPolicy=kernal\n".repeat(100));
        let (declaration, faults) = declared("x.slice", &[&full, "ManagedOOMPolicy=kernel", &full]);
        assert_eq!(declaration.faulty, [Key::Policy].into());
        assert_eq!(faults.len(), 21 + 1 + 21);
        for (file, last) in [(0, &faults[20]), (2, &faults[42])] {
            assert_eq!(*last, format!("/{file}:22:18: and 80 more from here on"));
        }
    }

    fn kill(kill: Kill) -> Layer {
        let at = Provenance {
            file: "f".into(),
            line: 1,
            column: 1,
        };
        let value = Some(Value::Kill(kill));
        [(Key::Kill, Assignment { value, at })]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_fault_on_a_running_unit_leaves_its_last_good_value_in_force() {
        let faulty = Declaration {
            said: Layer::default(),
            faulty: [Key::Kill].into(),
        };
        let good = kill(Kill::Process);
        assert_eq!(in_force(faulty, &good), good);
    }

    #[test]
    fn a_fault_with_no_last_good_value_counts_as_not_written() {
        let earlier = kill(Kill::Process);
        let faulty = Declaration {
            said: earlier.clone(),
            faulty: [Key::Kill].into(),
        };
        assert_eq!(in_force(faulty, &Layer::default()), earlier);
    }

    #[test]
    fn a_value_that_is_removed_does_not_come_back_as_last_good() {
        let good = kill(Kill::Process);
        assert!(in_force(Declaration::default(), &good).is_empty());
    }
}
