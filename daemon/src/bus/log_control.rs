// SPDX-License-Identifier: MIT OR Apache-2.0
//! `org.freedesktop.LogControl1`, for `systemctl service-log-level`: org.freedesktop.LogControl1(5).

use super::authorise::{Deed, authorise};
use super::calls::Calls;
use super::error::Error;
use crate::log::{self, LogLevel};
use std::collections::BTreeMap;
use tracing::info;
use zbus::message::Header;
use zbus::{Connection, OwnedVariant, Variant};

/// Where it is, the same for all services.
pub(super) const PATH: &str = "/org/freedesktop/LogControl1";

const INTERFACE: &str = "org.freedesktop.LogControl1";

/// What is logged, and where.
#[derive(Debug)]
pub(super) struct LogControl {
    calls: Calls,
}

impl LogControl {
    async fn set(&self, bus: &Connection, call: &Header<'_>, level: &str) -> Result<(), Error> {
        let level: LogLevel = level
            .parse()
            .map_err(|expected: String| Error::invalid(&expected))?;
        let _turn = self.calls.turn(call)?;
        let uid = authorise(bus, call, Deed::SetLogLevel, &[("level", level.name())]).await?;
        log::set_level(level);
        info!("The log level is {}, set by uid {uid}", level.name());
        Ok(())
    }
}

#[zbus::interface(name = "org.freedesktop.LogControl1")]
impl LogControl {
    /// What is logged: messages of this level and more important ones.
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_level(&self) -> &'static str {
        log::level().name()
    }

    #[zbus(property)]
    async fn set_log_level(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Option<Header<'_>>,
        level: String,
    ) -> Result<(), Error> {
        let call = call.ok_or_else(|| Error::access_denied("it is not known who wants that"))?;
        self.set(bus, &call, &level).await
    }

    /// Where messages go: "journal", or "console" for standard error.
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> &'static str {
        log::target()
    }

    /// By what name messages are found in the journal.
    #[zbus(property(emits_changed_signal = "const"))]
    fn syslog_identifier(&self) -> &'static str {
        log::IDENTIFIER
    }
}

/// `org.freedesktop.DBus.Properties` of that object.
///
/// zbus's own keeps the tree of objects locked while a property is set. Setting this one may take as long as polkit does.
#[derive(Debug)]
pub(super) struct Properties {
    calls: Calls,
}

fn get(property: &str) -> Result<Variant<'static>, Error> {
    Ok(match property {
        "LogLevel" => log::level().name().into(),
        "LogTarget" => log::target().into(),
        "SyslogIdentifier" => log::IDENTIFIER.into(),
        _ => return Err(unknown(property)),
    })
}

fn unknown(property: &str) -> Error {
    Error::unknown_property(&format!("unknown property {property:?}"))
}

fn check(interface: &str) -> Result<(), Error> {
    match interface {
        // The standard says that none is any.
        INTERFACE | "" => Ok(()),
        _ => Err(Error::unknown_interface(&format!(
            "unknown interface {interface:?}"
        ))),
    }
}

#[zbus::interface(name = "org.freedesktop.DBus.Properties", introspection_docs = false)]
impl Properties {
    #[zbus(out_args("value"))]
    fn get(&self, interface_name: &str, property_name: &str) -> Result<Variant<'static>, Error> {
        check(interface_name)?;
        get(property_name)
    }

    #[zbus(out_args("properties"))]
    fn get_all(
        &self,
        interface_name: &str,
    ) -> Result<BTreeMap<&'static str, Variant<'static>>, Error> {
        check(interface_name)?;
        let all = ["LogLevel", "LogTarget", "SyslogIdentifier"].into_iter();
        all.map(|name| Ok((name, get(name)?))).collect()
    }

    async fn set(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        interface_name: String,
        property_name: String,
        value: OwnedVariant,
    ) -> Result<(), Error> {
        check(&interface_name)?;
        match &*property_name {
            "LogLevel" => {
                let level = String::try_from(value)
                    .map_err(|_| Error::invalid("expected a string, such as \"debug\""))?;
                let control = LogControl {
                    calls: self.calls.clone(),
                };
                control.set(bus, &call, &level).await
            }
            "LogTarget" | "SyslogIdentifier" => Err(Error::read_only(&format!(
                "{property_name} cannot be changed"
            ))),
            _ => Err(unknown(&property_name)),
        }
    }
}

/// Serves it.
pub(super) async fn serve(bus: &Connection, calls: &Calls) -> zbus::Result<()> {
    use zbus::object_server::Interface;
    let objects = bus.object_server();
    let calls = || calls.clone();
    objects.at(PATH, LogControl { calls: calls() }).await?;
    objects.remove_named(PATH, Properties::name()).await?;
    objects.at(PATH, Properties { calls: calls() }).await?;
    Ok(())
}
