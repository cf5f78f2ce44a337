// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon's rights, and the daemon with one less than it is given.

use std::collections::BTreeSet;

use crate::daemon;
use crate::systemctl::{daemon_reload, show, stop, systemctl_if_possible};
use crate::units::Units;

/// The system calls that it may make, those included that systemd allows to everybody.
#[track_caller]
pub fn allowed_calls() -> BTreeSet<String> {
    let shown = show(daemon::UNIT, "SystemCallFilter");
    shown.split_whitespace().map(str::to_owned).collect()
}

/// A daemon without one of its capabilities; dropping it brings the whole one back.
pub struct Without(Option<Units>);

impl Without {
    /// Starts it. It may end at once, for want of that right, and then is started again and again.
    #[track_caller]
    pub fn right(capability: &str) -> Self {
        let mut units = Units::new();
        let text = format!("[Service]\nCapabilityBoundingSet=~{capability}\n");
        units.write_drop_in(daemon::UNIT, "50-without", &text);
        daemon_reload();
        stop(&[daemon::UNIT]);
        systemctl_if_possible(&["start", daemon::UNIT]);
        Self(Some(units))
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        systemctl_if_possible(&["stop", daemon::UNIT]);
        drop(self.0.take());
        daemon::started();
    }
}
