// SPDX-License-Identifier: MIT OR Apache-2.0
//! What follows a kill: the victim's way out, and the time that a kill is given to take effect.

use super::said::Chain;
use crate::policy::CgroupId;
use std::collections::HashMap;
use std::time::Duration;

/// A process that was killed.
pub(super) trait Process {
    /// Whether it has exited.
    fn is_gone(&self) -> bool;
}

/// A victim, as long as one of its processes is there.
#[derive(Debug)]
struct Dying<P> {
    victim: CgroupId,
    /// Where it is.
    chain: Chain,
    since: Duration,
    processes: Vec<P>,
}

/// Kills that are not over.
#[derive(Debug)]
pub(super) struct Aftermath<P> {
    dying: Vec<Dying<P>>,
    /// When the last kill in each domain was.
    last: HashMap<CgroupId, Duration>,
}

impl<P> Default for Aftermath<P> {
    fn default() -> Self {
        Aftermath {
            dying: Vec::new(),
            last: HashMap::new(),
        }
    }
}

impl<P: Process> Aftermath<P> {
    /// Somebody was killed for a domain.
    pub(super) fn killed(&mut self, domain: CgroupId, now: Duration) {
        self.last.insert(domain, now);
    }

    /// These processes of a victim are on their way out.
    pub(super) fn dies(
        &mut self,
        victim: CgroupId,
        chain: Chain,
        processes: Vec<P>,
        now: Duration,
    ) {
        self.dying.push(Dying {
            victim,
            chain,
            since: now,
            processes,
        });
    }

    /// Forgets those that are gone.
    pub(super) fn look(&mut self) {
        for dying in &mut self.dying {
            dying.processes.retain(|process| !process.is_gone());
        }
        self.dying.retain(|dying| !dying.processes.is_empty());
    }

    /// Whether a victim inside a domain is on its way out, and not for longer than the domain's cooldown.
    pub(super) fn is_exiting(&self, domain: CgroupId, cooldown: Duration, now: Duration) -> bool {
        self.dying.iter().any(|dying| {
            dying.chain.is_inside(domain) && now.saturating_sub(dying.since) < cooldown
        })
    }

    /// Whether a cgroup was killed and does not get away. There is nothing to gain from killing it again.
    pub(super) fn is_stuck(&self, victim: CgroupId) -> bool {
        self.dying.iter().any(|dying| dying.victim == victim)
    }

    /// Whether the last kill in a domain is given time to take effect.
    pub(super) fn cools_down(&self, domain: CgroupId, cooldown: Duration, now: Duration) -> bool {
        self.last
            .get(&domain)
            .is_some_and(|last| now.saturating_sub(*last) < cooldown)
    }

    /// A cgroup is gone.
    pub(super) fn forget(&mut self, domain: CgroupId) {
        self.last.remove(&domain);
    }
}

#[cfg(test)]
mod tests {
    use super::super::said::Link;
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[derive(Debug, Clone, Default)]
    struct Dead(Rc<Cell<bool>>);

    impl Process for Dead {
        fn is_gone(&self) -> bool {
            self.0.get()
        }
    }

    const SLICE: CgroupId = CgroupId(1);
    const UNIT: CgroupId = CgroupId(2);
    const OTHER: CgroupId = CgroupId(3);
    const COOLDOWN: Duration = Duration::from_secs(10);

    fn chain() -> Chain {
        let link = |id, is_slice| Link { id, is_slice };
        Chain::new(vec![
            link(UNIT, false),
            link(SLICE, true),
            link(CgroupId::SYSTEM, true),
        ])
    }

    fn seconds(time: u64) -> Duration {
        Duration::from_secs(time)
    }

    #[test]
    fn a_victim_that_exits_holds_off_the_next_kill_above_it_until_it_is_gone() {
        let process = Dead::default();
        let mut aftermath = Aftermath::default();
        aftermath.dies(UNIT, chain(), vec![process.clone()], seconds(100));
        aftermath.look();
        for domain in [UNIT, SLICE, CgroupId::SYSTEM] {
            assert!(aftermath.is_exiting(domain, COOLDOWN, seconds(101)));
        }
        assert!(!aftermath.is_exiting(OTHER, COOLDOWN, seconds(101)));
        assert!(aftermath.is_stuck(UNIT));
        process.0.set(true);
        aftermath.look();
        assert!(!aftermath.is_exiting(SLICE, COOLDOWN, seconds(101)));
        assert!(!aftermath.is_stuck(UNIT));
    }

    #[test]
    fn one_that_does_not_get_away_is_waited_for_no_longer_than_the_cooldown() {
        let mut aftermath = Aftermath::default();
        aftermath.dies(UNIT, chain(), vec![Dead::default()], seconds(100));
        aftermath.look();
        assert!(aftermath.is_exiting(SLICE, COOLDOWN, seconds(109)));
        assert!(!aftermath.is_exiting(SLICE, COOLDOWN, seconds(110)));
        assert!(aftermath.is_stuck(UNIT), "and it is not chosen again");
        assert!(!aftermath.is_exiting(SLICE, Duration::ZERO, seconds(100)));
    }

    #[test]
    fn the_cooldown_is_the_domains() {
        let mut aftermath = Aftermath::<Dead>::default();
        aftermath.killed(SLICE, seconds(100));
        assert!(aftermath.cools_down(SLICE, COOLDOWN, seconds(109)));
        assert!(!aftermath.cools_down(SLICE, COOLDOWN, seconds(110)));
        assert!(!aftermath.cools_down(UNIT, COOLDOWN, seconds(100)));
        assert!(!aftermath.cools_down(SLICE, Duration::ZERO, seconds(100)));
        aftermath.forget(SLICE);
        assert!(!aftermath.cools_down(SLICE, COOLDOWN, seconds(100)));
    }
}
