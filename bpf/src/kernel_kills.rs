// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs that record kills by the kernel's own killer
//! (`kernel_kills.bpf.c`).

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};

use libbpf_rs::Object;

use crate::libbpf_log::Capture;
use crate::object::{self, KERNEL_KILLS};
use crate::parts::{self, AdoptError, Adopted, Parts};
use crate::shared::SharedMaps;
use crate::struct_ops::{self, LoadError};

/// Names in `kernel_kills.bpf.c`. The one that begins a record is attached
/// last: when it runs, the others do.
const PROGRAMS: [&str; 3] = ["oomd_chosen", "oomd_mark", "oomd_choose"];

const WHAT: &str = "the programs that record the kernel's own kills";

/// The programs, loaded, verified and attached: there is no cgroup that this
/// would be about. As long as this value is there, or its parts are kept, kills
/// by the kernel's own killer are among the events.
pub struct KernelKills {
    /// In the order of [`PROGRAMS`]. They keep the programs.
    links: Vec<OwnedFd>,
}

/// The same, not attached yet.
pub struct LoadedKernelKills(Object);

impl KernelKills {
    /// Record kills from now on, using the maps in `shared`.
    ///
    /// # Errors
    ///
    /// If the kernel does not take the programs: because it kills in another
    /// way, or because its verifier refuses. The error then carries the end of
    /// the verifier's log.
    pub fn record(shared: &SharedMaps) -> Result<Self, LoadError> {
        Self::load(shared)?.attach()
    }

    /// Load the programs, using the maps in `shared`. That is what takes time.
    ///
    /// # Errors
    ///
    /// As for [`Self::record()`].
    pub fn load(shared: &SharedMaps) -> Result<LoadedKernelKills, LoadError> {
        let said = Capture::start();
        let mut open = object::open(KERNEL_KILLS, "kernel_kills", &said)?;
        shared.share_with(&mut open)?;
        Ok(LoadedKernelKills(struct_ops::load(WHAT, open, &said)?))
    }

    /// Tells programs that do the same from others.
    #[must_use]
    pub fn fingerprint() -> u64 {
        parts::of_object(KERNEL_KILLS)
    }

    /// Go on with what another process attached, with the same fingerprint.
    ///
    /// # Errors
    ///
    /// If something was not kept.
    pub fn adopt(mut kept: Adopted) -> Result<Self, AdoptError> {
        let links = PROGRAMS.map(|name| parts::take(&mut kept, name));
        Ok(Self {
            links: links.into_iter().collect::<Result<_, _>>()?,
        })
    }

    /// What another process needs to go on with it.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        let links = self.links.iter().map(|link| link.as_fd());
        PROGRAMS.into_iter().zip(links).collect()
    }
}

impl LoadedKernelKills {
    /// Record kills from now on.
    ///
    /// # Errors
    ///
    /// If the kernel does not attach the programs.
    pub fn attach(self) -> Result<KernelKills, LoadError> {
        let said = Capture::start();
        let links = PROGRAMS
            .iter()
            .map(|name| {
                let link = self
                    .0
                    .progs_mut()
                    .find(|program| program.name() == *name)
                    .ok_or(LoadError::Object("a program is missing"))?
                    .attach()
                    .map_err(|source| LoadError::Refused {
                        what: WHAT.to_owned(),
                        source,
                        log: said.tail(),
                    })?;
                struct_ops::duplicate(link.as_fd())
            })
            .collect::<Result<_, _>>()?;
        Ok(KernelKills { links })
    }
}

impl fmt::Debug for LoadedKernelKills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedKernelKills").finish_non_exhaustive()
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
