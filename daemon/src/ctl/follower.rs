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
            if now == owner {
                self.seen.is_now_and_knows(owner, &kills);
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
    /// When that was.
    boottime_usec: Option<u64>,
}

impl Seen {
    fn is_of(&self, sender: &OwnedUniqueName) -> bool {
        self.owner.as_ref() == Some(sender)
    }

    /// That is the daemon now, and these are the kills that it knows. If the service was only restarted they have the numbers that they
    /// had; otherwise it counts from 1 again.
    fn is_now_and_knows(&mut self, owner: OwnedUniqueName, kills: &[Kill]) {
        let is_last =
            |kill: &Kill| kill.id == Some(self.id) && kill.boottime_usec == self.boottime_usec;
        if kills.iter().any(is_last) {
            self.owner = Some(owner);
        } else {
            self.is_now(owner);
        }
    }

    /// That is the daemon now. What another one tells as it happens is new.
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
        if new {
            self.id = id;
            self.boottime_usec = kill.boottime_usec;
        }
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
    fn a_daemon_that_was_restarted_goes_on_and_one_of_a_service_that_was_stopped_does_not() {
        let at = |id, boottime_usec| Kill {
            boottime_usec: Some(boottime_usec),
            ..kill(id, "x.service")
        };
        let known = [at(2, 20), at(3, 30), at(4, 40)];
        let news = |kills: &[Kill]| {
            let mut seen = Seen::default();
            seen.is_now_and_knows(owner(":1.5"), &known[..2]);
            assert!(known[..2].iter().all(|kill| seen.is_new(kill)));
            seen.is_now_and_knows(owner(":1.9"), kills);
            assert!(seen.is_of(&owner(":1.9")));
            kills.iter().filter(|kill| seen.is_new(kill)).count()
        };
        assert_eq!(news(&known), 1);
        assert_eq!(news(&[at(1, 31), at(2, 32), at(3, 33)]), 3);
        assert_eq!(news(&[]), 0);
    }

    #[test]
    fn what_another_daemon_tells_as_it_happens_is_new() {
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
