// SPDX-License-Identifier: MIT OR Apache-2.0
//! The core loop: waits for whatever comes next, and lets the core act on it.

use super::config_watch::ConfigWatch;
use super::{Core, Request, Shown};
use crate::boottime::Alarm;
use crate::bus::{self, Links};
use crate::engine::Engine;
use crate::log;
use crate::policy::CgroupId;
use crate::systemd::facts::Update;
use crate::systemd::follow::follow;
use crate::systemd::notify::Notifier;
use crate::systemd::programs::run_programs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{error, info};

/// How long after the journal took no message it is asked again. It makes room as it reads, and nobody is told of that.
const TELL_AGAIN: Duration = Duration::from_millis(100);

/// Runs until SIGTERM or SIGINT. What is attached is detached when `core` is dropped.
///
/// # Errors
///
/// If signals or the engine's events cannot be waited for.
pub async fn run<E: Engine>(core: &mut Core<E>) -> io::Result<()> {
    let (updates, news) = mpsc::channel(8);
    let (requests, asked) = mpsc::channel(8);
    let (questions, to_answer) = mpsc::channel(8);
    let (shown, seen) = watch::channel(Shown::default());
    let (again, asked_again) = watch::channel(0);
    let (runs, to_run) = mpsc::channel(8);
    let (ended, programs) = mpsc::channel(8);
    core.pending.run_by(runs);
    let links = Links {
        requests,
        questions,
        shown: seen,
        history: Arc::clone(&core.history),
        told: Arc::new(AtomicU64::new(core.counted.last)),
        engine: core.engine.name(),
        interface: core.engine.interface(),
    };
    // Without it the channel of requests is closed, which is told like its end later on.
    if let Err(error) = bus::start(links) {
        error!("The bus cannot be served: {error}");
    }
    let channels = Channels {
        news,
        asked,
        programs,
        shown,
    };
    tokio::select! {
        result = act(core, channels, &again) => result,
        // Ends only when nobody listens any more, and that is when the other one has ended.
        () = follow(updates, asked_again, to_answer) => Ok(()),
        () = run_programs(to_run, ended) => Ok(()),
    }
}

/// Where the core hears from others and where they look.
struct Channels {
    news: mpsc::Receiver<Update>,
    asked: mpsc::Receiver<Request>,
    /// Victims for which programs have ended.
    programs: mpsc::Receiver<CgroupId>,
    shown: watch::Sender<Shown>,
}

async fn act<E: Engine>(
    core: &mut Core<E>,
    mut channels: Channels,
    again: &watch::Sender<u64>,
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
    let mut alarm = Alarm::new()?;
    let mut awaited = Awaited::Start {
        units: true,
        bus: true,
    };
    let mut served = true;
    // Those who wait until everything has been read again.
    let mut reloads: Vec<oneshot::Sender<()>> = Vec::new();
    let mut configuration = ConfigWatch::default();
    core.read_configuration(&mut configuration);

    notifier.status("connecting to the system bus".into());
    loop {
        let retry = core.next_retry().map(Instant::from_std);
        alarm.set(core.next_end())?;
        let mut request = None;
        let untold = log::flush();
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
            Some(victim) = channels.programs.recv() => core.programs_ended(victim),
            () = sleep(TELL_AGAIN), if untold => continue,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                info!("Reading the configuration and all unit files again");
                awaited = reload(core, &mut configuration, &notifier, again, awaited);
            }
            result = configuration.changed() => {
                result?;
                core.reload_configuration(&mut configuration);
            }
            update = channels.news.recv() => {
                let Some(update) = update else { break };
                awaited = awaited.after(&update);
                core.update(update);
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                core.retry(&mut configuration);
            }
            result = alarm.rings() => {
                result?;
                core.end_terms();
            }
            // Last: what was learnt before it was asked has been acted on then, and nobody who asks a lot holds up the others.
            asked = channels.asked.recv(), if served => match asked {
                Some(Request::Reload { uid, answer }) => {
                    info!("Reading the configuration and all unit files again, for uid {uid}");
                    awaited = reload(core, &mut configuration, &notifier, again, awaited);
                    reloads.push(answer);
                }
                Some(Request::Reachable(news)) => {
                    core.is_reachable(news);
                    awaited = awaited.after_bus();
                }
                None => {
                    served = false;
                    core.is_reachable(Err("nobody serves the bus any more".into()));
                    awaited = awaited.after_bus();
                }
                asked => request = asked,
            },
        }
        core.wakeups += 1;
        let answer = request.and_then(|request| act_on(core, request));
        // Before the answer: who has it may look at once.
        show(core, &channels.shown);
        if let Some(answer) = answer {
            answer();
        }
        if awaited.is_over() {
            notifier.ready();
            awaited = Awaited::Nothing;
        }
        if awaited == Awaited::Nothing {
            for answer in reloads.drain(..) {
                let _ = answer.send(());
            }
        }
        notifier.status(core.status());
    }
    notifier.stopping();
    Ok(())
}

/// Reads everything again. What is awaited after that is returned.
fn reload<E: Engine>(
    core: &mut Core<E>,
    configuration: &mut ConfigWatch,
    notifier: &Notifier,
    again: &watch::Sender<u64>,
    awaited: Awaited,
) -> Awaited {
    notifier.reloading();
    core.reread_files(configuration);
    again.send_modify(|asked| *asked += 1);
    match awaited {
        Awaited::Start { .. } => awaited,
        // Without the bus there is no more to be read now.
        _ => Awaited::Reload {
            units: core.is_following().then(|| *again.borrow()),
        },
    }
}

/// Does what is asked and returns what gives the answer. Whoever asked may not wait for it any more, and that is no trouble.
fn act_on<E: Engine>(core: &mut Core<E>, request: Request) -> Option<Box<dyn FnOnce()>> {
    Some(match request {
        Request::SetPolicy {
            unit,
            policy,
            length,
            uid,
            answer,
        } => {
            let result = core.set_policy(&unit, &policy, length, uid);
            Box::new(move || drop(answer.send(result)))
        }
        Request::ResetPolicy { unit, uid, answer } => {
            let result = core.reset_policy(&unit, uid);
            Box::new(move || drop(answer.send(result)))
        }
        Request::Explain { unit, answer } => {
            let result = core.explain(&unit);
            Box::new(move || drop(answer.send(result)))
        }
        Request::Pressure { answer } => {
            let watched = core.watched_units();
            Box::new(move || drop(answer.send(watched)))
        }
        Request::Simulate { unit, answer } => {
            let result = core.simulate(&unit);
            Box::new(move || drop(answer.send(result)))
        }
        Request::Settle { answer } => Box::new(move || answer.send(()).unwrap_or_default()),
        // A matter of the loop.
        Request::Reload { .. } | Request::Reachable(_) => return None,
    })
}

/// Shows what is in force now to those who look, if it is not what they see already.
fn show<E: Engine>(core: &mut Core<E>, shown: &watch::Sender<Shown>) {
    let now = core.shown();
    shown.send_if_modified(|before| {
        // That somebody was woken up, or that something was counted, is no news to wake up others for.
        before.wakeups = now.wakeups;
        before.counters = now.counters;
        // What is shared is not compared.
        let changes = *before != *now;
        if changes {
            before.clone_from(now);
        }
        changes
    });
}

/// What systemd waits for to be over, which READY=1 tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Nothing,
    /// That the units are known, and that others can reach the daemon on the bus or it is known why not.
    Start {
        units: bool,
        bus: bool,
    },
    /// That the units are known again, read after it was asked for that so often.
    Reload {
        units: Option<u64>,
    },
}

impl Awaited {
    /// What is still awaited after an update that is acted on.
    fn after(self, update: &Update) -> Self {
        match (self, update) {
            (Awaited::Start { bus, .. }, Update::All { .. }) => {
                Awaited::Start { units: false, bus }
            }
            // One that was under way already may not have what was there when it was asked for.
            (Awaited::Reload { units: Some(least) }, Update::All { asked, .. })
                if *asked >= least =>
            {
                Awaited::Reload { units: None }
            }
            (Awaited::Reload { .. }, Update::Lost(_)) => Awaited::Reload { units: None },
            _ => self,
        }
    }

    /// What is still awaited when it is known whether others can reach the daemon.
    fn after_bus(self) -> Self {
        match self {
            Awaited::Start { units, .. } => Awaited::Start { units, bus: false },
            _ => self,
        }
    }

    /// Whether nothing of it is missing any more.
    fn is_over(self) -> bool {
        matches!(
            self,
            Awaited::Start {
                units: false,
                bus: false
            } | Awaited::Reload { units: None }
        )
    }
}
