// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cgroup, and the units it belongs to.

use crate::policy::CgroupId;
use crate::systemd::unit_name;

/// A cgroup, and the units it belongs to. What is not known is None.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) user_unit: Option<String>,
}

impl Place {
    pub(super) fn new(path: Option<String>) -> Self {
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
