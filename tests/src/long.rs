// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests that can go on for as long as one likes (`tests/long`): how long, and with which random numbers.

use std::env;

use crate::random::Random;

/// How long a test goes on, and by chance of what.
pub struct Run {
    /// How many rounds there are. What a round is, each test says itself.
    pub rounds: usize,
    /// What is done in them.
    pub random: Random,
}

impl Run {
    /// As long as is asked for, or `short`; with the seed that is asked for, or any. Both are printed: with them it can be done again, as far
    /// as timing allows.
    pub fn of(short: usize) -> Self {
        let rounds = number("BPF_OOMD_ROUNDS").unwrap_or(short);
        let seed = number("BPF_OOMD_SEED").unwrap_or(std::process::id() as usize);
        println!("seed {seed}, {rounds} rounds");
        let seed = u64::try_from(seed).expect("a seed");
        Self {
            rounds,
            random: Random::with_seed(seed),
        }
    }
}

fn number(variable: &str) -> Option<usize> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number")),
    )
}
