// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clock that is set.

use std::time::{Duration, SystemTime};

use bpf_oomd_tests::attachments::is_attached;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{json, told};
use bpf_oomd_tests::systemctl::{cgroup_of, eventually, signal, wait_for_property};
use bpf_oomd_tests::wait::since_boot;

const SERVICE: &str = "timed.service";
const HOUR: Duration = Duration::from_secs(3600);

/// What the clock showed, and when; dropping it sets the clock right.
struct Clock {
    time: SystemTime,
    at: Duration,
}

impl Clock {
    fn now() -> Self {
        Self {
            time: SystemTime::now(),
            at: since_boot(),
        }
    }

    /// What it would show now if nobody had set it.
    fn right(&self) -> SystemTime {
        self.time + (since_boot() - self.at)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        set(self.right());
    }
}

#[track_caller]
fn set(time: SystemTime) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(since.as_secs()).expect("seconds"),
        tv_nsec: since.subsec_nanos().into(),
    };
    // SAFETY: the clock exists, and `time` is valid to read.
    let result = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) };
    assert_eq!(result, 0, "clock_settime");
}

#[test]
fn a_clock_that_is_set_back_and_forth_ends_nothing_early_or_late_and_kills_have_the_time_it_shows()
{
    let _machine = TestMachine::enter();
    let _units = super::limited(SERVICE);
    let pid = daemon::pid();
    let clock = Clock::now();
    told(&["set-policy", "--for=30min", SERVICE, "kernel"]);
    for other in [clock.right() + 2 * HOUR, clock.right() - 2 * HOUR] {
        set(other);
        assert!(told(&["explain", SERVICE]).contains("policy: kernel"));
        assert!(!is_attached(&cgroup_of(SERVICE)));
    }
    // Two hours back now, and a time of some seconds ends after them.
    told(&["set-policy", "--for=3s", SERVICE, "kernel"]);
    eventually("the policy of the unit's files is in force", || {
        is_attached(&cgroup_of(SERVICE))
    });
    set(clock.right() + 2 * HOUR);
    signal(SERVICE, "USR1");
    wait_for_property(SERVICE, "Result", "oom-kill");
    eventually("the kill is listed", || {
        json(&["kills"])[0]["unit"] == SERVICE
    });
    let time = json(&["kills"])[0]["time_usec"].as_u64().expect("a time");
    let shown = SystemTime::UNIX_EPOCH + Duration::from_micros(time);
    let right = clock.right() + 2 * HOUR;
    let off = right
        .duration_since(shown)
        .unwrap_or_else(|error| error.duration());
    assert!(off < Duration::from_secs(120), "{off:?}");
    assert_eq!(daemon::pid(), pid);
}
