// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon on the bus, as a program that does not read what others print.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use crate::systemctl::PATIENCE;

/// The daemon's name.
pub const NAME: &str = "org.bpfoomd1";
/// Where its manager is.
pub const MANAGER_PATH: &str = "/org/bpfoomd1";
/// The manager's interface.
pub const MANAGER: &str = "org.bpfoomd1.Manager";
/// The interface of units.
pub const UNIT: &str = "org.bpfoomd1.Unit";

/// A dictionary as the bus has it.
pub type Dictionary = HashMap<String, OwnedVariant>;

/// A leaf as Simulate tells it: unit, path, id, score, bytes, preference, processes, why not.
pub type Candidate = (String, String, u64, u64, u64, String, u32, String);

/// Runs what waits for the bus.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop");
    runtime.block_on(test)
}

/// The system bus, as root.
pub async fn connect() -> Connection {
    Connection::system().await.expect("the system bus")
}

/// Calls a method of one of the daemon's objects.
pub async fn call<B>(
    bus: &Connection,
    path: &str,
    (interface, method): (&str, &str),
    body: &B,
) -> zbus::Result<Message>
where
    B: zbus::export::serde::Serialize + zbus::wire::DynamicType,
{
    bus.call_method(Some(NAME), path, Some(interface), method, body)
        .await
}

/// The object of a unit, when the daemon has heard of it.
pub async fn object(bus: &Connection, unit: &str) -> OwnedObjectPath {
    let found = async {
        loop {
            match call(bus, MANAGER_PATH, (MANAGER, "GetUnit"), &(unit,)).await {
                Ok(reply) => return reply.body().deserialize().expect("a path"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("there is no object of {unit}"))
}

/// All properties of a unit.
pub async fn properties(bus: &Connection, unit: &str) -> Dictionary {
    let path = object(bus, unit).await;
    let method = ("org.freedesktop.DBus.Properties", "GetAll");
    let reply = call(bus, path.as_str(), method, &(UNIT,)).await;
    let reply = reply.unwrap_or_else(|error| panic!("GetAll of {unit}: {error}"));
    reply.body().deserialize().expect("properties")
}

/// Whom a policy would choose in a unit.
pub async fn simulate(bus: &Connection, unit: &str) -> (String, Vec<Candidate>) {
    let reply = call(bus, MANAGER_PATH, (MANAGER, "Simulate"), &(unit,)).await;
    let reply = reply.unwrap_or_else(|error| panic!("Simulate {unit}: {error}"));
    reply.body().deserialize().expect("candidates")
}

/// All kills that the daemon keeps.
pub async fn kills(bus: &Connection) -> Vec<Dictionary> {
    let reply = call(bus, MANAGER_PATH, (MANAGER, "ListKills"), &(0_u64, 0_u32)).await;
    let reply = reply.unwrap_or_else(|error| panic!("ListKills: {error}"));
    reply.body().deserialize().expect("records")
}

/// The daemon's signals of that name, from now on.
pub async fn signals(bus: &Connection, member: &str) -> MessageStream {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(NAME)
        .member(member.to_owned())
        .build()
        .expect("a rule");
    MessageStream::for_match_rule(rule, bus, None)
        .await
        .expect("signals")
}

/// The next signal.
pub async fn next(signals: &mut MessageStream) -> Message {
    let next = tokio::time::timeout(PATIENCE, signals.next()).await;
    let next = next.expect("a signal in time").expect("the bus is there");
    next.expect("a signal")
}

/// What a dictionary says, as text; a string without quotes.
#[track_caller]
pub fn said(dictionary: &Dictionary, key: &str) -> String {
    let value = dictionary
        .get(key)
        .unwrap_or_else(|| panic!("no {key} in {dictionary:?}"));
    match String::try_from(value.clone()) {
        Ok(text) => text,
        Err(_) => {
            // "uint64 5": the type comes first.
            let text = value.to_string();
            text.rsplit(' ').next().unwrap_or_default().to_owned()
        }
    }
}
