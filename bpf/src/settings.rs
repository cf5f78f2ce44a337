// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a policy program is told about one attachment.

use crate::interface::{OOMD_KILL_CGROUP, OOMD_KILL_PROCESS, oomd_settings};

/// Settings of one attachment. The default is what a program does for an
/// attachment that nothing was said about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachmentSettings {
    /// What dies in the leaf that was chosen.
    pub kill: Kill,
}

/// What dies in the leaf that was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kill {
    /// Every process.
    #[default]
    Cgroup,
    /// The process with the most resident memory.
    Process,
}

impl AttachmentSettings {
    pub(crate) fn encode(self) -> oomd_settings {
        oomd_settings {
            kill: match self.kill {
                Kill::Cgroup => OOMD_KILL_CGROUP,
                Kill::Process => OOMD_KILL_PROCESS,
            },
            reserved: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::bytes_of;

    #[test]
    fn default_settings_are_those_of_a_missing_entry() {
        let settings = AttachmentSettings::default().encode();
        assert!(bytes_of(&settings).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn killing_one_process_is_told_to_the_program() {
        let settings = AttachmentSettings {
            kill: Kill::Process,
        };
        assert_eq!(settings.encode().kill, OOMD_KILL_PROCESS);
    }
}
