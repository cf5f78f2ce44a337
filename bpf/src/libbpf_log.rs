// SPDX-License-Identifier: MIT OR Apache-2.0
//! What libbpf says while it opens and loads an object: without it, a refusal
//! is an errno; with it, the verifier's reason.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::{PrintCallback, PrintLevel, set_print};

/// The end of a verifier log names the instruction and the reason; what comes
/// before it is the path there.
const TAIL_LINES: usize = 40;

thread_local! {
    static CAPTURED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// libbpf has one print callback for the whole process.
static CAPTURING: Mutex<()> = Mutex::new(());

/// Collects libbpf's warnings of this thread for as long as it lives.
pub(crate) struct Capture {
    previous: Option<(PrintLevel, PrintCallback)>,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Capture {
    pub(crate) fn start() -> Self {
        let one_at_a_time = CAPTURING.lock().unwrap_or_else(PoisonError::into_inner);
        CAPTURED.with_borrow_mut(|captured| *captured = Some(String::new()));
        Self {
            previous: set_print(Some((PrintLevel::Warn, collect))),
            _one_at_a_time: one_at_a_time,
        }
    }

    /// The last lines of what was said until now.
    pub(crate) fn tail(&self) -> String {
        CAPTURED.with_borrow(|captured| tail(captured.as_deref().unwrap_or_default()))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        set_print(self.previous);
        CAPTURED.with_borrow_mut(Option::take);
    }
}

/// Another thread that uses libbpf meanwhile must not end up in this log; its
/// warnings go where libbpf's go by default.
fn collect(_level: PrintLevel, text: String) {
    CAPTURED.with_borrow_mut(|captured| match captured {
        Some(log) => log.push_str(&text),
        None => eprint!("{text}"),
    });
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let log: String = (0..100).map(|n| format!("line {n}\n\n")).collect();
        let tail = tail(&log);
        assert!(tail.starts_with("line 60\n"), "{tail}");
        assert!(tail.ends_with("\nline 99"), "{tail}");
    }

    #[test]
    fn libbpf_speaks_as_before_after_a_capture() {
        // What a capture finds; without one, that of another test may be there.
        let found = |capture: &Capture| capture.previous.map(|(level, _)| level);
        let capture = Capture::start();
        let before = found(&capture);
        collect(PrintLevel::Warn, "one\n".into());
        std::thread::spawn(|| collect(PrintLevel::Warn, String::new()))
            .join()
            .unwrap();
        assert_eq!(capture.tail(), "one");
        drop(capture);
        assert_eq!(found(&Capture::start()), before);
    }
}
