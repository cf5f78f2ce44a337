// SPDX-License-Identifier: MIT OR Apache-2.0
//! A slice with units in it, decided by the policy `biggest-leaf`, for tests of what is said about units.

use std::os::fd::{AsFd, OwnedFd};

use bpf_oomd::engine::kernel::struct_ops_link;
use bpf_oomd_bpf::{CgroupSettings, Event, KillRecord, PolicyProgram, Ranking, SharedMaps};
use bpf_oomd_tests::cgroup::{Cgroup, MIB};
use bpf_oomd_tests::hog::Hog;

/// The memory of a slice, in bytes. Units of a test use less than that together.
const LIMIT: u64 = 64 * MIB;

/// The policy, and the maps that it shares.
pub struct Loaded {
    pub shared: SharedMaps,
    pub policy: PolicyProgram,
}

impl Loaded {
    #[track_caller]
    pub fn new() -> Self {
        let shared = SharedMaps::new().expect("maps");
        let policy = PolicyProgram::load("biggest-leaf", &shared).expect("load the policy");
        Self { shared, policy }
    }

    /// Says something about a cgroup.
    #[track_caller]
    pub fn say(&self, cgroup: &Cgroup, settings: CgroupSettings) {
        self.shared
            .put_settings(cgroup.id(), &settings)
            .expect("put settings");
    }

    /// Attaches the policy to a cgroup.
    #[track_caller]
    pub fn attach(&self, cgroup: &Cgroup) -> OwnedFd {
        let directory = cgroup.open();
        struct_ops_link(self.policy.struct_ops_map(), Some(directory.as_fd())).expect("attach")
    }

    /// Who is next in a domain, best first.
    #[track_caller]
    pub fn ranking(&self, domain: &Cgroup) -> Ranking {
        self.policy.ranking(domain.id()).expect("run the ranking")
    }

    /// The id of who would die in a domain.
    #[track_caller]
    pub fn next(&self, domain: &Cgroup) -> Option<u64> {
        self.ranking(domain)
            .victim()
            .map(|candidate| candidate.cgroup_id)
    }

    /// The kills since the last call.
    #[track_caller]
    pub fn kills(&mut self) -> Vec<KillRecord> {
        let mut kills = Vec::new();
        let drained = self.shared.drain(|event| {
            if let Event::Kill(kill) = event {
                kills.push(kill);
            }
        });
        drained.expect("read events");
        kills
    }

    /// The one kill since the last call.
    #[track_caller]
    pub fn kill(&mut self) -> KillRecord {
        let mut kills = self.kills();
        assert_eq!(kills.len(), 1, "{kills:?}");
        kills.remove(0)
    }
}

/// A slice with a limit; the policy is attached to it until the link is dropped.
pub fn slice(loaded: &Loaded) -> (Cgroup, OwnedFd) {
    let slice = Cgroup::new("slice");
    slice.limit(LIMIT);
    let link = loaded.attach(&slice);
    (slice, link)
}

/// A process that nobody may kill; at each [`Hog::go`] it uses 44 MiB for a moment, more than a slice has beside units of 24 MiB.
pub fn trouble(slice: &Cgroup) -> (Cgroup, Hog) {
    let unit = slice.child("trouble");
    let rounds = "wait anon=44M ready wait free ready ".repeat(4);
    let hog = Hog::ready(&unit, &format!("adj=-1000 ready {rounds} hold"));
    (unit, hog)
}

/// One round of [`trouble`], in which somebody has to die.
#[track_caller]
pub fn make(trouble: &mut Hog) {
    trouble.go();
    trouble.wait_ready();
    trouble.go();
    trouble.wait_ready();
}

/// A slice with two units, the larger one in a cgroup between. Both have room beside each other, and not beside [`trouble`].
pub struct Two {
    pub larger: Cgroup,
    pub large: Hog,
    pub smaller: Cgroup,
    pub small: Hog,
    pub trouble: Hog,
    pub slice: Cgroup,
    _link: OwnedFd,
    _others: [Cgroup; 2],
    pub loaded: Loaded,
}

impl Two {
    /// Units of 14 and 10 MiB.
    pub fn new() -> Self {
        Self::doing("anon=14M ready hold", "anon=10M ready hold")
    }

    /// Units with processes that do what a test says.
    pub fn doing(large: &str, small: &str) -> Self {
        let loaded = Loaded::new();
        let (slice, link) = slice(&loaded);
        let inner = slice.child("inner");
        let (larger, smaller) = (inner.child("larger"), slice.child("smaller"));
        let (unit, trouble) = trouble(&slice);
        Self {
            large: Hog::ready(&larger, large),
            larger,
            small: Hog::ready(&smaller, small),
            smaller,
            trouble,
            slice,
            _link: link,
            _others: [inner, unit],
            loaded,
        }
    }

    /// The cgroup between.
    pub fn inner(&self) -> &Cgroup {
        &self._others[0]
    }
}
