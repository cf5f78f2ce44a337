// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why somebody had to die, whoever killed.

use super::bytes;
use super::stall::{self, how};
use crate::engine::{Reason, Stall};
use crate::policy::CgroupId;

/// `limit`: a cgroup reached its limit. `system`: there was none left at all. `pressure`: it stalled. `sysrq`: somebody asked for it.
pub(super) fn name(reason: &Reason, domain: CgroupId) -> &'static str {
    match (reason, domain) {
        (Reason::Pressure(_), _) => stall::REASON,
        (Reason::Sysrq, _) => "sysrq",
        (Reason::Allocation, CgroupId::SYSTEM) => "system",
        (Reason::Allocation, _) => "limit",
    }
}

/// The same as the beginning of a sentence. `what` ran out, and used so many bytes.
pub(super) fn sentence(reason: &Reason, what: &str, used: u64) -> String {
    let used = bytes(used);
    match reason {
        Reason::Allocation => format!("{what} ran out of memory (used {used})"),
        Reason::Pressure(stall) => format!("{what} {} (used {used})", how(stall)),
        Reason::Sysrq => format!("Somebody asked for a kill with sysrq ({what} used {used})"),
    }
}

/// The stall, if it was one.
pub(super) fn stall(reason: &Reason) -> Option<&Stall> {
    match reason {
        Reason::Pressure(stall) => Some(stall),
        Reason::Allocation | Reason::Sysrq => None,
    }
}
