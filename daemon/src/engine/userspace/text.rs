// SPDX-License-Identifier: MIT OR Apache-2.0
//! What files of the kernel say. Pure.

use super::guard::Counters;
use crate::policy::Level;
use std::time::Duration;

/// A number of a file of lines `NAME NUMBER`, such as `memory.stat` or `memory.events`.
pub(super) fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix(' ')?;
        rest.trim().parse().ok()
    })
}

/// The counters in a domain's `memory.stat` and `memory.events`. What a file does not have, as those of the root cgroup do not, is 0.
pub(super) fn counters(stat: &str, events: &str) -> Counters {
    let of = |text: &str, name| number(text, name).unwrap_or_default();
    Counters {
        scanned: of(stat, "pgscan_kswapd") + of(stat, "pgscan_direct"),
        high: of(events, "high"),
        max: of(events, "max"),
    }
}

/// A limit such as `memory.max`; None if there is none.
pub(super) fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// How long tasks have stalled, in a file such as `memory.pressure`.
pub(super) fn stalled(text: &str, level: Level) -> Option<Duration> {
    let line = match level {
        Level::Some => "some ",
        Level::Full => "full ",
    };
    let line = text.lines().find_map(|found| found.strip_prefix(line))?;
    let total = line
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

/// A number of kilobytes of `/proc/meminfo` or `/proc/PID/status`, in bytes. `name` is what is before the colon.
pub(super) fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix(':')?;
        let number: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
        number.checked_mul(1024)
    })
}

/// The ids of processes in a `cgroup.procs` that is read part by part.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// The digits of one that the next part may have more of.
    begun: u32,
}

impl Ids {
    /// Takes the next part. 0 stands for a process of another pid namespace.
    pub(super) fn read(&mut self, part: &[u8], look: &mut dyn FnMut(u32)) {
        for byte in part {
            match byte {
                b'0'..=b'9' => {
                    let digit = u32::from(byte - b'0');
                    self.begun = self.begun.wrapping_mul(10).wrapping_add(digit);
                }
                _ => match std::mem::take(&mut self.begun) {
                    0 => {}
                    id => look(id),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_names() {
        let stat =
            "anon 5\npgscan 99\npgscan_kswapd 3\npgscan_direct 4\npgscan_direct_throttle 8\n";
        let events = "low 0\nhigh 2\nmax 17\noom 1\noom_kill 1\n";
        let expected = Counters {
            scanned: 7,
            high: 2,
            max: 17,
        };
        assert_eq!(counters(stat, events), expected);
        assert_eq!(counters("", ""), Counters::default());
        assert_eq!(number(events, "oom"), Some(1));
        assert_eq!(number(events, "o"), None);
    }

    #[test]
    fn a_stall_is_a_total_of_its_level() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n\
                    full avg10=1.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(stalled(text, Level::Some), Some(Duration::from_micros(12)));
        assert_eq!(stalled(text, Level::Full), Some(Duration::from_micros(7)));
        assert_eq!(stalled("some avg10=0.00 total=x\n", Level::Some), None);
        assert_eq!(stalled("", Level::Full), None);
    }

    #[test]
    fn kilobytes_are_bytes() {
        let text = "MemAvailable:     100 kB\nVmSwap:\t 3 kB\nThreads:\t1\n";
        assert_eq!(kilobytes(text, "MemAvailable"), Some(100 << 10));
        assert_eq!(kilobytes(text, "VmSwap"), Some(3 << 10));
        assert_eq!(kilobytes(text, "Threads"), None);
        assert_eq!(kilobytes(text, "Vm"), None);
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("4096\n"), Some(4096));
    }

    #[test]
    fn processes_of_other_namespaces_have_no_id() {
        let mut found = Vec::new();
        let mut ids = Ids::default();
        for part in ["1", "2\n0\n7", "\n", "3456\n"] {
            ids.read(part.as_bytes(), &mut |id| found.push(id));
        }
        assert_eq!(found, [12, 7, 3456]);
    }
}
