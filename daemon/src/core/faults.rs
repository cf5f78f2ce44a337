// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong now. Each fault is told once, when it appears, and once more when it is gone.

use crate::fault::Fault;
use std::collections::BTreeMap;
use std::fmt;
use tracing::{error, info};

/// journalctl MESSAGE_ID=: something that an administrator wrote cannot be used.
pub const FAULT_MESSAGE_ID: &str = "69721dcd6eaa432c83e1cf34827ac75a";

/// What something is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The configuration.
    Configuration,
    /// What is set at run time.
    RunTime,
    /// The daemon's name on the bus.
    Bus,
    /// What this kernel lacks.
    Kernel,
    /// What is kept for the next daemon, or was left by an earlier one.
    Kept,
    /// The kills that are kept for the next daemon.
    Kills,
    /// A unit.
    Unit(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Configuration => "configuration",
            Subject::RunTime => "run-time settings",
            Subject::Bus => "D-Bus",
            Subject::Kernel => "kernel",
            Subject::Kept => "kept attachments",
            Subject::Kills => "kept kills",
            Subject::Unit(name) => name,
        })
    }
}

/// Everything that is wrong at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Faults(BTreeMap<Subject, Vec<Fault>>);

impl Faults {
    pub(super) fn add_unit(&mut self, unit: &str, fault: Fault) {
        self.add(Subject::Unit(unit.to_owned()), fault);
    }

    pub(super) fn add(&mut self, subject: Subject, fault: Fault) {
        self.0.entry(subject).or_default().push(fault);
    }
}

#[derive(Debug, Default)]
pub(super) struct FaultBook {
    faults: Faults,
    changed: bool,
}

impl FaultBook {
    /// Replaces all faults by those there are now.
    pub(super) fn update(&mut self, faults: Faults) {
        for (subject, fault) in news(&self.faults, &faults) {
            tell(subject, fault);
        }
        for (subject, fault) in news(&faults, &self.faults) {
            info!(UNIT = unit(subject), "No longer so: {subject}: {fault}");
        }
        self.changed |= self.faults != faults;
        self.faults = faults;
    }

    /// Whether the faults are others than when this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// All faults, with what each is about.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Subject, &Fault)> {
        self.faults
            .0
            .iter()
            .flat_map(|(subject, faults)| faults.iter().map(move |fault| (subject, fault)))
    }
}

/// What is in `after` and not in `before`.
fn news<'a>(
    before: &'a Faults,
    after: &'a Faults,
) -> impl Iterator<Item = (&'a Subject, &'a Fault)> {
    after.0.iter().flat_map(move |(subject, faults)| {
        let known = before.0.get(subject);
        faults
            .iter()
            .filter(move |fault| !known.is_some_and(|known| known.contains(fault)))
            .map(move |fault| (subject, fault))
    })
}

fn unit(subject: &Subject) -> Option<&str> {
    match subject {
        Subject::Unit(name) => Some(name),
        Subject::Configuration
        | Subject::RunTime
        | Subject::Bus
        | Subject::Kernel
        | Subject::Kept
        | Subject::Kills => None,
    }
}

fn tell(subject: &Subject, fault: &Fault) {
    // The field names are those of systemd's own messages about configuration files.
    let file = fault.file.as_ref().map(|file| file.display().to_string());
    error!(
        MESSAGE_ID = FAULT_MESSAGE_ID,
        UNIT = unit(subject),
        CONFIG_FILE = file,
        CONFIG_LINE = fault.position.map(|at| at.line),
        CONFIG_COLUMN = fault.position.map(|at| at.column),
        "{subject}: {fault}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(entries: &[(&str, &[&str])]) -> Faults {
        let mut all = Faults::default();
        for (unit, faults) in entries {
            for fault in *faults {
                all.add_unit(unit, Fault::new(fault));
            }
        }
        all
    }

    fn told(before: &[(&str, &[&str])], after: &[(&str, &[&str])]) -> Vec<String> {
        news(&faults(before), &faults(after))
            .map(|(subject, fault)| format!("{subject} {fault}"))
            .collect()
    }

    #[test]
    fn only_what_is_new_is_told() {
        assert_eq!(
            told(&[("a", &["x"])], &[("a", &["x", "y"]), ("b", &["x"])]),
            ["a y", "b x"]
        );
        assert_eq!(told(&[("a", &["x"])], &[("a", &["x"])]), [""; 0]);
        assert_eq!(told(&[("a", &["x"])], &[]), [""; 0]);
    }

    #[test]
    fn the_book_holds_what_is_wrong_now() {
        let mut book = FaultBook::default();
        book.update(faults(&[("a", &["x"]), ("b", &["y"])]));
        let mut now = faults(&[("b", &["y", "z"])]);
        now.add(Subject::Configuration, Fault::new("w"));
        book.update(now);
        let all: Vec<String> = book.all().map(|(s, f)| format!("{s} {f}")).collect();
        assert_eq!(all, ["configuration w", "b y", "b z"]);
        assert!(book.take_changed());
        let mut same = faults(&[("b", &["y", "z"])]);
        same.add(Subject::Configuration, Fault::new("w"));
        book.update(same);
        assert!(!book.take_changed());
    }
}
