// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where messages go: to the journal with all their fields, or as text to standard error.

use std::os::unix::fs::MetadataExt;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

/// Sends this process's messages where they belong. Call once.
pub fn start() {
    let journal = stderr_is_the_journal().then(journal).transpose();
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
    tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(journal)
        .with(text)
        .init();
}

fn journal() -> std::io::Result<tracing_journald::Layer> {
    Ok(tracing_journald::layer()?
        // Field names are part of what this program promises; they are written where they are used, whole.
        .with_field_prefix(None)
        .with_syslog_identifier("bpf-oomd".into())
        .with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        }))
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
