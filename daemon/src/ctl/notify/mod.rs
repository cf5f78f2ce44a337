// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl notify`: tells the user of a desktop session which of their applications were killed, and why.
//!
//! Kills come from the daemon on the system bus ([`follow`]), and go to the desktop on the session bus ([`Teller`]). Either may go away
//! and come back; what happened meanwhile is told then.

mod application;
mod desktop;
mod desktop_entry;
mod mine;
mod storm;
mod words;

use super::daemon::{NoAnswer, run};
use super::follower::{Follower, Seen};
use super::moment::Moment;
use super::record::Kill;
use super::{Outcome, Output, json};
use crate::fault::causes;
use crate::systemd::notify::Notifier;
use application::Applications;
use desktop::{Desktop, NotShown, Show};
use serde::Serialize;
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use storm::Storm;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use words::{Death, Notification};

/// Pauses between attempts to reach a bus, and to show what could not be shown: doubled from one to the next.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(60);

/// A notification that is on the screen, as `--json` tells it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// Its number, by which the desktop knows it.
    id: u32,
    /// Whether it is in the place of the one before.
    replaces: bool,
    /// Its heading.
    summary: &'a str,
    /// Its text, as it was sent: with markup escaped where the desktop knows markup.
    body: &'a str,
    /// Name or path of its icon.
    icon: &'a str,
}

/// Tells about kills until somebody ends the program.
pub(super) fn notify(output: &Output) -> Outcome {
    run(async {
        let uid = rustix::process::getuid().as_raw();
        // Without a bus there will be nothing to tell or nobody to be told: whoever started this has to know.
        let follower = Follower::listen(Seen::default()).await?;
        let desktop = Desktop::connect().await.map_err(NoSession)?;
        let (send, kills) = mpsc::channel(16);
        Notifier::default().ready();
        let mut teller = Teller {
            output,
            applications: Applications::of_this_session(),
            storm: Storm::default(),
            desktop: Some(desktop),
            later: None,
        };
        tokio::select! {
            never = follow(follower, uid, send) => match never {},
            ended = teller.tell(kills) => match ended?  {},
        }
    })?
}

/// That there is no session bus.
#[derive(Debug, thiserror::Error)]
#[error("the session bus cannot be used; this is to be run in the session of a user")]
struct NoSession(#[source] zbus::Error);

fn complain(what: &str) {
    eprintln!("bpf-oomctl: {what}");
}

/// Sends every kill of a unit of that user from now on.
async fn follow(mut follower: Follower, uid: u32, kills: mpsc::Sender<Kill>) -> Infallible {
    let start = Moment::now().0;
    let mut pause = SHORTEST;
    loop {
        let before = Instant::now();
        let Err(error) = session(&mut follower, start, uid, &kills).await;
        complain(&format!("{}; connecting again", causes(&*error)));
        if before.elapsed() > LONGEST {
            pause = SHORTEST;
        }
        follower = loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
            match Follower::listen(follower.seen()).await {
                Ok(follower) => break follower,
                Err(error) => tracing::debug!("{error}"),
            }
        };
    }
}

/// One connection to the system bus, from beginning to end.
async fn session(
    follower: &mut Follower,
    start: u64,
    uid: u32,
    kills: &mpsc::Sender<Kill>,
) -> Result<Infallible, Box<dyn std::error::Error>> {
    let missed = match follower.history(start, 0).await {
        Ok(missed) => missed,
        Err(NoAnswer::NotThere) => {
            complain("bpf-oomd does not run; waiting for it");
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    for kill in missed.into_iter().filter(|kill| mine::is_of(kill, uid)) {
        kills.send(kill).await?;
    }
    loop {
        let kill = follower.next().await?;
        if mine::is_of(&kill, uid) {
            kills.send(kill).await?;
        }
    }
}

/// When to try again what did not work.
#[derive(Debug)]
struct Later {
    at: Instant,
    pause: Duration,
}

impl Later {
    /// Later than before.
    fn than(before: Option<Later>) -> Self {
        let pause = before.map_or(SHORTEST, |before| (before.pause * 2).min(LONGEST));
        Later {
            at: Instant::now() + pause,
            pause,
        }
    }
}

/// Whoever tells the desktop.
struct Teller<'a> {
    output: &'a Output,
    applications: Applications,
    storm: Storm<Death>,
    /// None while the session bus is gone.
    desktop: Option<Desktop>,
    /// Set while nothing can be shown.
    later: Option<Later>,
}

impl Teller<'_> {
    /// Goes on for ever.
    async fn tell(&mut self, mut kills: mpsc::Receiver<Kill>) -> io::Result<Infallible> {
        loop {
            let later = self.later.as_ref().map(|later| later.at);
            let due = self.storm.due().map(|due| later.unwrap_or(due).max(due));
            tokio::select! {
                Some(kill) = kills.recv() => {
                    let application = self.applications.of(&kill);
                    self.storm.add(Death { kill, application }, Instant::now());
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.show().await?,
                there = changed(self.desktop.as_mut()) => match there {
                    // Somebody new shows notifications: at once what nobody could show.
                    Some(()) => self.later = None,
                    None => {
                        complain("the connection to the session bus was closed");
                        self.desktop = None;
                    }
                }
            }
        }
    }

    /// Shows what has gathered, or says why not, once.
    async fn show(&mut self) -> io::Result<()> {
        match self.try_to_show().await {
            Ok((shown, notification)) => {
                self.storm.told(Instant::now());
                self.later = None;
                if self.output.json {
                    json::write(&Shown {
                        id: shown.id,
                        replaces: shown.replaces,
                        summary: &notification.summary,
                        body: &shown.body,
                        icon: &notification.icon,
                    })?;
                }
            }
            Err(error) => {
                if self.later.is_none() {
                    complain(&format!("{}; trying again", causes(&error)));
                }
                self.later = Some(Later::than(self.later.take()));
            }
        }
        Ok(())
    }

    async fn try_to_show(&mut self) -> Result<(Show, Notification), NotShown> {
        let desktop = match &mut self.desktop {
            Some(desktop) => desktop,
            none => none.insert(Desktop::connect().await.map_err(NotShown::NoBus)?),
        };
        let notification = words::of(self.storm.gathered(), self.storm.left_out());
        let shown = desktop
            .show(&notification, self.storm.is_the_same())
            .await?;
        Ok((shown, notification))
    }
}

/// Waits until somebody else shows notifications. None if the bus is gone.
async fn changed(desktop: Option<&mut Desktop>) -> Option<()> {
    match desktop {
        Some(desktop) => desktop.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ctl) fn sample() -> impl Serialize {
        Shown {
            id: 1,
            replaces: false,
            summary: "",
            body: "",
            icon: "",
        }
    }
}
