// SPDX-License-Identifier: MIT OR Apache-2.0
//! What could not be attached, and when to try again.
//!
//! Some reasons end without a word: the memory controller is turned on in a cgroup, another program takes its
//! attachment away. So everything is tried again, ever less often.

use crate::fault::Fault;
use crate::policy::{CgroupId, Desired, Policy};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<CgroupId, Refusal>);

#[derive(Debug)]
struct Refusal {
    policy: Policy,
    fault: Fault,
    pause: Duration,
    due: Instant,
}

impl Refusals {
    /// A policy was refused on a cgroup.
    pub(super) fn insert(&mut self, id: CgroupId, policy: Policy, fault: Fault, now: Instant) {
        let pause = match self.0.get(&id) {
            Some(before) if before.policy == policy => (before.pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        let refusal = Refusal {
            policy,
            fault,
            pause,
            due: now + pause,
        };
        self.0.insert(id, refusal);
    }

    pub(super) fn forget(&mut self, id: CgroupId) {
        self.0.remove(&id);
    }

    /// Forgets what is not wanted any more.
    pub(super) fn keep_only(&mut self, desired: &BTreeMap<CgroupId, Desired>) {
        self.0.retain(|id, refusal| {
            desired
                .get(id)
                .is_some_and(|want| want.policy == refusal.policy)
        });
    }

    /// Whether it is too early to try this again.
    pub(super) fn hold_back(&self, id: CgroupId, policy: &Policy, now: Instant) -> bool {
        self.0
            .get(&id)
            .is_some_and(|refusal| refusal.policy == *policy && now < refusal.due)
    }

    /// Something changed that may matter: what was refused on this cgroup is due.
    pub(super) fn retry_now(&mut self, id: CgroupId) {
        if let Some(refusal) = self.0.get_mut(&id) {
            refusal.due = Instant::now();
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|refusal| refusal.due).min()
    }

    /// Why nothing is attached to a cgroup.
    pub(super) fn fault(&self, id: CgroupId) -> Option<&Fault> {
        self.0.get(&id).map(|refusal| &refusal.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: CgroupId = CgroupId(7);

    fn policy() -> Policy {
        Policy::Bpf("p".into())
    }

    #[test]
    fn what_is_refused_again_and_again_is_tried_ever_less_often() {
        let mut refusals = Refusals::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            refusals.insert(ID, policy(), Fault::new("busy"), now);
            assert!(refusals.hold_back(ID, &policy(), now));
            let due = refusals.next().unwrap();
            pauses.push((due - now).as_secs());
            assert!(!refusals.hold_back(ID, &policy(), due));
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn another_policy_is_tried_at_once() {
        let mut refusals = Refusals::default();
        refusals.insert(ID, policy(), Fault::new("busy"), Instant::now());
        assert!(!refusals.hold_back(ID, &Policy::Kernel, Instant::now()));
    }

    #[test]
    fn news_of_the_unit_make_it_due() {
        let mut refusals = Refusals::default();
        refusals.insert(ID, policy(), Fault::new("busy"), Instant::now());
        refusals.retry_now(ID);
        assert!(!refusals.hold_back(ID, &policy(), Instant::now()));
        assert_eq!(refusals.fault(ID).unwrap().message, "busy");
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten() {
        let mut refusals = Refusals::default();
        refusals.insert(ID, policy(), Fault::new("busy"), Instant::now());
        refusals.keep_only(&BTreeMap::new());
        assert_eq!(refusals.next(), None);
        assert_eq!(refusals.fault(ID), None);
    }
}
