// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last kills, for those who ask and those who wait for the next one.

use crate::events::record::KillRecord;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many kills are kept.
pub const KILLS_KEPT: usize = 1024;

/// A kill with its number, which counts from 1 since the service was started, and goes on when it is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedKill {
    /// The number.
    pub id: u64,
    /// The kill.
    pub record: KillRecord,
}

/// The last kills. The core adds to them and others read, each for as long as it takes to copy some pointers.
#[derive(Debug)]
pub struct History {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Its room is there from the beginning: when memory is short is when it is needed.
    kills: VecDeque<Arc<NumberedKill>>,
}

impl Default for History {
    fn default() -> Self {
        History {
            kept: Mutex::new(Kept {
                kills: VecDeque::with_capacity(KILLS_KEPT),
            }),
        }
    }
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nobody can stop in the middle of a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more.
    pub(crate) fn push(&self, kill: Arc<NumberedKill>) {
        let mut kept = self.lock();
        if kept.kills.len() == KILLS_KEPT {
            kept.kills.pop_front();
        }
        kept.kills.push_back(kill);
    }

    /// All that will be kept when this one is added.
    pub(crate) fn with(&self, kill: &Arc<NumberedKill>) -> Vec<Arc<NumberedKill>> {
        let kept = self.lock();
        let first = (kept.kills.len() + 1).saturating_sub(KILLS_KEPT);
        let kills = kept.kills.iter().skip(first).chain([kill]);
        kills.cloned().collect()
    }

    /// Those after the one with that number, oldest first, as far as they are kept.
    pub fn after(&self, id: u64) -> Vec<Arc<NumberedKill>> {
        let kept = self.lock();
        let new = kept.kills.iter().rev().take_while(|kill| kill.id > id);
        let mut new: Vec<_> = new.cloned().collect();
        new.reverse();
        new
    }

    /// The newest ones of those that were at that time, in microseconds since 1970, or later; oldest first. No more than `most`.
    pub fn since(&self, time_usec: u64, most: usize) -> Vec<Arc<NumberedKill>> {
        let kept = self.lock();
        let late = |kill: &&Arc<NumberedKill>| kill.record.time_usec >= time_usec;
        let mut newest: Vec<_> = kept
            .kills
            .iter()
            .rev()
            .filter(late)
            .take(most)
            .cloned()
            .collect();
        newest.reverse();
        newest
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::events::record::Killer;

    pub(crate) fn record(time_usec: u64) -> KillRecord {
        KillRecord {
            time_usec,
            boottime_usec: 1,
            killer: Killer::Policy,
            policy: "p".into(),
            reason: "limit".into(),
            unit: None,
            user_unit: None,
            cgroup: None,
            cgroup_id: None,
            bytes: None,
            score: None,
            preference: None,
            kill: None,
            processes: Vec::new(),
            processes_total: None,
            candidates: None,
            handler_usec: None,
            domain: None,
            domain_id: None,
            domain_unit: None,
            domain_bytes: None,
            attachment_unit: None,
            stall: None,
            message: String::new(),
        }
    }

    fn push(history: &History, id: u64, time_usec: u64) {
        let record = record(time_usec);
        history.push(Arc::new(NumberedKill { id, record }));
    }

    fn ids(kills: &[Arc<NumberedKill>]) -> Vec<u64> {
        kills.iter().map(|kill| kill.id).collect()
    }

    #[test]
    fn the_last_ones_are_kept_and_nothing_grows() {
        let history = History::default();
        let room = history.lock().kills.capacity();
        for time in 1..=3000 {
            push(&history, time, time);
        }
        assert_eq!(history.lock().kills.capacity(), room);
        let all = ids(&history.since(0, usize::MAX));
        let first = 3001 - KILLS_KEPT as u64;
        assert_eq!(all, (first..=3000).collect::<Vec<_>>());
        assert_eq!(ids(&history.after(2998)), [2999, 3000]);
        assert_eq!(history.after(0).len(), KILLS_KEPT);
        assert!(ids(&history.after(3000)).is_empty());
    }

    #[test]
    fn of_those_since_a_time_the_newest_are_told() {
        let history = History::default();
        for (id, time) in (1..).zip([10, 20, 30, 25]) {
            push(&history, id, time);
        }
        assert_eq!(ids(&history.since(20, usize::MAX)), [2, 3, 4]);
        assert_eq!(ids(&history.since(25, 1)), [4]);
        assert!(ids(&history.since(31, 5)).is_empty());
    }
}
