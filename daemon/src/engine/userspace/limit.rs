// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a cgroup that reached its memory.max is about to run out, and whether the machine is low on memory. Pure.

use super::text::{kilobytes, number};
use crate::policy::Machine;

/// Parts of a limit that are too little to go on with.
const TOO_LITTLE: u64 = 32;

/// A cgroup with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limited {
    /// Its memory.max, in bytes.
    pub(super) limit: u64,
    /// What it uses, in bytes.
    pub(super) usage: u64,
    /// What can be given back without swap, in bytes: page cache, and what the kernel keeps to be faster.
    pub(super) cache: u64,
    /// What could be swapped out, in bytes.
    pub(super) anonymous: u64,
    /// How much room for it there is, in bytes.
    pub(super) swap: u64,
}

impl Limited {
    /// With the cgroup's `memory.stat`.
    pub(super) fn new(limit: u64, usage: u64, swap: u64, stat: &str) -> Self {
        let of = |name| number(stat, name).unwrap_or_default();
        Limited {
            limit,
            usage,
            cache: of("inactive_file") + of("active_file") + of("slab_reclaimable"),
            anonymous: of("inactive_anon") + of("active_anon"),
            swap,
        }
    }

    /// Whether it is at its limit and reclaim has next to nothing left to take: the kernel's killer is next. That the limit is
    /// reached alone says nothing, as page cache grows up to any limit.
    pub(super) fn is_out(&self) -> bool {
        let little = self.limit / TOO_LITTLE;
        let reclaimable = self.cache + self.anonymous.min(self.swap);
        self.usage >= self.limit - little && reclaimable < little
    }
}

/// What the machine has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MachineMemory {
    pub(super) total: u64,
    pub(super) available: u64,
    pub(super) swap_total: u64,
    pub(super) swap_free: u64,
}

impl MachineMemory {
    /// Reads `/proc/meminfo`.
    pub(super) fn parse(meminfo: &str) -> Option<Self> {
        let of = |name| kilobytes(meminfo, name);
        Some(MachineMemory {
            total: of("MemTotal")?,
            available: of("MemAvailable")?,
            swap_total: of("SwapTotal")?,
            swap_free: of("SwapFree")?,
        })
    }

    /// Whether that is less than is said. Where memory and swap are said, both have to be short, and a machine without swap is short
    /// of it; where swap alone is said, there has to be some.
    pub(super) fn is_low(&self, said: &Machine) -> bool {
        self.is_below(said, 1)
    }

    /// Whether it is less than half of that.
    pub(super) fn is_very_low(&self, said: &Machine) -> bool {
        self.is_below(said, 2)
    }

    /// Whether it is less than that part of what is said.
    fn is_below(&self, said: &Machine, part: u64) -> bool {
        let memory = said
            .min_available
            .map(|least| self.available < least.of(self.total) / part);
        let swap = said
            .min_swap
            .map(|least| self.swap_free < least.of(self.swap_total) / part);
        match (memory, swap) {
            (Some(memory), Some(swap)) => memory && (swap || self.swap_total == 0),
            (Some(memory), None) => memory,
            (None, Some(swap)) => swap && self.swap_total > 0,
            (None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Amount;

    const MIB: u64 = 1 << 20;

    fn limited(cache: u64, swap: u64) -> Limited {
        let stat = format!(
            "inactive_file {}\nactive_file {}\nslab_reclaimable 0\ninactive_anon {}\nactive_anon 0\n",
            cache * MIB / 2,
            cache * MIB / 2,
            (320 - cache) * MIB
        );
        Limited::new(320 * MIB, 319 * MIB, swap * MIB, &stat)
    }

    #[test]
    fn at_its_limit_with_nothing_to_reclaim_it_is_out() {
        assert!(limited(0, 0).is_out());
        assert!(limited(8, 0).is_out());
    }

    #[test]
    fn page_cache_or_room_in_swap_is_something_to_reclaim() {
        assert!(!limited(200, 0).is_out());
        assert!(!limited(10, 0).is_out());
        assert!(!limited(0, 100).is_out());
        assert!(limited(0, 9).is_out());
    }

    #[test]
    fn below_its_limit_it_is_not_out() {
        let below = Limited {
            usage: 300 * MIB,
            ..limited(0, 0)
        };
        assert!(!below.is_out());
    }

    #[test]
    fn what_is_said_of_memory_and_of_swap_has_to_hold_together() {
        let percent = |part: u32| Some(Amount::Hundredths(part * 100));
        let said = |memory, swap| Machine {
            min_available: memory,
            min_swap: swap,
            ..Machine::default()
        };
        let has = |available, swap_total, swap_free| MachineMemory {
            total: 100,
            available,
            swap_total,
            swap_free,
        };
        let low = |memory: MachineMemory, said: Machine| memory.is_low(&said);
        assert!(!low(has(0, 0, 0), said(None, None)));
        assert!(low(has(4, 0, 0), said(percent(5), None)));
        assert!(!low(has(5, 0, 0), said(percent(5), None)));
        // Both.
        assert!(low(has(4, 100, 9), said(percent(5), percent(10))));
        assert!(!low(has(4, 100, 50), said(percent(5), percent(10))));
        assert!(!low(has(40, 100, 9), said(percent(5), percent(10))));
        assert!(low(has(4, 0, 0), said(percent(5), percent(10))));
        // Swap alone.
        assert!(low(has(90, 100, 9), said(None, percent(10))));
        assert!(!low(has(90, 0, 0), said(None, percent(10))));
    }

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 500 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        let expected = MachineMemory {
            total: 1_024_000,
            available: 512_000,
            swap_total: 0,
            swap_free: 0,
        };
        assert_eq!(MachineMemory::parse(text), Some(expected));
        assert_eq!(MachineMemory::parse("MemTotal: 1000 kB\n"), None);
    }
}
