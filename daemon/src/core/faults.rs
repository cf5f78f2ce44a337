// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong now. Each fault is told once, when it appears, and once more when it is gone.

use crate::fault::Fault;
use std::collections::BTreeMap;
use tracing::{error, info};

/// journalctl MESSAGE_ID=: something that an administrator wrote cannot be used.
pub const FAULT_MESSAGE_ID: &str = "69721dcd6eaa432c83e1cf34827ac75a";

#[derive(Debug, Default)]
pub(super) struct FaultBook {
    /// By unit.
    faults: BTreeMap<String, Vec<Fault>>,
}

impl FaultBook {
    /// Replaces all faults by those there are now.
    pub(super) fn update(&mut self, faults: BTreeMap<String, Vec<Fault>>) {
        for (unit, fault) in news(&self.faults, &faults) {
            tell(unit, fault);
        }
        for (unit, fault) in news(&faults, &self.faults) {
            info!(UNIT = unit, "No longer so: {unit}: {fault}");
        }
        self.faults = faults;
    }

    /// All faults, with the unit each belongs to.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Fault)> {
        self.faults
            .iter()
            .flat_map(|(unit, faults)| faults.iter().map(move |fault| (unit.as_str(), fault)))
    }
}

/// What is in `after` and not in `before`.
fn news<'a>(
    before: &'a BTreeMap<String, Vec<Fault>>,
    after: &'a BTreeMap<String, Vec<Fault>>,
) -> impl Iterator<Item = (&'a str, &'a Fault)> {
    after.iter().flat_map(move |(unit, faults)| {
        let known = before.get(unit);
        faults
            .iter()
            .filter(move |fault| !known.is_some_and(|known| known.contains(fault)))
            .map(move |fault| (unit.as_str(), fault))
    })
}

fn tell(unit: &str, fault: &Fault) {
    // The field names are those of systemd's own messages about configuration files.
    let file = fault.file.as_ref().map(|file| file.display().to_string());
    error!(
        MESSAGE_ID = FAULT_MESSAGE_ID,
        UNIT = unit,
        CONFIG_FILE = file,
        CONFIG_LINE = fault.position.map(|at| at.line),
        CONFIG_COLUMN = fault.position.map(|at| at.column),
        "{unit}: {fault}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(entries: &[(&str, &[&str])]) -> BTreeMap<String, Vec<Fault>> {
        entries
            .iter()
            .map(|(unit, faults)| ((*unit).to_owned(), faults.iter().map(Fault::new).collect()))
            .collect()
    }

    fn told(before: &[(&str, &[&str])], after: &[(&str, &[&str])]) -> Vec<String> {
        news(&book(before), &book(after))
            .map(|(unit, fault)| format!("{unit} {fault}"))
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
        let mut faults = FaultBook::default();
        faults.update(book(&[("a", &["x"]), ("b", &["y"])]));
        faults.update(book(&[("b", &["y", "z"])]));
        let all: Vec<String> = faults.all().map(|(u, f)| format!("{u} {f}")).collect();
        assert_eq!(all, ["b y", "b z"]);
    }
}
