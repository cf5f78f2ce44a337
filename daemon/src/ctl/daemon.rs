// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon, as `bpf-oomctl` asks it on the system bus.

use super::record::{
    Fault, Feature, Kill, Parameter, PendingKill, Policy, RunTime, Simulation, Status, Unit,
    Watched,
};
use crate::bus::{ERRORS, Explanation, MANAGER, MANAGER_PATH, NAME};
use crate::fault::causes;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::io;
use zbus::names::OwnedUniqueName;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus::wire::DynamicType;
use zbus::{
    Connection, DBusError, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, Proxy, Type,
};

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
    /// The system bus cannot be had.
    NoBus(zbus::Error),
    /// Anything else.
    Trouble(zbus::Error),
}

/// Waits for what goes over the bus.
///
/// # Errors
///
/// If there can be no runtime for it.
pub(super) fn run<T>(task: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(task))
}

/// The daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    bus: Connection,
}

impl Daemon {
    /// Connects to the system bus.
    pub(super) async fn connect() -> Result<Self, NoAnswer> {
        let bus = Connection::system().await;
        let bus = bus.map_err(NoAnswer::NoBus)?;
        Ok(Daemon { bus })
    }

    /// The bus itself.
    pub(super) fn bus(&self) -> &Connection {
        &self.bus
    }

    /// Changes something. The bus starts a daemon that is enabled and does not run; and a person may be asked whether that is
    /// allowed, if there is one.
    pub(super) async fn change<B>(
        &self,
        method: &str,
        body: &B,
        interactive: bool,
    ) -> Result<(), NoAnswer>
    where
        B: serde::Serialize + DynamicType,
    {
        let flags = match interactive {
            true => MethodFlags::ALLOW_INTERACTIVE_AUTH,
            false => MethodFlags::empty(),
        };
        self.call(MANAGER, method, flags, body).await
    }

    /// Everything that is said about a unit.
    pub(super) async fn explain(&self, unit: &str) -> Result<Vec<Explanation>, NoAnswer> {
        self.look(MANAGER, "Explain", &(unit,)).await
    }

    /// What is watched for pressure.
    pub(super) async fn pressure(&self) -> Result<Vec<Watched>, NoAnswer> {
        let told: Vec<(String, String, BTreeMap<String, u64>)> =
            self.look(MANAGER, "ListPressure", &()).await?;
        let watched = told.into_iter().map(|(unit, pressure, stalls)| Watched {
            unit,
            pressure,
            stalls,
        });
        Ok(watched.collect())
    }

    /// The units that run.
    pub(super) async fn units(&self) -> Result<Vec<Unit>, NoAnswer> {
        self.look(MANAGER, "ListUnits", &()).await
    }

    /// What would happen if a unit ran out of memory now.
    pub(super) async fn simulate(&self, unit: &str) -> Result<Simulation, NoAnswer> {
        let (policy, candidates) = self.look(MANAGER, "Simulate", &(unit,)).await?;
        Ok(Simulation {
            unit: unit.to_owned(),
            policy,
            candidates,
        })
    }

    /// The newest `max` kills since a time, the newest last. With 0, since ever and all that are kept.
    pub(super) async fn kills(&self, since_usec: u64, max: u32) -> Result<Vec<Kill>, NoAnswer> {
        self.look(MANAGER, "ListKills", &(since_usec, max)).await
    }

    /// Kills as they happen, from now on.
    pub(super) async fn killed(&self) -> zbus::Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(NAME)
            .path(MANAGER_PATH)
            .interface(MANAGER)
            .member("Killed")
            .build()?;
        MessageStream::for_match_rule(rule, &self.bus, None).await
    }

    /// Which connection the daemon has: another one when it was started again.
    pub(super) async fn owner(&self) -> Result<OwnedUniqueName, NoAnswer> {
        let bus = zbus::fdo::DBusProxy::new(&self.bus).await;
        let name = zbus::names::BusName::try_from(NAME);
        let owner = async { Ok(bus?.get_name_owner(name?).await?) };
        owner
            .await
            .map_err(|error: zbus::Error| NoAnswer::from(error))
    }

    /// The policies that there are.
    pub(super) async fn policies(&self) -> Result<Vec<Policy>, NoAnswer> {
        /// What objects there are, with the properties of all of their interfaces.
        type Objects = HashMap<OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>>;
        let interface = "org.freedesktop.DBus.ObjectManager";
        let objects: Objects = self.look(interface, "GetManagedObjects", &()).await?;
        let policies = objects
            .into_values()
            .filter_map(|mut interfaces| interfaces.remove("org.bpfoomd1.Policy"));
        let read = |mut properties: HashMap<String, OwnedVariant>| {
            let mut parameters: Vec<(String, String, String, String)> = Vec::new();
            take(&mut properties, "Parameters", &mut parameters)?;
            let mut policy = Policy {
                name: String::new(),
                description: String::new(),
                parameters: parameters.into_iter().map(parameter).collect(),
                attachments: 0,
            };
            take(&mut properties, "Name", &mut policy.name)?;
            take(&mut properties, "Description", &mut policy.description)?;
            take(&mut properties, "Attachments", &mut policy.attachments)?;
            Ok(policy)
        };
        let read: zbus::Result<Vec<Policy>> = policies.map(read).collect();
        let mut policies = read.map_err(NoAnswer::Trouble)?;
        policies.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(policies)
    }

    /// Everything that the daemon says about itself.
    pub(super) async fn status(&self) -> Result<Status, NoAnswer> {
        let features: Vec<(String, bool, String)> = self.property("KernelInterface").await?;
        let features = features
            .into_iter()
            .map(|(name, present, meaning)| Feature {
                name,
                present,
                meaning,
            });
        let counters: HashMap<String, u64> = self.property("Counters").await?;
        Ok(Status {
            running: true,
            version: Some(self.property("Version").await?),
            engine: Some(self.property("Engine").await?),
            kernel_interface: features.collect(),
            counters: counters.into_iter().collect(),
            run_time: self.run_time().await?,
            pending_kills: self.pending_kills().await?,
            faults: self.faults().await?,
        })
    }

    /// What is wrong.
    pub(super) async fn faults(&self) -> Result<Vec<Fault>, NoAnswer> {
        let faults: Vec<(String, String, u32, u32, String)> =
            self.property("ConfigurationFaults").await?;
        let faults = faults
            .into_iter()
            .map(|(subject, file, line, column, message)| Fault {
                subject: Some(subject),
                file: (!file.is_empty()).then_some(file),
                line: (line > 0).then_some(line),
                column: (line > 0).then_some(column),
                message,
            });
        Ok(faults.collect())
    }

    /// What is set at run time.
    async fn pending_kills(&self) -> Result<Vec<PendingKill>, NoAnswer> {
        let all: Vec<(String, String, String, String, u64, bool)> =
            self.property("PendingKills").await?;
        let known = |text: String| (!text.is_empty()).then_some(text);
        let all =
            all.into_iter().map(
                |(unit, user_unit, cgroup, policy, until, asked)| PendingKill {
                    unit: known(unit),
                    user_unit: known(user_unit),
                    cgroup,
                    policy,
                    until_boottime_usec: until,
                    asked,
                },
            );
        Ok(all.collect())
    }

    pub(super) async fn run_time(&self) -> Result<Vec<RunTime>, NoAnswer> {
        let set: Vec<(String, String, u64)> = self.property("RuntimeSettings").await?;
        let set = set.into_iter().map(|(unit, policy, end)| RunTime {
            unit,
            policy,
            until_boottime_usec: (end > 0).then_some(end),
        });
        Ok(set.collect())
    }

    async fn property<T>(&self, name: &str) -> Result<T, NoAnswer>
    where
        T: TryFrom<OwnedVariant, Error = zbus::Error>,
    {
        // Not through a proxy's own properties: who only looks starts no daemon.
        let interface = "org.freedesktop.DBus.Properties";
        let value: OwnedVariant = self.look(interface, "Get", &(MANAGER, name)).await?;
        T::try_from(value).map_err(NoAnswer::Trouble)
    }

    /// Asks for something that changes nothing. That starts no daemon.
    async fn look<B, R>(&self, interface: &str, method: &str, body: &B) -> Result<R, NoAnswer>
    where
        B: serde::Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let flags = MethodFlags::NO_AUTO_START;
        self.call(interface, method, flags, body).await
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

/// Takes a property out of those of an object. One that is not there stays what it was.
fn take<T>(
    properties: &mut HashMap<String, OwnedVariant>,
    name: &str,
    into: &mut T,
) -> zbus::Result<()>
where
    T: TryFrom<OwnedVariant, Error = zbus::Error>,
{
    if let Some(value) = properties.remove(name) {
        *into = T::try_from(value)?;
    }
    Ok(())
}

fn parameter((name, kind, value, default): (String, String, String, String)) -> Parameter {
    Parameter {
        name,
        kind,
        value,
        default,
    }
}

/// What a person is told.
impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::NotThere => {
                f.write_str("bpf-oomd does not run. To start it: systemctl start bpf-oomd")
            }
            NoAnswer::Refused { message, .. } => f.write_str(message),
            NoAnswer::NoBus(error) => {
                write!(f, "the system bus cannot be used: {}", causes(error))
            }
            NoAnswer::Trouble(error) => write!(f, "bpf-oomd does not answer: {}", causes(error)),
        }
    }
}

impl Error for NoAnswer {}

impl From<zbus::Error> for NoAnswer {
    fn from(error: zbus::Error) -> Self {
        let (name, message) = match &error {
            zbus::Error::MethodError(name, message, _) => (name.to_string(), message.clone()),
            zbus::Error::FDO(standard) => (
                DBusError::name(&**standard).to_string(),
                DBusError::description(&**standard).map(str::to_owned),
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
