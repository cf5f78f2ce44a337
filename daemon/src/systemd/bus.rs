// SPDX-License-Identifier: MIT OR Apache-2.0
//! The few methods and properties of org.freedesktop.systemd1 that are needed, called one by one.
//!
//! Not through a generated proxy: one object per unit with cached properties would mean a match rule and a few hundred
//! properties for each. And not with `GetAll`, for which systemd reads files in /sys/fs/cgroup.

use super::unit_name;
use std::path::PathBuf;
use zbus::fdo;
use zbus::{Connection, Message, OwnedObjectPath, OwnedVariant};

/// systemd's name on the bus.
pub const SYSTEMD: &str = "org.freedesktop.systemd1";
/// Where its manager object is.
pub const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// The manager's interface.
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The interface that all units have.
pub const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// A unit in systemd's list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Whether it is neither inactive nor failed.
    pub running: bool,
    /// Its object.
    pub object: OwnedObjectPath,
}

/// Asks systemd to send signals to this connection.
pub async fn subscribe(bus: &Connection) -> zbus::Result<()> {
    let result = bus
        .call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "Subscribe", &())
        .await;
    match result {
        // "AlreadySubscribed" can only mean that an earlier call of ours was answered too late.
        Err(zbus::Error::MethodError(name, ..)) if name.ends_with(".AlreadySubscribed") => Ok(()),
        result => result.map(|_| ()),
    }
}

/// All units that systemd has loaded.
pub async fn list_units(bus: &Connection) -> zbus::Result<Vec<Listed>> {
    let reply = bus
        .call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "ListUnits", &())
        .await?;
    listed(&reply)
}

/// Those of the given units that systemd has loaded.
///
/// `ListUnitsByPatterns` looks only at what is loaded. `ListUnitsByNames` and any property of a unit's object would load
/// the unit; that is announced with the same signals that bring us here, and so would go on for ever.
pub async fn list_units_named(bus: &Connection, names: &[String]) -> zbus::Result<Vec<Listed>> {
    // Vectors: an array would go as a structure.
    let any_state: Vec<&str> = Vec::new();
    let patterns: Vec<String> = names.iter().map(|name| literal_pattern(name)).collect();
    let reply = bus
        .call_method(
            Some(SYSTEMD),
            MANAGER_PATH,
            Some(MANAGER),
            "ListUnitsByPatterns",
            &(any_state, patterns),
        )
        .await?;
    listed(&reply)
}

/// The object of a unit, which systemd loads for that if it has not yet. For those who ask about a unit by name; following units
/// loads none.
pub async fn load_unit(bus: &Connection, name: &str) -> zbus::Result<OwnedObjectPath> {
    let reply = bus
        .call_method(
            Some(SYSTEMD),
            MANAGER_PATH,
            Some(MANAGER),
            "LoadUnit",
            &(name,),
        )
        .await?;
    reply.body().deserialize()
}

/// The interface of a unit's kind, by its name.
pub fn interface_of(unit: &str) -> String {
    let kind = unit_name::section(unit).unwrap_or_default();
    format!("{SYSTEMD}.{kind}")
}

/// A pattern that matches the name and nothing else. systemd uses fnmatch(3) with FNM_NOESCAPE (`list_units_filtered()` in
/// src/core/dbus-manager.c): a backslash, which many names have, is a character like others.
fn literal_pattern(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '*' | '?' | '[' => pattern.extend(['[', character, ']']),
            _ => pattern.push(character),
        }
    }
    pattern
}

/// Name, description, load state, active state, sub state, followed unit, object, job id, job type, job object.
type ListedRaw = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

fn listed(reply: &Message) -> zbus::Result<Vec<Listed>> {
    let units: Vec<ListedRaw> = reply.body().deserialize()?;
    Ok(units
        .into_iter()
        .map(|(name, _, _, active, _, _, object, ..)| Listed {
            name,
            running: !matches!(active.as_str(), "inactive" | "failed"),
            object,
        })
        .collect())
}

/// A unit's object, to read properties from.
#[derive(Debug)]
pub struct UnitObject<'a> {
    /// The bus.
    pub bus: &'a Connection,
    /// The object.
    pub object: &'a OwnedObjectPath,
    /// The interface of its kind of unit.
    pub interface: String,
}

impl UnitObject<'_> {
    /// Its fragment and its drop-ins, in the order in which systemd reads them.
    pub async fn files(&self) -> zbus::Result<Vec<PathBuf>> {
        let fragment: String = self.property(UNIT, "FragmentPath").await?;
        let drop_ins: Vec<String> = self.property(UNIT, "DropInPaths").await?;
        Ok(std::iter::once(fragment)
            .chain(drop_ins)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect())
    }

    /// The slice it is in. None for the root slice.
    pub async fn slice(&self) -> zbus::Result<Option<String>> {
        let slice: String = self.property(&self.interface, "Slice").await?;
        Ok((!slice.is_empty()).then_some(slice))
    }

    /// Path of its cgroup. None while there is none.
    pub async fn control_group(&self) -> zbus::Result<Option<String>> {
        let path: String = self.property(&self.interface, "ControlGroup").await?;
        Ok((!path.is_empty()).then_some(path))
    }

    async fn property<T>(&self, interface: &str, name: &str) -> zbus::Result<T>
    where
        T: TryFrom<OwnedVariant, Error = zbus::Error>,
    {
        let reply = self
            .bus
            .call_method(
                Some(SYSTEMD),
                self.object,
                Some("org.freedesktop.DBus.Properties"),
                "Get",
                &(interface, name),
            )
            .await?;
        let value: OwnedVariant = reply.body().deserialize()?;
        T::try_from(value)
    }
}

/// Whether an error says no more than that a unit is not there, or not as expected. Everything else is about the
/// bus or systemd as a whole.
pub fn is_about_the_unit(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::MethodError(name, ..) => name.starts_with("org.freedesktop.systemd1."),
        zbus::Error::FDO(error) => matches!(
            **error,
            fdo::Error::UnknownObject(_)
                | fdo::Error::UnknownInterface(_)
                | fdo::Error::UnknownProperty(_)
                | fdo::Error::UnknownMethod(_)
                | fdo::Error::InvalidArgs(_)
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_name_alone() {
        assert_eq!(literal_pattern("a-b@c.service"), "a-b@c.service");
        assert_eq!(literal_pattern("dev-x\\x2dy.swap"), "dev-x\\x2dy.swap");
        assert_eq!(literal_pattern("[*?].scope"), "[[][*][?]].scope");
    }
}
