// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a ranking says: the leaves of a domain in the order in which a policy
//! would choose them. Pure.

use std::cmp::Reverse;

use crate::interface::{
    OOMD_CANDIDATES_MAX, OOMD_EXCLUDED_NO_PROCESS, OOMD_EXCLUDED_NOT, OOMD_EXCLUDED_OMITTED,
    OOMD_EXCLUDED_SCORE_ZERO, OOMD_EXCLUDED_UNKILLABLE, oomd_candidate,
};
use crate::settings::Preference;

/// The leaves of a domain, as a policy's ranking program saw them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// Best first: the first one that is not excluded is who would die. Those
    /// to be avoided come after all others, the excluded ones last.
    pub candidates: Vec<Candidate>,
    /// Leaves that did not fit in the program's result. If there are any, the
    /// order is that of the leaves reported, and says nothing of the others.
    pub left_out: u64,
}

/// A leaf of the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its cgroup id.
    pub cgroup_id: u64,
    /// The policy's score.
    pub score: u64,
    /// Its memory use without page cache, in bytes.
    pub bytes: u64,
    /// Processes in it that could be killed.
    pub processes: u32,
    /// Its preference in this domain, its own or inherited.
    pub preference: Preference,
    /// Why it cannot be chosen, if so.
    pub excluded: Option<Excluded>,
}

/// Why a leaf cannot be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excluded {
    /// A process in it must not be killed: init, a kernel thread, or one with
    /// oom_score_adj -1000.
    Unkillable,
    /// No process in it is left to kill.
    NoProcess,
    /// The policy sees nothing to gain.
    ScoreZero,
    /// Its preference is [`Preference::Omit`].
    Omitted,
    /// A reason that this version does not know.
    Other(u32),
}

impl Ranking {
    /// An empty one with room for as many leaves as a program reports, to be
    /// filled again and again.
    #[must_use]
    pub fn with_room() -> Self {
        Self {
            candidates: Vec::with_capacity(OOMD_CANDIDATES_MAX as usize),
            left_out: 0,
        }
    }

    /// `entries` in the order in which the program visited them, of `leaves`
    /// seen.
    pub(crate) fn new(entries: impl IntoIterator<Item = oomd_candidate>, leaves: u64) -> Self {
        let mut ranking = Self {
            candidates: Vec::new(),
            left_out: 0,
        };
        ranking.fill(entries, leaves);
        ranking
    }

    /// The same in place of what is there. Allocates nothing if there is room.
    pub(crate) fn fill(&mut self, entries: impl IntoIterator<Item = oomd_candidate>, leaves: u64) {
        self.candidates.clear();
        self.candidates
            .extend(entries.into_iter().map(Candidate::from));
        // The id makes it a total order: what is visited first counts for
        // nothing, as in the handler.
        self.candidates.sort_unstable_by_key(|candidate| {
            // Among those that cannot die there is nobody to avoid.
            let avoided = candidate.excluded.is_none() && candidate.preference > Preference::None;
            (
                candidate.excluded.is_some(),
                avoided,
                Reverse(candidate.score),
                candidate.cgroup_id,
            )
        });
        let reported = self.candidates.len() as u64;
        self.left_out = leaves.saturating_sub(reported);
    }

    /// Who would die.
    #[must_use]
    pub fn victim(&self) -> Option<&Candidate> {
        self.candidates
            .first()
            .filter(|candidate| candidate.excluded.is_none())
    }
}

impl From<oomd_candidate> for Candidate {
    fn from(entry: oomd_candidate) -> Self {
        Self {
            cgroup_id: entry.cgroup_id,
            score: entry.score,
            bytes: entry.bytes,
            processes: entry.processes,
            // The programs know no others; one that cannot be is none.
            preference: Preference::decode(entry.preference).unwrap_or(Preference::None),
            excluded: match entry.excluded {
                OOMD_EXCLUDED_NOT => None,
                OOMD_EXCLUDED_UNKILLABLE => Some(Excluded::Unkillable),
                OOMD_EXCLUDED_NO_PROCESS => Some(Excluded::NoProcess),
                OOMD_EXCLUDED_SCORE_ZERO => Some(Excluded::ScoreZero),
                OOMD_EXCLUDED_OMITTED => Some(Excluded::Omitted),
                other => Some(Excluded::Other(other)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::{OOMD_PREFERENCE_AVOID, OOMD_PREFERENCE_NONE, OOMD_PREFERENCE_OMIT};

    fn entry(cgroup_id: u64, score: u64, excluded: u32) -> oomd_candidate {
        oomd_candidate {
            cgroup_id,
            score,
            bytes: score,
            excluded,
            processes: 1,
            preference: OOMD_PREFERENCE_NONE,
            reserved: 0,
        }
    }

    fn avoided(cgroup_id: u64, score: u64) -> oomd_candidate {
        oomd_candidate {
            preference: OOMD_PREFERENCE_AVOID,
            ..entry(cgroup_id, score, OOMD_EXCLUDED_NOT)
        }
    }

    fn order(ranking: &Ranking) -> Vec<u64> {
        ranking.candidates.iter().map(|c| c.cgroup_id).collect()
    }

    #[test]
    fn the_highest_score_comes_first_and_the_lowest_id_of_equals() {
        let ranking = Ranking::new(
            [
                entry(1, 10, OOMD_EXCLUDED_NOT),
                entry(3, 30, OOMD_EXCLUDED_NOT),
                entry(2, 30, OOMD_EXCLUDED_NOT),
            ],
            3,
        );
        assert_eq!(order(&ranking), [2, 3, 1]);
        assert_eq!(ranking.victim().map(|c| c.cgroup_id), Some(2));
        assert_eq!(ranking.left_out, 0);
    }

    #[test]
    fn excluded_leaves_come_last_whatever_their_score() {
        let ranking = Ranking::new(
            [
                entry(1, 90, OOMD_EXCLUDED_UNKILLABLE),
                entry(2, 10, OOMD_EXCLUDED_NOT),
                entry(3, 95, OOMD_EXCLUDED_NO_PROCESS),
            ],
            3,
        );
        assert_eq!(order(&ranking), [2, 3, 1]);
        assert_eq!(ranking.candidates[1].excluded, Some(Excluded::NoProcess));
    }

    #[test]
    fn avoided_leaves_come_after_all_others_and_before_the_excluded() {
        let ranking = Ranking::new(
            [
                avoided(1, 80),
                entry(2, 100, OOMD_EXCLUDED_UNKILLABLE),
                entry(3, 10, OOMD_EXCLUDED_NOT),
                avoided(4, 90),
                oomd_candidate {
                    preference: OOMD_PREFERENCE_OMIT,
                    ..entry(5, 200, OOMD_EXCLUDED_OMITTED)
                },
            ],
            5,
        );
        assert_eq!(order(&ranking), [3, 4, 1, 5, 2]);
        assert_eq!(ranking.candidates[1].preference, Preference::Avoid);
        assert_eq!(ranking.candidates[3].excluded, Some(Excluded::Omitted));
    }

    #[test]
    fn an_avoided_leaf_dies_when_nobody_else_can() {
        let ranking = Ranking::new([entry(1, 0, OOMD_EXCLUDED_SCORE_ZERO), avoided(2, 9)], 2);
        assert_eq!(ranking.victim().map(|c| c.cgroup_id), Some(2));
    }

    #[test]
    fn nobody_dies_when_all_are_excluded() {
        let ranking = Ranking::new(
            [entry(1, 0, OOMD_EXCLUDED_SCORE_ZERO), entry(2, 9, 12345)],
            2,
        );
        assert_eq!(ranking.victim(), None);
        assert_eq!(ranking.candidates[0].excluded, Some(Excluded::Other(12345)));
    }

    #[test]
    fn a_ranking_with_room_is_filled_without_growing() {
        let mut ranking = Ranking::with_room();
        let room = ranking.candidates.capacity();
        let entries = (0..u64::from(OOMD_CANDIDATES_MAX)).map(|n| entry(n, n, OOMD_EXCLUDED_NOT));
        ranking.fill(entries, 5000);
        assert_eq!(ranking.left_out, 904);
        ranking.fill([entry(1, 1, OOMD_EXCLUDED_NOT)], 1);
        assert_eq!(ranking, Ranking::new([entry(1, 1, OOMD_EXCLUDED_NOT)], 1));
        assert_eq!(ranking.candidates.capacity(), room);
    }

    #[test]
    fn leaves_that_did_not_fit_are_counted() {
        let ranking = Ranking::new([entry(1, 1, OOMD_EXCLUDED_NOT)], 5000);
        assert_eq!(ranking.left_out, 4999);
    }
}
