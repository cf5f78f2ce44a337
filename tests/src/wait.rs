// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for something to become true. The test machine may be emulated and slow: tests poll with a generous deadline and go on at
//! once when the thing has happened, instead of sleeping and hoping.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long something may take that happens by itself in a moment on a fast machine.
pub const SOON: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Polls `look` until it returns something, and returns that.
///
/// Panics when `deadline` has passed, with what `look` last said to be missing.
#[track_caller]
pub fn eventually_within<T>(deadline: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(missing) => assert!(
                start.elapsed() < deadline,
                "waited {deadline:?} in vain: {missing}"
            ),
        }
        sleep(INTERVAL);
    }
}

/// Polls `condition` until it is true, for at most [`SOON`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_within(SOON, || {
        condition().then_some(()).ok_or_else(|| what.to_owned())
    });
}

/// Polls `condition` for the whole of `time` and panics with `what` as soon as it is false.
#[track_caller]
pub fn all_the_time(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(condition(), "after {:?}: {what}", start.elapsed());
        sleep(INTERVAL);
    }
}

/// CLOCK_BOOTTIME.
pub fn since_boot() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists, and `time` is a valid place for the result.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(result, 0, "clock_gettime");
    let seconds = u64::try_from(time.tv_sec).expect("a time after boot");
    Duration::new(seconds, u32::try_from(time.tv_nsec).expect("nanoseconds"))
}
