// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who should die, from what the test has said and what the kernel's files say.

use bpf_oomd_tests::rating::{badness, bytes_of};

use super::tree::{Decides, Group, Preference, Said, Slice, Unit};

/// How far two must be apart, in bytes, for it to be sure which is the larger one: the kernel charges in batches, for each processor.
const SURE: u64 = 1 << 19;

/// What runs out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    Outer,
    Inner(usize),
}

/// What should happen.
pub struct Expected<'a> {
    pub decides: Decides,
    /// Who dies. The kernel's killer may have to take more than one; then these, in this order.
    pub victims: Vec<&'a Unit>,
    /// Whether all of the victim dies or one process.
    pub one_process_dies: bool,
    /// What that gives back, in bytes.
    pub gives: u64,
}

impl Group {
    pub fn slice(&self, domain: Domain) -> &Slice {
        match domain {
            Domain::Outer => &self.outer,
            Domain::Inner(number) => &self.inner[number],
        }
    }

    fn units_in(&self, domain: Domain) -> impl Iterator<Item = (usize, &Unit)> {
        let all = self.units.iter().enumerate();
        let all = all.filter(move |(number, _)| match domain {
            Domain::Outer => true,
            Domain::Inner(inner) => inner == *number,
        });
        all.flat_map(|(number, units)| units.iter().map(move |unit| (number, unit)))
    }

    /// Who decides about an OOM of a domain: whom the nearest slice names that names somebody. The topmost one names the policy.
    fn decides(&self, domain: Domain) -> Decides {
        let own = self.slice(domain).said.decides;
        own.or(self.outer.said.decides).unwrap_or(Decides::Policy)
    }

    /// What is said of a unit or, where nothing is, of the slices above it.
    fn said<T>(&self, inner: usize, unit: &Unit, what: impl Fn(&Said) -> Option<T>) -> Option<T> {
        let said = [&unit.said, &self.inner[inner].said, &self.outer.said];
        said.into_iter().find_map(what)
    }

    /// What is said of a unit by itself and by slices inside the domain.
    fn preference(&self, domain: Domain, inner: usize, unit: &Unit) -> Option<Preference> {
        let of_slice = match domain {
            Domain::Outer => self.inner[inner].said.preference,
            Domain::Inner(_) => None,
        };
        unit.said.preference.or(of_slice)
    }

    /// What should happen when a domain runs out of memory now, where no policy takes less than `min_size` bytes. None if it cannot be
    /// said for sure.
    #[track_caller]
    pub fn expected(&self, domain: Domain, min_size: u64) -> Option<Expected<'_>> {
        match self.decides(domain) {
            Decides::Policy => match self.by_policy(domain, min_size)? {
                Some(expected) => Some(expected),
                // Nobody may die by it.
                None => self.by_kernel(domain),
            },
            Decides::Kernel => self.by_kernel(domain),
        }
    }

    #[expect(clippy::option_option, reason = "not sure, and sure that it is nobody")]
    fn by_policy(&self, domain: Domain, min_size: u64) -> Option<Option<Expected<'_>>> {
        let mut candidates = Vec::new();
        for (inner, unit) in self.units_in(domain) {
            let bytes = bytes_of(&unit.path);
            if bytes.abs_diff(min_size) < SURE {
                return None;
            }
            let preference = self.preference(domain, inner, unit);
            if preference != Some(Preference::Omit) && bytes > min_size {
                candidates.push((preference.is_none(), bytes, inner, unit));
            }
        }
        candidates.sort_by_key(|(others_first, bytes, ..)| (!others_first, u64::MAX - bytes));
        let Some((first, bytes, inner, unit)) = candidates.first() else {
            return Some(None);
        };
        if let Some((second, next, ..)) = candidates.get(1)
            && first == second
            && bytes - next < SURE
        {
            return None;
        }
        let one_process_dies = self.said(*inner, unit, |said| said.one_process_dies);
        let one_process_dies = one_process_dies.unwrap_or(false);
        let processes = if one_process_dies {
            unit.pids.len() as u64
        } else {
            1
        };
        Some(Some(Expected {
            decides: Decides::Policy,
            victims: vec![unit],
            one_process_dies,
            gives: bytes / processes,
        }))
    }

    fn by_kernel(&self, domain: Domain) -> Option<Expected<'_>> {
        let limit = self.slice(domain).limit;
        let mut candidates: Vec<(i64, &Unit)> = Vec::new();
        for (_, unit) in self.units_in(domain) {
            for pid in &unit.pids {
                candidates.push((badness(*pid, limit)?, unit));
            }
        }
        candidates.sort_by_key(|(badness, _)| -badness);
        let apart = |pair: &[(i64, &Unit)]| {
            // Which one of a unit's processes it is is all the same.
            pair[0].1.name == pair[1].1.name || pair[0].0.abs_diff(pair[1].0) >= SURE
        };
        // It may have to take a second one.
        let first = candidates.get(..3.min(candidates.len()))?;
        if !first.windows(2).all(apart) {
            return None;
        }
        let victim = first.first()?.1;
        Some(Expected {
            decides: Decides::Kernel,
            victims: candidates.iter().map(|(_, unit)| *unit).collect(),
            one_process_dies: true,
            gives: bytes_of(&victim.path) / victim.pids.len() as u64,
        })
    }
}
