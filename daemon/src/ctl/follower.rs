// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills as they happen, each once: for `kills --follow` and for `notify`.

use super::daemon::{Daemon, NoAnswer};
use super::record::Kill;
use futures_util::StreamExt;
use std::error::Error;
use zbus::MessageStream;
use zbus::names::OwnedUniqueName;

/// Listens to whichever daemon there is.
#[derive(Debug)]
pub(super) struct Follower {
    daemon: Daemon,
    signals: MessageStream,
    seen: Seen,
}

impl Follower {
    /// Listens from now on, also for a daemon that does not run yet. What was seen on an earlier connection is not told again.
    ///
    /// First listened and then asked for what was before: between the two, kills come twice, and none is missed.
    pub(super) async fn listen(seen: Seen) -> Result<Self, NoAnswer> {
        let daemon = Daemon::connect().await?;
        let signals = daemon.killed().await.map_err(NoAnswer::NoBus)?;
        Ok(Follower {
            daemon,
            signals,
            seen,
        })
    }

    /// The newest `max` kills since a time that the daemon keeps and that have not been told yet, the newest last.
    pub(super) async fn history(
        &mut self,
        since_usec: u64,
        max: u32,
    ) -> Result<Vec<Kill>, NoAnswer> {
        let mut owner = self.daemon.owner().await?;
        loop {
            let mut kills = self.daemon.kills(since_usec, max).await?;
            let now = self.daemon.owner().await?;
            // Another one numbers its kills anew.
            if now == owner {
                self.seen.is_now(owner);
                kills.retain(|kill| self.seen.is_new(kill));
                return Ok(kills);
            }
            owner = now;
        }
    }

    /// The next kill, however long that takes.
    pub(super) async fn next(&mut self) -> Result<Kill, Box<dyn Error>> {
        while let Some(message) = self.signals.next().await {
            let message = message?;
            let header = message.header();
            let Some(sender) = header.sender() else {
                continue;
            };
            let sender = OwnedUniqueName::from(sender.to_owned());
            // Everybody on the bus may send a signal to us directly. Only the daemon's are believed.
            if !self.seen.is_of(&sender) {
                match self.daemon.owner().await {
                    Ok(owner) if owner == sender => self.seen.is_now(owner),
                    Ok(_) | Err(NoAnswer::NotThere) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let kill: Kill = message.body().deserialize()?;
            if self.seen.is_new(&kill) {
                return Ok(kill);
            }
        }
        Err("the connection to the system bus was closed".into())
    }

    /// What has been told so far, for the next connection.
    pub(super) fn seen(&self) -> Seen {
        self.seen.clone()
    }
}

/// What was told already.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The daemon that was the last to tell something.
    owner: Option<OwnedUniqueName>,
    /// The last kill that it told.
    id: u64,
}

impl Seen {
    fn is_of(&self, sender: &OwnedUniqueName) -> bool {
        self.owner.as_ref() == Some(sender)
    }

    /// That is the daemon now. Another one counts from 1 again.
    fn is_now(&mut self, owner: OwnedUniqueName) {
        if !self.is_of(&owner) {
            self.owner = Some(owner);
            self.id = 0;
        }
    }

    fn is_new(&mut self, kill: &Kill) -> bool {
        let Some(id) = kill.id else {
            return true;
        };
        let new = id > self.id;
        self.id = self.id.max(id);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::kills::tests::kill;

    fn owner(name: &str) -> OwnedUniqueName {
        OwnedUniqueName::try_from(name).unwrap()
    }

    #[test]
    fn what_was_listed_is_not_told_again() {
        let mut seen = Seen::default();
        seen.is_now(owner(":1.5"));
        assert!(seen.is_new(&kill(3, "x.service")));
        assert!(seen.is_new(&kill(4, "x.service")));
        seen.is_now(owner(":1.5"));
        assert!(!seen.is_new(&kill(4, "x.service")));
        assert!(seen.is_new(&kill(5, "x.service")));
        assert!(!seen.is_new(&kill(5, "x.service")));
    }

    #[test]
    fn a_daemon_that_was_started_again_counts_anew() {
        let mut seen = Seen::default();
        seen.is_now(owner(":1.5"));
        assert!(seen.is_new(&kill(3, "x.service")));
        assert!(!seen.is_of(&owner(":1.9")));
        seen.is_now(owner(":1.9"));
        assert!(seen.is_new(&kill(1, "x.service")));
        assert!(!seen.is_new(&kill(1, "x.service")));
        assert!(seen.is_new(&kill(2, "x.service")));
    }
}
