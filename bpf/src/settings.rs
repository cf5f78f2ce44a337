// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the policy programs are told about one cgroup. Pure.

use std::time::Duration;

use crate::interface::{
    OOMD_KILL_CGROUP, OOMD_KILL_PROCESS, OOMD_POLICY_KERNEL, OOMD_POLICY_PROGRAM,
    OOMD_PREFERENCE_AVOID, OOMD_PREFERENCE_NONE, OOMD_PREFERENCE_OMIT, OOMD_SAID_COOLDOWN,
    OOMD_SAID_KILL, OOMD_SAID_POLICY, OOMD_SAID_PREFERENCE, oomd_settings,
};

/// What is said about one cgroup. What is not said is inherited from the
/// nearest cgroup above that says it, or is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupSettings {
    /// What dies when the cgroup, a leaf, is the victim. Default: all of it.
    pub kill: Option<Kill>,
    /// Whether it may be the victim. Default: [`Preference::None`].
    pub preference: Option<Preference>,
    /// Who decides when it is what ran out of memory. Default: the program of
    /// the nearest attachment.
    pub policy: Option<PolicyMark>,
    /// How long a victim that does not get away holds off the next kill when
    /// it is what ran out of memory. Default: 10 seconds.
    pub cooldown: Option<Duration>,
}

/// What dies in the leaf that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// Every process.
    Cgroup,
    /// The process with the most resident memory.
    Process,
}

/// Whether a leaf may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// As the policy scores it.
    None,
    /// Only if there is nobody else.
    Avoid,
    /// Never.
    Omit,
}

/// Who decides when a cgroup ran out of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyMark {
    /// The program attached to it, or to the nearest cgroup above.
    Program,
    /// The kernel's own killer, whatever is attached above.
    Kernel,
}

impl Kill {
    pub(crate) fn encode(self) -> u32 {
        match self {
            Self::Cgroup => OOMD_KILL_CGROUP,
            Self::Process => OOMD_KILL_PROCESS,
        }
    }

    pub(crate) fn decode(code: u32) -> Option<Self> {
        match code {
            OOMD_KILL_CGROUP => Some(Self::Cgroup),
            OOMD_KILL_PROCESS => Some(Self::Process),
            _ => None,
        }
    }
}

impl Preference {
    pub(crate) fn encode(self) -> u32 {
        match self {
            Self::None => OOMD_PREFERENCE_NONE,
            Self::Avoid => OOMD_PREFERENCE_AVOID,
            Self::Omit => OOMD_PREFERENCE_OMIT,
        }
    }

    pub(crate) fn decode(code: u32) -> Option<Self> {
        match code {
            OOMD_PREFERENCE_NONE => Some(Self::None),
            OOMD_PREFERENCE_AVOID => Some(Self::Avoid),
            OOMD_PREFERENCE_OMIT => Some(Self::Omit),
            _ => None,
        }
    }
}

impl PolicyMark {
    fn encode(self) -> u32 {
        match self {
            Self::Program => OOMD_POLICY_PROGRAM,
            Self::Kernel => OOMD_POLICY_KERNEL,
        }
    }

    fn decode(code: u32) -> Option<Self> {
        match code {
            OOMD_POLICY_PROGRAM => Some(Self::Program),
            OOMD_POLICY_KERNEL => Some(Self::Kernel),
            _ => None,
        }
    }
}

impl CgroupSettings {
    pub(crate) fn encode(&self) -> oomd_settings {
        let bit = |said: bool, bit: u32| if said { bit } else { 0 };
        oomd_settings {
            said: bit(self.kill.is_some(), OOMD_SAID_KILL)
                | bit(self.preference.is_some(), OOMD_SAID_PREFERENCE)
                | bit(self.policy.is_some(), OOMD_SAID_POLICY)
                | bit(self.cooldown.is_some(), OOMD_SAID_COOLDOWN),
            kill: self.kill.map_or(0, Kill::encode),
            preference: self.preference.map_or(0, Preference::encode),
            policy: self.policy.map_or(0, PolicyMark::encode),
            cooldown_ns: self.cooldown.map_or(0, nanoseconds),
        }
    }

    pub(crate) fn decode(settings: &oomd_settings) -> Self {
        let said = |bit: u32| settings.said & bit != 0;
        Self {
            kill: Kill::decode(settings.kill).filter(|_| said(OOMD_SAID_KILL)),
            preference: Preference::decode(settings.preference)
                .filter(|_| said(OOMD_SAID_PREFERENCE)),
            policy: PolicyMark::decode(settings.policy).filter(|_| said(OOMD_SAID_POLICY)),
            cooldown: said(OOMD_SAID_COOLDOWN).then(|| Duration::from_nanos(settings.cooldown_ns)),
        }
    }
}

/// At most one less than all ones, which means "not said" inside the programs;
/// both are centuries.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos())
        .unwrap_or(u64::MAX)
        .min(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::bytes_of;

    #[test]
    fn saying_nothing_is_all_zeroes() {
        let settings = CgroupSettings::default().encode();
        assert!(bytes_of(&settings).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn saying_the_default_is_not_saying_nothing() {
        let settings = CgroupSettings {
            kill: Some(Kill::Cgroup),
            preference: Some(Preference::None),
            policy: Some(PolicyMark::Program),
            cooldown: Some(Duration::ZERO),
        };
        let encoded = settings.encode();
        assert_eq!(encoded.said, 1 | 2 | 4 | 8);
        assert_eq!(CgroupSettings::decode(&encoded), settings);
    }

    #[test]
    fn each_setting_has_its_own_bit_and_member() {
        let encoded = CgroupSettings {
            kill: Some(Kill::Process),
            ..CgroupSettings::default()
        }
        .encode();
        assert_eq!((encoded.said, encoded.kill), (1, OOMD_KILL_PROCESS));
        let encoded = CgroupSettings {
            preference: Some(Preference::Omit),
            ..CgroupSettings::default()
        }
        .encode();
        assert_eq!(
            (encoded.said, encoded.preference),
            (2, OOMD_PREFERENCE_OMIT)
        );
        let encoded = CgroupSettings {
            policy: Some(PolicyMark::Kernel),
            ..CgroupSettings::default()
        }
        .encode();
        assert_eq!((encoded.said, encoded.policy), (4, OOMD_POLICY_KERNEL));
        let encoded = CgroupSettings {
            cooldown: Some(Duration::from_millis(1500)),
            ..CgroupSettings::default()
        }
        .encode();
        assert_eq!((encoded.said, encoded.cooldown_ns), (8, 1_500_000_000));
    }

    #[test]
    fn an_endless_cooldown_is_still_said() {
        let encoded = CgroupSettings {
            cooldown: Some(Duration::MAX),
            ..CgroupSettings::default()
        }
        .encode();
        assert_eq!(encoded.cooldown_ns, u64::MAX - 1);
    }
}
