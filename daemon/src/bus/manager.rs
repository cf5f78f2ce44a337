// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manager object.

use super::Links;
use super::authorise::{Deed, authorise};
use super::error::Error;
use crate::config::check_unit;
use crate::core::{Request, RequestError};
use crate::events::stall::outcome_name;
use crate::policy::{Key, Statement, shown};
use crate::systemd::follow::Question;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use zbus::message::Header;
use zbus::{Connection, Type};

/// How long facts about a unit are waited for. They take milliseconds, and longer only while systemd is busy with something else.
const FACTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Subject, file, line, column, message. The subject is a unit, or what else something is wrong with; file, line and column are empty
/// and 0 where there is none.
type FaultShown = (String, String, u32, u32, String);

/// Unit, policy, and when it is over, in microseconds of CLOCK_BOOTTIME; 0 if it is not.
type RunTimeShown = (String, String, u64);

/// Unit, setting, and counts by outcome.
type PressureShown = (String, String, BTreeMap<String, u64>);

/// One thing that is said about a setting of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Explanation {
    /// The setting.
    pub key: String,
    /// What is said. Empty for one that takes back what was said before.
    pub value: String,
    /// Who says it.
    pub speaker: String,
    /// The unit that it is said about: the unit itself, or a slice above it.
    pub about: String,
    /// Where it is said. Empty for what is built in.
    pub place: String,
    /// What comes of it.
    pub verdict: String,
}

/// All statements about a unit as they are told to others.
pub fn explanations(statements: &[(Key, Statement)]) -> Vec<Explanation> {
    let explain = |(key, statement): &(Key, Statement)| Explanation {
        key: key.to_string(),
        value: statement
            .value
            .as_ref()
            .map_or(String::new(), |value| value.to_string()),
        speaker: statement.speaker.to_string(),
        about: statement.about.clone(),
        place: statement.place(),
        verdict: statement.verdict.name().to_owned(),
    };
    statements.iter().map(explain).collect()
}

/// The manager object.
#[derive(Debug)]
pub(super) struct Manager {
    links: Links,
}

impl Manager {
    pub(super) fn new(links: Links) -> Self {
        Manager { links }
    }

    /// Sends a request to the core and waits for the answer.
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let sent = self.links.requests.send(request(answer)).await;
        sent.map_err(|_| Error::stopping())?;
        answered.await.map_err(|_| Error::stopping())
    }

    /// Sees to it that the core knows what a unit is like now: it may have been started a moment ago. If that cannot be had, the core
    /// acts on what it knows, and on the rest when it comes.
    async fn look_at(&self, unit: &str) {
        let (known, told) = oneshot::channel();
        let question = Question {
            unit: unit.to_owned(),
            known,
        };
        let asked = async {
            if self.links.questions.send(question).await.is_ok() {
                let _ = told.await;
            }
        };
        let _ = timeout(FACTS_TIMEOUT, asked).await;
    }
}

/// The core checks names itself. But polkit shows this one to a person, who is not to be told stories by whoever calls.
fn check(unit: &str) -> Result<(), RequestError> {
    Ok(check_unit(unit)?)
}

#[zbus::interface(name = "org.bpfoomd1.Manager")]
impl Manager {
    /// Gives a unit a policy, for a time in microseconds or, with 0, until it is reset. Returns when it is in force; for a unit
    /// that does not run, that is when it starts.
    async fn set_policy(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        unit: String,
        policy: String,
        for_usec: u64,
    ) -> Result<(), Error> {
        check(&unit)?;
        let details = [("unit", &*unit), ("policy", &*shown(&policy))];
        let uid = authorise(bus, &call, Deed::SetPolicy, &details).await?;
        self.look_at(&unit).await;
        let length = match for_usec {
            // systemd's "infinity" too.
            0 | u64::MAX => None,
            micros => Some(Duration::from_micros(micros)),
        };
        let request = |answer| Request::SetPolicy {
            unit,
            policy,
            length,
            uid,
            answer,
        };
        Ok(self.ask(request).await??)
    }

    /// Takes away the policy that a unit was given at run time, if it was given one.
    async fn reset_policy(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        unit: String,
    ) -> Result<(), Error> {
        check(&unit)?;
        let details = [("unit", &*unit)];
        let uid = authorise(bus, &call, Deed::SetPolicy, &details).await?;
        let request = |answer| Request::ResetPolicy { unit, uid, answer };
        Ok(self.ask(request).await??)
    }

    /// Reads the configuration and all unit files again. Returns when they are in force.
    async fn reload(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        let uid = authorise(bus, &call, Deed::Reload, &[]).await?;
        self.ask(|answer| Request::Reload { uid, answer }).await
    }

    /// Everything that is said about a unit that runs: setting, value, who says it, about which unit, where, and what comes of it.
    /// Of each setting the one that decides comes first.
    async fn explain(&self, unit: String) -> Result<Vec<Explanation>, Error> {
        let request = |answer| Request::Explain { unit, answer };
        let statements: Result<_, RequestError> = self.ask(request).await?;
        Ok(explanations(&statements?))
    }

    /// The units that are watched for pressure: unit, when a stall of it is an OOM, and how often an event of its trigger had which
    /// outcome.
    async fn list_pressure(&self) -> Result<Vec<PressureShown>, Error> {
        let watched = self.ask(|answer| Request::Pressure { answer }).await?;
        let shown = watched.into_iter().map(|watched| {
            let outcomes = watched.outcomes.into_iter();
            let counts = outcomes.map(|(outcome, count)| (outcome_name(outcome).to_owned(), count));
            (watched.unit, watched.pressure.to_string(), counts.collect())
        });
        Ok(shown.collect())
    }

    /// How often the daemon had something to do since it was started, the watchdog left out.
    #[zbus(property(emits_changed_signal = "false"))]
    fn wakeups(&self) -> u64 {
        self.links.shown.borrow().wakeups
    }

    /// The version of the daemon.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// What is wrong: subject, file, line, column, message.
    #[zbus(property)]
    fn configuration_faults(&self) -> Vec<FaultShown> {
        let shown = self.links.shown.borrow();
        let faults = shown.faults.iter().map(|(subject, fault)| {
            let file = fault.file.as_ref();
            let file = file.map_or(String::new(), |file| file.display().to_string());
            let (line, column) = fault.position.map_or((0, 0), |at| (at.line, at.column));
            let message = fault.message.clone();
            (subject.clone(), file, line, column, message)
        });
        faults.collect()
    }

    /// What is set at run time: unit, policy, and when that is over in microseconds of CLOCK_BOOTTIME, or 0.
    #[zbus(property)]
    fn runtime_settings(&self) -> Vec<RunTimeShown> {
        let shown = self.links.shown.borrow();
        let settings = shown.run_time.iter();
        settings
            .map(|(unit, policy, end)| (unit.clone(), policy.to_string(), end.unwrap_or(0)))
            .collect()
    }
}
