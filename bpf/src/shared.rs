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
use crate::map::{MapError, Shape};
use crate::parts::{self, AdoptError, Adopted, Parts};
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

const SETTINGS_SHAPE: Shape = by_cgroup(SETTINGS, size_of::<oomd_settings>());
const PRESSURE_SHAPE: Shape = by_cgroup(PRESSURE, size_of::<oomd_pressure_said>());
const WATCHES_SHAPE: Shape = by_cgroup(WATCHES, size_of::<oomd_watch>());
const DOMAINS_SHAPE: Shape = Shape {
    ty: MapType::LruHash,
    name: DOMAINS,
    key: size_of::<u64>(),
    value: size_of::<oomd_domain>(),
    entries: OOMD_DOMAINS_MAX,
    flags: 0,
};

const fn by_cgroup(name: &'static str, value: usize) -> Shape {
    Shape {
        ty: MapType::Hash,
        name,
        key: size_of::<u64>(),
        value,
        entries: OOMD_SETTINGS_MAX,
        flags: libbpf_sys::BPF_F_NO_PREALLOC,
    }
}

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
        let create = |shape: Shape| {
            shape
                .create()
                .map_err(EventsError::libbpf("creating a map that programs share"))
        };
        Ok(Self {
            events: Events::new()?,
            settings: create(SETTINGS_SHAPE)?,
            domains: create(DOMAINS_SHAPE)?,
            pressure: create(PRESSURE_SHAPE)?,
            watches: create(WATCHES_SHAPE)?,
        })
    }

    /// Tells maps that mean the same from others.
    #[must_use]
    pub fn fingerprint() -> u64 {
        parts::of_interface()
    }

    /// Go on with the maps of another process, with the same fingerprint.
    /// Events that nobody has read are there to be read.
    ///
    /// # Errors
    ///
    /// If one of them was not kept, or is none.
    pub fn adopt(mut kept: Adopted) -> Result<Self, AdoptError> {
        let mut take = |shape: Shape| shape.adopt(parts::take(&mut kept, shape.name)?);
        let (settings, domains) = (take(SETTINGS_SHAPE)?, take(DOMAINS_SHAPE)?);
        let (pressure, watches) = (take(PRESSURE_SHAPE)?, take(WATCHES_SHAPE)?);
        Ok(Self {
            events: Events::adopt(take)?,
            settings,
            domains,
            pressure,
            watches,
        })
    }

    /// What another process needs to go on with these maps.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        let mut parts = vec![
            (SETTINGS, self.settings.as_fd()),
            (DOMAINS, self.domains.as_fd()),
            (PRESSURE, self.pressure.as_fd()),
            (WATCHES, self.watches.as_fd()),
        ];
        parts.extend(self.events.parts());
        parts
    }

    /// The ids of the cgroups that something is said about, in no order.
    pub fn told(&self) -> impl Iterator<Item = u64> {
        keys(&self.settings).chain(keys(&self.pressure))
    }

    /// Readable when there are events.
    #[must_use]
    pub fn epoll_fd(&self) -> BorrowedFd<'_> {
        self.events.epoll_fd()
    }

    /// The oldest event that nobody has read yet. It counts as told when the
    /// next one is asked for: if this process ends before that, whoever goes on
    /// counts it as lost.
    ///
    /// # Errors
    ///
    /// An event that cannot be read does not hold up the ones behind it.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventsError> {
        self.events.next()
    }

    /// Pass every event that is there, oldest first, to `f`. Does not wait.
    ///
    /// # Errors
    ///
    /// An event that cannot be read does not hold up the ones behind it: `f`
    /// gets those, and the first such error is returned.
    pub fn drain(&mut self, mut f: impl FnMut(Event)) -> Result<(), EventsError> {
        let mut malformed = None;
        loop {
            match self.events.next() {
                Ok(Some(event)) => f(event),
                Ok(None) => return malformed.map_or(Ok(()), Err),
                Err(error @ EventsError::Malformed(_)) => malformed = malformed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Events lost because the buffer was full, or because a process ended
    /// while it was telling them, since the buffer was made.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map lookup.
    pub fn lost(&self) -> Result<u64, EventsError> {
        self.events.lost()
    }

    /// How many of them were told by the process before this one.
    #[must_use]
    pub fn lost_before(&self) -> u64 {
        self.events.lost_before()
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
        keys(&self.watches)
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

fn keys(map: &MapHandle) -> impl Iterator<Item = u64> {
    map.keys()
        .filter_map(|key| Some(u64::from_ne_bytes(*key.first_chunk()?)))
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
