// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told at once, and what is told together: when memory runs out many may die, and nobody reads as many notifications.
//!
//! The first of a storm is told at once. What comes within [`QUIET`] of the last telling is told when that time is over, together with
//! what was told before it, in the place of that. A storm is over when nothing has come for [`QUIET`].

use std::time::Duration;
use tokio::time::Instant;

/// How long nothing is told after something was.
const QUIET: Duration = Duration::from_secs(5);

/// More than so many are only counted.
const MOST: usize = 64;

/// What has gathered.
#[derive(Debug)]
pub(super) struct Storm<T> {
    gathered: Vec<T>,
    left_out: usize,
    told: Option<Instant>,
    /// Whether something has come since then.
    untold: bool,
    /// Whether something of what has gathered was told.
    same: bool,
}

impl<T> Default for Storm<T> {
    fn default() -> Self {
        Storm {
            gathered: Vec::new(),
            left_out: 0,
            told: None,
            untold: false,
            same: false,
        }
    }
}

impl<T> Storm<T> {
    /// Something has happened.
    pub(super) fn add(&mut self, what: T, now: Instant) {
        if !self.untold && self.told.is_none_or(|told| now >= told + QUIET) {
            *self = Storm::default();
        }
        self.untold = true;
        match self.gathered.len() < MOST {
            true => self.gathered.push(what),
            false => self.left_out += 1,
        }
    }

    /// When something has to be told, which may be over; None if there is nothing to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.told.map_or_else(Instant::now, |told| told + QUIET);
        self.untold.then_some(due)
    }

    /// What has to be told, the oldest first.
    pub(super) fn gathered(&self) -> &[T] {
        &self.gathered
    }

    /// How many more there were.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether what is told belongs in the place of what was told last.
    pub(super) fn is_the_same(&self) -> bool {
        self.same
    }

    /// It was told.
    pub(super) fn told(&mut self, now: Instant) {
        self.told = Some(now);
        self.untold = false;
        self.same = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_ones_together() {
        let mut storm = Storm::default();
        let start = Instant::now();
        assert_eq!(storm.due(), None);
        storm.add(1, start);
        assert!(storm.due().is_some_and(|due| due <= Instant::now()));
        assert_eq!((storm.gathered(), storm.is_the_same()), (&[1][..], false));
        storm.told(start);
        assert_eq!(storm.due(), None);
        for number in 2..5 {
            storm.add(number, start + QUIET / 2);
            assert_eq!(storm.due(), Some(start + QUIET));
        }
        assert_eq!(
            (storm.gathered(), storm.is_the_same()),
            (&[1, 2, 3, 4][..], true)
        );
    }

    #[test]
    fn a_storm_that_is_over_is_not_told_again() {
        let mut storm = Storm::default();
        let start = Instant::now();
        storm.add(1, start);
        storm.told(start);
        storm.add(2, start + QUIET);
        assert_eq!((storm.gathered(), storm.is_the_same()), (&[2][..], false));
    }

    #[test]
    fn what_could_not_be_told_is_kept_however_long_that_takes() {
        let mut storm = Storm::default();
        let start = Instant::now();
        storm.add(1, start);
        storm.add(2, start + 100 * QUIET);
        assert_eq!(
            (storm.gathered(), storm.is_the_same()),
            (&[1, 2][..], false)
        );
    }

    #[test]
    fn too_many_are_counted() {
        let mut storm = Storm::default();
        let start = Instant::now();
        for number in 0..MOST + 7 {
            storm.add(number, start);
        }
        assert_eq!((storm.gathered().len(), storm.left_out()), (MOST, 7));
    }
}
