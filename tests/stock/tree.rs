// SPDX-License-Identifier: MIT OR Apache-2.0
//! A tree of cgroups with all that a ranking tells apart.

use bpf_oomd_bpf::{CgroupSettings, Preference, SharedMaps, StockPolicy};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;

/// How far the kernel's counters may be off: pages that a processor keeps for later are charged already.
pub const TOLERANCE: u64 = MIB / 2;

/// The ranking of `biggest-leaf`, and the maps that it shares.
pub struct Loaded {
    pub shared: SharedMaps,
    pub policy: StockPolicy,
}

impl Loaded {
    #[track_caller]
    pub fn new() -> Self {
        let shared = SharedMaps::new().expect("maps");
        let policy = StockPolicy::load("biggest-leaf", &shared).expect("load the ranking");
        Self { shared, policy }
    }

    /// Who would die in a domain.
    #[track_caller]
    pub fn next(&self, domain: &Cgroup) -> Option<u64> {
        let ranking = self.policy.ranking(domain.id()).expect("run the ranking");
        ranking.victim().map(|candidate| candidate.cgroup_id)
    }

    /// Says a preference of a cgroup.
    #[track_caller]
    pub fn prefer(&self, cgroup: &Cgroup, preference: Preference) {
        let settings = CgroupSettings {
            preference: Some(preference),
            ..CgroupSettings::default()
        };
        self.shared
            .put_settings(cgroup.id(), &settings)
            .expect("put settings");
    }
}

/// A slice in which all leaves use another amount of memory, at least 2 MiB apart.
pub struct Tree {
    pub loaded: Loaded,
    pub slice: Cgroup,
    /// Contains `largest` and `middle`.
    pub inner: Cgroup,
    /// 20 MiB of anonymous memory in four processes.
    pub largest: Cgroup,
    /// 8 MiB of anonymous and 6 MiB of shared memory.
    pub middle: Cgroup,
    /// 10 MiB, in a cgroup inside it without the memory controller.
    pub small: Cgroup,
    /// 4 MiB of anonymous memory, and 24 MiB of page cache.
    pub cached: Cgroup,
    _hogs: Vec<Hog>,
    _within: Cgroup,
}

impl Tree {
    #[track_caller]
    pub fn new() -> Self {
        let loaded = Loaded::new();
        let slice = Cgroup::new("slice");
        let inner = slice.child("inner");
        let (largest, middle) = (inner.child("largest"), inner.child("middle"));
        let (small, cached) = (slice.child("small"), slice.child("cached"));
        let within = small.child_without_memory("within");
        let mut many = Hog::ready(&largest, "fork=3 anon=5M ready hold");
        for _ in 0..3 {
            many.wait_ready();
        }
        let hogs = vec![
            many,
            Hog::ready(&middle, "anon=8M shared=6M ready hold"),
            Hog::ready(&within, "anon=10M ready hold"),
            Hog::ready(&cached, "anon=4M cache=/var/tmp/cached:24M ready hold"),
        ];
        Self {
            loaded,
            slice,
            inner,
            largest,
            middle,
            small,
            cached,
            _hogs: hogs,
            _within: within,
        }
    }

    /// The leaves, the one with the most memory first.
    pub fn leaves(&self) -> [&Cgroup; 4] {
        [&self.largest, &self.middle, &self.small, &self.cached]
    }
}

/// What a cgroup uses without page cache, as its files say.
#[track_caller]
pub fn bytes(cgroup: &Cgroup) -> u64 {
    let cache = cgroup.value("memory.stat", "file") - cgroup.value("memory.stat", "shmem");
    cgroup.memory_current().saturating_sub(cache)
}
