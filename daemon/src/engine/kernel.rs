// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine that leaves everything to the kernel: policy programs attached to cgroups with `bpf_oom_ops`.
//!
//! Together with [`probe`](super::probe) and the BPF code's `kernel.h`, this is the only place that knows the shape of the
//! kernel's interface.

mod kept;
mod link;
mod names;
mod triggers;

use super::parameters::Parameters;
use super::{
    AttachError, Candidate, Engine, Event, EventsError, Found, InterfacePart, KernelKill, Kill,
    KilledProcess, ParameterError, RankingError, SettingsError, Stalled, TriggerError, Watch,
    candidates,
};
use crate::engine::probe::KernelFacts;
use crate::fault::causes;
use crate::policy::{self, CgroupId, Decider, InForce, OwnSettings, Policy, Trigger};
use crate::systemd::fd_store::{FdStore, Inherited};
use bpf_oomd_bpf::{
    CgroupPressure, CgroupSettings, EventsError as RingError, KernelKills, MapError, Outcome,
    PolicyMark, PolicyProgram, PressureRecord, SharedMaps,
};
use kept::{Kept, keep};
use libbpf_rs::MapInfo;
use link::KeptLink;
use names::{Loaded, Name};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use tracing::{info, warn};
use triggers::Triggers;

/// Attaches a registered struct_ops map to a cgroup, or to the system if `cgroup` is None. The attachment lasts as long as
/// the returned link is open somewhere.
///
/// libbpf has no function for this: it refuses cgroup options for struct_ops links.
///
/// # Errors
///
/// `EBUSY` if something is attached there already, `ENODEV` if the cgroup has no memory controller or is being removed,
/// `EBADF` if `cgroup` is no cgroup v2 directory, `EINVAL` if the map's type cannot be attached to cgroups.
pub fn struct_ops_link(map: BorrowedFd<'_>, cgroup: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    /// enum bpf_cmd in linux/bpf.h
    const BPF_LINK_CREATE: libc::c_long = 28;
    /// enum bpf_attach_type in linux/bpf.h
    const BPF_STRUCT_OPS: u32 = 44;

    /// `link_create` in union bpf_attr. `relative_fd` is the start of the `cgroup` member of its inner union.
    #[repr(C)]
    #[derive(Default)]
    struct LinkCreate {
        map_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        relative_fd: u32,
        padding: u32,
        expected_revision: u64,
    }
    let number =
        |fd: RawFd| u32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF));
    // 0 stands for "no cgroup", so a directory that happens to be descriptor 0 goes by another number: duplicates start at 3.
    let moved = match cgroup {
        Some(fd) if fd.as_raw_fd() == 0 => Some(fd.try_clone_to_owned()?),
        _ => None,
    };
    let cgroup = moved.as_ref().map(OwnedFd::as_fd).or(cgroup);
    let attr = LinkCreate {
        map_fd: number(map.as_raw_fd())?,
        attach_type: BPF_STRUCT_OPS,
        relative_fd: cgroup.map_or(Ok(0), |fd| number(fd.as_raw_fd()))?,
        ..LinkCreate::default()
    };
    // SAFETY: `attr` is initialised, padding included, laid out as the kernel expects it, and lives across the call, which
    // does not keep it; its size is passed along.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_LINK_CREATE,
            &raw const attr,
            size_of::<LinkCreate>(),
        )
    };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call just returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The engine.
pub struct KernelEngine {
    facts: KernelFacts,
    store: FdStore,
    shared: SharedMaps,
    /// Loaded when first used, and kept: a policy that was wanted once is wanted again.
    programs: HashMap<String, PolicyProgram>,
    parameters: Parameters,
    attachments: HashMap<CgroupId, KeptLink>,
    /// None if this kernel does not tell BPF of pressure.
    triggers: Option<Triggers>,
    /// Or why kills by the kernel's own killer are not recorded.
    kernel_kills: Result<KernelKills, String>,
    found: Found,
    /// What another version left, by name.
    foreign: BTreeSet<String>,
}

impl KernelEngine {
    /// An engine on a kernel that can do this, with what an earlier one left in `inherited`. What this one attaches is kept in
    /// `store`, if there is one, and else goes with it.
    pub fn new(
        facts: &KernelFacts,
        store: FdStore,
        inherited: Inherited,
    ) -> Result<Self, RingError> {
        let mut kept = Kept::sort(inherited, &store);
        let policies = kept_policies(&kept);
        let version = SharedMaps::fingerprint();
        let adopted = kept.adopt(Loaded::Maps, version, &store, SharedMaps::adopt);
        // Programs that use other maps can be replaced, and no more.
        let same_maps = adopted.is_some();
        let shared = match adopted {
            Some(shared) => shared,
            None => {
                if !kept.all(|of| *of == Loaded::Maps).is_empty() {
                    warn!(
                        "An earlier daemon was of a version that tells of kills in another way; what it left untold is lost"
                    );
                }
                let shared = SharedMaps::new()?;
                keep(&Loaded::Maps, version, shared.parts(), &store);
                shared
            }
        };
        let mut programs = HashMap::new();
        for &name in bpf_oomd_bpf::policy_names().iter().filter(|_| same_maps) {
            let version = PolicyProgram::fingerprint(name).unwrap_or_default();
            let adopt = |parts| PolicyProgram::adopt(name, parts);
            if let Some(program) = kept.adopt(Loaded::Policy(name.into()), version, &store, adopt) {
                programs.insert(name.to_owned(), program);
            }
        }
        let mut found = Found::default();
        let mut attachments = HashMap::new();
        for (id, link, info) in std::mem::take(&mut kept.attachments) {
            let policy = info.map.and_then(|map| policies.get(&map));
            let (name, version) =
                policy.map_or(("", None), |(name, version)| (name, Some(*version)));
            let in_force = InForce {
                policy: Policy::Bpf(name.into()),
                current: programs.contains_key(name) && version == PolicyProgram::fingerprint(name),
            };
            found.attachments.insert(id, in_force);
            attachments.insert(id, KeptLink::found(Name::Attachment(id), link));
        }
        if same_maps {
            found.told = shared.told().map(CgroupId).collect();
            found.lost_events = shared.lost_before();
        }
        let triggers = Triggers::adopt(&shared, &mut kept, same_maps, &store);
        let kernel_kills = record_kernel_kills(&shared, &mut kept, same_maps, &store);
        // Only now, when everything that replaces them is there.
        let foreign = kept.end(&store);
        let attached = found.attachments.len();
        if attached > 0 {
            let current = found.attachments.values().filter(|it| it.current).count();
            info!(
                "{attached} attachments were left in force by an earlier daemon, {current} of them by one of this version"
            );
        }
        Ok(KernelEngine {
            facts: facts.clone(),
            triggers: facts.pressure_handlers.then_some(triggers),
            kernel_kills,
            shared,
            programs,
            parameters: Parameters::default(),
            attachments,
            found,
            foreign,
            store,
        })
    }

    fn program(&mut self, name: &str) -> Result<&PolicyProgram, AttachError> {
        if !self.programs.contains_key(name) {
            let program = PolicyProgram::load(name, &self.shared)
                .map_err(|error| AttachError::load(name, &error))?;
            self.parameters
                .give(name, |name, value| program.set_parameter(name, value))
                .map_err(|error| AttachError::load(name, &error))?;
            let version = PolicyProgram::fingerprint(name).unwrap_or_default();
            let loaded = Loaded::Policy(name.to_owned());
            keep(&loaded, version, program.parts(), &self.store);
            self.programs.insert(name.to_owned(), program);
        }
        Ok(&self.programs[name])
    }
}

/// The policies that were left, with their versions, by the id of the map that is attached.
fn kept_policies(kept: &Kept) -> HashMap<u32, (String, u64)> {
    let all = kept.all(|of| matches!(of, Loaded::Policy(_)));
    all.into_iter()
        .filter_map(|(of, version, parts)| {
            let Loaded::Policy(name) = of else {
                return None;
            };
            let map = parts.get(PolicyProgram::ATTACHED)?;
            let id = MapInfo::new(map.as_fd()).ok()?.info.id;
            Some((id, (name.clone(), version)))
        })
        .collect()
}

/// Goes on with recording kills by the kernel's own killer, or begins. Policies do without.
fn record_kernel_kills(
    shared: &SharedMaps,
    kept: &mut Kept,
    same_maps: bool,
    store: &FdStore,
) -> Result<KernelKills, String> {
    let version = KernelKills::fingerprint();
    let adopted = same_maps.then(|| kept.adopt(Loaded::Kills, version, store, KernelKills::adopt));
    if let Some(recorded) = adopted.flatten() {
        return Ok(recorded);
    }
    let recorded = KernelKills::record(shared).map_err(|error| {
        let why = causes(&error);
        format!("kills by the kernel's own killer are not recorded: {why}")
    })?;
    keep(&Loaded::Kills, version, recorded.parts(), store);
    Ok(recorded)
}

impl Engine for KernelEngine {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn interface(&self) -> Vec<InterfacePart> {
        self.facts.parts().into()
    }

    fn programs(&self) -> &'static [&'static str] {
        bpf_oomd_bpf::policy_names()
    }

    fn found(&self) -> Found {
        self.found.clone()
    }

    fn prepare(&mut self, program: &str) -> Result<(), AttachError> {
        self.program(program).map(|_| ())
    }

    fn attach(
        &mut self,
        id: CgroupId,
        cgroup: Option<BorrowedFd<'_>>,
        program: &str,
    ) -> Result<(), AttachError> {
        self.prepare(program)?;
        let map = self.programs[program].struct_ops_map();
        let link =
            KeptLink::attach(&self.store, Name::Attachment(id), map, cgroup).map_err(|error| {
                match error.raw_os_error() {
                    Some(libc::ENODEV) => AttachError::NoMemoryController,
                    Some(libc::EBUSY) => AttachError::Busy,
                    _ => AttachError::Io {
                        what: "attaching",
                        source: error,
                    },
                }
            })?;
        self.attachments.insert(id, link);
        Ok(())
    }

    fn detach(&mut self, id: CgroupId) {
        if let Some(link) = self.attachments.remove(&id) {
            link.end(&self.store);
        }
    }

    fn forget(&mut self, id: CgroupId) {
        self.detach(id);
        if let Some(triggers) = &mut self.triggers {
            triggers.forget(id, &self.store);
        }
    }

    fn put_settings(&mut self, id: CgroupId, settings: &OwnSettings) -> Result<(), SettingsError> {
        let said: CgroupSettings = settings.into();
        let pressure: CgroupPressure = settings.into();
        let put = || {
            match said == CgroupSettings::default() {
                true => self.shared.remove_settings(id.0)?,
                false => self.shared.put_settings(id.0, &said)?,
            }
            match pressure == CgroupPressure::default() {
                true => self.shared.remove_pressure(id.0),
                false => self.shared.put_pressure(id.0, &pressure),
            }
        };
        put().map_err(|error: MapError| SettingsError::new(id, &error))
    }

    fn remove_settings(&mut self, id: CgroupId) -> Result<(), SettingsError> {
        self.put_settings(id, &OwnSettings::default())
    }

    fn set_triggers(
        &mut self,
        want: &BTreeMap<CgroupId, Trigger>,
        births: bool,
    ) -> Result<BTreeMap<CgroupId, String>, TriggerError> {
        match &mut self.triggers {
            Some(triggers) => triggers.set(&self.shared, &self.store, want, births),
            None if want.is_empty() && !births => Ok(BTreeMap::new()),
            None => Err(TriggerError(
                "this kernel does not tell BPF of pressure (struct bpf_psi_ops)".into(),
            )),
        }
    }

    fn watch(&self, id: CgroupId) -> Result<Option<Watch>, TriggerError> {
        self.shared
            .watch(id.0)
            .map_err(|error| TriggerError(causes(&error)))
    }

    fn ranking(&mut self, program: &str, domain: CgroupId) -> Result<Vec<Candidate>, RankingError> {
        let loaded = self
            .program(program)
            .map_err(|error| RankingError::new(program, &error))?;
        let ranking = loaded
            .ranking(domain.0)
            .map_err(|error| RankingError::new(program, &error))?;
        Ok(candidates(ranking, domain))
    }

    fn set_parameters(
        &mut self,
        program: &'static str,
        said: &BTreeMap<String, u64>,
    ) -> Result<(), ParameterError> {
        if !self.parameters.say(program, said) {
            return Ok(());
        }
        let Some(loaded) = self.programs.get(program) else {
            return Ok(());
        };
        self.parameters
            .give(program, |name, value| loaded.set_parameter(name, value))
            .map_err(|error| ParameterError::new(program, &error))
    }

    fn shortcoming(&self) -> Option<&str> {
        self.kernel_kills.as_ref().err().map(String::as_str)
    }

    fn events_fd(&self) -> BorrowedFd<'_> {
        self.shared.epoll_fd()
    }

    fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        if !self.foreign.is_empty() {
            // There may be one for each unit.
            let some: Vec<&str> = self.foreign.iter().take(8).map(String::as_str).collect();
            concerns.push(format!(
                "another version of bpf-oomd left {} things that this one does not know and that stay in force until the service is stopped: {}{}",
                self.foreign.len(),
                some.join(", "),
                if some.len() < self.foreign.len() { ", ..." } else { "" }
            ));
        }
        if self.store.refused() > 0 {
            concerns.push(format!(
                "{} attachments and what belongs to them end with the daemon: systemd keeps no more (FileDescriptorStoreMax=)",
                self.store.refused()
            ));
        }
        concerns
    }

    fn events(&mut self, into: &mut Vec<Event>) -> Result<(), EventsError> {
        let recorded = self.kernel_kills.is_ok();
        let mut unreadable = Ok(());
        loop {
            match self.shared.next_event() {
                // The kill has a record, which says more.
                Ok(Some(bpf_oomd_bpf::Event::Pressure(PressureRecord {
                    outcome: Outcome::KernelKilled,
                    ..
                }))) if recorded => {}
                Ok(Some(event)) => {
                    into.push(event.into());
                    return unreadable;
                }
                Ok(None) => return unreadable,
                Err(error @ RingError::Malformed(_)) => {
                    unreadable = Err(EventsError(causes(&error)));
                }
                Err(error) => return Err(EventsError(causes(&error))),
            }
        }
    }

    fn lost_events(&self) -> Result<u64, EventsError> {
        self.shared
            .lost()
            .map_err(|error| EventsError(causes(&error)))
    }
}

impl From<&OwnSettings> for CgroupSettings {
    fn from(settings: &OwnSettings) -> Self {
        CgroupSettings {
            kill: settings.kill.map(|kill| match kill {
                policy::Kill::Cgroup => bpf_oomd_bpf::Kill::Cgroup,
                policy::Kill::Process => bpf_oomd_bpf::Kill::Process,
            }),
            preference: settings.preference.map(|preference| match preference {
                policy::Preference::None => bpf_oomd_bpf::Preference::None,
                policy::Preference::Avoid => bpf_oomd_bpf::Preference::Avoid,
                policy::Preference::Omit => bpf_oomd_bpf::Preference::Omit,
            }),
            policy: settings.decider.map(|decider| match decider {
                Decider::Program => PolicyMark::Program,
                Decider::Kernel => PolicyMark::Kernel,
            }),
            cooldown: settings.cooldown,
        }
    }
}

impl From<&OwnSettings> for CgroupPressure {
    fn from(settings: &OwnSettings) -> Self {
        let encoded = |said: Option<Option<policy::Pressure>>| {
            said.map(|pressure| pressure.as_ref().map(Into::into))
        };
        CgroupPressure {
            own: encoded(settings.pressure),
            units: encoded(settings.units_pressure),
        }
    }
}

impl From<bpf_oomd_bpf::Preference> for policy::Preference {
    fn from(preference: bpf_oomd_bpf::Preference) -> Self {
        match preference {
            bpf_oomd_bpf::Preference::None => policy::Preference::None,
            bpf_oomd_bpf::Preference::Avoid => policy::Preference::Avoid,
            bpf_oomd_bpf::Preference::Omit => policy::Preference::Omit,
        }
    }
}

impl From<bpf_oomd_bpf::Kill> for policy::Kill {
    fn from(kill: bpf_oomd_bpf::Kill) -> Self {
        match kill {
            bpf_oomd_bpf::Kill::Cgroup => policy::Kill::Cgroup,
            bpf_oomd_bpf::Kill::Process => policy::Kill::Process,
        }
    }
}

impl From<bpf_oomd_bpf::KilledProcess> for KilledProcess {
    fn from(process: bpf_oomd_bpf::KilledProcess) -> Self {
        KilledProcess {
            pid: process.pid,
            comm: process.comm,
            bytes: process.bytes,
        }
    }
}

impl From<bpf_oomd_bpf::Event> for Event {
    fn from(event: bpf_oomd_bpf::Event) -> Self {
        match event {
            bpf_oomd_bpf::Event::CgroupOffline { cgroup_id, .. } => {
                Event::CgroupGone(CgroupId(cgroup_id))
            }
            bpf_oomd_bpf::Event::Pressure(record) => Event::Stalled(Stalled {
                time_ns: record.time_ns,
                domain: CgroupId(record.domain),
                domain_path: record.domain_path,
                usage: record.usage,
                stall: record.stall,
                outcome: record.outcome,
            }),
            bpf_oomd_bpf::Event::Kill(record) => Event::Kill(Kill {
                time_ns: record.time_ns,
                domain: CgroupId(record.domain),
                domain_path: record.domain_path,
                attachment: CgroupId(record.attachment),
                victim: CgroupId(record.victim),
                victim_path: record.victim_path,
                program: record.policy,
                usage_before: record.usage_before,
                victim_bytes: record.victim_bytes,
                victim_score: record.victim_score,
                reason: record.reason,
                preference: record.preference.into(),
                kill: record.kill.into(),
                candidates: record.candidates,
                handler_us: record.handler_us,
                processes_total: record.processes_total,
                processes: record.processes.into_iter().map(Into::into).collect(),
            }),
            bpf_oomd_bpf::Event::KernelKill(record) => Event::KernelKill(KernelKill {
                time_ns: record.time_ns,
                reason: record.reason,
                domain: CgroupId(record.domain),
                domain_path: record.domain_path,
                usage_before: record.usage_before,
                victim: CgroupId(record.victim),
                victim_path: record.victim_path,
                kill: record.kill.into(),
                victim_score: record.victim_score,
                oom_score_adj: record.oom_score_adj,
                victim_bytes: record.victim_bytes,
                processes_total: record.processes_total,
                processes: record.processes.into_iter().map(Into::into).collect(),
            }),
        }
    }
}
