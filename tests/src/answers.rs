// SPDX-License-Identifier: MIT OR Apache-2.0
//! Somebody who asks services all the time whether they are there (`bpf-oomd-hog serve=PATH`), and how long each took to answer.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long is waited between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(100);

/// A thread for each service that asks it.
pub struct Answers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Duration>, String>>>,
}

impl Answers {
    /// Asks the services that listen at these places from now on. One that does not answer by the deadline is not asked again.
    pub fn of(paths: &[PathBuf], deadline: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = paths.iter().map(|path| {
            let (path, stop) = (path.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    ask(&path, deadline).map_err(|error| {
                        let (path, after) = (path.display(), asked.elapsed());
                        format!("{path} did not answer: {error}, after {after:?}")
                    })?;
                    times.push(asked.elapsed());
                    thread::sleep(PAUSE);
                }
                Ok(times)
            })
        });
        Self {
            threads: threads.collect(),
            stop,
        }
    }

    /// Whether all have answered so far.
    pub fn all_answer(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Asks no more. Panics if one did not answer in time. Returns how long all the answers took, the longest last.
    #[track_caller]
    pub fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        let times = threads.map(|thread| thread.join().expect("who asks"));
        let times: Result<Vec<_>, _> = times.collect();
        let mut times = times.unwrap_or_else(|error| panic!("{error}")).concat();
        times.sort();
        times
    }
}

fn ask(path: &PathBuf, deadline: Duration) -> io::Result<()> {
    let mut connection = UnixStream::connect(path)?;
    connection.set_read_timeout(Some(deadline))?;
    let mut answer = [0; 4];
    connection.read_exact(&mut answer)?;
    if &answer == b"here" {
        return Ok(());
    }
    Err(io::Error::other("it said something else"))
}
