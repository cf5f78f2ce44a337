// SPDX-License-Identifier: MIT OR Apache-2.0
//! One daemon's turn in a scene: how long it takes from the first stall until memory is back, and who dies.

use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::machine::vmstat;
use bpf_oomd_tests::swap::Swap;
use bpf_oomd_tests::systemctl::signal;
use serde_json::{Value, json};

use crate::contender::{Contender, Rule, is_machine_low};
use crate::scene::{CULPRIT, Scene};

/// How often it is looked.
const PERIOD: Duration = Duration::from_millis(50);
/// Tasks of the domain have waited for so long when the stall has begun.
const BEGUN: Duration = Duration::from_millis(10);
/// A domain that uses so much more than before has its memory back.
const ROOM: u64 = 24 * MIB;
/// Memory that is not back by then does not come back.
const LIMIT: Duration = Duration::from_secs(120);
/// Whoever goes on killing does so in this time.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// What came of it.
#[derive(Debug, Clone)]
pub struct Turn {
    /// From the first stall until memory is back, if it is.
    pub from_stall: Option<Duration>,
    /// From when the machine's memory and swap were as low as was said, if that is what was said.
    pub from_low: Option<Duration>,
    /// Units that need not have died.
    pub dead: Vec<&'static str>,
    /// Processes that the kernel's own killer killed.
    pub by_kernel: u64,
}

impl Turn {
    /// Sets the scene, lets it happen, and clears up.
    #[track_caller]
    pub fn take(scene: &Scene, contender: Contender) -> Self {
        // So that everybody finds the same.
        fs::write("/proc/sys/vm/drop_caches", "3").expect("drop caches");
        let _swap = Swap::on(scene.swap);
        let set = scene.set();
        let _running = contender.start(&[scene.rule]);
        let (stalled, used) = (set.domain.stalled(), set.domain.used());
        let kernels = vmstat("oom_kill");
        signal(CULPRIT, "USR1");
        let begun = Instant::now();
        let (mut first_stall, mut first_low) = (None, None);
        let mut back = None;
        while back.is_none() && begun.elapsed() < LIMIT {
            if first_stall.is_none() && set.domain.stalled() >= stalled + BEGUN {
                first_stall = Some(Instant::now());
            }
            if first_low.is_none() && scene.rule == Rule::Low && is_machine_low() {
                first_low = Some(Instant::now());
            }
            // Where nobody has stalled yet, it has not happened yet.
            if first_stall.is_some() && set.domain.used() <= used + ROOM {
                back = Some(Instant::now());
            }
            sleep(PERIOD);
        }
        let since = |first: Option<Instant>| Some(back?.duration_since(first?));
        let (from_stall, from_low) = (since(first_stall), since(first_low));
        sleep(AFTERWARDS);
        Turn {
            from_stall,
            from_low,
            dead: set.dead(),
            by_kernel: vmstat("oom_kill") - kernels,
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "seconds_from_stall": self.from_stall.map(|time| time.as_secs_f64()),
            "seconds_from_low": self.from_low.map(|time| time.as_secs_f64()),
            "killed_needlessly": self.dead,
            "killed_by_the_kernel": self.by_kernel,
        })
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from_stall {
            Some(_) => write!(f, "memory is back")?,
            None => write!(f, "memory is not back")?,
        }
        if !self.dead.is_empty() {
            write!(f, "; needlessly killed: {}", self.dead.join(", "))?;
        }
        if self.by_kernel > 0 {
            write!(f, "; the kernel killed {}", self.by_kernel)?;
        }
        Ok(())
    }
}
