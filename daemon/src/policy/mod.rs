// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each unit should have, and what has to be done so that it has it.
//!
//! Nothing in this room does I/O: every function here is a function of its arguments, so that the rules of
//! precedence and of attaching can be tested with properties instead of machines.

mod desired;
mod layer;
mod machine;
mod name;
mod plan;
mod pressure;
mod resolve;
mod run_time;
mod setting;
mod suggest;

pub use desired::{
    Cgroups, Decider, Desired, OwnSettings, desired_attachments, desired_settings, desired_triggers,
};
pub use layer::Layer;
pub use machine::{
    Amount, DEFAULT_PRE_KILL_TIMEOUT, EngineChoice, LONGEST_PRE_KILL_TIMEOUT,
    MOST_PRE_KILL_PROGRAMS, Machine, MachineKey, MachineSection, MachineValue,
};
pub use name::{Policy, PolicyNameError};
pub use plan::{Action, InForce, State, plan};
pub use pressure::{
    AppliesTo, Level, Part, Pressure, PressureError, Resource, StallAction, Trigger,
};
pub use resolve::{Speaker, Statement, UnitSaid, Verdict, World};
pub use run_time::{LONGEST_TIME, RunTimeSetting, Term, said};
pub(crate) use setting::shown;
pub use setting::{
    Assignment, DEFAULT_COOLDOWN, Key, Kill, LONGEST_COOLDOWN, LONGEST_WARNING, Preference,
    Section, SettingError, Value, did_you_mean,
};
pub use suggest::closest;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Where a value was said: the place an administrator has to open to change it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Provenance {
    /// The file, as systemd names it; for an attribute of a cgroup the cgroup's directory, and for what is said at run time the
    /// name on the bus.
    pub file: PathBuf,
    /// Line, counted from 1; 0 for what is no text.
    pub line: u32,
    /// Column of the value's first character, counted in characters from 1; 0 for what is no text.
    pub column: u32,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}:{}", self.file.display(), self.column),
        }
    }
}

/// The identity of an attachment: the id of the cgroup it is on.
///
/// A path is not an identity: a unit that is restarted gets a new cgroup under the same path, and what was attached
/// to the old one is gone. On 64-bit kernels the id is the inode number of the cgroup's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

impl CgroupId {
    /// The whole system; an attachment to no cgroup. No cgroup has the id 0.
    pub const SYSTEM: CgroupId = CgroupId(0);
}

impl fmt::Display for CgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
