// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine the tests run in: theirs alone.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::kmsg::Kmsg;

/// Made by the script that builds the image; nothing else has it.
const MARKER: &str = "/etc/bpf-oomd-test-vm";

/// Bits of `/proc/sys/kernel/tainted` that a defect sets: bad page (5), died (7), warning (9), soft lockup (14).
const TAINTED_BY_A_DEFECT: u64 = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14;

/// The system-wide attachment, the kernel log and the counters exist once, so one test runs at a time, however many threads the test
/// runner uses.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held by a test as long as it runs.
///
/// When the test is over and has not failed already, it fails if the kernel complained about itself meanwhile: a test of the
/// kernel that leaves a warning behind has not passed.
pub struct TestMachine {
    log: Kmsg,
    tainted: u64,
    _alone: MutexGuard<'static, ()>,
}

impl TestMachine {
    /// Makes sure that this is the test machine and that this process survives what the test is about to do.
    ///
    /// Panics anywhere else.
    pub fn enter() -> Self {
        assert!(
            Path::new(MARKER).exists(),
            "this test makes the system run out of memory and so runs in the test machine only (no {MARKER} here): tests/vm/run"
        );
        // A test that failed has poisoned the lock; the next one is not affected by that.
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // Inherited by children: every one that may die says so itself, see the hog.
        fs::write("/proc/self/oom_score_adj", "-1000")
            .expect("become unkillable, which needs root");
        Self {
            log: Kmsg::from_now(),
            tainted: tainted(),
            _alone: alone,
        }
    }

    /// What the kernel has said since the test began.
    pub fn log(&self) -> &Kmsg {
        &self.log
    }
}

impl Drop for TestMachine {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let complaints = self.log.complaints();
        assert!(complaints.is_empty(), "the kernel said: {complaints:#?}");
        assert!(
            !self.log.lost_lines(),
            "the kernel log overflowed; a complaint may be among the lost lines"
        );
        assert_eq!(
            tainted() & !self.tainted & TAINTED_BY_A_DEFECT,
            0,
            "the kernel is tainted now"
        );
    }
}

fn tainted() -> u64 {
    let text = fs::read_to_string("/proc/sys/kernel/tainted").expect("read tainted");
    text.trim().parse().expect("a number in tainted")
}

/// A counter of `/proc/vmstat`.
pub fn vmstat(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/vmstat").expect("read /proc/vmstat");
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .unwrap_or_else(|| panic!("no {name} in /proc/vmstat"))
        .1
        .parse()
        .expect("a number in /proc/vmstat")
}

/// A number of `/proc/meminfo`, such as `MemAvailable:`, in bytes.
pub fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("read /proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        * 1024
}
