// SPDX-License-Identifier: MIT OR Apache-2.0
//! What systemd is told about the daemon, by sd_notify(3). Without systemd nobody is told anything, and nothing fails.

use super::manager_socket::tell;
use sd_notify::NotifyState;
use std::time::Duration;
use tracing::debug;

/// The service manager's ear.
#[derive(Debug, Default)]
pub struct Notifier {
    status: String,
}

impl Notifier {
    /// How often [`Notifier::alive`] has to be called, if systemd watches.
    pub fn watchdog_interval() -> Option<Duration> {
        // Half of the limit would do; a third leaves room for one long pause.
        sd_notify::watchdog_enabled().map(|limit| limit / 3)
    }

    /// The daemon works: at the end of its start, and of each reload.
    pub fn ready(&self) {
        send(&[NotifyState::Ready]);
    }

    /// The daemon is reading everything again.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send(&[NotifyState::Reloading, now]),
            Err(error) => debug!("the time of the reload is not known: {error}"),
        }
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        send(&[NotifyState::Stopping]);
    }

    /// The core loop is running.
    pub fn alive(&self) {
        send(&[NotifyState::Watchdog]);
    }

    /// One line on how things are. Sent only if it is another one than before.
    pub fn status(&mut self, status: String) {
        if status != self.status {
            send(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

fn send(state: &[NotifyState<'_>]) {
    let lines: String = state.iter().map(|line| format!("{line}\n")).collect();
    if let Err(error) = tell(&lines) {
        debug!("the service manager cannot be told {state:?}: {error}");
    }
}
