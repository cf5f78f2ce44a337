// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who would die next: asked of the daemon, which lets the kernel rank as it would at an OOM.

use super::daemon::{Daemon, NoAnswer};
use super::record::{Simulation, Unit};
use crate::systemd::unit_name::ROOT_SLICE;
use serde::Serialize;

/// The next victim of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct NextVictim {
    /// The unit that would run out of memory.
    pub(super) domain: String,
    /// The policy that would decide.
    pub(super) policy: String,
    /// The victim's unit.
    pub(super) unit: String,
    /// The victim's cgroup.
    pub(super) cgroup: String,
    /// Its memory without page cache.
    pub(super) bytes: u64,
}

/// The units that have a policy program of their own: what is simulated.
pub(super) fn domains(units: &[Unit]) -> impl Iterator<Item = &str> {
    let with_policy = units
        .iter()
        .filter(|unit| unit.attached && unit.policy != "kernel")
        .filter(|unit| unit.name == ROOT_SLICE || !unit.control_group.is_empty());
    with_policy.map(|unit| unit.name.as_str())
}

/// The next victims of some domains. A domain without one is left out.
///
/// # Errors
///
/// If the daemon does not answer. What cannot be simulated is no such case: the unit may be gone meanwhile.
pub(super) async fn next<'a>(
    daemon: &Daemon,
    domains: impl Iterator<Item = &'a str>,
) -> Result<Vec<NextVictim>, NoAnswer> {
    let mut victims = Vec::new();
    for domain in domains {
        match daemon.simulate(domain).await {
            Ok(simulation) => victims.extend(of(simulation)),
            Err(NoAnswer::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(victims)
}

/// The first one who may die.
fn of(simulation: Simulation) -> Option<NextVictim> {
    let mut candidates = simulation.candidates.into_iter();
    let first = candidates.find(|candidate| candidate.may_die())?;
    Some(NextVictim {
        domain: simulation.unit,
        policy: simulation.policy,
        unit: first.unit,
        cgroup: first.cgroup,
        bytes: first.bytes,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ctl::record::Candidate;

    pub(in crate::ctl) fn unit(
        name: &str,
        policy: &str,
        control_group: &str,
        attached: bool,
    ) -> Unit {
        Unit {
            name: name.into(),
            object: zbus::ObjectPath::try_from("/x").unwrap().into(),
            policy: policy.into(),
            policy_place: String::new(),
            control_group: control_group.into(),
            attached,
            control_group_id: 1,
            kills: 0,
        }
    }

    pub(in crate::ctl) fn candidate(cgroup: &str, bytes: u64, excluded: &str) -> Candidate {
        Candidate {
            unit: cgroup.rsplit('/').next().unwrap().into(),
            cgroup: cgroup.into(),
            cgroup_id: 7,
            score: bytes,
            bytes,
            preference: "none".into(),
            processes: 2,
            excluded: excluded.into(),
        }
    }

    #[test]
    fn what_has_a_policy_program_of_its_own_is_a_domain() {
        let units = [
            unit("-.slice", "bpf:biggest-leaf", "", true),
            unit("a.slice", "bpf:biggest-leaf", "/a.slice", true),
            unit("inherits.service", "bpf:biggest-leaf", "/a.slice/x", false),
            unit("kernels.service", "kernel", "/a.slice/y", true),
            unit("stopped.service", "bpf:biggest-leaf", "", true),
        ];
        assert_eq!(domains(&units).collect::<Vec<_>>(), ["-.slice", "a.slice"]);
    }

    #[test]
    fn the_next_victim_is_the_first_one_who_may_die() {
        let mut simulation = Simulation {
            unit: "a.slice".into(),
            policy: "bpf:biggest-leaf".into(),
            candidates: vec![
                candidate("/a.slice/x", 9, "omitted"),
                candidate("/a.slice/y", 5, ""),
                candidate("/a.slice/z", 3, ""),
            ],
        };
        let victim = of(simulation.clone()).unwrap();
        assert_eq!((&*victim.unit, victim.bytes), ("y", 5));
        simulation.candidates.truncate(1);
        assert_eq!(of(simulation), None);
    }
}
