// SPDX-License-Identifier: MIT OR Apache-2.0
//! Maps that are no object's own, and what can go wrong with any map.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use libbpf_rs::{MapHandle, MapInfo, MapType};

use crate::parts::AdoptError;

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

/// What a map looks like; `key` and `value` are sizes in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) ty: MapType,
    pub(crate) name: &'static str,
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) entries: u32,
    pub(crate) flags: u32,
}

impl Shape {
    /// Make such a map.
    pub(crate) fn create(&self) -> libbpf_rs::Result<MapHandle> {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: self.flags,
            ..Default::default()
        };
        MapHandle::create(
            self.ty,
            Some(self.name),
            self.key as u32,
            self.value as u32,
            self.entries,
            &options,
        )
    }

    /// Such a map that another process made.
    pub(crate) fn adopt(&self, fd: OwnedFd) -> Result<MapHandle, AdoptError> {
        let found = MapInfo::new(fd.as_fd())
            .map_err(AdoptError::libbpf("asking the kernel about a kept map"))?
            .info;
        let expected = (
            self.ty as u32,
            self.key as u32,
            self.value as u32,
            self.entries,
        );
        if (
            found.type_,
            found.key_size,
            found.value_size,
            found.max_entries,
        ) != expected
        {
            return Err(AdoptError::Other(self.name));
        }
        // libbpf-rs makes handles of descriptors that it opened itself only. So
        // it is given a map like this one, whose place this one then takes.
        let handle = self
            .create()
            .map_err(AdoptError::libbpf("making a place for a kept map"))?;
        // SAFETY: both are open; the number goes on belonging to the handle,
        // and what it stood for before is closed by the call.
        let moved =
            unsafe { libc::dup3(fd.as_raw_fd(), handle.as_fd().as_raw_fd(), libc::O_CLOEXEC) };
        if moved < 0 {
            let error = std::io::Error::last_os_error();
            return Err(AdoptError::libbpf("taking a kept map")(error.into()));
        }
        Ok(handle)
    }
}
