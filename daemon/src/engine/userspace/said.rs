// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said about cgroups, looked up as the BPF programs look it up (`bpf/include/settings.bpf.h`, `pressure.bpf.h`). Pure.

use crate::policy::{
    AppliesTo, CgroupId, DEFAULT_COOLDOWN, Decider, Kill, Level, OwnSettings, Pressure, Resource,
    StallAction, Trigger,
};
use std::collections::HashMap;
use std::time::Duration;

/// When a stall of a domain is an OOM, where it has a policy and nobody says anything of pressure: all of it stands still for half of
/// the time, for three seconds. A policy alone is asked by the kernel engine when an allocation fails; here it has to be asked before,
/// because then the kernel kills.
pub const DEFAULT_PRESSURE: Pressure = Pressure {
    trigger: Trigger {
        resource: Resource::Memory,
        level: Level::Full,
        stall: Duration::from_millis(500),
        window: Duration::from_secs(1),
    },
    lasts: Duration::from_secs(3),
    min_usage: 0,
    action: StallAction::Kill,
    applies_to: AppliesTo::Slice,
};

/// A cgroup and all above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain(Vec<Link>);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) id: CgroupId,
    pub(super) is_slice: bool,
}

impl Chain {
    /// `links` begin with the cgroup itself, and end with the system.
    pub(super) fn new(links: Vec<Link>) -> Self {
        Chain(links)
    }

    /// Whether the cgroup is the one with this id or is below it.
    pub(super) fn is_inside(&self, domain: CgroupId) -> bool {
        self.0.iter().any(|link| link.id == domain)
    }

    /// Their ids, upwards.
    pub(super) fn ids(&self) -> impl Iterator<Item = CgroupId> {
        self.0.iter().map(|link| link.id)
    }
}

/// By cgroup, what is said about it alone.
#[derive(Debug, Default)]
pub(super) struct Said(pub(super) HashMap<CgroupId, OwnSettings>);

impl Said {
    /// What the nearest cgroup says that says something.
    fn nearest<T>(&self, chain: &Chain, what: impl Fn(&OwnSettings) -> Option<T>) -> Option<T> {
        chain.ids().find_map(|id| self.0.get(&id).and_then(&what))
    }

    /// How a victim dies.
    pub(super) fn kill(&self, victim: &Chain) -> Kill {
        self.nearest(victim, |said| said.kill).unwrap_or_default()
    }

    /// How long a kill in a domain is given to take effect.
    pub(super) fn cooldown(&self, domain: &Chain) -> Duration {
        self.nearest(domain, |said| said.cooldown)
            .unwrap_or(DEFAULT_COOLDOWN)
    }

    /// How long a victim has to end by itself.
    pub(super) fn warn(&self, victim: &Chain) -> Duration {
        self.nearest(victim, |said| said.warn).unwrap_or_default()
    }

    /// Shows the attachments that are asked for a victim when a domain is out of memory, in their order. None are asked where the
    /// kernel decides; a cgroup without an attachment is passed by.
    pub(super) fn asked<P>(
        &self,
        domain: &Chain,
        attachments: &HashMap<CgroupId, P>,
        take: &mut dyn FnMut(CgroupId, &P),
    ) {
        let mut decider = None;
        for id in domain.ids() {
            decider = decider.or_else(|| self.0.get(&id)?.decider);
            if decider == Some(Decider::Kernel) {
                break;
            }
            if let Some(program) = attachments.get(&id) {
                take(id, program);
            }
        }
    }

    /// When a stall of a cgroup is an OOM. The outer None says that nobody says anything of it.
    pub(super) fn pressure(&self, chain: &Chain) -> Option<Option<Pressure>> {
        let mut links = chain.0.iter();
        let own = links.next()?;
        if let Some(pressure) = self.0.get(&own.id).and_then(|said| said.pressure) {
            return Some(pressure);
        }
        // A slice has no pressure but its own.
        if own.id == CgroupId::SYSTEM || own.is_slice {
            return None;
        }
        for link in links {
            if link.id != CgroupId::SYSTEM && !link.is_slice {
                break;
            }
            if let Some(pressure) = self.0.get(&link.id).and_then(|said| said.units_pressure) {
                return Some(pressure);
            }
        }
        None
    }

    /// The same of a cgroup with an attachment, which is watched unless it is said otherwise.
    pub(super) fn pressure_of_attached(&self, chain: &Chain) -> Option<Pressure> {
        let of_units = chain
            .ids()
            .next()
            .and_then(|id| self.0.get(&id)?.units_pressure);
        match (self.pressure(chain), of_units) {
            (Some(said), _) => said,
            // Whoever has the units watched one by one has said what is wanted.
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_PRESSURE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: Link = Link {
        id: CgroupId::SYSTEM,
        is_slice: true,
    };
    const SLICE: Link = Link {
        id: CgroupId(10),
        is_slice: true,
    };
    const UNIT: Link = Link {
        id: CgroupId(20),
        is_slice: false,
    };
    const INSIDE: Link = Link {
        id: CgroupId(30),
        is_slice: false,
    };

    fn chain(links: &[Link]) -> Chain {
        Chain::new(links.to_vec())
    }

    fn unit() -> Chain {
        chain(&[UNIT, SLICE, SYSTEM])
    }

    fn said(all: &[(CgroupId, OwnSettings)]) -> Said {
        Said(all.iter().copied().collect())
    }

    fn pressure(text: &str) -> Pressure {
        Pressure::parse(text).unwrap()
    }

    #[test]
    fn the_nearest_that_says_something_decides() {
        let said = said(&[
            (
                CgroupId::SYSTEM,
                OwnSettings {
                    kill: Some(Kill::Process),
                    cooldown: Some(Duration::from_secs(1)),
                    warn: Some(Duration::from_secs(2)),
                    ..OwnSettings::default()
                },
            ),
            (
                SLICE.id,
                OwnSettings {
                    kill: Some(Kill::Cgroup),
                    ..OwnSettings::default()
                },
            ),
        ]);
        assert_eq!(said.kill(&unit()), Kill::Cgroup);
        assert_eq!(said.kill(&chain(&[SYSTEM])), Kill::Process);
        assert_eq!(said.cooldown(&unit()), Duration::from_secs(1));
        assert_eq!(Said::default().cooldown(&unit()), DEFAULT_COOLDOWN);
        assert_eq!(Said::default().kill(&unit()), Kill::Cgroup);
        assert_eq!(said.warn(&unit()), Duration::from_secs(2));
        assert_eq!(Said::default().warn(&unit()), Duration::ZERO);
    }

    fn asked<'a>(
        said: &Said,
        domain: &Chain,
        attachments: &HashMap<CgroupId, &'a str>,
    ) -> Vec<(CgroupId, &'a str)> {
        let mut asked = Vec::new();
        said.asked(domain, attachments, &mut |id, program| {
            asked.push((id, *program));
        });
        asked
    }

    fn decided(decider: Decider) -> OwnSettings {
        OwnSettings {
            decider: Some(decider),
            ..OwnSettings::default()
        }
    }

    #[test]
    fn attachments_are_asked_upwards() {
        let attachments = HashMap::from([(UNIT.id, "a"), (CgroupId::SYSTEM, "b")]);
        let expected = vec![(UNIT.id, "a"), (CgroupId::SYSTEM, "b")];
        assert_eq!(asked(&Said::default(), &unit(), &attachments), expected);
        // What is said of a slice above does not count for a unit with a program of its own.
        let said = said(&[
            (UNIT.id, decided(Decider::Program)),
            (SLICE.id, decided(Decider::Kernel)),
        ]);
        assert_eq!(asked(&said, &unit(), &attachments), expected);
    }

    #[test]
    fn where_the_kernel_decides_nobody_is_asked() {
        let attachments = HashMap::from([(CgroupId::SYSTEM, "b")]);
        for place in [UNIT, SLICE, SYSTEM] {
            let said = said(&[(place.id, decided(Decider::Kernel))]);
            assert_eq!(asked(&said, &unit(), &attachments), [], "{place:?}");
        }
    }

    #[test]
    fn a_units_pressure_is_its_own_or_that_of_units_in_the_slices_above() {
        let of_units = Some(Some(pressure("memory full 400ms/1s")));
        let own = Some(Some(pressure("io some 1s/2s")));
        let mut said = said(&[(
            CgroupId::SYSTEM,
            OwnSettings {
                units_pressure: of_units,
                ..OwnSettings::default()
            },
        )]);
        assert_eq!(said.pressure(&unit()), of_units);
        assert_eq!(said.pressure(&chain(&[SLICE, SYSTEM])), None);
        // What a unit makes inside is its own business.
        assert_eq!(said.pressure(&chain(&[INSIDE, UNIT, SLICE, SYSTEM])), None);
        said.0.insert(
            SLICE.id,
            OwnSettings {
                units_pressure: Some(None),
                pressure: own,
                ..OwnSettings::default()
            },
        );
        assert_eq!(said.pressure(&unit()), Some(None));
        assert_eq!(said.pressure(&chain(&[SLICE, SYSTEM])), own);
    }

    #[test]
    fn what_is_attached_is_watched_unless_it_is_said_otherwise() {
        let slice = chain(&[SLICE, SYSTEM]);
        assert_eq!(
            Said::default().pressure_of_attached(&slice),
            Some(DEFAULT_PRESSURE)
        );
        for (own, of_units, expected) in [
            (Some(None), None, None),
            (None, Some(Some(pressure("memory full 400ms/1s"))), None),
            (None, Some(None), None),
            (
                Some(Some(pressure("io some 1s/2s"))),
                None,
                Some(pressure("io some 1s/2s")),
            ),
        ] {
            let settings = OwnSettings {
                pressure: own,
                units_pressure: of_units,
                ..OwnSettings::default()
            };
            assert_eq!(
                said(&[(SLICE.id, settings)]).pressure_of_attached(&slice),
                expected
            );
        }
    }
}
