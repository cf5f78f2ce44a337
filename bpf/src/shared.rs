// SPDX-License-Identifier: MIT OR Apache-2.0
//! The maps that all programs share: what they report, what they are told
//! about cgroups, and what they remember of domains and of triggers.

use std::os::fd::{AsFd as _, BorrowedFd};

use libbpf_rs::{ErrorKind, MapCore as _, MapFlags, MapHandle, MapType, OpenObject};

use crate::events::{Events, EventsError};
use crate::interface::{
    OOMD_DOMAINS_MAX, OOMD_SETTINGS_MAX, Plain, bytes_of, oomd_domain, oomd_pressure_said,
    oomd_settings, oomd_watch, read,
};
use crate::map::{self, MapError};
use crate::pressure::{CgroupPressure, Watch};
use crate::record::Event;
use crate::settings::CgroupSettings;
use crate::struct_ops::LoadError;

/// Names in `include/settings.bpf.h` and `include/cooldown.bpf.h`.
const SETTINGS: &str = "oomd_settings";
const DOMAINS: &str = "oomd_domains";
/// Names in `include/pressure.bpf.h` and `include/watch.bpf.h`.
const PRESSURE: &str = "oomd_pressure";
const WATCHES: &str = "oomd_watches";

/// The shared maps.
///
/// They are made once and given to every program that is loaded, so that what
/// is said about a cgroup holds whichever policy decides.
#[derive(Debug)]
pub struct SharedMaps {
    events: Events,
    settings: MapHandle,
    domains: MapHandle,
    pressure: MapHandle,
    watches: MapHandle,
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
        let pressure = map::create(
            MapType::Hash,
            PRESSURE,
            size_of::<u64>(),
            size_of::<oomd_pressure_said>(),
            OOMD_SETTINGS_MAX,
            libbpf_sys::BPF_F_NO_PREALLOC,
        )
        .map_err(EventsError::libbpf("creating the map of pressure settings"))?;
        let watches = map::create(
            MapType::Hash,
            WATCHES,
            size_of::<u64>(),
            size_of::<oomd_watch>(),
            OOMD_SETTINGS_MAX,
            libbpf_sys::BPF_F_NO_PREALLOC,
        )
        .map_err(EventsError::libbpf("creating the map of watched cgroups"))?;
        Ok(Self {
            events: Events::new()?,
            settings,
            domains,
            pressure,
            watches,
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
        remove(&self.settings, cgroup_id, "removing a cgroup's settings")
    }

    /// What is said about a cgroup, `None` if nothing.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map lookup.
    pub fn settings(&self, cgroup_id: u64) -> Result<Option<CgroupSettings>, MapError> {
        let found = look_up(&self.settings, cgroup_id, "reading a cgroup's settings")?;
        Ok(found.map(|settings| CgroupSettings::decode(&settings)))
    }

    /// Tell the pressure program what is said about a cgroup, 0 for the root
    /// cgroup, in place of what was said before. That alone makes no trigger.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the entry; there is room for 65536 cgroups.
    pub fn put_pressure(&self, cgroup_id: u64, said: &CgroupPressure) -> Result<(), MapError> {
        self.pressure
            .update(
                &cgroup_id.to_ne_bytes(),
                bytes_of(&said.encode()),
                MapFlags::ANY,
            )
            .map_err(MapError::libbpf("writing a cgroup's pressure settings"))
    }

    /// Say nothing about a cgroup's pressure any more. That nothing was said is
    /// fine: the program forgets a cgroup that goes away.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the removal.
    pub fn remove_pressure(&self, cgroup_id: u64) -> Result<(), MapError> {
        let what = "removing a cgroup's pressure settings";
        remove(&self.pressure, cgroup_id, what)
    }

    /// What is said about a cgroup's pressure, `None` if nothing.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map lookup.
    pub fn pressure(&self, cgroup_id: u64) -> Result<Option<CgroupPressure>, MapError> {
        let what = "reading a cgroup's pressure settings";
        let found = look_up(&self.pressure, cgroup_id, what)?;
        Ok(found.map(|said| CgroupPressure::decode(&said)))
    }

    /// The trigger that a cgroup, 0 for the system, has, and what came of its
    /// events; `None` if it has none.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map lookup.
    pub fn watch(&self, cgroup_id: u64) -> Result<Option<Watch>, MapError> {
        let found = look_up(&self.watches, cgroup_id, "reading a cgroup's trigger")?;
        Ok(found.and_then(|watch| Watch::decode(&watch)))
    }

    /// Ignore the trigger that a cgroup has. That it has none is fine.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the removal.
    pub fn remove_watch(&self, cgroup_id: u64) -> Result<(), MapError> {
        remove(&self.watches, cgroup_id, "forgetting a cgroup's trigger")
    }

    /// The ids of the cgroups that have a trigger, in no order. Those that come
    /// or go meanwhile may be missing or not.
    pub fn watched(&self) -> impl Iterator<Item = u64> {
        self.watches
            .keys()
            .filter_map(|key| Some(u64::from_ne_bytes(*key.first_chunk()?)))
    }

    /// Let an object that is not loaded yet use these maps for its own.
    pub(crate) fn share_with(&self, open: &mut OpenObject) -> Result<(), LoadError> {
        for mut map in open.maps_mut() {
            let shared = match map.name().to_str() {
                Some(SETTINGS) => Some(&self.settings),
                Some(DOMAINS) => Some(&self.domains),
                Some(PRESSURE) => Some(&self.pressure),
                Some(WATCHES) => Some(&self.watches),
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

fn look_up<T: Plain>(
    map: &MapHandle,
    cgroup_id: u64,
    what: &'static str,
) -> Result<Option<T>, MapError> {
    let value = map
        .lookup(&cgroup_id.to_ne_bytes(), MapFlags::ANY)
        .map_err(MapError::libbpf(what))?;
    Ok(value.and_then(|bytes| read(&bytes)))
}

fn remove(map: &MapHandle, cgroup_id: u64, what: &'static str) -> Result<(), MapError> {
    match map.delete(&cgroup_id.to_ne_bytes()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(MapError::libbpf(what)),
    }
}
