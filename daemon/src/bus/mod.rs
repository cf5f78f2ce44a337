// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon on the system bus: `org.bpfoomd1`.
//!
//! A method finds out whether its caller may do that (`authorise`), sends a message to the core, and turns the answer into one of
//! the bus (`error`); nothing else. Properties are read from a copy that the core leaves after it has acted, so that they never
//! say what is not in force yet and reading them waits for nobody.
//!
//! All of it runs in a thread of its own: the core's may be busy with the kernel's verifier for a while.

mod announce;
mod authorise;
mod calls;
mod error;
mod introspect;
mod log_control;
mod manager;
mod object_manager;
mod path;
mod policy;
mod record;
mod socket;
mod turns;
mod unit;

pub use calls::{Explanation, explanations};
pub use record::KILL_KEYS;

use crate::core::{History, Request, Shown};
use crate::engine::InterfacePart;
use crate::fault::causes;
use crate::systemd::follow::Question;
use announce::Announcer;
use calls::Calls;
use manager::Manager;
use object_manager::ObjectManager;
use std::convert::Infallible;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};
use zbus::Connection;
use zbus::fdo::RequestNameFlags;

/// The daemon's name on the bus.
pub const NAME: &str = "org.bpfoomd1";
/// Where its manager object is.
pub const MANAGER_PATH: &str = "/org/bpfoomd1";
/// The manager's interface.
pub const MANAGER: &str = "org.bpfoomd1.Manager";
/// What the names of its errors begin with.
pub const ERRORS: &str = "org.bpfoomd1.Error.";

/// An answer of the bus itself that takes longer than this is taken for a bus that is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls that have been read and not looked at yet. More stay in the bus.
const QUEUED: NonZeroUsize = NonZeroUsize::new(16).expect("more than none");

/// What connects the room with the others.
#[derive(Debug, Clone)]
pub struct Links {
    /// To the core.
    pub requests: mpsc::Sender<Request>,
    /// To whoever follows units.
    pub questions: mpsc::Sender<Question>,
    /// What the core shows.
    pub shown: watch::Receiver<Shown>,
    /// The last kills.
    pub history: Arc<History>,
    /// The number of the last kill that everybody was told, by this daemon or one before it.
    pub told: Arc<AtomicU64>,
    /// What the engine is called.
    pub engine: &'static str,
    /// What it needs of the kernel.
    pub interface: Vec<InterfacePart>,
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("the system bus cannot be used")]
    Bus(#[source] zbus::Error),
    #[error("the name {NAME} cannot be had")]
    Name(#[source] zbus::Error),
    #[error("the system bus does not answer")]
    Silent,
    #[error("the connection to the system bus was closed")]
    Closed,
}

/// Serves the bus until the core is gone.
///
/// # Errors
///
/// If there can be no thread for it.
pub fn start(links: Links) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let gone = links.requests.clone();
    let serve = move || {
        runtime.block_on(async {
            tokio::select! {
                never = serve(&links) => match never {},
                () = gone.closed() => {}
            }
        });
    };
    thread::Builder::new().name("bus".into()).spawn(serve)?;
    Ok(())
}

/// Connects again when the bus goes away. Whether others can reach the daemon is told to the core.
async fn serve(links: &Links) -> Infallible {
    const SHORTEST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);
    let mut pause = SHORTEST;
    loop {
        let started = Instant::now();
        let Err(error) = session(links).await;
        match error {
            // Whoever follows units says the same.
            ServeError::Closed => debug!("{error}"),
            error => tell(links, Err(causes(&error))).await,
        }
        if started.elapsed() > LONGEST {
            pause = SHORTEST;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn tell(links: &Links, news: Result<(), String>) {
    // If the core is gone, this thread is about to end.
    let _ = links.requests.send(Request::Reachable(news)).await;
}

/// One connection, from beginning to end.
async fn session(links: &Links) -> Result<Infallible, ServeError> {
    let (bus, announcer) = timeout(ANSWER_TIMEOUT, connect(links))
        .await
        .map_err(|_| ServeError::Silent)??;
    info!("Reachable on the system bus as {NAME}");
    tell(links, Ok(())).await;
    tokio::select! {
        result = announcer.announce() => result,
        () = bus.closed() => Err(ServeError::Closed),
    }
}

/// The connection, with everything on it, and what has to run on it from then on.
async fn connect(links: &Links) -> Result<(Connection, Announcer), ServeError> {
    let (served, those_served) = watch::channel(0);
    let calls = Calls::new(links.clone(), those_served);
    // No time limit for calls: a question that polkit puts to a person takes as long as the person.
    let bus = socket::system()
        .await
        .map_err(ServeError::Bus)?
        .max_queued(QUEUED)
        .serve_at(MANAGER_PATH, Manager::new(calls.clone()))
        .build()
        .await
        .map_err(ServeError::Bus)?;
    let announcer = serve_objects(&bus, calls, served)
        .await
        .map_err(ServeError::Bus)?;
    // Neither queued behind another owner nor in its place: that there is one is for an administrator to look at.
    bus.request_name_with_flags(NAME, RequestNameFlags::DO_NOT_QUEUE)
        .await
        .map_err(ServeError::Name)?;
    Ok((bus, announcer))
}

/// Serves all objects that are not there yet.
async fn serve_objects(
    bus: &Connection,
    calls: Calls,
    served: watch::Sender<u64>,
) -> zbus::Result<Announcer> {
    let manager = ObjectManager::new(calls.clone());
    bus.object_server().at(MANAGER_PATH, manager).await?;
    introspect::serve(bus, &calls).await?;
    log_control::serve(bus, &calls).await?;
    Announcer::begin(bus, calls, served).await
}

#[cfg(test)]
pub(crate) mod tests;
