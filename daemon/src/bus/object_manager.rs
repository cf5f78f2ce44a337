// SPDX-License-Identifier: MIT OR Apache-2.0
//! All objects at once, and which come and go.
//!
//! Not zbus's own: that one asks each property of each object by itself, and what it tells may be of different moments.

use super::calls::Calls;
use super::path;
use super::policy::{self, POLICY};
use super::unit::{self, Properties, UNIT};
use crate::core::{PolicyShown, UnitShown};
use std::collections::{BTreeMap, HashMap};
use zbus::OwnedObjectPath;
use zbus::object_server::SignalEmitter;

/// Properties by interface.
pub(super) type Interfaces = BTreeMap<&'static str, Properties>;

/// The standard interface by which clients learn of all objects.
#[derive(Debug)]
pub(super) struct ObjectManager {
    calls: Calls,
}

impl ObjectManager {
    pub(super) fn new(calls: Calls) -> Self {
        ObjectManager { calls }
    }
}

/// What is told of a unit's object.
pub(super) fn unit_object(name: &str, unit: &UnitShown) -> (OwnedObjectPath, Interfaces) {
    let interfaces = BTreeMap::from([(UNIT, unit::properties(name, unit))]);
    (path::of_unit(name), interfaces)
}

/// What is told of a policy's object.
pub(super) fn policy_object(policy: &PolicyShown) -> (OwnedObjectPath, Interfaces) {
    let interfaces = BTreeMap::from([(POLICY, policy::properties(policy))]);
    (path::of_policy(&policy.policy), interfaces)
}

#[zbus::interface(
    name = "org.freedesktop.DBus.ObjectManager",
    introspection_docs = false
)]
impl ObjectManager {
    #[zbus(out_args("objects"))]
    fn get_managed_objects(&self) -> HashMap<OwnedObjectPath, Interfaces> {
        let shown = self.calls.shown();
        let units = shown.units.iter();
        let units = units.map(|(name, unit)| unit_object(name, unit));
        units
            .chain(shown.policies.iter().map(policy_object))
            .collect()
    }

    #[zbus(signal)]
    pub(super) async fn interfaces_added(
        emitter: &SignalEmitter<'_>,
        object: OwnedObjectPath,
        interfaces: Interfaces,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn interfaces_removed(
        emitter: &SignalEmitter<'_>,
        object: OwnedObjectPath,
        interfaces: &[&str],
    ) -> zbus::Result<()>;
}
