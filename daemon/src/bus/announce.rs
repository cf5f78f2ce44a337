// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects that come and go with units, and what everybody is told when something has changed.
//!
//! It follows from what is shown now and what was shown before. What changed and changed back in between is not told; kills are, one by
//! one.

use super::calls::Calls;
use super::introspect::{self, Node};
use super::manager::{Manager, pending_shown};
use super::object_manager::{ObjectManager, policy_object, unit_object};
use super::policy::{self, POLICY, Policy};
use super::record::record;
use super::unit::{self, Properties, UNIT, Unit};
use super::{Links, MANAGER_PATH, ServeError, path};
use crate::core::{PolicyShown, Shown, UnitShown};
use crate::policy::Policy as PolicyName;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;
use zbus::object_server::{InterfaceRef, SignalEmitter};
use zbus::{Connection, OwnedObjectPath};

/// What became of a unit.
#[derive(Debug, PartialEq, Eq)]
enum Change<'a> {
    New(&'a str, &'a UnitShown),
    Other(&'a str, &'a UnitShown, &'a UnitShown),
    Gone(&'a str, &'a UnitShown),
}

type Units = BTreeMap<String, Arc<UnitShown>>;

/// What is different.
fn changes<'a>(before: &'a Units, now: &'a Units) -> Vec<Change<'a>> {
    let gone = before
        .iter()
        .filter(|(name, _)| !now.contains_key(*name))
        .map(|(name, unit)| Change::Gone(name, unit));
    let others = now
        .iter()
        .filter_map(|(name, unit)| match before.get(name) {
            None => Some(Change::New(name, unit)),
            // Those that have not changed are the same; most are.
            Some(before) if Arc::ptr_eq(before, unit) => None,
            Some(before) => Some(Change::Other(name, before, unit)),
        });
    gone.chain(others).collect()
}

/// The attachment that a unit lost and the one that it got.
fn attachments<'a>(
    change: &Change<'a>,
) -> (&'a str, Option<&'a PolicyName>, Option<&'a PolicyName>) {
    match *change {
        Change::New(name, unit) => (name, None, unit.attached.as_ref()),
        Change::Gone(name, unit) => (name, unit.attached.as_ref(), None),
        Change::Other(name, before, now) => {
            // An attachment is on a cgroup, and goes with it.
            let on = |unit: &'a UnitShown| {
                let attached = unit.attached.as_ref();
                attached.map(|policy| (unit.control_group_id, policy))
            };
            match on(before) == on(now) {
                true => (name, None, None),
                false => (name, before.attached.as_ref(), now.attached.as_ref()),
            }
        }
    }
}

/// Those that are not what they were.
fn changed(before: Properties, mut now: Properties) -> Properties {
    now.retain(|name, value| before.get(name) != Some(value));
    now
}

/// Serves what is shown on one connection, and tells what changes.
pub(super) struct Announcer {
    bus: Connection,
    calls: Calls,
    manager: InterfaceRef<Manager>,
    /// What everybody was told.
    before: Shown,
    served: watch::Sender<u64>,
}

impl Announcer {
    /// Begins with what is shown now. Nobody is told about that: nobody was told anything else.
    pub(super) async fn begin(
        bus: &Connection,
        calls: Calls,
        served: watch::Sender<u64>,
    ) -> zbus::Result<Self> {
        let manager = bus.object_server().interface(MANAGER_PATH).await?;
        let mut announcer = Announcer {
            bus: bus.clone(),
            manager,
            before: Shown::default(),
            served,
            calls,
        };
        let now = announcer.calls.shown();
        announcer.serve(&now).await?;
        announcer.before = now;
        Ok(announcer)
    }

    /// Goes on until the bus is gone.
    pub(super) async fn announce(mut self) -> Result<Infallible, ServeError> {
        let mut shown = self.calls.links().shown.clone();
        // What has come since it began is new.
        shown.mark_changed();
        loop {
            if shown.changed().await.is_err() {
                // The core is gone, and this thread is about to end.
                return std::future::pending().await;
            }
            let now = shown.borrow_and_update().clone();
            self.tell(now).await.map_err(ServeError::Bus)?;
        }
    }

    async fn tell(&mut self, now: Shown) -> zbus::Result<()> {
        // Kills first: somebody is waiting for them.
        self.tell_warned(&now).await?;
        self.tell_kills().await?;
        self.serve(&now).await?;
        self.tell_manager(&now).await?;
        self.tell_units(&now).await?;
        self.tell_policies(&now).await?;
        self.before = now;
        Ok(())
    }

    async fn tell_warned(&self, now: &Shown) -> zbus::Result<()> {
        if now.pending == self.before.pending {
            return Ok(());
        }
        let emitter = self.manager.signal_emitter();
        for pending in now.pending.iter() {
            if !self.before.pending.contains(pending) {
                let (unit, user_unit, cgroup, policy, until, asked) = pending_shown(pending);
                Manager::warned(emitter, &unit, &user_unit, &cgroup, &policy, until, asked).await?;
            }
        }
        let manager = self.manager.get().await;
        manager.pending_kills_changed(emitter).await
    }

    async fn tell_kills(&mut self) -> zbus::Result<()> {
        let Links { history, told, .. } = self.calls.links();
        // Also those that happened while there was no connection.
        for kill in history.after(told.load(Ordering::Relaxed)) {
            told.store(kill.id, Ordering::Relaxed);
            Manager::killed(self.manager.signal_emitter(), record(&kill)).await?;
        }
        Ok(())
    }

    /// Makes the objects that there are now, and removes the others.
    async fn serve(&self, now: &Shown) -> zbus::Result<()> {
        let objects = self.bus.object_server();
        for policy in &now.policies[self.before.policies.len().min(now.policies.len())..] {
            let name = policy.policy.clone();
            let object = Policy::new(name, self.calls.clone());
            objects.at(path::of_policy(&policy.policy), object).await?;
        }
        let first = self.before.units.is_empty() && !now.units.is_empty();
        for change in changes(&self.before.units, &now.units) {
            match change {
                Change::New(name, _) => {
                    let object = Unit::new(name.to_owned(), self.calls.clone());
                    objects.at(path::of_unit(name), object).await?;
                }
                Change::Gone(name, _) => {
                    objects.remove::<Unit, _>(path::of_unit(name)).await?;
                }
                Change::Other(..) => {}
            }
        }
        if first {
            introspect::replace(objects, Node::Units, &self.calls).await?;
        }
        self.served.send_replace(now.revision);
        Ok(())
    }

    async fn tell_manager(&self, now: &Shown) -> zbus::Result<()> {
        let manager = self.manager.get().await;
        let emitter = self.manager.signal_emitter();
        if now.faults != self.before.faults {
            manager.configuration_faults_changed(emitter).await?;
        }
        if now.run_time != self.before.run_time {
            manager.runtime_settings_changed(emitter).await?;
        }
        if now.configurations != self.before.configurations {
            Manager::configuration_changed(emitter).await?;
        }
        Ok(())
    }

    async fn tell_units(&self, now: &Shown) -> zbus::Result<()> {
        let manager = self.manager.signal_emitter();
        for change in changes(&self.before.units, &now.units) {
            match change {
                Change::New(name, unit) => {
                    let (object, interfaces) = unit_object(name, unit);
                    ObjectManager::interfaces_added(manager, object, interfaces).await?;
                }
                Change::Other(name, before, unit) => {
                    let before = unit::properties(name, before);
                    let changed = changed(before, unit::properties(name, unit));
                    self.tell_properties(path::of_unit(name), UNIT, changed)
                        .await?;
                }
                Change::Gone(name, _) => {
                    let object = path::of_unit(name);
                    ObjectManager::interfaces_removed(manager, object, &[UNIT]).await?;
                }
            }
            let (name, lost, got) = attachments(&change);
            if let Some(policy) = lost {
                Manager::detached(manager, name, &policy.to_string()).await?;
            }
            if let Some(policy) = got {
                Manager::attached(manager, name, &policy.to_string()).await?;
            }
        }
        Ok(())
    }

    /// There are always the same ones, once they are known.
    async fn tell_policies(&self, now: &Shown) -> zbus::Result<()> {
        let manager = self.manager.signal_emitter();
        for (index, policy) in now.policies.iter().enumerate() {
            let before: Option<&PolicyShown> = self.before.policies.get(index);
            match before {
                None => {
                    let (object, interfaces) = policy_object(policy);
                    ObjectManager::interfaces_added(manager, object, interfaces).await?;
                }
                Some(before) if before == policy => {}
                Some(before) => {
                    let before = policy::properties(before);
                    let changed = changed(before, policy::properties(policy));
                    self.tell_properties(path::of_policy(&policy.policy), POLICY, changed)
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn tell_properties(
        &self,
        object: OwnedObjectPath,
        interface: &str,
        changed: Properties,
    ) -> zbus::Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        let emitter = SignalEmitter::new(&self.bus, object)?;
        let invalidated: &[&str] = &[];
        emitter
            .emit(
                "org.freedesktop.DBus.Properties",
                "PropertiesChanged",
                &(interface, changed, invalidated),
            )
            .await
    }
}
