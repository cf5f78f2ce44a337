// SPDX-License-Identifier: MIT OR Apache-2.0
//! The object of a policy.

use super::calls::Calls;
use super::error::Error;
use super::unit::Properties;
use crate::core::PolicyShown;
use crate::policy::Policy as Name;
use std::collections::BTreeMap;
use zbus::message::Header;

/// The interface.
pub(super) const POLICY: &str = "org.bpfoomd1.Policy";

/// Name, kind, value, default.
type ParameterTuple = (String, String, String, String);

/// The object of a policy.
#[derive(Debug)]
pub(super) struct Policy {
    name: Name,
    calls: Calls,
}

impl Policy {
    pub(super) fn new(name: Name, calls: Calls) -> Self {
        Policy { name, calls }
    }

    fn shown(&self, call: Option<&Header<'_>>) -> Result<PolicyShown, Error> {
        let shown = self.calls.shown_to(call);
        let mut policies = shown.policies.iter();
        let found = policies.find(|policy| policy.policy == self.name);
        found.cloned().ok_or_else(Error::stopping)
    }
}

/// What a policy does, in one sentence.
fn description(policy: &Name) -> &'static str {
    match policy.name() {
        "kernel" => {
            "The kernel's own killer chooses, by memory use and OOMScoreAdjust= of each process."
        }
        "biggest-leaf" => {
            "The control group with the most memory, page cache not counted, dies, unless a process in it must not be killed."
        }
        _ => "",
    }
}

fn parameters(policy: &PolicyShown) -> Vec<ParameterTuple> {
    let parameters = policy.parameters.iter();
    let tuples = parameters.map(|parameter| {
        (
            parameter.name.clone(),
            parameter.kind.to_owned(),
            parameter.value.clone(),
            parameter.default.clone(),
        )
    });
    tuples.collect()
}

/// All properties at one moment.
pub(super) fn properties(policy: &PolicyShown) -> Properties {
    BTreeMap::from([
        ("Name", policy.policy.to_string().into()),
        ("Description", description(&policy.policy).into()),
        ("Parameters", parameters(policy).into()),
        ("Attachments", policy.attachments.into()),
    ])
}

/// A way to choose who is killed.
#[zbus::interface(name = "org.bpfoomd1.Policy")]
impl Policy {
    /// Its name, as in unit files.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.to_string()
    }

    /// What it does, in one sentence.
    #[zbus(property(emits_changed_signal = "const"))]
    fn description(&self) -> &'static str {
        description(&self.name)
    }

    /// What it can be told in the configuration: name, kind ("bytes", "usec", "number" or "bool"), the value in force, and the
    /// default, both as they are written there.
    #[zbus(property)]
    fn parameters(
        &self,
        #[zbus(header)] call: Option<Header<'_>>,
    ) -> Result<Vec<ParameterTuple>, Error> {
        Ok(parameters(&self.shown(call.as_ref())?))
    }

    /// How many control groups it is attached to.
    #[zbus(property)]
    fn attachments(&self, #[zbus(header)] call: Option<Header<'_>>) -> Result<u32, Error> {
        Ok(self.shown(call.as_ref())?.attachments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_described() {
        let programs = bpf_oomd_bpf::policy_names().iter();
        let all = programs.map(|program| Name::Bpf((*program).into()));
        for policy in all.chain([Name::Kernel]) {
            assert!(description(&policy).ends_with('.'), "{policy}");
        }
    }
}
