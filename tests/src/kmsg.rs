// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel log from a moment on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::wait::{SOON, eventually_within};

/// The kernel prints at most this many OOM reports ...
const REPORT_BURST: usize = 10;
/// ... in this time (`oom_rs` in `mm/oom_kill.c`, with the defaults of `include/linux/ratelimit_types.h`).
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Beginnings and parts of lines by which the kernel says that it has found a defect in itself.
const COMPLAINTS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "kernel BUG at",
    "Oops:",
    "general protection fault",
    "INFO: task ",
    "INFO: possible",
    "possible recursive locking",
    "possible circular locking",
    "suspicious RCU usage",
    "rcu_sched detected stalls",
    "rcu_preempt detected stalls",
    "soft lockup",
    "refcount_t:",
    "sleeping function called from invalid context",
    "scheduling while atomic",
    "Bad page state",
];

#[derive(Default)]
struct Shared {
    lines: Mutex<Vec<String>>,
    lost: AtomicBool,
    stop: AtomicBool,
}

/// Follows the kernel log from the moment of its creation.
///
/// A thread reads all the time, so that the kernel's small buffer does not overflow when a test makes many OOM reports.
pub struct Kmsg {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Kmsg {
    /// Starts to follow the log; what was said before is not seen.
    pub fn from_now() -> Self {
        let mut file = open();
        file.seek(SeekFrom::End(0)).expect("seek in /dev/kmsg");
        let shared = Arc::new(Shared::default());
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || follow(&mut file, &shared))
        };
        Self {
            shared,
            reader: Some(reader),
        }
    }

    /// The same, but waits first until the kernel's rate limit lets OOM reports through, for tests about the text of a report.
    pub fn before_a_report() -> Self {
        if recent_reports() + 2 > REPORT_BURST {
            thread::sleep(REPORT_INTERVAL + Duration::from_millis(200));
        }
        Self::from_now()
    }

    /// All lines so far, without priority and time.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().expect("kmsg lines").clone()
    }

    /// Waits for a line that contains `part` and returns it.
    #[track_caller]
    pub fn wait_for(&self, part: &str) -> String {
        eventually_within(SOON, || {
            let lines = self.lines();
            let found = lines.iter().find(|line| line.contains(part));
            found
                .cloned()
                .ok_or_else(|| format!("no line with {part:?} in the kernel log {lines:#?}"))
        })
    }

    /// Waits for an OOM report and returns its lines, from the first line ("... invoked oom-killer: ...") on.
    #[track_caller]
    pub fn wait_for_report(&self) -> Vec<String> {
        self.wait_for("Killed process");
        let lines = self.lines();
        let first = lines
            .iter()
            .position(|line| line.contains("invoked oom-killer:"))
            .unwrap_or_else(|| panic!("a kill without a report in the kernel log: {lines:#?}"));
        lines[first..].to_vec()
    }

    /// Lines in which the kernel complains about itself.
    pub fn complaints(&self) -> Vec<String> {
        self.lines()
            .into_iter()
            .filter(|line| COMPLAINTS.iter().any(|part| line.contains(part)))
            .collect()
    }

    /// Whether the log's buffer overflowed, so that lines were not seen.
    pub fn lost_lines(&self) -> bool {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Kmsg {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has said so on stderr; a second panic here could abort the whole test run.
            let _ = reader.join();
        }
    }
}

fn open() -> File {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg")
        .expect("open /dev/kmsg")
}

fn follow(file: &mut File, shared: &Shared) {
    loop {
        // Read once more after being told to stop: what was logged before that must be seen.
        let stop = shared.stop.load(Ordering::Relaxed);
        drain(file, |line| match line {
            Some((_, text)) => shared.lines.lock().expect("kmsg lines").push(text),
            None => shared.lost.store(true, Ordering::Relaxed),
        });
        if stop {
            return;
        }
        let mut poll = libc::pollfd {
            fd: file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd; the file is open. The result does not matter, the next read tells.
        unsafe { libc::poll(&mut poll, 1, 50) };
    }
}

/// Reads all records there are; `each` gets microseconds since boot and text, or `None` where records were overwritten.
fn drain(file: &mut File, mut each: impl FnMut(Option<(u64, String)>)) {
    let mut buffer = [0u8; 8192];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => each(parse(&String::from_utf8_lossy(&buffer[..length]))),
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => each(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("read /dev/kmsg: {error}"),
        }
    }
}

/// Takes a record `priority,sequence,microseconds,flags;text` apart (Documentation/ABI/testing/dev-kmsg in the kernel's source).
fn parse(record: &str) -> Option<(u64, String)> {
    let (header, text) = record.split_once(';')?;
    let time = header.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next().unwrap_or_default();
    Some((time, text.to_owned()))
}

/// How many OOM reports the kernel has printed within its rate limit's interval.
fn recent_reports() -> usize {
    let mut file = open();
    let mut times = Vec::new();
    drain(&mut file, |line| match line {
        Some((time, text)) if text.contains("invoked oom-killer:") => times.push(time),
        _ => {}
    });
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let now = u64::try_from(now.tv_sec).expect("time since boot") * 1_000_000
        + u64::try_from(now.tv_nsec).expect("time since boot") / 1000;
    let interval = u64::try_from(REPORT_INTERVAL.as_micros()).expect("a short interval");
    times
        .iter()
        .filter(|&&time| time + interval + 1_000_000 > now)
        .count()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_record_gives_its_time_and_its_first_line() {
        assert_eq!(
            parse("6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n"),
            Some((5_140_900, "NET: Registered".to_owned()))
        );
        assert_eq!(parse("4,1,7,c;a;b\n"), Some((7, "a;b".to_owned())));
        assert_eq!(parse("no record"), None);
    }
}
