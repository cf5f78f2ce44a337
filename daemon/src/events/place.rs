// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cgroup, and the units it belongs to.

use crate::policy::CgroupId;
use crate::systemd::unit_name;
use std::fmt::Write;

/// A cgroup, and the units it belongs to. What is not known is None.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) user_unit: Option<String>,
}

impl Place {
    /// The names in a path are whoever's made the cgroups. The journal shows nothing of a text with a control character in it, so
    /// that one of them would hide a kill.
    pub(super) fn new(path: Option<String>) -> Self {
        let path = path.map(without_control_characters);
        let units = path.as_deref().map(unit_name::of_cgroup);
        let (unit, user_unit) = match units {
            Some(units) => (Some(units.unit), units.user_unit),
            None => (None, None),
        };
        Place {
            path,
            unit,
            user_unit,
        }
    }

    /// The most telling name there is.
    pub(super) fn name(&self, id: CgroupId) -> String {
        match (&self.user_unit, &self.unit, &self.path) {
            _ if id == CgroupId::SYSTEM => "the system".to_owned(),
            (Some(user_unit), Some(unit), _) => format!("{user_unit} of {unit}"),
            (_, Some(unit), Some(path)) if unit == unit_name::ROOT_SLICE && path != "/" => {
                path.clone()
            }
            (_, Some(unit), _) => unit.clone(),
            _ => format!("a cgroup that is gone (id {id})"),
        }
    }
}

/// As the records of policy programs have it: `\xNN`.
fn without_control_characters(path: String) -> String {
    if !path.contains(char::is_control) {
        return path;
    }
    let mut shown = String::with_capacity(path.len());
    for char in path.chars() {
        match char.is_control() {
            // Writing to a string does not fail.
            true => drop(write!(shown, "\\x{:02x}", u32::from(char))),
            false => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_control_characters_is_told_without_them() {
        let place = Place::new(Some("/a.slice/\u{1b}[2Jx\u{7f}.service/y".into()));
        let shown = r"\x1b[2Jx\x7f.service";
        assert_eq!(place.path, Some(format!("/a.slice/{shown}/y")));
        assert_eq!(place.unit.as_deref(), Some(shown));
        assert_eq!(place.name(CgroupId(7)), shown);
    }
}
