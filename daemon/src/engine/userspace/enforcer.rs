// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watches, decides and kills, in a thread of its own. What is to be done it is told by the engine, under a lock.
//!
//! | file | what it is about |
//! |---|---|
//! | `watching` | what is watched |
//! | `happening` | what is done when something happens |
//! | `deciding` | who is killed, and how |

mod deciding;
mod happening;
mod watching;

use super::aftermath::Aftermath;
use super::held::Held;
use super::kill::Target;
use super::limit::MachineMemory;
use super::nominee::Nominees;
use super::now;
use super::pending::Pending;
use super::reading::Room;
use super::said::Said;
use super::sources::{FIRST_TOKEN, Sources};
use super::watched::Highs;
use crate::boottime;
use crate::cgroup::Tree;
use crate::engine::{AttachError, Event, Watch};
use crate::policy::{CgroupId, Machine, OwnSettings, Pressure, Trigger};
use bpf_oomd_bpf::{Ranking, StockPolicy};
use deciding::Chosen;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;
use watching::{LimitWatch, MachineWatch, StallWatch};

/// How many targets are kept ready.
const READY: usize = 16;

/// The state that the engine and the thread share.
pub(super) struct Enforcer {
    tree: Tree,
    said: Said,
    machine: Machine,
    programs: HashMap<&'static str, StockPolicy>,
    /// By cgroup, the policy program.
    attachments: HashMap<CgroupId, &'static str>,
    /// What is said to be watched.
    wanted: BTreeMap<CgroupId, Trigger>,
    stalls: HashMap<CgroupId, StallWatch>,
    highs: Highs,
    limits: HashMap<CgroupId, LimitWatch>,
    machine_watch: Option<MachineWatch>,
    meminfo: File,
    refused: BTreeMap<CgroupId, (Trigger, String)>,
    /// Of what each token tells.
    tokens: HashMap<u64, Source>,
    next_token: u64,
    aftermath: Aftermath<Held>,
    pending: Pending<Chosen>,
    nominees: Nominees,
    /// Those who would be killed now where memory is short, ready to be.
    ready: Vec<Target>,
    /// Until when they are kept so, unless memory is short again.
    ready_until: Option<Duration>,
    /// Used again and again, so that no memory is asked for when it is short.
    ranking: Ranking,
    asked: Vec<(CgroupId, &'static str)>,
    out: Vec<CgroupId>,
    /// When it was last told of each domain that a stall killed nobody.
    told: HashMap<CgroupId, Duration>,
    events: Vec<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Stall(CgroupId),
    Limit(CgroupId),
    Machine,
    /// A victim that was warned may be gone.
    Warned,
}

impl Enforcer {
    /// One that watches nothing. `state` is the directory of what is kept over a restart.
    pub(super) fn new(tree: Tree, state: &Path) -> io::Result<Self> {
        Ok(Enforcer {
            tree,
            said: Said::default(),
            machine: Machine::default(),
            programs: HashMap::new(),
            attachments: HashMap::new(),
            wanted: BTreeMap::new(),
            stalls: HashMap::new(),
            highs: Highs::default(),
            limits: HashMap::new(),
            machine_watch: None,
            meminfo: File::open("/proc/meminfo")?,
            refused: BTreeMap::new(),
            tokens: HashMap::new(),
            next_token: FIRST_TOKEN,
            aftermath: Aftermath::default(),
            pending: Pending::default(),
            nominees: Nominees::new(state),
            ready: Vec::with_capacity(READY),
            ready_until: None,
            ranking: Ranking::with_room(),
            asked: Vec::with_capacity(READY),
            out: Vec::with_capacity(READY),
            told: HashMap::new(),
            events: Vec::with_capacity(READY),
        })
    }

    /// Leaves nothing behind.
    pub(super) fn end(&mut self) {
        self.nominees.take_back_all(&self.tree);
    }

    pub(super) fn has_program(&self, name: &str) -> bool {
        self.programs.contains_key(name)
    }

    pub(super) fn program(&self, name: &str) -> Option<&StockPolicy> {
        self.programs.get(name)
    }

    pub(super) fn add_program(&mut self, program: StockPolicy) {
        self.programs.insert(program.name(), program);
    }

    /// Puts a program that is loaded on a cgroup.
    pub(super) fn attach(
        &mut self,
        sources: &Sources,
        id: CgroupId,
        program: &str,
    ) -> Result<(), AttachError> {
        let Some((&program, _)) = self.programs.get_key_value(program) else {
            return Err(AttachError::Load {
                name: program.to_owned(),
                reason: "it is not loaded".into(),
            });
        };
        if id != CgroupId::SYSTEM {
            self.watch_limit(sources, id)?;
        }
        self.attachments.insert(id, program);
        Ok(())
    }

    pub(super) fn detach(&mut self, id: CgroupId) {
        if self.attachments.remove(&id).is_some() {
            self.drop_limit(id);
        }
    }

    pub(super) fn forget(&mut self, id: CgroupId) {
        self.wanted.remove(&id);
        self.said.0.remove(&id);
        self.attachments.remove(&id);
        self.refused.remove(&id);
        self.aftermath.forget(id);
        self.told.remove(&id);
        self.drop_limit(id);
        self.drop_stall(id);
    }

    pub(super) fn say(&mut self, id: CgroupId, settings: OwnSettings) {
        match settings == OwnSettings::default() {
            true => self.said.0.remove(&id),
            false => self.said.0.insert(id, settings),
        };
    }

    pub(super) fn set_machine(&mut self, sources: &Sources, machine: &Machine) -> io::Result<()> {
        self.machine.clone_from(machine);
        // The thread gives back what is nominated no more: not whoever calls this.
        sources.ring();
        self.watch_machine(sources)
    }

    /// Makes the triggers what they should be, for what is attached and said by now: whoever changes that calls this when all of it is
    /// changed. Returns why some are missing.
    pub(super) fn set_triggers(
        &mut self,
        sources: &Sources,
        want: &BTreeMap<CgroupId, Trigger>,
    ) -> BTreeMap<CgroupId, String> {
        self.wanted.clone_from(want);
        self.watch_stalls(sources);
        self.refused
            .iter()
            .map(|(id, (_, why))| (*id, why.clone()))
            .collect()
    }

    pub(super) fn watch(&self, id: CgroupId) -> Option<Watch> {
        self.stalls.get(&id).map(|stall| stall.watch)
    }

    /// What a cgroup is watched for because nobody says anything.
    pub(super) fn pressure_by_default(&self, id: CgroupId) -> Option<Pressure> {
        let place = &self.stalls.get(&id)?.watched.place;
        match self.said.pressure(&place.chain) {
            Some(_) => None,
            None => self.said.pressure_of_attached(&place.chain),
        }
    }

    /// The kernel's own killer killed for a domain.
    pub(super) fn kernel_killed(&mut self, domain: CgroupId) {
        self.aftermath.killed(domain, now());
    }

    /// The programs that are run before the kill of a victim have ended.
    pub(super) fn programs_ended(&mut self, victim: CgroupId) {
        self.pending.programs_ended(victim);
    }

    pub(super) fn take_events(&mut self, into: &mut Vec<Event>) {
        into.append(&mut self.events);
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    fn machine_memory(&self) -> Option<MachineMemory> {
        MachineMemory::parse(Room::new().read(&self.meminfo))
    }
}

/// The time that records carry.
fn time_ns() -> u64 {
    boottime::now() * 1_000
}
