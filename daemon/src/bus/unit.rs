// SPDX-License-Identifier: MIT OR Apache-2.0
//! The object of a unit.

use super::calls::{Calls, CandidateShown, Explanation};
use super::error::Error;
use crate::core::UnitShown;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use zbus::message::Header;
use zbus::{Connection, Variant};

/// The interface.
pub(super) const UNIT: &str = "org.bpfoomd1.Unit";

/// Properties by name.
pub(super) type Properties = BTreeMap<&'static str, Variant<'static>>;

/// The object of a unit.
#[derive(Debug)]
pub(super) struct Unit {
    name: String,
    calls: Calls,
}

impl Unit {
    pub(super) fn new(name: String, calls: Calls) -> Self {
        Unit { name, calls }
    }

    fn shown(&self, call: Option<&Header<'_>>) -> Result<Arc<UnitShown>, Error> {
        self.calls.unit(&self.name, call)
    }
}

/// All properties at one moment.
pub(super) fn properties(name: &str, unit: &UnitShown) -> Properties {
    BTreeMap::from([
        ("Name", name.to_owned().into()),
        ("ControlGroup", control_group(unit).into()),
        ("ControlGroupId", unit.control_group_id.into()),
        ("Policy", unit.policy.to_string().into()),
        ("PolicyPlace", unit.policy_place.clone().into()),
        ("Attached", unit.attached.is_some().into()),
        ("Enabled", unit.enabled.into()),
        ("Kill", unit.kill.to_string().into()),
        ("Preference", unit.preference.to_string().into()),
        ("CooldownUSec", usec(unit.cooldown).into()),
        ("Pressure", pressure(unit).into()),
        ("Watched", unit.watched.into()),
        ("Kills", unit.kills.into()),
    ])
}

fn control_group(unit: &UnitShown) -> String {
    unit.control_group.clone().unwrap_or_default()
}

fn usec(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn pressure(unit: &UnitShown) -> String {
    let pressure = unit.pressure.as_ref();
    pressure.map_or("none".to_owned(), ToString::to_string)
}

/// A unit of systemd that is loaded and can have a control group.
#[zbus::interface(name = "org.bpfoomd1.Unit")]
impl Unit {
    /// Gives the unit a policy, for a time in microseconds or, with 0, until it is reset. Returns when it is in force; if the unit
    /// does not run, that is when it starts.
    async fn set_policy(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        policy: String,
        for_usec: u64,
    ) -> Result<(), Error> {
        let unit = self.name.clone();
        let set = self.calls.set_policy((bus, call), unit, policy, for_usec);
        set.await
    }

    /// Takes away the policy that the unit was given at run time, if it was given one.
    async fn reset_policy(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        let unit = self.name.clone();
        self.calls.reset_policy((bus, call), unit).await
    }

    /// Everything that is said about the unit: setting, value, who says it, about which unit, where, and what comes of it. Of each
    /// setting the one that decides comes first.
    #[zbus(out_args("statements"))]
    async fn explain(&self, #[zbus(header)] call: Header<'_>) -> Result<Vec<Explanation>, Error> {
        self.calls.explain(&call, self.name.clone()).await
    }

    /// Whom the policy in force would choose if the unit ran out of memory now, as the manager's Simulate tells it.
    #[zbus(out_args("policy", "candidates"))]
    async fn simulate(
        &self,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(String, Vec<CandidateShown>), Error> {
        self.calls.simulate(&call, self.name.clone()).await
    }

    /// The unit's name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> &str {
        &self.name
    }

    /// The path of its control group from the root of the tree; empty if it has none.
    #[zbus(property)]
    fn control_group(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<String, Error> {
        Ok(control_group(&*self.shown(call.as_ref())?))
    }

    /// The id of its control group; 0 if it has none, and for -.slice, which stands for the system.
    #[zbus(property)]
    fn control_group_id(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<u64, Error> {
        Ok(self.shown(call.as_ref())?.control_group_id)
    }

    /// The policy that decides when the unit runs out of memory, its own or that of a slice above it. Of a unit without a control
    /// group it is the one that it will have, as far as that is known.
    #[zbus(property)]
    fn policy(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<String, Error> {
        Ok(self.shown(call.as_ref())?.policy.to_string())
    }

    /// Where that was said; empty for what is built in.
    #[zbus(property)]
    fn policy_place(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<String, Error> {
        Ok(self.shown(call.as_ref())?.policy_place.clone())
    }

    /// Whether a policy program is attached to its own control group.
    #[zbus(property)]
    fn attached(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<bool, Error> {
        Ok(self.shown(call.as_ref())?.attached.is_some())
    }

    /// Whether policies act on it at all.
    #[zbus(property)]
    fn enabled(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<bool, Error> {
        Ok(self.shown(call.as_ref())?.enabled)
    }

    /// What dies of it as a victim: "cgroup" for all of it, "process" for its largest process.
    #[zbus(property)]
    fn kill(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<String, Error> {
        Ok(self.shown(call.as_ref())?.kill.to_string())
    }

    /// Whether it may be a victim: "none", "avoid" or "omit".
    #[zbus(property)]
    fn preference(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<String, Error> {
        Ok(self.shown(call.as_ref())?.preference.to_string())
    }

    /// How long a victim that is still exiting holds off the next kill in it.
    #[zbus(property, name = "CooldownUSec")]
    fn cooldown_usec(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<u64, Error> {
        Ok(usec(self.shown(call.as_ref())?.cooldown))
    }

    /// When a stall of it is an OOM, as it is written in unit files; "none" for never.
    #[zbus(property)]
    fn pressure(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<String, Error> {
        Ok(pressure(&*self.shown(call.as_ref())?))
    }

    /// Whether the kernel watches it for that.
    #[zbus(property)]
    fn watched(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<bool, Error> {
        Ok(self.shown(call.as_ref())?.watched)
    }

    /// How often it was a victim since the service was started. A restart does not begin anew.
    #[zbus(property)]
    fn kills(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<u64, Error> {
        Ok(self.shown(call.as_ref())?.kills)
    }
}
