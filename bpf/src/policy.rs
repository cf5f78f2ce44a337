// SPDX-License-Identifier: MIT OR Apache-2.0
//! The policy programs compiled into this crate.

use std::fmt;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType};

use crate::candidate::Ranking;
use crate::interface::{OOMD_CANDIDATES_MAX, bytes_of_mut, oomd_candidate, oomd_ranking, read};
use crate::libbpf_log::Capture;
use crate::map::{MapError, Shape};
use crate::object::{self, NAMES};
use crate::parameter::{self, Parameter, Parameters};
use crate::parts::{self, AdoptError, Adopted, Parts};
use crate::shared::SharedMaps;
use crate::stock;
use crate::struct_ops::{self, Definition, LoadError};

/// Names in `include/policy.bpf.h`.
pub(crate) const CANDIDATES: &str = "oomd_candidates";
const RANK: &str = "rank";

/// Names of the policies compiled into this crate, sorted, as in
/// `bpf:biggest-leaf` without the prefix.
#[must_use]
pub fn policy_names() -> &'static [&'static str] {
    NAMES
}

/// The parameters of a policy, sorted by name; none if there is no such policy.
/// Needs neither privileges nor a kernel with the interface.
#[must_use]
pub fn policy_parameters(policy: &str) -> Vec<Parameter> {
    let said = Capture::start();
    object::policy(policy)
        .and_then(|(name, bytes)| object::open(bytes, name, &said))
        .ok()
        .and_then(|open| parameter::declared(&open).ok())
        .unwrap_or_default()
        .into_iter()
        .map(|placed| placed.parameter)
        .collect()
}

/// A policy program, loaded, verified and registered, attached to nothing.
///
/// Its struct_ops map can be attached to any number of cgroups and to the
/// system. Links keep it alive in the kernel after this value is dropped.
pub struct PolicyProgram {
    name: &'static str,
    struct_ops: OwnedFd,
    rank: OwnedFd,
    candidates: MapHandle,
    parameters: Parameters,
    /// There is one result map, for one run at a time.
    ranking: Mutex<()>,
}

impl PolicyProgram {
    /// What the struct_ops map is called among the [parts](Self::parts()).
    pub const ATTACHED: &str = "struct-ops";

    /// Load the program of policy `name`, using the maps in `shared`.
    ///
    /// # Errors
    ///
    /// If there is no such policy, or if the kernel does not take the program:
    /// because it lacks the interface, or because its verifier refuses. The
    /// error then carries the end of the verifier's log.
    pub fn load(name: &str, shared: &SharedMaps) -> Result<Self, LoadError> {
        let (name, bytes) = object::policy(name)?;
        let said = Capture::start();
        let mut open = object::open(bytes, name, &said)?;
        object::load_only(
            &mut open,
            |program| !stock::is_program(program),
            |map, _| !stock::is_map(map),
        )?;
        shared.share_with(&mut open)?;
        let definition = Definition::of(&open)?;
        let parameters = parameter::declared(&open)?;
        let object = struct_ops::load(&format!("policy {name:?}"), open, &said)?;
        let rank = object
            .progs()
            .find(|program| program.name() == RANK)
            .ok_or(LoadError::Object("no ranking program"))?;
        Ok(Self {
            name,
            struct_ops: definition.register(&object)?,
            rank: struct_ops::duplicate(rank.as_fd())?,
            candidates: struct_ops::handle(&object::map(&object, CANDIDATES)?)?,
            parameters: Parameters::new(parameters, &object)?,
            ranking: Mutex::new(()),
        })
    }

    /// Tells programs of policy `name` that do the same from others; `None` if
    /// there is no such policy.
    #[must_use]
    pub fn fingerprint(name: &str) -> Option<u64> {
        let (_, bytes) = object::policy(name).ok()?;
        Some(parts::of_object(bytes))
    }

    /// Go on with the program of policy `name` that another process loaded,
    /// with the same fingerprint. Parameters are as they were.
    ///
    /// # Errors
    ///
    /// If there is no such policy, if something was not kept, or is something
    /// else.
    pub fn adopt(name: &str, mut kept: Adopted) -> Result<Self, AdoptError> {
        let (name, bytes) = object::policy(name).map_err(|_| AdoptError::Other("policy"))?;
        let said = Capture::start();
        let open = object::open(bytes, name, &said).map_err(|_| AdoptError::Other("policy"))?;
        let candidates = Shape {
            ty: MapType::Array,
            name: CANDIDATES,
            key: size_of::<u32>(),
            value: size_of::<oomd_candidate>(),
            entries: OOMD_CANDIDATES_MAX,
            flags: 0,
        };
        Ok(Self {
            name,
            struct_ops: parts::take(&mut kept, Self::ATTACHED)?,
            rank: parts::take(&mut kept, RANK)?,
            candidates: candidates.adopt(parts::take(&mut kept, CANDIDATES)?)?,
            parameters: Parameters::adopt(&open, &mut kept)?,
            ranking: Mutex::new(()),
        })
    }

    /// What another process needs to go on with it.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        let mut parts = vec![
            (Self::ATTACHED, self.struct_ops.as_fd()),
            (RANK, self.rank.as_fd()),
            (CANDIDATES, self.candidates.as_fd()),
        ];
        parts.extend(self.parameters.part());
        parts
    }

    /// The policy's name, as in `bpf:biggest-leaf` without the prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// The struct_ops map, for `BPF_LINK_CREATE`.
    #[must_use]
    pub fn struct_ops_map(&self) -> BorrowedFd<'_> {
        self.struct_ops.as_fd()
    }

    /// Give a parameter a value, for the next OOM on. The value is not judged:
    /// its kind is in [`policy_parameters()`].
    ///
    /// # Errors
    ///
    /// If the policy has no parameter of that name, or if the kernel refuses.
    pub fn set_parameter(&self, name: &str, value: u64) -> Result<(), MapError> {
        self.parameters.set(name, value)
    }

    /// Run the policy's ranking on a domain, by cgroup id, 0 for the system.
    /// Nothing is killed.
    ///
    /// # Errors
    ///
    /// If there is no such domain, or if the kernel refuses the run.
    pub fn ranking(&self, domain: u64) -> Result<Ranking, MapError> {
        let _one_at_a_time = self.ranking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut context = oomd_ranking { domain, leaves: 0 };
        match run(self.rank.as_fd(), bytes_of_mut(&mut context))? {
            0 => {}
            error if error == -libc::ENOENT => return Err(MapError::NoSuchDomain(domain)),
            error => return Err(MapError::Ranking(error)),
        }
        let reported = context.leaves.min(u64::from(OOMD_CANDIDATES_MAX)) as u32;
        let entries = (0..reported)
            .map(|index| self.candidate(index))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Ranking::new(entries, context.leaves))
    }

    fn candidate(&self, index: u32) -> Result<oomd_candidate, MapError> {
        self.candidates
            .lookup(&index.to_ne_bytes(), MapFlags::ANY)
            .map_err(MapError::libbpf("reading a ranking"))?
            .and_then(|bytes| read(&bytes))
            .ok_or(MapError::Ranking(-libc::ENOENT))
    }
}

/// Run a `SEC("syscall")` program on a context, which it may change. Returns
/// what it returns.
pub(crate) fn run(program: BorrowedFd<'_>, context: &mut [u8]) -> Result<i32, MapError> {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        // The kernel refuses an address of nothing.
        ctx_in: match context.is_empty() {
            true => ptr::null(),
            false => context.as_ptr().cast(),
        },
        ctx_size_in: context.len() as u32,
        ..Default::default()
    };
    // SAFETY: the context is as long as said, and outlives the call. The kernel
    // writes a syscall program's context back to where it read it.
    let error = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) };
    if error < 0 {
        let error = std::io::Error::from_raw_os_error(-error);
        return Err(MapError::libbpf("running a program of a policy")(
            error.into(),
        ));
    }
    Ok(options.retval as i32)
}

impl fmt::Debug for PolicyProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyProgram")
            .field("name", &self.name)
            .field("struct_ops", &self.struct_ops)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::POLICIES;

    #[test]
    fn every_policys_parameters_can_be_read() {
        for (name, bytes) in POLICIES {
            let said = Capture::start();
            let open = object::open(bytes, name, &said).unwrap();
            parameter::declared(&open).unwrap();
        }
    }

    #[test]
    fn a_parameter_is_described_as_it_was_declared() {
        let expected = Parameter {
            name: "min-size".into(),
            kind: parameter::ParameterKind::Bytes,
            default: 0,
        };
        assert_eq!(policy_parameters("biggest-leaf"), [expected]);
    }

    #[test]
    fn a_policy_that_is_not_there_has_no_parameters() {
        assert_eq!(policy_parameters("smallest-leaf"), []);
    }

    #[test]
    fn every_policy_is_named_after_its_file() {
        assert!(policy_names().contains(&"biggest-leaf"));
        for (name, bytes) in POLICIES {
            let said = Capture::start();
            let open = object::open(bytes, name, &said).unwrap();
            let definition = Definition::of(&open).unwrap();
            assert_eq!(definition.text("name").unwrap(), *name);
            assert_eq!(
                definition.program("handle_out_of_memory").unwrap(),
                "handle_out_of_memory"
            );
            assert_eq!(
                definition.program("handle_cgroup_offline").unwrap(),
                "handle_cgroup_offline"
            );
        }
    }
}
