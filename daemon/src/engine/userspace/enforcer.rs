// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watches, decides and kills, in a thread of its own. What is to be done it is told by the engine, under a lock.

use super::aftermath::Aftermath;
use super::guard::{Domain, Guard};
use super::kill::{Held, KillError, kill};
use super::limit::MachineMemory;
use super::now;
use super::place::Place;
use super::said::Said;
use super::sources::{BELL, FIRST_TOKEN, Happened, Sources, TIMER, pressure_file, trigger};
use super::text;
use crate::boottime;
use crate::cgroup::Tree;
use crate::engine::{AttachError, Event, Kill, Outcome, Reason, Stall, Stalled, Watch};
use crate::fault::causes;
use crate::policy::{
    CgroupId, Level, Machine, OwnSettings, Pressure, Resource, StallAction, Trigger,
};
use bpf_oomd_bpf::{Candidate, Ranking, StockPolicy};
use rustix::fs::OFlags;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// What wakes up whoever looks at how much memory the machine has: hardly any stall at all. As long as nobody waits for memory, there is
/// enough of it.
const MACHINE_TRIGGER: Trigger = Trigger {
    resource: Resource::Memory,
    level: Level::Some,
    stall: Duration::from_millis(20),
    window: Duration::from_secs(1),
};

/// How long after that the machine's memory is looked at, and how often.
const MACHINE_WATCHED: Duration = Duration::from_secs(3);
const MACHINE_PERIOD: Duration = Duration::from_millis(250);

/// How long it is not heard of a limit that was reached. Page cache reaches it all the time.
const LIMIT_PERIOD: Duration = Duration::from_millis(250);

/// The state that the engine and the thread share.
pub(super) struct Enforcer {
    tree: Tree,
    said: Said,
    machine: Machine,
    programs: HashMap<String, StockPolicy>,
    /// By cgroup, the policy program.
    attachments: HashMap<CgroupId, String>,
    /// What is said to be watched.
    wanted: BTreeMap<CgroupId, Trigger>,
    stalls: HashMap<CgroupId, StallWatch>,
    limits: HashMap<CgroupId, LimitWatch>,
    machine_watch: Option<MachineWatch>,
    refused: BTreeMap<CgroupId, (Trigger, String)>,
    /// Of what each token tells.
    tokens: HashMap<u64, Source>,
    next_token: u64,
    aftermath: Aftermath<Held>,
    /// Used again and again, so that no memory is asked for when it is short.
    ranking: Ranking,
    /// When it was last told of each domain that a stall killed nobody.
    told: HashMap<CgroupId, Duration>,
    events: Vec<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Stall(CgroupId),
    Limit(CgroupId),
    Machine,
}

/// A cgroup that is watched for pressure.
struct StallWatch {
    token: u64,
    place: Place,
    _file: OwnedFd,
    guard: Guard,
    watch: Watch,
}

/// A cgroup with a policy, in which limits are watched.
struct LimitWatch {
    token: u64,
    place: Place,
    /// Its `memory.events`.
    file: OwnedFd,
    seen: LimitEvents,
    /// From when on it is heard again, if it is not now.
    silent_until: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LimitEvents {
    max: u64,
    oom: u64,
    oom_kill: u64,
}

/// The machine's pressure, watched because something is said of its memory.
struct MachineWatch {
    token: u64,
    _file: OwnedFd,
    /// When to look again, and until when, while somebody waits for memory.
    next: Option<(Duration, Duration)>,
}

impl LimitEvents {
    fn parse(text: &str) -> Self {
        let of = |name| text::number(text, name).unwrap_or_default();
        LimitEvents {
            max: of("max"),
            oom: of("oom"),
            oom_kill: of("oom_kill"),
        }
    }

    /// Whether a limit was reached since, and the kernel has not killed for it.
    fn calls_for_a_look(self, before: LimitEvents) -> bool {
        (self.max > before.max || self.oom > before.oom) && self.oom_kill == before.oom_kill
    }
}

impl Enforcer {
    pub(super) fn new(tree: Tree) -> Self {
        Enforcer {
            tree,
            said: Said::default(),
            machine: Machine::default(),
            programs: HashMap::new(),
            attachments: HashMap::new(),
            wanted: BTreeMap::new(),
            stalls: HashMap::new(),
            limits: HashMap::new(),
            machine_watch: None,
            refused: BTreeMap::new(),
            tokens: HashMap::new(),
            next_token: FIRST_TOKEN,
            aftermath: Aftermath::default(),
            ranking: Ranking::with_room(),
            told: HashMap::new(),
            events: Vec::new(),
        }
    }

    // ---- what it is told ---------------------------------------------------------------------------------------------------------

    pub(super) fn has_program(&self, name: &str) -> bool {
        self.programs.contains_key(name)
    }

    pub(super) fn program(&self, name: &str) -> Option<&StockPolicy> {
        self.programs.get(name)
    }

    pub(super) fn add_program(&mut self, program: StockPolicy) {
        self.programs.insert(program.name().to_owned(), program);
    }

    /// Puts a program that is loaded on a cgroup.
    pub(super) fn attach(
        &mut self,
        sources: &Sources,
        id: CgroupId,
        program: &str,
    ) -> Result<(), AttachError> {
        let failed = |what| move |source| AttachError::Io { what, source };
        let place = Place::open(&self.tree, id).map_err(failed("opening the cgroup"))?;
        if id != CgroupId::SYSTEM {
            let file = place
                .file("memory.events", OFlags::RDONLY)
                .map_err(|error| match error.raw_os_error() {
                    Some(libc::ENOENT) => AttachError::NoMemoryController,
                    _ => failed("opening memory.events")(error),
                })?;
            let token = self.token(Source::Limit(id));
            sources
                .add(&file, token)
                .map_err(failed("watching memory.events"))?;
            let seen = LimitEvents::parse(&place.text("memory.events"));
            let watch = LimitWatch {
                token,
                place,
                file,
                seen,
                silent_until: None,
            };
            self.limits.insert(id, watch);
        }
        self.attachments.insert(id, program.to_owned());
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

    pub(super) fn set_machine(&mut self, sources: &Sources, machine: Machine) -> io::Result<()> {
        self.machine = machine;
        let wanted = machine.min_available.is_some() || machine.min_swap.is_some();
        if !wanted {
            if let Some(watch) = self.machine_watch.take() {
                self.tokens.remove(&watch.token);
            }
        } else if self.machine_watch.is_none() {
            let system = Place::open(&self.tree, CgroupId::SYSTEM)?;
            let file = trigger(&system, &MACHINE_TRIGGER)?;
            let token = self.token(Source::Machine);
            sources.add(&file, token)?;
            self.machine_watch = Some(MachineWatch {
                token,
                _file: file,
                next: None,
            });
        }
        self.set_timer(sources);
        Ok(())
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
        let place = &self.stalls.get(&id)?.place;
        match self.said.pressure(&place.chain) {
            Some(_) => None,
            None => self.said.pressure_of_attached(&place.chain),
        }
    }

    /// The kernel's own killer killed for a domain.
    pub(super) fn kernel_killed(&mut self, domain: CgroupId) {
        self.aftermath.killed(domain, now());
    }

    pub(super) fn take_events(&mut self, into: &mut Vec<Event>) {
        into.append(&mut self.events);
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    // ---- what is watched ---------------------------------------------------------------------------------------------------------

    fn token(&mut self, source: Source) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.tokens.insert(token, source);
        token
    }

    fn drop_stall(&mut self, id: CgroupId) {
        if let Some(watch) = self.stalls.remove(&id) {
            self.tokens.remove(&watch.token);
        }
    }

    fn drop_limit(&mut self, id: CgroupId) {
        if let Some(watch) = self.limits.remove(&id) {
            self.tokens.remove(&watch.token);
        }
    }

    /// Makes the triggers that are missing, and drops those that are not wanted.
    fn watch_stalls(&mut self, sources: &Sources) {
        let mut want = self.wanted.clone();
        for id in self.attachments.keys() {
            if want.contains_key(id) {
                continue;
            }
            let place = match (self.limits.get(id), self.stalls.get(id)) {
                (Some(limit), _) => Some(&limit.place.chain),
                (_, Some(stall)) => Some(&stall.place.chain),
                _ => None,
            };
            let pressure = match place {
                Some(chain) => self.said.pressure_of_attached(chain),
                None => Place::open(&self.tree, *id)
                    .ok()
                    .and_then(|place| self.said.pressure_of_attached(&place.chain)),
            };
            if let Some(pressure) = pressure {
                want.insert(*id, pressure.trigger);
            }
        }
        let unwanted: Vec<CgroupId> = self
            .stalls
            .iter()
            .filter(|(id, stall)| {
                let there = Trigger::from(&stall.watch.trigger);
                want.get(id) != Some(&there)
            })
            .map(|(id, _)| *id)
            .collect();
        let mut counted = HashMap::new();
        for id in unwanted {
            // Of a trigger that is another one now, what happened goes on counting.
            if let (Some(stall), true) = (self.stalls.get(&id), want.contains_key(&id)) {
                counted.insert(id, stall.watch);
            }
            self.drop_stall(id);
        }
        self.refused
            .retain(|id, (trigger, _)| want.get(id) == Some(trigger));
        for (id, trigger) in want {
            if self.stalls.contains_key(&id) || self.refused.contains_key(&id) {
                continue;
            }
            match self.watch_stall(sources, id, &trigger, counted.get(&id)) {
                Ok(()) => {}
                // Gone meanwhile: the facts will say so.
                Err(_) if Place::open(&self.tree, id).is_err() => {}
                Err(error) => {
                    self.refused.insert(id, (trigger, error.to_string()));
                }
            }
        }
    }

    fn watch_stall(
        &mut self,
        sources: &Sources,
        id: CgroupId,
        wanted: &Trigger,
        before: Option<&Watch>,
    ) -> io::Result<()> {
        let place = Place::open(&self.tree, id)?;
        let file = trigger(&place, wanted)?;
        let token = self.token(Source::Stall(id));
        if let Err(error) = sources.add(&file, token) {
            self.tokens.remove(&token);
            return Err(error);
        }
        let counters = text::counters(&place.text("memory.stat"), &place.text("memory.events"));
        let trigger = wanted.into();
        let mut watch = Watch::new(trigger);
        if let Some(before) = before {
            watch = *before;
            watch.trigger = trigger;
        }
        let watch = StallWatch {
            token,
            guard: Guard::new(trigger, counters),
            watch,
            place,
            _file: file,
        };
        self.stalls.insert(id, watch);
        Ok(())
    }

    // ---- what happens ------------------------------------------------------------------------------------------------------------

    /// Acts on what happened.
    pub(super) fn act_on(&mut self, sources: &Sources, happened: &[Happened]) {
        self.aftermath.look();
        for happened in happened {
            match happened.token {
                TIMER | BELL => {}
                token => match self.tokens.get(&token).copied() {
                    Some(Source::Stall(id)) => self.stall(id, *happened),
                    Some(Source::Limit(id)) => self.limit(sources, id),
                    Some(Source::Machine) => {
                        let now = now();
                        if let Some(watch) = &mut self.machine_watch {
                            watch.next = Some((now, now + MACHINE_WATCHED));
                        }
                    }
                    // Of something that is not watched any more.
                    None => {}
                },
            }
        }
        self.on_time(sources);
        self.set_timer(sources);
    }

    /// What is due.
    fn on_time(&mut self, sources: &Sources) {
        let now = now();
        let heard_again: Vec<CgroupId> = self
            .limits
            .iter()
            .filter(|(_, watch)| watch.silent_until.is_some_and(|until| until <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in heard_again {
            if let Some(watch) = self.limits.get_mut(&id) {
                watch.silent_until = None;
                if let Err(error) = sources.add(&watch.file, watch.token) {
                    error!(
                        "{}: its limit is not watched any more: {error}",
                        watch.place.path
                    );
                }
            }
        }
        let Some(watch) = &mut self.machine_watch else {
            return;
        };
        let Some((next, until)) = watch.next else {
            return;
        };
        if next > now {
            return;
        }
        let again = now + MACHINE_PERIOD;
        watch.next = (again <= until).then_some((again, until));
        self.look_at_the_machine();
    }

    fn set_timer(&self, sources: &Sources) {
        let of_machine = self
            .machine_watch
            .as_ref()
            .and_then(|watch| Some(watch.next?.0));
        let of_limits = self.limits.values().filter_map(|watch| watch.silent_until);
        if let Err(error) = sources.set_timer(of_limits.chain(of_machine).min()) {
            error!("The timer cannot be set: {error}");
        }
    }

    fn stall(&mut self, id: CgroupId, happened: Happened) {
        // A pressure file that fails is of a cgroup that is gone.
        if happened.failed {
            self.drop_stall(id);
            if id != CgroupId::SYSTEM {
                self.events.push(Event::CgroupGone(id));
            }
            return;
        }
        let Some(watch) = self.stalls.get(&id) else {
            return;
        };
        let said = match self.attachments.contains_key(&id) {
            true => self.said.pressure_of_attached(&watch.place.chain),
            false => self.said.pressure(&watch.place.chain).flatten(),
        };
        // What is said may be something else by now, and the trigger is about to be.
        let there = Trigger::from(&watch.watch.trigger);
        let Some(said) = said.filter(|said| said.trigger == there) else {
            return;
        };
        let look = Look {
            enforcer: self,
            place: &watch.place,
            trigger: &said.trigger,
        };
        let mut guard = watch.guard;
        let outcome = guard.event(&said, now(), &look);
        let outcome = outcome.unwrap_or_else(|| self.declare(id, &said, guard.stall()));
        if let Some(watch) = self.stalls.get_mut(&id) {
            watch.guard = guard;
            watch.watch.note(outcome);
        }
    }

    /// An OOM for a stall.
    fn declare(&mut self, id: CgroupId, said: &Pressure, stall: Stall) -> Outcome {
        let outcome = match said.action {
            StallAction::Report => Outcome::Reported,
            StallAction::Kill => match Place::open(&self.tree, id) {
                Ok(domain) => self.out_of_memory(&domain, Some(stall)),
                Err(_) => Outcome::NoDomain,
            },
        };
        if matches!(outcome, Outcome::Reported | Outcome::Nobody) {
            self.tell(id, stall, outcome);
        }
        outcome
    }

    /// Of what repeats itself with every window, no more is told than there would be kills.
    fn tell(&mut self, id: CgroupId, stall: Stall, outcome: Outcome) {
        let Some(watch) = self.stalls.get(&id) else {
            return;
        };
        let now = now();
        let cooldown = self.said.cooldown(&watch.place.chain);
        let before = self.told.get(&id);
        if before.is_some_and(|before| now.saturating_sub(*before) < cooldown) {
            return;
        }
        let event = Event::Stalled(Stalled {
            time_ns: time_ns(),
            domain: id,
            domain_path: Some(watch.place.path.clone()),
            usage: watch.place.usage(),
            stall,
            outcome,
        });
        self.told.insert(id, now);
        self.events.push(event);
    }

    /// A limit was reached somewhere in a cgroup with a policy.
    fn limit(&mut self, sources: &Sources, id: CgroupId) {
        let Some(watch) = self.limits.get_mut(&id) else {
            return;
        };
        let mut bytes = [0; 512];
        // By the file that is waited for: reading it is what makes it wait for the next.
        let Ok(length) = rustix::io::pread(&watch.file, &mut bytes, 0) else {
            self.drop_limit(id);
            self.events.push(Event::CgroupGone(id));
            return;
        };
        let events = LimitEvents::parse(&String::from_utf8_lossy(&bytes[..length]));
        let before = std::mem::replace(&mut watch.seen, events);
        sources.remove(&watch.file);
        watch.silent_until = Some(now() + LIMIT_PERIOD);
        if !events.calls_for_a_look(before) {
            return;
        }
        let swap_free = machine_memory().map_or(0, |memory| memory.swap_free);
        let out = watch.place.out_of_memory(swap_free);
        for domain in out {
            if let Ok(domain) = Place::open(&self.tree, domain)
                && self.may_kill(&domain)
            {
                self.out_of_memory(&domain, None);
            }
        }
    }

    fn look_at_the_machine(&mut self) {
        let Some(memory) = machine_memory() else {
            return;
        };
        if !memory.is_low(&self.machine) {
            return;
        }
        let system = match Place::open(&self.tree, CgroupId::SYSTEM) {
            Ok(system) => system,
            Err(error) => return error!("the cgroup tree cannot be read: {error}"),
        };
        if self.may_kill(&system) {
            self.out_of_memory(&system, None);
        }
    }

    fn may_kill(&self, domain: &Place) -> bool {
        let cooldown = self.said.cooldown(&domain.chain);
        let now = now();
        !self.aftermath.is_exiting(domain.id, cooldown, now)
            && !self.aftermath.cools_down(domain.id, cooldown, now)
    }

    // ---- who, and how ------------------------------------------------------------------------------------------------------------

    /// A domain is out of memory: the policies from it upwards are asked, and the first victim that can be killed is.
    fn out_of_memory(&mut self, domain: &Place, stall: Option<Stall>) -> Outcome {
        let started = now();
        let usage_before = domain.usage();
        let asked: Vec<(CgroupId, String)> = self
            .said
            .asked(&domain.chain, &self.attachments)
            .into_iter()
            .map(|(id, program)| (id, program.clone()))
            .collect();
        for (attachment, name) in asked {
            let Some(program) = self.programs.get(&name) else {
                continue;
            };
            let none = Ranking {
                candidates: Vec::new(),
                left_out: 0,
            };
            let mut ranking = std::mem::replace(&mut self.ranking, none);
            let ranked = program.ranking_into(domain.id.0, &mut ranking);
            if let Err(error) = ranked {
                error!("{name} does not say whom it would kill: {}", causes(&error));
                self.ranking = ranking;
                continue;
            }
            ranking.candidates.retain(|candidate| {
                candidate.excluded.is_none()
                    && !self.aftermath.is_stuck(CgroupId(candidate.cgroup_id))
            });
            let candidates = u32::try_from(ranking.candidates.len()).unwrap_or(u32::MAX);
            let mut killed = false;
            for candidate in &ranking.candidates {
                let decision = Decision {
                    domain,
                    attachment,
                    program: &name,
                    usage_before,
                    stall,
                    candidates,
                    started,
                };
                if self.kill(&decision, candidate) {
                    killed = true;
                    break;
                }
            }
            self.ranking = ranking;
            if killed {
                return Outcome::Killed;
            }
        }
        debug!("{}: nobody is killed", domain.path);
        Outcome::Nobody
    }

    /// Kills a candidate, if that is possible.
    fn kill(&mut self, decision: &Decision<'_>, candidate: &Candidate) -> bool {
        let id = CgroupId(candidate.cgroup_id);
        let victim = match Place::open(&self.tree, id) {
            Ok(victim) => victim,
            Err(error) => {
                debug!("the cgroup with id {id} cannot be killed: {error}");
                return false;
            }
        };
        let how = self.said.kill(&victim.chain);
        let time_ns = time_ns();
        let killed = match kill(&victim, how) {
            Ok(killed) => killed,
            Err(KillError::Io(error)) => {
                error!("{} cannot be killed: {error}", victim.path);
                return false;
            }
            Err(reason) => {
                info!("{} is not killed: {reason}", victim.path);
                return false;
            }
        };
        let now = now();
        let domain = decision.domain;
        self.aftermath.killed(domain.id, now);
        self.aftermath.dies(id, victim.chain, killed.held, now);
        let handler = now.saturating_sub(decision.started);
        self.events.push(Event::Kill(Kill {
            time_ns,
            domain: domain.id,
            domain_path: Some(domain.path.clone()),
            reason: decision.stall.map_or(Reason::Allocation, Reason::Pressure),
            attachment: decision.attachment,
            victim: id,
            victim_path: Some(victim.path),
            program: decision.program.to_owned(),
            usage_before: decision.usage_before,
            victim_bytes: candidate.bytes,
            victim_score: candidate.score,
            preference: candidate.preference.into(),
            kill: how,
            candidates: decision.candidates,
            handler_us: u64::try_from(handler.as_micros()).unwrap_or(u64::MAX),
            processes_total: killed.total,
            processes: killed.processes,
        }));
        true
    }
}

/// What leads to a kill.
struct Decision<'a> {
    domain: &'a Place,
    attachment: CgroupId,
    program: &'a str,
    usage_before: u64,
    stall: Option<Stall>,
    candidates: u32,
    started: Duration,
}

/// A look at a domain that stalls.
struct Look<'a> {
    enforcer: &'a Enforcer,
    place: &'a Place,
    trigger: &'a Trigger,
}

impl Domain for Look<'_> {
    fn stalled(&self) -> Duration {
        let pressure = self.place.text(pressure_file(self.trigger.resource));
        text::stalled(&pressure, self.trigger.level).unwrap_or_default()
    }

    fn counters(&self) -> super::guard::Counters {
        text::counters(
            &self.place.text("memory.stat"),
            &self.place.text("memory.events"),
        )
    }

    fn usage(&self) -> u64 {
        self.place.usage()
    }

    fn is_held_back(&self) -> bool {
        self.place.is_held_back(&self.enforcer.tree)
    }

    fn holds_back_inside(&self) -> bool {
        self.place.holds_back_inside()
    }

    fn is_exiting(&self) -> bool {
        let cooldown = self.enforcer.said.cooldown(&self.place.chain);
        let aftermath = &self.enforcer.aftermath;
        aftermath.is_exiting(self.place.id, cooldown, now())
    }

    fn cools_down(&self) -> bool {
        let cooldown = self.enforcer.said.cooldown(&self.place.chain);
        let aftermath = &self.enforcer.aftermath;
        aftermath.cools_down(self.place.id, cooldown, now())
    }
}

fn machine_memory() -> Option<MachineMemory> {
    let text = match std::fs::read_to_string("/proc/meminfo") {
        Ok(text) => text,
        Err(error) => {
            warn!("/proc/meminfo: {error}");
            return None;
        }
    };
    MachineMemory::parse(&text)
}

/// The time that records carry.
fn time_ns() -> u64 {
    boottime::now() * 1_000
}
