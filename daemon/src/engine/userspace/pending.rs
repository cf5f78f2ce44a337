// SPDX-License-Identifier: MIT OR Apache-2.0
//! Victims that have time before they are killed: because they were warned, or because programs are run before. Pure.

use super::said::Chain;
use crate::policy::CgroupId;
use std::time::Duration;

/// A victim that is not killed yet.
#[derive(Debug)]
pub(super) struct Waiting<V> {
    pub(super) victim: CgroupId,
    /// Where it is.
    pub(super) chain: Chain,
    /// Until when it may end by itself.
    pub(super) warned_until: Option<Duration>,
    /// Until when the programs that are run before may take.
    pub(super) programs_until: Option<Duration>,
    pub(super) what: V,
}

impl<V> Waiting<V> {
    /// When it is killed at the latest.
    fn due(&self) -> Duration {
        self.warned_until
            .max(self.programs_until)
            .unwrap_or_default()
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Pending<V>(Vec<Waiting<V>>);

impl<V> Default for Pending<V> {
    fn default() -> Self {
        Pending(Vec::new())
    }
}

impl<V> Pending<V> {
    /// One more.
    pub(super) fn push(&mut self, waiting: Waiting<V>) {
        self.0.push(waiting);
    }

    /// Whether there is one inside a domain.
    pub(super) fn is_inside(&self, domain: CgroupId) -> bool {
        self.0.iter().any(|it| it.chain.is_inside(domain))
    }

    /// Takes one that has to be killed by now.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Waiting<V>> {
        self.take(|it| it.due() <= now)
    }

    /// Takes one inside a domain in which there is no time any more.
    pub(super) fn take_inside(&mut self, domain: CgroupId) -> Option<Waiting<V>> {
        self.take(|it| it.chain.is_inside(domain))
    }

    /// Takes one of which that is true.
    pub(super) fn take(&mut self, which: impl Fn(&Waiting<V>) -> bool) -> Option<Waiting<V>> {
        let index = self.0.iter().position(which)?;
        Some(self.0.remove(index))
    }

    /// The programs before the kill of a victim have ended.
    pub(super) fn programs_ended(&mut self, victim: CgroupId) {
        for it in self.0.iter_mut().filter(|it| it.victim == victim) {
            it.programs_until = None;
        }
    }

    /// When the next one has to be killed.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.iter().map(Waiting::due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::said::Link;
    use super::*;

    const SLICE: CgroupId = CgroupId(1);
    const UNIT: CgroupId = CgroupId(2);

    fn waiting(warned: Option<u64>, programs: Option<u64>) -> Waiting<()> {
        let link = |id, is_slice| Link { id, is_slice };
        Waiting {
            victim: UNIT,
            chain: Chain::new(vec![link(UNIT, false), link(SLICE, true)]),
            warned_until: warned.map(Duration::from_secs),
            programs_until: programs.map(Duration::from_secs),
            what: (),
        }
    }

    fn pending(warned: Option<u64>, programs: Option<u64>) -> Pending<()> {
        let mut pending = Pending::default();
        pending.push(waiting(warned, programs));
        pending
    }

    #[test]
    fn the_later_of_both_counts() {
        for (warned, programs, due) in [(Some(5), Some(2), 5), (Some(1), Some(2), 2)] {
            let mut pending = pending(warned, programs);
            assert_eq!(pending.next(), Some(Duration::from_secs(due)));
            assert!(pending.take_due(Duration::from_secs(due - 1)).is_none());
            assert!(pending.take_due(Duration::from_secs(due)).is_some());
            assert_eq!(pending.next(), None);
        }
    }

    #[test]
    fn programs_that_have_ended_are_not_waited_for_but_a_warning_is() {
        let mut only = pending(None, Some(9));
        only.programs_ended(UNIT);
        assert!(only.take_due(Duration::ZERO).is_some());
        let mut both = pending(Some(5), Some(9));
        both.programs_ended(UNIT);
        assert_eq!(both.next(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn where_there_is_no_time_any_more_it_is_taken_at_once() {
        let mut pending = pending(Some(5), None);
        assert!(pending.is_inside(SLICE) && pending.is_inside(UNIT));
        assert!(!pending.is_inside(CgroupId(3)));
        assert!(pending.take_inside(CgroupId(3)).is_none());
        assert!(pending.take_inside(SLICE).is_some());
        assert!(!pending.is_inside(SLICE));
    }
}
