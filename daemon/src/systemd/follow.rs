// SPDX-License-Identifier: MIT OR Apache-2.0
//! Following systemd's units on the system bus.
//!
//! Signals only leave marks ([`Marks`]). One loop takes the marks and reads the facts of what is marked; while it waits
//! for answers, more marks gather, so that under load many events become one reading. Nothing here decides anything: the
//! facts go to the core, which never waits for the bus, so that a kill is reported and the watchdog is fed while systemd
//! itself is short of memory.

use super::bus::{self, Listed, UnitObject};
use super::facts::{RunningFacts, UnitFacts, Update};
use super::marks::{Marked, Marks};
use super::unit_name;
use crate::fault::causes;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath};

/// An answer that takes longer than this is taken for a bus that is gone. systemd answers in milliseconds, or, while it
/// reloads, in some seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Questions that are on their way at the same time. The bus allows 128 per connection.
const QUESTIONS: usize = 32;

/// Up to so many units are asked for by name. More are cheaper to find in the list of all.
const BY_NAME: usize = 16;

/// Asks that a unit is looked at even though no signal says so.
#[derive(Debug)]
pub struct Question {
    /// The unit.
    pub unit: String,
    /// Told when facts that were read after the question are among the updates. Dropped if that fails.
    pub known: oneshot::Sender<()>,
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("the system bus cannot be used")]
    Bus(#[from] zbus::Error),
    #[error("the connection to the system bus was closed")]
    Closed,
    #[error("systemd came or went on the system bus")]
    OwnerChanged,
    #[error("the system bus or systemd does not answer")]
    Silent,
    #[error("nobody listens any more")]
    NoListener,
}

/// Follows units for ever: reconnects when the bus or systemd goes away. Whenever the number in `again` grows it reads everything again,
/// and for a question one unit.
///
/// Returns only when nobody receives `updates` any more.
pub async fn follow(
    updates: mpsc::Sender<Update>,
    again: watch::Receiver<u64>,
    mut questions: mpsc::Receiver<Question>,
) {
    /// systemd's own time between restarts is 100 ms; the bus is not back sooner.
    const SHORTEST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);
    let mut pause = SHORTEST;
    loop {
        let started = tokio::time::Instant::now();
        let Err(error) = session(&updates, &again, &mut questions).await;
        if matches!(error, FollowError::NoListener) {
            return;
        }
        if started.elapsed() > LONGEST {
            pause = SHORTEST;
        }
        let lost = Update::Lost(causes(&error));
        if updates.send(lost).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

/// One connection, from beginning to end.
async fn session(
    updates: &mpsc::Sender<Update>,
    again: &watch::Receiver<u64>,
    questions: &mut mpsc::Receiver<Question>,
) -> Result<Infallible, FollowError> {
    // The time limit of a method call does not cover the handshake. While systemd executes itself again the bus may take a
    // connection and leave it at that.
    let (bus, signals) = tokio::time::timeout(ANSWER_TIMEOUT, connect())
        .await
        .map_err(|_| FollowError::Silent)??;
    let marks = Marks::default();
    marks.mark_all();
    tokio::select! {
        result = signals.mark(&marks) => result,
        result = read(&bus, &marks, again, updates) => result,
        never = mark_again(again.clone(), &marks) => match never {},
        never = mark_asked(questions, &marks) => match never {},
    }
}

async fn connect() -> Result<(Connection, Signals), FollowError> {
    // Rules first, then Subscribe, then the first list: what changes in between is announced and marked.
    let bus = zbus::connection::Builder::system()
        .method_timeout(ANSWER_TIMEOUT)
        .build()
        .await?;
    let signals = Signals::listen(&bus).await?;
    bus::subscribe(&bus).await?;
    Ok((bus, signals))
}

async fn mark_again(mut again: watch::Receiver<u64>, marks: &Marks) -> Infallible {
    while again.changed().await.is_ok() {
        marks.mark_all();
    }
    std::future::pending().await
}

async fn mark_asked(questions: &mut mpsc::Receiver<Question>, marks: &Marks) -> Infallible {
    while let Some(Question { unit, known }) = questions.recv().await {
        marks.mark_and_tell(unit, known);
    }
    std::future::pending().await
}

/// The signals that tell of changes.
struct Signals {
    manager: MessageStream,
    properties: MessageStream,
    owner: MessageStream,
}

impl Signals {
    async fn listen(bus: &Connection) -> zbus::Result<Self> {
        let signal = || MatchRule::builder().msg_type(Type::Signal);
        let manager = signal()
            .sender(bus::SYSTEMD)
            .path(bus::MANAGER_PATH)
            .interface(bus::MANAGER);
        // ControlGroup belongs to the interface of the unit's kind and is never announced; but it does not change without
        // ActiveState or SubState, which are.
        let properties = signal()
            .sender(bus::SYSTEMD)
            .path_namespace("/org/freedesktop/systemd1/unit")
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .arg(0, bus::UNIT);
        let owner = signal()
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, bus::SYSTEMD);
        let stream = async |rule: zbus::match_rule::Builder<'static>| {
            MessageStream::for_match_rule(rule.build()?, bus, None).await
        };
        Ok(Signals {
            manager: stream(manager).await?,
            properties: stream(properties).await?,
            owner: stream(owner).await?,
        })
    }

    async fn mark(self, marks: &Marks) -> Result<Infallible, FollowError> {
        let units = stream::select(self.manager, self.properties);
        let mut all = stream::select(units, self.owner);
        while let Some(message) = all.next().await {
            let message = message?;
            let header = message.header();
            match header.member().map(|member| member.as_str()) {
                Some("NameOwnerChanged") => return Err(FollowError::OwnerChanged),
                Some("PropertiesChanged") => {
                    let path = header.path().map(|path| path.as_str());
                    mark_unit(marks, path.and_then(unit_name::of_object_path), false);
                }
                Some(member) => mark_manager_signal(marks, member, &message)?,
                None => {}
            }
        }
        Err(FollowError::Closed)
    }
}

fn mark_manager_signal(marks: &Marks, member: &str, message: &Message) -> zbus::Result<()> {
    type UnitSignal = (String, OwnedObjectPath);
    type JobSignal = (u32, OwnedObjectPath, String, String);
    let body = message.body();
    match member {
        "UnitNew" | "UnitRemoved" => {
            let (unit, _): UnitSignal = body.deserialize()?;
            mark_unit(marks, Some(unit), true);
        }
        // A unit that is loaded and started in one go is announced by UnitNew alone, perhaps before it runs.
        "JobRemoved" => {
            let (_, _, unit, _): JobSignal = body.deserialize()?;
            mark_unit(marks, Some(unit), false);
        }
        "Reloading" => marks.reloading(body.deserialize()?),
        _ => {}
    }
    Ok(())
}

fn mark_unit(marks: &Marks, unit: Option<String>, loaded: bool) {
    if let Some(unit) = unit
        && unit_name::section(&unit).is_some()
    {
        marks.mark(unit, loaded);
    }
}

/// Takes marks and reads facts.
async fn read(
    bus: &Connection,
    marks: &Marks,
    again: &watch::Receiver<u64>,
    updates: &mpsc::Sender<Update>,
) -> Result<Infallible, FollowError> {
    let mut reader = Reader {
        bus,
        constants: HashMap::new(),
        loads: 0,
    };
    loop {
        let marked = marks.take().await;
        let waiting = marks.take_waiting();
        let update = match marked {
            Marked::All => {
                reader.constants.clear();
                // Before anything is read: who asks from now on waits for the next one.
                let asked = *again.borrow();
                let listed = bus::list_units(bus).await?;
                let known = reader.facts(listed).await?;
                Update::All { known, asked }
            }
            Marked::Units(units) => {
                for unit in units
                    .iter()
                    .filter(|(_, loaded)| **loaded)
                    .map(|(unit, _)| unit)
                {
                    reader.constants.remove(unit);
                }
                let names: Vec<String> = units.into_keys().collect();
                let mut listed = if names.len() <= BY_NAME {
                    bus::list_units_named(bus, &names).await?
                } else {
                    bus::list_units(bus).await?
                };
                listed.retain(|unit| names.binary_search(&unit.name).is_ok());
                let here: HashSet<&str> = listed.iter().map(|unit| unit.name.as_str()).collect();
                let gone: Vec<String> = names
                    .iter()
                    .filter(|name| !here.contains(name.as_str()))
                    .cloned()
                    .collect();
                let known = reader.facts(listed).await?;
                for unit in &gone {
                    reader.constants.remove(unit);
                }
                Update::Some { known, gone }
            }
        };
        if updates.send(update).await.is_err() {
            return Err(FollowError::NoListener);
        }
        for known in waiting {
            // Whoever does not wait any more has had enough of it.
            let _ = known.send(());
        }
    }
}

struct Reader<'a> {
    bus: &'a Connection,
    /// What does not change as long as a unit stays loaded, so that a unit that starts costs one or two questions.
    constants: HashMap<String, Constants>,
    loads: u64,
}

#[derive(Clone)]
struct Constants {
    files: Vec<PathBuf>,
    slice: Option<String>,
    /// Known from the first time the unit has a cgroup; each later one has the same path.
    control_group: Option<String>,
    loaded: u64,
}

impl Reader<'_> {
    /// The facts of the listed units, as far as they are of a kind that has cgroups.
    async fn facts(&mut self, listed: Vec<Listed>) -> Result<Vec<UnitFacts>, FollowError> {
        let mut facts = Vec::new();
        let mut running = Vec::new();
        for unit in listed {
            if unit_name::section(&unit.name).is_none() {
                continue;
            }
            if unit.running {
                running.push(unit);
            } else {
                facts.push(UnitFacts {
                    name: unit.name,
                    running: None,
                });
            }
        }
        self.loads += 1;
        let loads = self.loads;
        let questions = running.into_iter().map(|unit| {
            let known = self.constants.get(&unit.name).cloned();
            let bus = self.bus;
            async move {
                match ask(bus, &unit, known, loads).await {
                    Err(error) if bus::is_about_the_unit(&error) => Ok((unit.name, Err(error))),
                    Err(error) => Err(error),
                    Ok(constants) => Ok((unit.name, Ok(constants))),
                }
            }
        });
        let answers: Vec<(String, zbus::Result<Constants>)> = stream::iter(questions)
            .buffer_unordered(QUESTIONS)
            .try_collect()
            .await?;
        for (name, answer) in answers {
            let constants = match answer {
                Ok(constants) => constants,
                Err(error) => {
                    // It went away between the list and the question; its signals say the rest. Until then it is running,
                    // but nothing is known.
                    debug!(UNIT = name, "{}", causes(&error));
                    continue;
                }
            };
            facts.push(UnitFacts {
                name: name.clone(),
                running: Some(RunningFacts {
                    slice: constants.slice.clone(),
                    control_group: constants.control_group.clone(),
                    files: constants.files.clone(),
                    loaded: constants.loaded,
                }),
            });
            self.constants.insert(name, constants);
        }
        Ok(facts)
    }
}

async fn ask(
    bus: &Connection,
    unit: &Listed,
    known: Option<Constants>,
    loads: u64,
) -> zbus::Result<Constants> {
    let object = UnitObject {
        bus,
        object: &unit.object,
        interface: bus::interface_of(&unit.name),
    };
    let mut constants = match known {
        Some(constants) => constants,
        None => Constants {
            files: object.files().await?,
            slice: object.slice().await?,
            control_group: None,
            loaded: loads,
        },
    };
    if constants.control_group.is_none() {
        constants.control_group = object.control_group().await?;
    }
    Ok(constants)
}
