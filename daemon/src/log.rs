// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where messages go: to the journal with all their fields, or as text to standard error; and which ones.

mod journal;

use journal::Journal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

/// By what name messages are found in the journal.
pub const IDENTIFIER: &str = "bpf-oomd";

/// How important a message has to be, as systemd says it: a name of syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(&'static str);

impl LogLevel {
    /// From the most important on. There are no messages above `err`, and none that are notices.
    const ALL: [(&'static str, LevelFilter); 8] = [
        ("emerg", LevelFilter::OFF),
        ("alert", LevelFilter::OFF),
        ("crit", LevelFilter::OFF),
        ("err", LevelFilter::ERROR),
        ("warning", LevelFilter::WARN),
        ("notice", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    fn filter(self) -> LevelFilter {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == self.0);
        found.map_or(LevelFilter::INFO, |(_, filter)| filter)
    }
}

impl FromStr for LogLevel {
    type Err = String;

    /// The error says what was expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = Self::ALL.into_iter().map(|(name, _)| name);
        names
            .find(|name| *name == text)
            .map(LogLevel)
            .ok_or_else(|| {
                let all: Vec<&str> = Self::ALL.into_iter().map(|(name, _)| name).collect();
                format!("unknown log level, expected one of: {}", all.join(", "))
            })
    }
}

/// The level in force.
static LEVEL: Mutex<LogLevel> = Mutex::new(LogLevel("info"));
/// What makes another one count, and the journal, if messages go there.
static STARTED: OnceLock<(reload::Handle<LevelFilter, Registry>, Option<Journal>)> =
    OnceLock::new();

/// The level in force.
pub fn level() -> LogLevel {
    *LEVEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts another level in force, at once and for all threads.
pub fn set_level(level: LogLevel) {
    let mut in_force = LEVEL.lock().unwrap_or_else(PoisonError::into_inner);
    // Fails only if there is nobody to log.
    if let Some((handle, _)) = STARTED.get()
        && handle.reload(level.filter()).is_ok()
    {
        *in_force = level;
    }
}

/// Where messages go: `journal`, or `console` for standard error.
pub fn target() -> &'static str {
    match STARTED.get() {
        Some((_, Some(_))) => "journal",
        _ => "console",
    }
}

/// Offers the journal again what it did not take. Returns whether something waits still; then it is to be called again soon.
pub fn flush() -> bool {
    match STARTED.get() {
        Some((_, Some(journal))) => journal.flush(),
        _ => false,
    }
}

/// Sends this process's messages where they belong. Call once.
pub fn start() {
    let journal = || Journal::at(Path::new(journal::SOCKET), IDENTIFIER);
    let is_there = stderr_is_the_journal() || stderr_would_be_the_journal();
    let journal = is_there.then(journal).transpose();
    let (journal, text) = match journal {
        Ok(Some(journal)) => (Some(journal), None),
        _ => {
            let text = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_target(false)
                .without_time();
            (None, Some(text))
        }
    };
    let (filter, handle) = reload::Layer::new(level().filter());
    let _ = STARTED.set((handle, journal.clone()));
    tracing_subscriber::registry()
        .with(filter)
        .with(journal)
        .with(text)
        .init();
}

/// Whether standard error is what systemd connected to the journal: sd_journal_stream_fd(3), `$JOURNAL_STREAM` in
/// systemd.exec(5).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    // Metadata follows the magic link to what the descriptor is.
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Whether systemd found no journal when it started this service: then standard error leads nowhere. The journal may come back.
fn stderr_would_be_the_journal() -> bool {
    /// Linux's `Documentation/admin-guide/devices.txt`.
    const NULL: u64 = libc::makedev(1, 3);
    let is_null = || std::fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| stderr.rdev() == NULL);
    std::env::var_os("NOTIFY_SOCKET").is_some() && is_null()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_syslog() {
        for (name, filter) in LogLevel::ALL {
            let level: LogLevel = name.parse().unwrap();
            assert_eq!((level.name(), level.filter()), (name, filter));
        }
        let error = "warn".parse::<LogLevel>().unwrap_err();
        assert!(error.contains("warning, notice"), "{error}");
    }
}
