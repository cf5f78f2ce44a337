// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manager object.

use super::authorise::{Deed, authorise};
use super::calls::{Calls, CandidateShown, Explanation, check};
use super::error::Error;
use super::path;
use super::record::{Record, record};
use crate::core::{PendingKill, Request, Shown};
use crate::events::stall::outcome_name;
use crate::systemd::unit_name::{self, ROOT_SLICE};
use std::collections::BTreeMap;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath};

/// Subject, file, line, column, message. The subject is a unit, or what else something is wrong with; file, line and column are empty
/// and 0 where there is none.
type FaultShown = (String, String, u32, u32, String);

/// Unit, unit of a user's service manager, path of the control group, policy, when it is killed at the latest in microseconds of
/// CLOCK_BOOTTIME, and whether its processes were asked to end.
type PendingShown = (String, String, String, String, u64, bool);

/// A victim that is about to be killed, for the bus.
pub(super) fn pending_shown(pending: &PendingKill) -> PendingShown {
    (
        pending.unit.clone().unwrap_or_default(),
        pending.user_unit.clone().unwrap_or_default(),
        pending.cgroup.clone(),
        pending.policy.clone(),
        pending.until_usec,
        pending.asked,
    )
}

/// Unit, policy, and when it is over, in microseconds of CLOCK_BOOTTIME; 0 if it is not.
type RunTimeShown = (String, String, u64);

/// Unit, setting, and counts by outcome.
type PressureShown = (String, String, BTreeMap<String, u64>);

/// Unit, object, policy, where it was said, path and whether its own cgroup has an attachment, the cgroup's id, kills.
type UnitListed = (
    String,
    OwnedObjectPath,
    String,
    String,
    String,
    bool,
    u64,
    u64,
);

/// The manager object.
#[derive(Debug)]
pub(super) struct Manager {
    calls: Calls,
}

impl Manager {
    pub(super) fn new(calls: Calls) -> Self {
        Manager { calls }
    }

    fn shown(&self) -> Shown {
        self.calls.shown()
    }

    /// The path of a unit's object, when it is there.
    async fn object(&self, unit: &str, revision: u64) -> OwnedObjectPath {
        self.calls.served(revision).await;
        path::of_unit(unit)
    }
}

/// The unit that a cgroup belongs to, or else the nearest one above it.
fn unit_of_control_group<'a>(shown: &'a Shown, control_group: &str) -> Option<&'a str> {
    let mut rest = control_group.trim_end_matches('/');
    while let Some((above, last)) = rest.rsplit_once('/') {
        // systemd puts a "_" before names that the kernel might use itself.
        let names = [Some(last), last.strip_prefix('_')];
        let found = names.into_iter().flatten().find_map(|name| {
            let (name, unit) = shown.units.get_key_value(name)?;
            (unit.control_group.as_deref() == Some(rest)).then_some(name.as_str())
        });
        if found.is_some() {
            return found;
        }
        rest = above;
    }
    let root = shown.units.get_key_value(ROOT_SLICE);
    root.map(|(name, _)| name.as_str())
}

/// Policies by which the kernel chooses who is killed when memory runs out, unit by unit. See org.bpfoomd1(5).
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
        let set = self.calls.set_policy((bus, call), unit, policy, for_usec);
        set.await
    }

    /// Takes away the policy that a unit was given at run time, if it was given one.
    async fn reset_policy(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        unit: String,
    ) -> Result<(), Error> {
        self.calls.reset_policy((bus, call), unit).await
    }

    /// Reads the configuration and all unit files again. Returns when they are in force.
    async fn reload(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        let _turn = self.calls.turn(&call)?;
        let uid = authorise(bus, &call, Deed::Reload, &[]).await?;
        self.calls
            .ask(|answer| Request::Reload { uid, answer })
            .await
    }

    /// Everything that is said about a unit that runs: setting, value, who says it, about which unit, where, and what comes of it.
    /// Of each setting the one that decides comes first.
    #[zbus(out_args("statements"))]
    async fn explain(
        &self,
        #[zbus(header)] call: Header<'_>,
        unit: String,
    ) -> Result<Vec<Explanation>, Error> {
        self.calls.explain(&call, unit).await
    }

    /// The units that are watched for pressure: unit, when a stall of it is an OOM, and how often an event of its trigger had which
    /// outcome.
    #[zbus(out_args("watched"))]
    async fn list_pressure(
        &self,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<Vec<PressureShown>, Error> {
        let _turn = self.calls.turn(&call)?;
        let watched = self.calls.ask(|answer| Request::Pressure { answer });
        let shown = watched.await?.into_iter().map(|watched| {
            let outcomes = watched.outcomes.into_iter();
            let counts = outcomes.map(|(outcome, count)| (outcome_name(outcome).to_owned(), count));
            (watched.unit, watched.pressure.to_string(), counts.collect())
        });
        Ok(shown.collect())
    }

    /// The units that are loaded and can have a control group: unit, its object, the policy in force, where that was said, the path
    /// of its control group, whether something is attached to that itself, its id, and how often it was a victim.
    #[zbus(out_args("units"))]
    async fn list_units(&self, #[zbus(header)] call: Header<'_>) -> Result<Vec<UnitListed>, Error> {
        let _turn = self.calls.turn(&call)?;
        let shown = self.shown();
        self.calls.served(shown.revision).await;
        let listed = shown.units.iter().map(|(name, unit)| {
            (
                name.clone(),
                path::of_unit(name),
                unit.policy.to_string(),
                unit.policy_place.clone(),
                unit.control_group.clone().unwrap_or_default(),
                unit.attached.is_some(),
                unit.control_group_id,
                unit.kills,
            )
        });
        Ok(listed.collect())
    }

    /// The object of a unit that is loaded.
    #[zbus(out_args("object"))]
    async fn get_unit(
        &self,
        #[zbus(header)] call: Header<'_>,
        unit: String,
    ) -> Result<OwnedObjectPath, Error> {
        check(&unit)?;
        let _turn = self.calls.turn(&call)?;
        let mut shown = self.shown();
        if !shown.units.contains_key(&unit) {
            shown = self.calls.shown_after_a_look(&unit).await?;
        }
        if !shown.units.contains_key(&unit) {
            return Err(Error::not_loaded(&unit));
        }
        Ok(self.object(&unit, shown.revision).await)
    }

    /// The object of the unit that a control group, or the nearest one above it, belongs to. The path is from the root of the tree of
    /// control groups, as in /proc/PID/cgroup.
    #[zbus(out_args("object"))]
    async fn get_unit_by_control_group(
        &self,
        #[zbus(header)] call: Header<'_>,
        control_group: String,
    ) -> Result<OwnedObjectPath, Error> {
        let parts = control_group.split('/');
        if !control_group.starts_with('/')
            || parts.into_iter().any(|part| matches!(part, "." | ".."))
        {
            return Err(Error::invalid(
                "expected the path of a control group, from \"/\" on and without \"..\"",
            ));
        }
        let _turn = self.calls.turn(&call)?;
        let mut shown = self.shown();
        // What its path says, which may be of another tree. If that is not it, it may have been started a moment ago.
        let named = unit_name::of_cgroup(&control_group).unit;
        let found = unit_of_control_group(&shown, &control_group);
        if found != Some(&*named) && check(&named).is_ok() {
            shown = self.calls.shown_after_a_look(&named).await?;
        }
        let Some(unit) = unit_of_control_group(&shown, &control_group) else {
            return Err(Error::not_loaded(&named));
        };
        Ok(self.object(unit, shown.revision).await)
    }

    /// Whom the policy in force would choose if a unit ran out of memory now: the policy, and in the order in which they would die
    /// unit, control group, its id, score, bytes, preference, processes that could be killed, and why it would not be chosen. Those
    /// that would not come last. With "kernel" there are none: what the kernel chooses cannot be told before.
    #[zbus(out_args("policy", "candidates"))]
    async fn simulate(
        &self,
        #[zbus(header)] call: Header<'_>,
        unit: String,
    ) -> Result<(String, Vec<CandidateShown>), Error> {
        self.calls.simulate(&call, unit).await
    }

    /// The last kills since a time in microseconds of CLOCK_REALTIME, the newest ones if there are more than so many, with the newest
    /// last. 0 for a time is all that are kept, 0 for a number no limit. The records are those of Killed.
    #[zbus(out_args("records"))]
    async fn list_kills(&self, since_usec: u64, max: u32) -> Vec<Record> {
        let most = match max {
            0 => usize::MAX,
            max => usize::try_from(max).unwrap_or(usize::MAX),
        };
        let kills = self.calls.links().history.since(since_usec, most);
        kills.iter().map(|kill| record(kill)).collect()
    }

    /// Somebody was killed because memory ran out. The record's keys are in org.bpfoomd1(5).
    #[zbus(signal)]
    pub(super) async fn killed(emitter: &SignalEmitter<'_>, record: Record) -> zbus::Result<()>;

    /// A policy has chosen a victim, which is killed unless it ends before: unit, unit of a user's service manager, path of the control
    /// group, policy, when it is killed at the latest in microseconds of CLOCK_BOOTTIME, whether its processes were asked to end
    /// (SIGTERM). What is not known is empty.
    #[zbus(signal)]
    pub(super) async fn warned(
        emitter: &SignalEmitter<'_>,
        unit: &str,
        user_unit: &str,
        control_group: &str,
        policy: &str,
        until_usec: u64,
        asked: bool,
    ) -> zbus::Result<()>;

    /// A policy was attached to a unit's control group.
    #[zbus(signal)]
    pub(super) async fn attached(
        emitter: &SignalEmitter<'_>,
        unit: &str,
        policy: &str,
    ) -> zbus::Result<()>;

    /// A policy was detached from a unit's control group, or went with it.
    #[zbus(signal)]
    pub(super) async fn detached(
        emitter: &SignalEmitter<'_>,
        unit: &str,
        policy: &str,
    ) -> zbus::Result<()>;

    /// The configuration in force is another one than before.
    #[zbus(signal)]
    pub(super) async fn configuration_changed(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;

    /// How policies are enforced: "kernel" if the kernel itself chooses and kills.
    #[zbus(property(emits_changed_signal = "const"))]
    fn engine(&self) -> &'static str {
        self.calls.links().engine
    }

    /// The parts of the kernel's interface: name, whether this kernel has it, and what it means if it is missing.
    #[zbus(property(emits_changed_signal = "const"))]
    fn kernel_interface(&self) -> Vec<(&'static str, bool, &'static str)> {
        let parts = self.calls.links().interface.iter();
        parts
            .map(|part| (part.name, part.present, part.missing))
            .collect()
    }

    /// What there is and what has been counted since the service was started, which a restart does not begin anew: "units" that run,
    /// "attachments", "watched" for pressure, "kills" by policies, "kernel-kills", "stalls" without a kill by a policy, "lost-records".
    #[zbus(property(emits_changed_signal = "false"))]
    fn counters(&self, #[zbus(header)] call: Option<Header<'_>>) -> BTreeMap<&'static str, u64> {
        let counters = self.calls.shown_to(call.as_ref()).counters;
        BTreeMap::from([
            ("units", counters.units),
            ("attachments", counters.attachments),
            ("watched", counters.watched),
            ("kills", counters.kills),
            ("kernel-kills", counters.kernel_kills),
            ("stalls", counters.stalls),
            ("lost-records", counters.lost_records),
        ])
    }

    /// How often the daemon had something to do since it was started, the watchdog left out.
    #[zbus(property(emits_changed_signal = "false"))]
    fn wakeups(&self, #[zbus(header)] call: Option<Header<'_>>) -> u64 {
        self.calls.shown_to(call.as_ref()).wakeups
    }

    /// The version of the daemon.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// What is wrong: subject, file, line, column, message.
    #[zbus(property)]
    fn configuration_faults(&self, #[zbus(header)] call: Option<Header<'_>>) -> Vec<FaultShown> {
        let shown = self.calls.shown_to(call.as_ref());
        let faults = shown.faults.iter().map(|(subject, fault)| {
            let file = fault.file.as_ref();
            let file = file.map_or(String::new(), |file| file.display().to_string());
            let (line, column) = fault.position.map_or((0, 0), |at| (at.line, at.column));
            let message = fault.message.clone();
            (subject.clone(), file, line, column, message)
        });
        faults.collect()
    }

    /// Victims that are about to be killed, as Warned tells them.
    #[zbus(property)]
    fn pending_kills(&self, #[zbus(header)] call: Option<Header<'_>>) -> Vec<PendingShown> {
        let shown = self.calls.shown_to(call.as_ref());
        shown.pending.iter().map(pending_shown).collect()
    }

    /// What is set at run time: unit, policy, and when that is over in microseconds of CLOCK_BOOTTIME, or 0.
    #[zbus(property)]
    fn runtime_settings(&self, #[zbus(header)] call: Option<Header<'_>>) -> Vec<RunTimeShown> {
        let shown = self.calls.shown_to(call.as_ref());
        let settings = shown.run_time.iter();
        settings
            .map(|(unit, policy, end)| (unit.clone(), policy.to_string(), end.unwrap_or(0)))
            .collect()
    }
}
