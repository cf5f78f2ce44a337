// SPDX-License-Identifier: MIT OR Apache-2.0
//! The maps that all policy programs share: what they report, what they are
//! told about cgroups, and what they remember of domains.

use std::os::fd::{AsFd as _, BorrowedFd};

use libbpf_rs::{ErrorKind, MapCore as _, MapFlags, MapHandle, MapType, OpenObject};

use crate::events::{Events, EventsError};
use crate::interface::{
    OOMD_DOMAINS_MAX, OOMD_SETTINGS_MAX, bytes_of, oomd_domain, oomd_settings, read,
};
use crate::map::{self, MapError};
use crate::record::Event;
use crate::settings::CgroupSettings;
use crate::struct_ops::LoadError;

/// Names in `include/settings.bpf.h` and `include/cooldown.bpf.h`.
const SETTINGS: &str = "oomd_settings";
const DOMAINS: &str = "oomd_domains";

/// The shared maps.
///
/// They are made once and given to every program that is loaded, so that what
/// is said about a cgroup holds whichever policy decides.
#[derive(Debug)]
pub struct SharedMaps {
    events: Events,
    settings: MapHandle,
    domains: MapHandle,
}

impl SharedMaps {
    /// Make the maps.
    ///
    /// # Errors
    ///
    /// Without the privilege to use BPF, or without memory.
    pub fn new() -> Result<Self, EventsError> {
        let settings = map::create(
            MapType::Hash,
            SETTINGS,
            size_of::<u64>(),
            size_of::<oomd_settings>(),
            OOMD_SETTINGS_MAX,
            libbpf_sys::BPF_F_NO_PREALLOC,
        )
        .map_err(EventsError::libbpf("creating the map of settings"))?;
        let domains = map::create(
            MapType::LruHash,
            DOMAINS,
            size_of::<u64>(),
            size_of::<oomd_domain>(),
            OOMD_DOMAINS_MAX,
            0,
        )
        .map_err(EventsError::libbpf("creating the map of domains"))?;
        Ok(Self {
            events: Events::new()?,
            settings,
            domains,
        })
    }

    /// Readable when there are events.
    #[must_use]
    pub fn epoll_fd(&self) -> BorrowedFd<'_> {
        self.events.epoll_fd()
    }

    /// Pass every event that is there, oldest first, to `f`. Does not wait.
    ///
    /// # Errors
    ///
    /// An event that cannot be read does not hold up the ones behind it: `f`
    /// gets those, and the first such error is returned.
    pub fn drain(&mut self, f: impl FnMut(Event)) -> Result<(), EventsError> {
        self.events.drain(f)
    }

    /// Events lost because the buffer was full, since it was made.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map lookup.
    pub fn lost(&self) -> Result<u64, EventsError> {
        self.events.lost()
    }

    /// Tell the programs what is said about a cgroup, 0 for the root cgroup,
    /// in place of what was said before.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the entry; there is room for 65536 cgroups.
    pub fn put_settings(&self, cgroup_id: u64, settings: &CgroupSettings) -> Result<(), MapError> {
        self.settings
            .update(
                &cgroup_id.to_ne_bytes(),
                bytes_of(&settings.encode()),
                MapFlags::ANY,
            )
            .map_err(MapError::libbpf("writing a cgroup's settings"))
    }

    /// Say nothing about a cgroup any more. That nothing was said is fine: the
    /// programs forget a cgroup that goes away.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the removal.
    pub fn remove_settings(&self, cgroup_id: u64) -> Result<(), MapError> {
        match self.settings.delete(&cgroup_id.to_ne_bytes()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(MapError::libbpf("removing a cgroup's settings")),
        }
    }

    /// What is said about a cgroup, `None` if nothing.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map lookup.
    pub fn settings(&self, cgroup_id: u64) -> Result<Option<CgroupSettings>, MapError> {
        let value = self
            .settings
            .lookup(&cgroup_id.to_ne_bytes(), MapFlags::ANY)
            .map_err(MapError::libbpf("reading a cgroup's settings"))?;
        Ok(value
            .and_then(|bytes| read(&bytes))
            .map(|settings| CgroupSettings::decode(&settings)))
    }

    /// Let an object that is not loaded yet use these maps for its own.
    pub(crate) fn share_with(&self, open: &mut OpenObject) -> Result<(), LoadError> {
        for mut map in open.maps_mut() {
            let shared = match map.name().to_str() {
                Some(SETTINGS) => Some(&self.settings),
                Some(DOMAINS) => Some(&self.domains),
                Some(name) => self.events.map(name),
                None => None,
            };
            if let Some(shared) = shared {
                map.reuse_fd(shared.as_fd())
                    .map_err(LoadError::libbpf("sharing a map"))?;
            }
        }
        Ok(())
    }
}
