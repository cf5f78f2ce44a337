// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills as a test saw them, against what is recorded: each is told once, or counted as lost, and none is told that was not.

use std::collections::{BTreeMap, BTreeSet};

use bpf_oomd::events::kill::KILL_MESSAGE_ID;

use crate::journal::{Entry, Journal, field, number};
use crate::oomctl::{Value, json};
use crate::systemctl::PATIENCE;
use crate::wait::eventually_within;

/// A kill that the test saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kill {
    /// The id of the victim's cgroup.
    pub victim: u64,
    /// The id of what ran out, 0 for the system.
    pub domain: u64,
    /// Who chose, as records name it.
    pub policy: &'static str,
    /// How many processes died of it.
    pub processes: u64,
}

/// All kills since it was begun.
pub struct Ledger {
    journal: Journal,
    /// Each as often as it was seen: the kernel's killer may take one process of a cgroup after the other.
    kills: BTreeMap<Kill, usize>,
    /// What was lost and counted before.
    before: Counters,
}

/// What the daemon has counted.
struct Counters {
    kills: u64,
    lost: u64,
}

impl Counters {
    #[track_caller]
    fn now() -> Self {
        let status = json(&["status"]);
        let counter = |name: &str| {
            let value = status["counters"][name].as_u64();
            value.unwrap_or_else(|| panic!("no {name} in {status}"))
        };
        Self {
            kills: counter("kills") + counter("kernel-kills"),
            lost: counter("lost-records"),
        }
    }
}

impl Ledger {
    /// None yet. The daemon runs.
    #[track_caller]
    pub fn begin() -> Self {
        Self {
            journal: Journal::from_now(),
            kills: BTreeMap::new(),
            before: Counters::now(),
        }
    }

    /// One more kill.
    pub fn add(&mut self, kill: Kill) {
        *self.kills.entry(kill).or_default() += 1;
    }

    /// How many there were.
    pub fn len(&self) -> usize {
        self.kills.values().sum()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.kills.is_empty()
    }

    /// Waits until each kill is told or counted as lost, and holds what is told against what was. The daemon runs, and goes on running.
    /// Returns a sentence with numbers.
    #[track_caller]
    pub fn check(&self) -> String {
        let all = self.len();
        let (entries, lost, counted) = eventually_within(PATIENCE, || {
            let entries = self.entries();
            let now = Counters::now();
            let lost = now.lost - self.before.lost;
            let counted = now.kills - self.before.kills;
            let told = as_number(entries.len());
            match told + lost >= as_number(all) && counted + lost >= told {
                true => Ok((entries, lost, counted)),
                false => Err(format!(
                    "of {all} kills {told} are told, {counted} counted and {lost} lost"
                )),
            }
        });
        let mut told: BTreeMap<Kill, usize> = BTreeMap::new();
        let mut moments = BTreeSet::new();
        for entry in &entries {
            let kill = self.seen(entry);
            *told.entry(kill).or_default() += 1;
            let moment = (kill, number(entry, "OOM_BOOTTIME_USEC"));
            assert!(moments.insert(moment), "told twice: {entry:#?}");
        }
        for (kill, times) in &told {
            assert!(*times <= self.kills[kill], "{kill:?} is told {times} times");
        }
        self.check_history(&moments, counted);
        format!("{all} kills, {} told, {lost} records lost", entries.len())
    }

    fn entries(&self) -> Vec<Entry> {
        self.journal
            .entries(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")])
    }

    /// The kill that an entry of the journal is about.
    #[track_caller]
    fn seen(&self, entry: &Entry) -> Kill {
        let victim = number(entry, "VICTIM_CGROUP_ID");
        let seen = self.kills.keys().find(|kill| {
            kill.victim == victim
                && kill.domain == number(entry, "OOM_DOMAIN_ID")
                && kill.policy == field(entry, "OOM_POLICY")
                && kill.processes == number(entry, "VICTIM_PROCESSES_TOTAL")
        });
        *seen.unwrap_or_else(|| panic!("nobody saw that: {entry:#?}"))
    }

    /// What the daemon says, over all daemons that there were, is in the journal: so many kills, one number after the other.
    #[track_caller]
    fn check_history(&self, told: &BTreeSet<(Kill, u64)>, counted: u64) {
        let kills = json(&["kills"]);
        let kills = kills.as_array().expect("an array");
        let number = |kill: &Value, key: &str| {
            let number = kill[key].as_u64();
            number.unwrap_or_else(|| panic!("no {key} in {kill}"))
        };
        let ids: Vec<u64> = kills.iter().map(|kill| number(kill, "id")).collect();
        let last = self.before.kills + counted;
        let first = (last + 1).saturating_sub(as_number(kills.len()));
        assert_eq!(ids, (first..=last).collect::<Vec<_>>(), "numbers of kills");
        let moments: BTreeSet<(u64, u64)> = told
            .iter()
            .map(|(kill, moment)| (kill.victim, *moment))
            .collect();
        let since = kills
            .iter()
            .filter(|kill| number(kill, "id") > self.before.kills);
        for kill in since {
            let moment = (number(kill, "cgroup_id"), number(kill, "boottime_usec"));
            assert!(moments.contains(&moment), "not in the journal: {kill}");
        }
    }
}

fn as_number(length: usize) -> u64 {
    u64::try_from(length).expect("a length")
}
