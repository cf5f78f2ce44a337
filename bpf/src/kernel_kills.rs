// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs that record kills by the kernel's own killer
//! (`kernel_kills.bpf.c`).

use std::fmt;

use libbpf_rs::{Link, Object};

use crate::libbpf_log::Capture;
use crate::object::{self, KERNEL_KILLS};
use crate::shared::SharedMaps;
use crate::struct_ops::{self, LoadError};

/// Names in `kernel_kills.bpf.c`. The one that begins a record is attached
/// last: when it runs, the others do.
const PROGRAMS: [&str; 3] = ["oomd_chosen", "oomd_mark", "oomd_choose"];

/// The programs, loaded, verified and attached: there is no cgroup that this
/// would be about. As long as this value is there, kills by the kernel's own
/// killer are among the events.
pub struct KernelKills {
    /// Keeps the programs.
    _object: Object,
    _links: Vec<Link>,
}

impl KernelKills {
    /// Record kills from now on, using the maps in `shared`.
    ///
    /// # Errors
    ///
    /// If the kernel does not take the programs: because it kills in another
    /// way, or because its verifier refuses. The error then carries the end of
    /// the verifier's log.
    pub fn record(shared: &SharedMaps) -> Result<Self, LoadError> {
        let said = Capture::start();
        let mut open = object::open(KERNEL_KILLS, "kernel_kills", &said)?;
        shared.share_with(&mut open)?;
        let what = "the programs that record the kernel's own kills";
        let object = struct_ops::load(what, open, &said)?;
        let links = PROGRAMS
            .iter()
            .map(|name| {
                object
                    .progs_mut()
                    .find(|program| program.name() == *name)
                    .ok_or(LoadError::Object("a program is missing"))?
                    .attach()
                    .map_err(|source| LoadError::Refused {
                        what: what.to_owned(),
                        source,
                        log: said.tail(),
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            _object: object,
            _links: links,
        })
    }
}

impl fmt::Debug for KernelKills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelKills").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_in_the_object() {
        let said = Capture::start();
        let open = object::open(KERNEL_KILLS, "kernel_kills", &said).unwrap();
        let mut names: Vec<String> = open
            .progs()
            .map(|program| program.name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let mut expected = PROGRAMS.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
