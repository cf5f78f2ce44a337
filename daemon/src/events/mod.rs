// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the engine reports: from cgroup ids to units, and to the journal.

mod entry;
pub mod kernel_kill;
pub mod kill;
mod place;
mod reason;
pub mod record;
pub mod stall;
pub mod warning;

/// A size as systemd writes it: base 1024, one digit after the point.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [(u64, char); 6] = [
        (1 << 60, 'E'),
        (1 << 50, 'P'),
        (1 << 40, 'T'),
        (1 << 30, 'G'),
        (1 << 20, 'M'),
        (1 << 10, 'K'),
    ];
    match UNITS.into_iter().find(|(unit, _)| number >= *unit) {
        Some((unit, letter)) => {
            let tenths = u128::from(number % unit) * 10 / u128::from(unit);
            format!("{}.{tenths}{letter}", number / unit)
        }
        None => format!("{number}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_base_1024() {
        let all = [
            0,
            1023,
            1024,
            1536,
            30 << 20,
            (1 << 30) - 1,
            3 << 30,
            u64::MAX,
        ];
        assert_eq!(
            all.map(bytes),
            [
                "0B", "1023B", "1.0K", "1.5K", "30.0M", "1023.9M", "3.0G", "15.9E"
            ]
        );
    }
}
