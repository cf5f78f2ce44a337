// SPDX-License-Identifier: MIT OR Apache-2.0
//! A domain that is watched for pressure, with everything open that is looked at when it stalls.

use super::guard::Counters;
use super::place::Place;
use super::reading::{Room, open_in};
use super::text;
use crate::cgroup::Tree;
use crate::policy::{CgroupId, Level};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The files that tell whether a cgroup is over its memory.high.
#[derive(Debug)]
struct High {
    high: OwnedFd,
    usage: OwnedFd,
}

impl High {
    fn is_exceeded(&self) -> bool {
        let mut room = Room::new();
        let Some(high) = text::limit(room.read(&self.high)) else {
            return false;
        };
        text::limit(room.read(&self.usage)).is_some_and(|usage| usage > high)
    }
}

/// Those of cgroups that watched ones are in, which are few for many.
#[derive(Debug, Default)]
pub(super) struct Highs(HashMap<CgroupId, Weak<High>>);

impl Highs {
    /// None if the cgroup has none: the root cgroup, and what has no memory controller.
    fn of(&mut self, tree: &Tree, id: CgroupId) -> Option<Arc<High>> {
        if id == CgroupId::SYSTEM {
            return None;
        }
        if let Some(there) = self.0.get(&id).and_then(Weak::upgrade) {
            return Some(there);
        }
        let directory = tree.open_by_id(id).ok()?;
        let open = |name| open_in(directory.as_fd(), name);
        let high = Arc::new(High {
            high: open("memory.high")?,
            usage: open("memory.current")?,
        });
        self.0.retain(|_, there| there.strong_count() > 0);
        self.0.insert(id, Arc::downgrade(&high));
        Some(high)
    }
}

/// A domain that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) place: Place,
    /// The pressure file with the trigger.
    pressure: OwnedFd,
    stat: Option<OwnedFd>,
    events: Option<OwnedFd>,
    /// Its own and of all above it.
    highs: Vec<Arc<High>>,
}

impl Watched {
    /// `pressure` is its pressure file, with the trigger.
    pub(super) fn new(tree: &Tree, highs: &mut Highs, place: Place, pressure: OwnedFd) -> Self {
        let open = |name| open_in(place.directory(), name);
        Watched {
            pressure,
            stat: open("memory.stat"),
            events: open("memory.events"),
            highs: place
                .chain
                .ids()
                .filter_map(|id| highs.of(tree, id))
                .collect(),
            place,
        }
    }

    /// How long tasks have stalled so far.
    pub(super) fn stalled(&self, level: Level) -> Duration {
        text::stalled(Room::new().read(&self.pressure), level).unwrap_or_default()
    }

    /// Its counters. Those that the root cgroup does not have are 0.
    pub(super) fn counters(&self) -> Counters {
        let (mut stat, mut events) = (Room::new(), Room::new());
        let stat = self.stat.as_ref().map(|file| stat.read(file));
        let events = self.events.as_ref().map(|file| events.read(file));
        text::counters(stat.unwrap_or_default(), events.unwrap_or_default())
    }

    /// Whether it or something above it is over its memory.high.
    pub(super) fn is_held_back(&self) -> bool {
        self.highs.iter().any(|high| high.is_exceeded())
    }
}
