// SPDX-License-Identifier: MIT OR Apache-2.0
//! Maps that are no object's own, and what can go wrong with any map.

use libbpf_rs::{MapHandle, MapType};

/// A map of a loaded program could not be used.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// A system call or libbpf failed.
    #[error("{what}")]
    Libbpf {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: libbpf_rs::Error,
    },
    /// The domain of a ranking is not there, or has no memory controller.
    #[error("there is no memory cgroup with id {0}")]
    NoSuchDomain(u64),
    /// The ranking program's result cannot be.
    #[error("the ranking program returned {0}")]
    Ranking(i32),
    /// The policy declares no such parameter.
    #[error("the policy has no parameter {0:?}")]
    NoSuchParameter(String),
}

impl MapError {
    pub(crate) fn libbpf(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Libbpf { what, source }
    }
}

/// Make a map; `key` and `value` are sizes in bytes.
pub(crate) fn create(
    ty: MapType,
    name: &'static str,
    key: usize,
    value: usize,
    entries: u32,
    flags: u32,
) -> libbpf_rs::Result<MapHandle> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: flags,
        ..Default::default()
    };
    MapHandle::create(ty, Some(name), key as u32, value as u32, entries, &options)
}
