// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the core is told about units.

use std::path::PathBuf;

/// What systemd says about one unit that it has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFacts {
    /// The unit's name.
    pub name: String,
    /// None while the unit is not running, in whatever way: systemd is not asked for more about it then.
    pub running: Option<RunningFacts>,
}

/// What systemd says about a unit that has a cgroup, or will have one in a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunningFacts {
    /// The slice it is in. None for the root slice.
    pub slice: Option<String>,
    /// Path of its cgroup from the root of the tree, once there is one.
    pub control_group: Option<String>,
    /// Its fragment, if it has one, and its drop-ins, in the order in which systemd reads them.
    pub files: Vec<PathBuf>,
    /// Changes when systemd may have read the files again.
    pub loaded: u64,
}

/// News about units.
#[derive(Debug)]
pub enum Update {
    /// All units that systemd has loaded.
    All {
        /// Units with their facts of now. What is not among them is gone.
        known: Vec<UnitFacts>,
        /// How often it had been asked to read everything again before this was read.
        asked: u64,
    },
    /// Some units.
    Some {
        /// Units with their facts of now.
        known: Vec<UnitFacts>,
        /// Units that systemd has not loaded (any more).
        gone: Vec<String>,
    },
    /// The bus or systemd went away, and with this text. Nothing is known until the next [`Update::All`].
    Lost(String),
}
