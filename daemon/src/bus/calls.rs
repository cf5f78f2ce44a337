// SPDX-License-Identifier: MIT OR Apache-2.0
//! What methods do, of whichever object: find out whether the caller may, ask the core, and tell the answer.

use super::Links;
use super::authorise::{Deed, authorise};
use super::error::Error;
use super::turns::{Turn, Turns};
use crate::config::check_unit;
use crate::core::{CandidateUnit, Request, RequestError, Shown, UnitShown};
use crate::engine::Excluded;
use crate::policy::{Key, Statement, shown};
use crate::systemd::follow::Question;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use zbus::message::Header;
use zbus::{Connection, Type};

/// How long facts about a unit are waited for. They take milliseconds, and longer only while systemd is busy with something else.
const FACTS_TIMEOUT: Duration = Duration::from_secs(5);

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

/// Unit, path, id, score, bytes, preference, processes, and why it would not be chosen, or nothing.
pub(super) type CandidateShown = (String, String, u64, u64, u64, String, u32, &'static str);

/// Who calls, and on which connection.
pub(super) type Caller<'a> = (&'a Connection, Header<'a>);

/// What connects objects with the core.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    links: Links,
    /// The revision of the units whose objects there are.
    served: watch::Receiver<u64>,
    turns: Turns,
    /// What was shown to the last call that read properties, and which call that was.
    read: Arc<Mutex<Option<(CallId, Shown)>>>,
}

/// A call: who makes it, and its number.
type CallId = (Option<String>, NonZeroU32);

impl Calls {
    pub(super) fn new(links: Links, served: watch::Receiver<u64>) -> Self {
        Calls {
            links,
            served,
            turns: Turns::default(),
            read: Arc::default(),
        }
    }

    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// What everybody may see now.
    pub(super) fn shown(&self) -> Shown {
        self.links.shown.borrow().clone()
    }

    /// The same, and throughout one call the same moment: for a GetAll, properties are read one by one.
    pub(super) fn shown_to(&self, call: Option<&Header<'_>>) -> Shown {
        let Some(call) = call else {
            return self.shown();
        };
        let id = (
            call.sender().map(ToString::to_string),
            call.primary().serial_num(),
        );
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((last, shown)) if *last == id => shown.clone(),
            _ => {
                let shown = self.shown();
                *read = Some((id, shown.clone()));
                shown
            }
        }
    }

    /// Lets a call wait for others.
    pub(super) fn turn(&self, call: &Header<'_>) -> Result<Turn, Error> {
        self.turns.take(call)
    }

    /// What is shown of a unit to a call.
    pub(super) fn unit(
        &self,
        unit: &str,
        call: Option<&Header<'_>>,
    ) -> Result<Arc<UnitShown>, Error> {
        let shown = self.shown_to(call);
        let unit_shown = shown.units.get(unit).cloned();
        unit_shown.ok_or_else(|| Error::not_loaded(unit))
    }

    /// Waits until there are objects for the units that are shown, so that the paths that somebody is told lead somewhere.
    pub(super) async fn served(&self, revision: u64) {
        let mut served = self.served.clone();
        let ready = served.wait_for(|served| *served >= revision);
        let _ = timeout(FACTS_TIMEOUT, ready).await;
    }

    /// Sends a request to the core and waits for the answer.
    pub(super) async fn ask<T>(
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

    pub(super) async fn set_policy(
        &self,
        (bus, call): Caller<'_>,
        unit: String,
        policy: String,
        for_usec: u64,
    ) -> Result<(), Error> {
        check(&unit)?;
        let _turn = self.turn(&call)?;
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

    pub(super) async fn reset_policy(
        &self,
        (bus, call): Caller<'_>,
        unit: String,
    ) -> Result<(), Error> {
        check(&unit)?;
        let _turn = self.turn(&call)?;
        let details = [("unit", &*unit)];
        let uid = authorise(bus, &call, Deed::SetPolicy, &details).await?;
        let request = |answer| Request::ResetPolicy { unit, uid, answer };
        Ok(self.ask(request).await??)
    }

    /// Asks the core about a unit that it may not have heard of yet.
    async fn ask_about<T>(
        &self,
        unit: &str,
        request: impl Fn(oneshot::Sender<Result<T, RequestError>>) -> Request,
    ) -> Result<T, Error> {
        match self.ask(&request).await? {
            Err(error) if error.is_for_want_of_news() => {
                self.look_at(unit).await;
                Ok(self.ask(request).await??)
            }
            answer => Ok(answer?),
        }
    }

    /// What is shown when the core has acted on what systemd says about a unit now.
    pub(super) async fn shown_after_a_look(&self, unit: &str) -> Result<Shown, Error> {
        self.look_at(unit).await;
        self.ask(|answer| Request::Settle { answer }).await?;
        Ok(self.shown())
    }

    pub(super) async fn explain(
        &self,
        call: &Header<'_>,
        unit: String,
    ) -> Result<Vec<Explanation>, Error> {
        let _turn = self.turn(call)?;
        let request = |answer| Request::Explain {
            unit: unit.clone(),
            answer,
        };
        Ok(explanations(&self.ask_about(&unit, request).await?))
    }

    pub(super) async fn simulate(
        &self,
        call: &Header<'_>,
        unit: String,
    ) -> Result<(String, Vec<CandidateShown>), Error> {
        let _turn = self.turn(call)?;
        let request = |answer| Request::Simulate {
            unit: unit.clone(),
            answer,
        };
        let simulation = self.ask_about(&unit, request).await?;
        let candidates = simulation.candidates.into_iter().map(candidate).collect();
        Ok((simulation.policy.to_string(), candidates))
    }
}

fn candidate(told: CandidateUnit) -> CandidateShown {
    let CandidateUnit {
        unit,
        control_group,
        candidate,
    } = told;
    let excluded = match candidate.excluded {
        None => "",
        Some(Excluded::Unkillable) => "unkillable",
        Some(Excluded::NoProcess) => "no-process",
        Some(Excluded::ScoreZero) => "score-zero",
        Some(Excluded::Omitted) => "omitted",
        Some(Excluded::Other(_)) => "other",
    };
    (
        unit.unwrap_or_default(),
        control_group.unwrap_or_default(),
        candidate.cgroup.0,
        candidate.score,
        candidate.bytes,
        candidate.preference.to_string(),
        candidate.processes,
        excluded,
    )
}

/// The core checks names itself. But polkit shows this one to a person, who is not to be told stories by whoever calls.
pub(super) fn check(unit: &str) -> Result<(), RequestError> {
    Ok(check_unit(unit)?)
}
