// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon, as `bpf-oomctl` asks it on the system bus.

use crate::bus::{ERRORS, Explanation, MANAGER, MANAGER_PATH, NAME};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus::wire::DynamicType;
use zbus::{Connection, DBusError, OwnedVariant, Proxy, Type};

/// What is wrong: subject, file, line, column, message.
pub(super) type Fault = (String, String, u32, u32, String);

/// A unit that is watched for pressure: the unit, its setting, and how often an event had which outcome.
pub(super) type Watched = (String, String, BTreeMap<String, u64>);

/// Why the daemon gives no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// It does not run and cannot be started, or is not on the bus.
    NotThere,
    /// It does not do that, and says why.
    Refused {
        /// The name of its error.
        name: String,
        /// What it says.
        message: String,
    },
    /// Anything else.
    Trouble(zbus::Error),
}

/// The daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    bus: Connection,
}

impl Daemon {
    /// Connects to the system bus.
    pub(super) async fn connect() -> zbus::Result<Self> {
        let bus = Connection::system().await?;
        Ok(Daemon { bus })
    }

    /// The bus itself.
    pub(super) fn bus(&self) -> &Connection {
        &self.bus
    }

    /// Changes something. The bus starts a daemon that is enabled and does not run; and a person may be asked whether that is
    /// allowed.
    pub(super) async fn change<B>(&self, method: &str, body: &B) -> Result<(), NoAnswer>
    where
        B: serde::Serialize + DynamicType,
    {
        let flags = MethodFlags::ALLOW_INTERACTIVE_AUTH;
        self.call(MANAGER, method, flags, body).await
    }

    /// Everything that is said about a unit.
    pub(super) async fn explain(&self, unit: &str) -> Result<Vec<Explanation>, NoAnswer> {
        let flags = MethodFlags::NO_AUTO_START;
        self.call(MANAGER, "Explain", flags, &(unit,)).await
    }

    /// What is watched for pressure.
    pub(super) async fn pressure(&self) -> Result<Vec<Watched>, NoAnswer> {
        let flags = MethodFlags::NO_AUTO_START;
        self.call(MANAGER, "ListPressure", flags, &()).await
    }

    /// What is wrong.
    pub(super) async fn faults(&self) -> Result<Vec<Fault>, NoAnswer> {
        self.property("ConfigurationFaults").await
    }

    /// What is set at run time: unit, policy, and when that is over.
    pub(super) async fn run_time(&self) -> Result<Vec<(String, String, u64)>, NoAnswer> {
        self.property("RuntimeSettings").await
    }

    async fn property<T>(&self, name: &str) -> Result<T, NoAnswer>
    where
        T: TryFrom<OwnedVariant, Error = zbus::Error>,
    {
        // Not through a proxy's own properties: who only looks starts no daemon.
        let interface = "org.freedesktop.DBus.Properties";
        let flags = MethodFlags::NO_AUTO_START;
        let value: OwnedVariant = self.call(interface, "Get", flags, &(MANAGER, name)).await?;
        T::try_from(value).map_err(NoAnswer::Trouble)
    }

    async fn call<B, R>(
        &self,
        interface: &str,
        method: &str,
        flags: MethodFlags,
        body: &B,
    ) -> Result<R, NoAnswer>
    where
        B: serde::Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let call = async {
            let proxy: Proxy<'_> = zbus::proxy::Builder::new(&self.bus)
                .destination(NAME)
                .path(MANAGER_PATH)
                .interface(interface)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            proxy.call_with_flags(method, flags, body).await
        };
        let reply = call.await.map_err(NoAnswer::from)?;
        let nothing = || NoAnswer::Trouble(zbus::Error::Failure("no reply".into()));
        reply.ok_or_else(nothing)
    }
}

impl From<zbus::Error> for NoAnswer {
    fn from(error: zbus::Error) -> Self {
        let (name, message) = match &error {
            zbus::Error::MethodError(name, message, _) => (name.to_string(), message.clone()),
            zbus::Error::FDO(standard) => (
                standard.name().to_string(),
                standard.description().map(str::to_owned),
            ),
            _ => return NoAnswer::Trouble(error),
        };
        // What systemd says about the unit that the bus wants to have started.
        if name.starts_with("org.freedesktop.systemd1.") {
            return NoAnswer::NotThere;
        }
        let refused = match name.strip_prefix("org.freedesktop.DBus.Error.") {
            Some("ServiceUnknown" | "NameHasNoOwner") => return NoAnswer::NotThere,
            Some("AccessDenied" | "InteractiveAuthorizationRequired") => true,
            _ => name.starts_with(ERRORS),
        };
        match (refused, message) {
            (true, Some(message)) => NoAnswer::Refused { name, message },
            _ => NoAnswer::Trouble(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::fdo;

    #[test]
    fn a_refusal_is_told_from_a_daemon_that_is_not_there() {
        let standard = |error: fdo::Error| NoAnswer::from(zbus::Error::FDO(Box::new(error)));
        assert!(matches!(
            standard(fdo::Error::ServiceUnknown("x".into())),
            NoAnswer::NotThere
        ));
        assert!(matches!(
            standard(fdo::Error::NameHasNoOwner("x".into())),
            NoAnswer::NotThere
        ));
        let NoAnswer::Refused { message, .. } = standard(fdo::Error::AccessDenied("no".into()))
        else {
            panic!("not refused");
        };
        assert_eq!(message, "no");
        for trouble in [
            fdo::Error::NoReply("x".into()),
            fdo::Error::UnknownMethod("x".into()),
        ] {
            assert!(matches!(standard(trouble), NoAnswer::Trouble(_)));
        }
    }
}
