// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which BPF objects the kernel holds, by id: how a test sees that nothing was leaked.

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use libbpf_rs::query::ProgInfoIter;

use crate::wait::{SOON, eventually_within};

/// What the names of systemd's own programs begin with. It makes some for every service that it starts.
const OF_SYSTEMD: &[u8] = b"sd_";

/// The ids of all BPF links, maps and programs of the system at one moment, but for systemd's programs.
#[derive(Clone, PartialEq, Eq)]
pub struct BpfObjects {
    links: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    programs: BTreeSet<u32>,
}

type NextId = unsafe extern "C" fn(u32, *mut u32) -> libc::c_int;

fn ids(next_id: NextId) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut id = 0;
    // SAFETY: the bpf_*_get_next_id() functions take a start id and a valid pointer for the result.
    while unsafe { next_id(id, &mut id) } == 0 {
        found.insert(id);
    }
    found
}

impl BpfObjects {
    /// What there is now.
    pub fn now() -> Self {
        Self {
            links: ids(libbpf_sys::bpf_link_get_next_id),
            maps: ids(libbpf_sys::bpf_map_get_next_id),
            programs: ProgInfoIter::default()
                .filter(|program| !program.name.as_bytes().starts_with(OF_SYSTEMD))
                .map(|program| program.id)
                .collect(),
        }
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            links: &self.links - &other.links,
            maps: &self.maps - &other.maps,
            programs: &self.programs - &other.programs,
        }
    }

    fn is_empty(&self) -> bool {
        self.links.is_empty() && self.maps.is_empty() && self.programs.is_empty()
    }

    /// How many links, maps and programs there are.
    pub fn counts(&self) -> [usize; 3] {
        [self.links.len(), self.maps.len(), self.programs.len()]
    }

    /// How many links there are.
    pub fn link_count(&self) -> usize {
        self.links.len()
    }

    /// Waits until everything that was created since `self` is gone again. The kernel frees after grace periods, so it takes a moment.
    #[track_caller]
    pub fn wait_until_back(&self) {
        eventually_within(SOON, || {
            let left = Self::now().without(self);
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("BPF objects are left: {left:?}"))
            }
        });
    }
}

impl fmt::Debug for BpfObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "links {:?}, maps {:?}, programs {:?}",
            self.links, self.maps, self.programs
        )
    }
}
