// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records of kills by the kernel's own killer.

use bpf_oomd_bpf::{Event, KernelKillRecord, KernelKills, KillRecord, SharedMaps};

use crate::wait::{SOON, eventually_within};

/// Records what the kernel kills, and nothing else.
pub struct Recording {
    shared: SharedMaps,
    _programs: KernelKills,
}

impl Recording {
    #[track_caller]
    /// From now on.
    pub fn start() -> Self {
        let shared = SharedMaps::new().expect("maps");
        let programs = record(&shared);
        Self {
            shared,
            _programs: programs,
        }
    }

    /// Kills by the kernel since the last call. There must be none by a policy.
    #[track_caller]
    pub fn kills(&mut self) -> Vec<KernelKillRecord> {
        let (policys, kernels) = kills(&mut self.shared);
        assert_eq!(policys, []);
        kernels
    }

    /// The one kill since the last call. A victim may be gone before the kernel has finished killing it.
    #[track_caller]
    pub fn kill(&mut self) -> KernelKillRecord {
        let mut kills = eventually_within(SOON, || {
            let kills = self.kills();
            (!kills.is_empty())
                .then_some(kills)
                .ok_or("no kill is recorded".into())
        });
        assert_eq!(kills.len(), 1, "{kills:?}");
        kills.remove(0)
    }
}

/// Loads the programs, for maps that other programs share.
#[track_caller]
pub fn record(shared: &SharedMaps) -> KernelKills {
    KernelKills::record(shared).expect("load and attach the programs")
}

/// Kills by policies and by the kernel since the last call.
#[track_caller]
pub fn kills(shared: &mut SharedMaps) -> (Vec<KillRecord>, Vec<KernelKillRecord>) {
    let (mut policys, mut kernels) = (Vec::new(), Vec::new());
    let drained = shared.drain(|event| match event {
        Event::Kill(kill) => policys.push(kill),
        Event::KernelKill(kill) => kernels.push(kill),
        _ => {}
    });
    drained.expect("read events");
    (policys, kernels)
}
