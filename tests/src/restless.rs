// SPDX-License-Identifier: MIT OR Apache-2.0
//! A daemon that is killed all the time.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::daemon;
use crate::random::Random;
use crate::systemctl::{PATIENCE, daemon_reload, eventually, show_number, wait_for_property};
use crate::units::Units;

/// The longest that one is let live, in milliseconds: some have time to do everything, and most have not.
const LONGEST: usize = 3000;

/// Makes systemd start the next daemon as soon as one is gone.
#[track_caller]
pub fn restart_at_once(units: &mut Units) {
    units.write_drop_in(
        daemon::UNIT,
        "50-at-once",
        "[Service]\nRestartSec=0\nRestartSteps=0\nRestartMaxDelaySec=infinity\n",
    );
    daemon_reload();
}

/// Kills the daemon and the one after it and so on, each after some time; dropping it ends that.
pub struct Restless {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    killed: AtomicUsize,
}

impl Restless {
    /// From now on, the first one at once.
    pub fn start(random: Random) -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || kill_again_and_again(&shared, random));
        Self {
            state,
            thread: Some(thread),
        }
    }

    /// Kills no more, waits for a daemon that is up, and returns how many were killed.
    #[track_caller]
    pub fn end(mut self) -> usize {
        self.stop();
        eventually("another daemon runs", || {
            show_number(daemon::UNIT, "MainPID") != 0
        });
        wait_for_property(daemon::UNIT, "ActiveState", "active");
        self.state.killed.load(Ordering::Relaxed)
    }

    fn stop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the killing thread");
        }
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn kill_again_and_again(state: &State, mut random: Random) {
    let processes = Path::new("/sys/fs/cgroup")
        .join(daemon::UNIT)
        .join("cgroup.procs");
    let mut before = None;
    while !state.stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        // Between two of them there is none.
        while !state.stop.load(Ordering::Relaxed) {
            let found = fs::read_to_string(&processes).unwrap_or_default();
            let pid = found.lines().next().and_then(|line| line.parse().ok());
            if let Some(pid) = pid.filter(|pid| Some(*pid) != before) {
                // SAFETY: takes numbers.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                state.killed.fetch_add(1, Ordering::Relaxed);
                before = Some(pid);
                break;
            }
            assert!(asked.elapsed() < PATIENCE, "there is no daemon any more");
            thread::sleep(Duration::from_millis(20));
        }
        let time = u64::try_from(random.below(LONGEST)).expect("milliseconds");
        let end = Instant::now() + Duration::from_millis(time);
        while Instant::now() < end && !state.stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}
