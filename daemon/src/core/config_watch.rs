// SPDX-License-Identifier: MIT OR Apache-2.0
//! When the configuration has to be read again: when nothing has happened to it for a moment.

use crate::config::Configuration;
use crate::config::watch::Watch;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// A burst of changes is over when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(100);
/// A burst that does not end is acted on after so long.
const LONGEST_BURST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct ConfigWatch {
    /// None before the first [`Self::renew`], and where the kernel gives no watch.
    watch: Option<(Watch, AsyncFd<OwnedFd>)>,
    burst: Option<Burst>,
}

#[derive(Debug)]
struct Burst {
    /// When it has been quiet for long enough, if nothing more happens.
    over: Instant,
    /// When it is acted on at the latest.
    latest: Instant,
}

impl ConfigWatch {
    /// Watches what there is now. To be called before the configuration is read: what changes in between is reported again.
    pub(super) fn renew(&mut self, configuration: &Configuration) -> io::Result<()> {
        // Not left as it was if this fails: it would watch what is not there any more.
        self.watch = None;
        self.burst = None;
        let watch = configuration.watch()?;
        let descriptor = watch.as_fd().try_clone_to_owned()?;
        // SAFETY: nobody else has this descriptor; the AsyncFd owns it and is the only one to close it.
        let descriptor =
            unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?;
        self.watch = Some((watch, descriptor));
        Ok(())
    }

    /// Returns when the configuration has changed and nothing more happens to it. Dropped before it returns, it goes on where it was
    /// when it is called again.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        let Some((watch, descriptor)) = &mut self.watch else {
            return pending().await;
        };
        loop {
            let due = self
                .burst
                .as_ref()
                .map(|burst| burst.over.min(burst.latest));
            tokio::select! {
                ready = descriptor.readable() => {
                    // Cleared before reading: what comes in between makes it ready again.
                    ready?.clear_ready();
                    if watch.drain() {
                        let now = Instant::now();
                        let latest = self.burst.as_ref().map_or(now + LONGEST_BURST, |burst| burst.latest);
                        self.burst = Some(Burst { over: now + QUIET, latest });
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.burst = None;
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use tokio::time::timeout;

    const DIRECTORY: &str = "etc/bpf-oomd/conf.d";

    fn watched(root: &Path) -> ConfigWatch {
        let mut watch = ConfigWatch::default();
        watch.renew(&Configuration::below(root)).unwrap();
        watch
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn a_burst_of_changes_is_one() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(DIRECTORY);
        fs::create_dir_all(&directory).unwrap();
        run(async {
            let mut watch = watched(root.path());
            for number in 0..20 {
                fs::write(directory.join(format!("{number}.toml")), "").unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            watch.changed().await.unwrap();
            let again = timeout(Duration::from_millis(500), watch.changed()).await;
            assert!(again.is_err());
        });
    }

    #[test]
    fn a_burst_that_does_not_end_is_acted_on_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(DIRECTORY);
        fs::create_dir_all(&directory).unwrap();
        run(async {
            let mut watch = watched(root.path());
            let began = Instant::now();
            let write = async {
                loop {
                    fs::write(directory.join("a.toml"), "").unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                result = watch.changed() => result.unwrap(),
                () = write => {}
            }
            assert!(began.elapsed() >= LONGEST_BURST);
        });
    }

    #[test]
    fn a_change_is_not_forgotten_when_somebody_else_was_faster() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(DIRECTORY);
        fs::create_dir_all(&directory).unwrap();
        run(async {
            let mut watch = watched(root.path());
            fs::write(directory.join("a.toml"), "").unwrap();
            // Takes the event, but is dropped before the burst is over. On a machine that stands still for so long it is over by then.
            if timeout(QUIET / 4, watch.changed()).await.is_err() {
                watch.changed().await.unwrap();
            }
        });
    }
}
