// SPDX-License-Identifier: MIT OR Apache-2.0
//! The core loop: waits for whatever comes next, and lets the core act on it.

use super::Core;
use super::config_watch::ConfigWatch;
use crate::engine::Engine;
use crate::systemd::facts::Update;
use crate::systemd::follow::follow;
use crate::systemd::notify::Notifier;
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::info;

/// Runs until SIGTERM or SIGINT. What is attached is detached when `core` is dropped.
///
/// # Errors
///
/// If signals or the engine's events cannot be waited for.
pub async fn run<E: Engine>(core: &mut Core<E>) -> io::Result<()> {
    let (updates, news) = mpsc::channel(8);
    let again = Notify::new();
    tokio::select! {
        result = act(core, news, &again) => result,
        // Ends only when nobody listens any more, and that is when the other one has ended.
        () = follow(updates, &again) => Ok(()),
    }
}

async fn act<E: Engine>(
    core: &mut Core<E>,
    mut news: mpsc::Receiver<Update>,
    again: &Notify,
) -> io::Result<()> {
    let mut notifier = Notifier::default();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // A descriptor of the loop's own for the same queue, so that the core stays free to be changed.
    let events = core.engine.events_fd().try_clone_to_owned()?;
    // SAFETY: nobody else has this descriptor; the AsyncFd owns it and is the only one to close it.
    let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) }?;
    let watched = Notifier::watchdog_interval();
    let mut watchdog = interval(watched.unwrap_or(Duration::from_secs(3600)));
    watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut awaited = Awaited::Start;
    let mut configuration = ConfigWatch::default();
    core.read_configuration(&mut configuration);

    notifier.status("connecting to the system bus".into());
    loop {
        let retry = core.next_retry().map(Instant::from_std);
        tokio::select! {
            biased;
            _ = watchdog.tick(), if watched.is_some() => {
                notifier.alive();
                continue;
            }
            // Kills before anything that takes time: a cgroup's path may be gone in a moment.
            ready = events.readable() => {
                // Cleared before reading: what comes in between makes it ready again.
                ready?.clear_ready();
                core.take_events();
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                info!("Reading the configuration and all unit files again");
                notifier.reloading();
                core.reread_files(&mut configuration);
                again.notify_one();
                if awaited != Awaited::Start {
                    awaited = Awaited::Reload;
                }
                if !core.is_following() && awaited == Awaited::Reload {
                    // Without the bus there is no more to be read now.
                    notifier.ready();
                    awaited = Awaited::Nothing;
                }
            }
            result = configuration.changed() => {
                result?;
                core.reload_configuration(&mut configuration);
            }
            update = news.recv() => {
                let Some(update) = update else { break };
                let ends = awaited.ends_with(&update);
                core.update(update);
                if ends {
                    notifier.ready();
                    awaited = Awaited::Nothing;
                }
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => core.reconcile(),
        }
        notifier.status(core.status());
    }
    notifier.stopping();
    Ok(())
}

/// What systemd waits for to be over, which READY=1 tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Start,
    Reload,
}

impl Awaited {
    /// Whether it is over when this update has been acted on.
    fn ends_with(self, update: &Update) -> bool {
        match self {
            Awaited::Nothing => false,
            Awaited::Start => matches!(update, Update::All(_)),
            Awaited::Reload => matches!(update, Update::All(_) | Update::Lost(_)),
        }
    }
}
