// SPDX-License-Identifier: MIT OR Apache-2.0
//! A policy's ranking on kernels without bpf_oom_ops (`include/stock.bpf.h`).

use std::fmt;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use libbpf_rs::{Iter, Link, MapType, Object};

use crate::candidate::Ranking;
use crate::interface::{OOMD_CANDIDATES_MAX, oomd_candidate, oomd_stock_run};
use crate::libbpf_log::Capture;
use crate::map::MapError;
use crate::mapped::Mapped;
use crate::object;
use crate::parameter::{self, Parameters};
use crate::policy::{CANDIDATES, run};
use crate::shared::SharedMaps;
use crate::struct_ops::{self, LoadError};

/// Names in `include/policy.bpf.h`.
const LOCATE: &str = "locate";
const FLUSH: &str = "flush";
const RANK: &str = "rank_stock";
/// Names in `include/stock.bpf.h`.
const RUN: &str = "oomd_stock_run";
const LEAVES: &str = "oomd_stock_leaves";

/// Whether a policy's program is for kernels without the interface.
pub(crate) fn is_program(name: &str) -> bool {
    [LOCATE, FLUSH, RANK].contains(&name)
}

/// Whether only those programs use a policy's map.
pub(crate) fn is_map(name: &str) -> bool {
    [RUN, LEAVES].contains(&name)
}

/// A policy's ranking, loaded and verified, on a kernel that need not have
/// bpf_oom_ops. Nothing is attached to anything.
pub struct StockPolicy {
    name: &'static str,
    /// Keeps the programs.
    _object: Object,
    programs: Mutex<Programs>,
    run: Mapped<oomd_stock_run>,
    candidates: Mapped<oomd_candidate>,
    parameters: Parameters,
}

/// There is one result, so one run at a time.
struct Programs {
    flush: Program,
    rank: Program,
}

impl StockPolicy {
    /// Load the ranking of policy `name`, using the maps in `shared`, and run
    /// it once.
    ///
    /// # Errors
    ///
    /// If there is no such policy, or if the kernel does not take the program:
    /// because it is older than 6.1, or because its verifier refuses. The error
    /// then carries the end of the verifier's log.
    pub fn load(name: &str, shared: &SharedMaps) -> Result<Self, LoadError> {
        let (name, bytes) = object::policy(name)?;
        let said = Capture::start();
        let mut open = object::open(bytes, name, &said)?;
        object::load_only(&mut open, is_program, |_, ty| ty != MapType::StructOps)?;
        shared.share_with(&mut open)?;
        let parameters = parameter::declared(&open)?;
        let object = struct_ops::load(&format!("the ranking of policy {name:?}"), open, &said)?;
        drop(said);
        locate(&object)?;
        let policy = Self {
            name,
            programs: Mutex::new(Programs {
                flush: Program::of(&object, FLUSH)?,
                rank: Program::of(&object, RANK)?,
            }),
            run: Mapped::new(&object::map(&object, RUN)?)?,
            candidates: Mapped::new(&object::map(&object, CANDIDATES)?)?,
            parameters: Parameters::new(parameters, &object)?,
            _object: object,
        };
        // The first run allocates what all others use again.
        policy
            .ranking(0)
            .map_err(|_| LoadError::Object("the ranking does not run"))?;
        Ok(policy)
    }

    /// The policy's name, as in `bpf:biggest-leaf` without the prefix.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Give a parameter a value, as
    /// [`PolicyProgram::set_parameter()`](crate::PolicyProgram::set_parameter)
    /// does.
    ///
    /// # Errors
    ///
    /// If the policy has no parameter of that name, or if the kernel refuses.
    pub fn set_parameter(&self, name: &str, value: u64) -> Result<(), MapError> {
        self.parameters.set(name, value)
    }

    /// Run the policy's ranking on a domain, by cgroup id, 0 for the system.
    /// The same as
    /// [`PolicyProgram::ranking()`](crate::PolicyProgram::ranking), but leaves
    /// without a process are not in it, and a domain that is not there has no
    /// leaves.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the run, or the run does not get to its end.
    pub fn ranking(&self, domain: u64) -> Result<Ranking, MapError> {
        let mut ranking = Ranking::new([], 0);
        self.ranking_into(domain, &mut ranking)?;
        Ok(ranking)
    }

    /// The same in place of what is in `ranking`. If there is room in it
    /// ([`Ranking::with_room()`]), neither this process nor the kernel
    /// allocates anything, and no lock is waited for that is held by tasks
    /// that wait for memory.
    ///
    /// What remains: flushing the statistics takes the lock of the kernel's
    /// statistics, as every reader of a `memory.stat` does, who may be preempted
    /// meanwhile, but does not allocate.
    ///
    /// # Errors
    ///
    /// As [`ranking()`](Self::ranking).
    pub fn ranking_into(&self, domain: u64, ranking: &mut Ranking) -> Result<(), MapError> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = self.run.get(0).asked.wrapping_add(1);
        self.run.set(
            0,
            oomd_stock_run {
                domain,
                page_size: page_size(),
                asked,
                answered: asked.wrapping_sub(1),
                leaves: 0,
            },
        );
        programs.flush.run("flushing memory statistics")?;
        programs.rank.run("running the ranking program")?;
        let run = self.run.get(0);
        if run.answered != asked {
            return Err(MapError::Ranking(-libc::EIO));
        }
        let reported = run.leaves.min(u64::from(OOMD_CANDIDATES_MAX)) as usize;
        ranking.fill(
            (0..reported).map(|index| self.candidates.get(index)),
            run.leaves,
        );
        Ok(())
    }
}

impl fmt::Debug for StockPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StockPolicy")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Lets the programs find what the kernel tells by address alone.
fn locate(object: &Object) -> Result<(), LoadError> {
    let program = object
        .progs()
        .find(|program| program.name() == LOCATE)
        .ok_or(LoadError::Object("a program is missing"))?;
    match run(program.as_fd(), &mut []) {
        Ok(0) => Ok(()),
        _ => Err(LoadError::Untold(
            "where it counts page cache (CAP_SYSLOG, kernel.kptr_restrict below 2, CONFIG_KALLSYMS_ALL)",
        )),
    }
}

/// In bytes.
fn page_size() -> u64 {
    // SAFETY: reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or_default()
}

/// An iterator program of which the first step is all there is.
struct Program {
    iterator: Iter,
    /// What the iterator was made from.
    _link: Link,
}

impl Program {
    fn of(object: &Object, name: &str) -> Result<Self, LoadError> {
        let program = object
            .progs_mut()
            .find(|program| program.name() == name)
            .ok_or(LoadError::Object("a program is missing"))?;
        let link = program
            .attach()
            .map_err(LoadError::libbpf("making an iterator"))?;
        Ok(Self {
            iterator: Iter::new(&link).map_err(LoadError::libbpf("opening an iterator"))?,
            _link: link,
        })
    }

    /// The program ends with "again": so says the kernel that it has run.
    fn run(&mut self, what: &'static str) -> Result<(), MapError> {
        match self.iterator.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(MapError::libbpf(what)(error.into())),
            Ok(_) => Err(MapError::Ranking(-libc::ESRCH)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::POLICIES;

    #[test]
    fn a_thread_of_its_own_may_have_it() {
        fn may_be_sent<T: Send + Sync>() {}
        may_be_sent::<StockPolicy>();
    }

    #[test]
    fn every_policy_has_the_programs_and_the_maps() {
        for (name, bytes) in POLICIES {
            let said = Capture::start();
            let open = object::open(bytes, name, &said).unwrap();
            let programs = open
                .progs()
                .filter(|program| program.name().to_str().is_some_and(is_program));
            assert_eq!(programs.count(), 3, "{name}");
            let maps = open
                .maps()
                .filter(|map| map.name().to_str().is_some_and(is_map));
            assert_eq!(maps.count(), 2, "{name}");
        }
    }
}
