// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a unit's files say about memory: `ManagedOOMPolicy=`.
//!
//! The setting may be written `X-ManagedOOMPolicy=` too, which systemd reads without a warning; both are one setting.
//! It counts in the section that belongs to the unit's kind, as systemd's own resource settings do. Files are read in the
//! order in which systemd reads them, fragment first and then drop-ins; the last assignment wins, and an
//! empty one resets. As everywhere in systemd, an assignment that is not understood is reported and otherwise taken as not
//! written, but it is remembered that it was there (see [`Declaration::faulty`]).

use super::files::Files;
use super::syntax::{self, Item, Position, SyntaxFault};
use super::unit_name;
use crate::fault::Fault;
use crate::policy::{Declaration, Policy, Provenance};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const POLICY: &str = "ManagedOOMPolicy";

/// Reads what the files of a unit say. `files` are its fragment and drop-ins in order, `programs` the names of the policy
/// programs there are.
pub fn read(
    unit: &str,
    paths: &[PathBuf],
    files: &Files,
    programs: &[&str],
) -> (Declaration, Vec<Fault>) {
    let mut said = Said {
        section: unit_name::section(unit),
        programs,
        declaration: Declaration::default(),
        faults: Vec::new(),
    };
    for path in paths {
        match files.read(path) {
            Ok(content) => said.file(path, &content),
            // It may say anything.
            Err(error) => said.fault(Fault::of_file(path, error)),
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
    }

    fn assignment(
        &mut self,
        path: &Path,
        section: Option<&str>,
        key_at: Position,
        key: &str,
        value_at: Position,
        value: &str,
    ) {
        if !is_policy_key(key) {
            if is_policy_key_but_for_case(key) {
                let message = format!("unknown setting {key:?}; did you mean {POLICY:?}?");
                self.faults.push(Fault::at(path, key_at, message));
            }
            return;
        }
        if self.section.is_none() || section != self.section {
            // Sections with "X-" are other programs' business, for systemd too.
            if !section.is_some_and(|name| name.starts_with("X-")) {
                self.faults
                    .push(Fault::at(path, key_at, self.misplaced(key, section)));
            }
            return;
        }
        if value.is_empty() {
            self.declaration = Declaration::default();
            return;
        }
        match Policy::parse(value, self.programs) {
            Ok(policy) => {
                let provenance = Provenance {
                    file: path.to_owned(),
                    line: value_at.line,
                    column: value_at.column,
                };
                self.declaration = Declaration {
                    policy: Some((policy, provenance)),
                    faulty: false,
                };
            }
            Err(error) => self.fault(Fault::at(path, value_at, error)),
        }
    }

    /// Faults of lines that have nothing to do with this project are left to systemd, which reports them all.
    fn syntax_fault(&mut self, path: &Path, at: Position, fault: &SyntaxFault) {
        let matters = match fault {
            SyntaxFault::SectionHeader(_) | SyntaxFault::TooLong => true,
            SyntaxFault::NotUtf8(line) | SyntaxFault::MissingEquals(line) => {
                line.starts_with(POLICY)
                    || line
                        .strip_prefix("X-")
                        .is_some_and(|l| l.starts_with(POLICY))
            }
            SyntaxFault::MissingKey => false,
        };
        if matters {
            self.fault(Fault::at(path, at, fault));
        }
    }

    /// A fault that hides what the file says.
    fn fault(&mut self, fault: Fault) {
        self.declaration.faulty = true;
        self.faults.push(fault);
    }

    fn misplaced(&self, key: &str, section: Option<&str>) -> String {
        let found = match section {
            Some(name) => format!("in section [{name}]"),
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

fn is_policy_key(key: &str) -> bool {
    key.strip_prefix("X-").unwrap_or(key) == POLICY
}

fn is_policy_key_but_for_case(key: &str) -> bool {
    key.eq_ignore_ascii_case(POLICY)
        || (key.len() == POLICY.len() + 2
            && key.is_char_boundary(2)
            && key[..2].eq_ignore_ascii_case("X-")
            && key[2..].eq_ignore_ascii_case(POLICY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAMS: [&str; 1] = ["biggest-leaf"];

    /// A tree of the given files, read in that order.
    fn declared(unit: &str, contents: &[&str]) -> (Declaration, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = contents
            .iter()
            .enumerate()
            .map(|(i, content)| {
                std::fs::write(root.path().join(i.to_string()), content).unwrap();
                PathBuf::from(format!("/{i}"))
            })
            .collect();
        let (declaration, faults) = read(unit, &paths, &Files::below(root.path()), &PROGRAMS);
        (declaration, faults.iter().map(Fault::to_string).collect())
    }

    fn policy(unit: &str, contents: &[&str]) -> Option<String> {
        let (declaration, faults) = declared(unit, contents);
        assert_eq!(faults, [""; 0]);
        assert!(!declaration.faulty);
        declaration
            .policy
            .map(|(policy, at)| format!("{policy} {at}"))
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
        assert_eq!(
            declaration,
            Declaration {
                policy: None,
                faulty: true
            }
        );
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
            assert!(!declaration.faulty);
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
        assert!(declaration.faulty);
        assert_eq!(declaration.policy.unwrap().0, Policy::Kernel);
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
            let root = tempfile::tempdir().unwrap();
            let mut content = b"[Service]\n".to_vec();
            content.extend_from_slice(line);
            std::fs::write(root.path().join("f"), content).unwrap();
            let (declaration, faults) = read(
                "x.service",
                &["/f".into()],
                &Files::below(root.path()),
                &PROGRAMS,
            );
            assert!(declaration.faulty);
            assert_eq!(faults.len(), 1);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_may_say_anything() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dir.conf")).unwrap();
        let (declaration, faults) = read(
            "x.service",
            &["/dir.conf".into()],
            &Files::below(root.path()),
            &PROGRAMS,
        );
        assert!(declaration.faulty);
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
        assert!(!declaration.faulty);
        assert_eq!(faults.len(), 1);
        assert_eq!(declaration.policy.unwrap().1.file, Path::new("/1"));
    }
}
