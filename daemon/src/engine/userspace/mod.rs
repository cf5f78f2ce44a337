// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine for kernels that do not ask BPF programs when memory runs out: the daemon watches, asks the policy's ranking program, and
//! kills.
//!
//! | file | what it is about | touches the system |
//! |---|---|---|
//! | `enforcer` | what is watched, what is done when it tells something, and who is killed | by the others |
//! | `sources` | pressure triggers, a timer, and waiting for them | yes |
//! | `place` | a cgroup and its files | yes |
//! | `watched` | a domain with all that is looked at when it stalls | yes |
//! | `held` | processes that cannot become others | yes |
//! | `kill` | killing | yes |
//! | `nominee` | whom the kernel's killer takes if it is faster | yes |
//! | `reading` | reading without asking for memory | yes |
//! | `mark` | what systemd is told of it | yes |
//! | `guard` | whether a stall is an OOM | no |
//! | `limit` | whether a limit is about to be one, and whether the machine's memory is low | no |
//! | `said` | what is said about a cgroup, and what it inherits | no |
//! | `pending` | victims that have time before they are killed | no |
//! | `aftermath` | victims that are on their way out, and cooldowns | no |
//! | `text` | what the kernel's files say | no |

mod aftermath;
mod enforcer;
mod guard;
mod held;
mod kill;
mod limit;
mod mark;
mod nominee;
mod pending;
mod place;
mod reading;
mod said;
mod sources;
mod text;
mod watched;

pub(super) use kill::can_release;
pub use nominee::give_back_nominations;
pub use said::DEFAULT_PRESSURE;

use super::parameters::Parameters;
use super::probe::KernelFacts;
use super::{
    AttachError, Candidate, Engine, Event, EventsError, InterfacePart, ParameterError,
    RankingError, SettingsError, TriggerError, Watch, candidates,
};
use crate::cgroup::Tree;
use crate::fault::causes;
use crate::policy::{CgroupId, Machine, OwnSettings, Pressure, Trigger};
use bpf_oomd_bpf::{
    CgroupSettings, EventsError as RingError, KernelKills, MapError, SharedMaps, StockPolicy,
};
use enforcer::Enforcer;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{ClockId, clock_gettime};
use sources::{AT_A_TIME, Sources};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::{debug, error};

/// Why this engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No BPF maps.
    #[error(transparent)]
    Maps(#[from] RingError),
    /// The kernel has no descriptors to give, or no thread.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The engine.
pub struct UserspaceEngine {
    facts: KernelFacts,
    shared: SharedMaps,
    parameters: Parameters,
    /// Or why kills by the kernel's own killer are not recorded.
    kernel_kills: Result<KernelKills, String>,
    works: Arc<Works>,
    thread: Option<JoinHandle<()>>,
    /// Of the ring buffer and of what the thread has done.
    events: OwnedFd,
}

/// What the thread works with.
struct Works {
    enforcer: Mutex<Enforcer>,
    sources: Sources,
    /// Readable when there are events.
    done: OwnedFd,
    stop: AtomicBool,
}

impl Works {
    fn enforcer(&self) -> MutexGuard<'_, Enforcer> {
        self.enforcer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        // Its triggers are made by others.
        if let Err(error) = nominee::without_resource_capability() {
            debug!("nominated processes may not lower their oom_score_adj again: {error}");
        }
        let mut happened = Vec::with_capacity(AT_A_TIME);
        while !self.stop.load(Ordering::Acquire) {
            if let Err(error) = self.sources.wait(&mut happened) {
                error!("Nothing is enforced any more: {error}");
                break;
            }
            let mut enforcer = self.enforcer();
            enforcer.act_on(&self.sources, &happened);
            if enforcer.has_events() {
                // It fails only where it is readable already.
                let _ = rustix::io::write(&self.done, &1u64.to_ne_bytes());
            }
        }
        self.enforcer().end();
    }
}

impl UserspaceEngine {
    /// An engine with nothing attached, on a kernel that can do this. `state` is the directory of what is kept over a restart.
    ///
    /// # Errors
    ///
    /// Without the privilege to use BPF, or without memory, descriptors or threads.
    pub fn new(facts: &KernelFacts, tree: Tree, state: &Path) -> Result<Self, StartError> {
        let shared = SharedMaps::new()?;
        let done =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        let events = epoll::create(CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        for (number, fd) in [shared.epoll_fd(), done.as_fd()].into_iter().enumerate() {
            epoll::add(
                &events,
                fd,
                EventData::new_u64(number as u64),
                EventFlags::IN,
            )
            .map_err(io::Error::from)?;
        }
        let works = Arc::new(Works {
            enforcer: Mutex::new(Enforcer::new(tree, state)?),
            sources: Sources::new()?,
            done,
            stop: AtomicBool::new(false),
        });
        let in_thread = Arc::clone(&works);
        let thread = std::thread::Builder::new()
            .name("enforcer".into())
            .spawn(move || in_thread.run())?;
        Ok(UserspaceEngine {
            facts: facts.clone(),
            // Policies do without.
            kernel_kills: KernelKills::record(&shared).map_err(|error| {
                let why = causes(&error);
                format!("kills by the kernel's own killer are not recorded: {why}")
            }),
            shared,
            parameters: Parameters::default(),
            works,
            thread: Some(thread),
            events,
        })
    }

    /// Loads a program, unless it is loaded. Nothing is locked meanwhile: it takes the kernel's verifier a while.
    fn load(&self, name: &str) -> Result<(), AttachError> {
        if self.works.enforcer().has_program(name) {
            return Ok(());
        }
        let program = StockPolicy::load(name, &self.shared)
            .map_err(|error| AttachError::load(name, &error))?;
        self.parameters
            .give(name, |name, value| program.set_parameter(name, value))
            .map_err(|error| AttachError::load(name, &error))?;
        self.works.enforcer().add_program(program);
        Ok(())
    }
}

impl Drop for UserspaceEngine {
    fn drop(&mut self) {
        self.works.stop.store(true, Ordering::Release);
        self.works.sources.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the enforcing thread had failed");
        }
    }
}

impl Engine for UserspaceEngine {
    fn name(&self) -> &'static str {
        "userspace"
    }

    fn interface(&self) -> Vec<InterfacePart> {
        self.facts.parts_for_userspace().into()
    }

    fn programs(&self) -> &'static [&'static str] {
        bpf_oomd_bpf::policy_names()
    }

    fn attach(
        &mut self,
        id: CgroupId,
        _cgroup: Option<BorrowedFd<'_>>,
        program: &str,
    ) -> Result<(), AttachError> {
        self.load(program)?;
        self.works
            .enforcer()
            .attach(&self.works.sources, id, program)
    }

    fn detach(&mut self, id: CgroupId) {
        self.works.enforcer().detach(id);
    }

    fn forget(&mut self, id: CgroupId) {
        self.works.enforcer().forget(id);
    }

    fn put_settings(&mut self, id: CgroupId, settings: &OwnSettings) -> Result<(), SettingsError> {
        // Ranking programs ask who is to be spared.
        let said: CgroupSettings = settings.into();
        let put = match said == CgroupSettings::default() {
            true => self.shared.remove_settings(id.0),
            false => self.shared.put_settings(id.0, &said),
        };
        put.map_err(|error: MapError| SettingsError::new(id, &error))?;
        self.works.enforcer().say(id, *settings);
        Ok(())
    }

    fn remove_settings(&mut self, id: CgroupId) -> Result<(), SettingsError> {
        self.put_settings(id, &OwnSettings::default())
    }

    /// New units of a slice get their trigger when systemd tells of them.
    fn set_triggers(
        &mut self,
        want: &BTreeMap<CgroupId, Trigger>,
        _births: bool,
    ) -> Result<BTreeMap<CgroupId, String>, TriggerError> {
        if !self.facts.files.pressure && !want.is_empty() {
            return Err(TriggerError(
                "this kernel does not measure pressure (memory.pressure)".into(),
            ));
        }
        Ok(self
            .works
            .enforcer()
            .set_triggers(&self.works.sources, want))
    }

    fn set_machine(&mut self, machine: &Machine) -> Result<(), TriggerError> {
        self.works
            .enforcer()
            .set_machine(&self.works.sources, machine)
            .map_err(|error| TriggerError(format!("the machine's memory is not watched: {error}")))
    }

    fn pressure_by_default(&self, id: CgroupId) -> Option<Pressure> {
        self.works.enforcer().pressure_by_default(id)
    }

    fn programs_ended(&mut self, victim: CgroupId) {
        self.works.enforcer().programs_ended(victim);
        self.works.sources.ring();
    }

    fn watch(&self, id: CgroupId) -> Result<Option<Watch>, TriggerError> {
        Ok(self.works.enforcer().watch(id))
    }

    fn ranking(&mut self, program: &str, domain: CgroupId) -> Result<Vec<Candidate>, RankingError> {
        self.load(program)
            .map_err(|error| RankingError::new(program, &error))?;
        let enforcer = self.works.enforcer();
        let loaded = enforcer.program(program).ok_or_else(|| RankingError {
            program: program.to_owned(),
            reason: "it is not loaded".into(),
        })?;
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
        let enforcer = self.works.enforcer();
        let Some(loaded) = enforcer.program(program) else {
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
        self.events.as_fd()
    }

    fn events(&mut self, into: &mut Vec<Event>) -> Result<(), EventsError> {
        // Before looking: what comes in between makes it readable again.
        let _ = rustix::io::read(&self.works.done, &mut [0; 8]);
        let mut enforcer = self.works.enforcer();
        enforcer.take_events(into);
        let read = self.shared.drain(|event| {
            let event = event.into();
            if let Event::KernelKill(kill) = &event {
                enforcer.kernel_killed(kill.domain);
            }
            into.push(event);
        });
        read.map_err(|error| EventsError(causes(&error)))
    }

    fn lost_events(&self) -> Result<u64, EventsError> {
        self.shared
            .lost()
            .map_err(|error| EventsError(causes(&error)))
    }
}

/// CLOCK_MONOTONIC, which goes on evenly.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let number = |part: i64| u64::try_from(part).unwrap_or_default();
    Duration::from_secs(number(now.tv_sec)) + Duration::from_nanos(number(now.tv_nsec))
}
