// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one place where facts, policies and attachments come together.
//!
//! Everything that happens ends in [`Core::reconcile`]: facts are brought up to date, the desired attachments are
//! resolved, [`plan`] compares them with what is attached, and the engine does the rest. An event that is
//! lost, doubled or late therefore cannot leave a wrong state behind; the next one puts it right.

mod chronicle;
mod config_watch;
mod faults;
mod history;
mod pending;
mod refusals;
mod requests;
mod run;
mod run_time;
mod shown;
mod status;
mod units;

pub use history::{History, KILLS_KEPT, NumberedKill};
pub use pending::PendingKill;
pub use requests::{CandidateUnit, Request, RequestError, Simulation, WatchedUnit};
pub use run::run;
pub use run_time::STATE_DIRECTORY;
pub use shown::{Counters, ParameterShown, PolicyShown, Shown, UnitShown};

use crate::boottime;
use crate::cgroup::{self, Index, Tree};
use crate::config::Configuration;
use crate::engine::{AttachError, Engine, Event, Outcome, Stalled, TriggerError};
use crate::events;
use crate::events::record::KillRecord;
use crate::fault::{Fault, causes};
use crate::policy::{
    Action, CgroupId, Desired, InForce, Key, OwnSettings, Policy, State, desired_attachments,
    desired_settings, desired_triggers, plan,
};
use crate::systemd::facts::{UnitFacts, Update};
use crate::systemd::files::Files;
use crate::systemd::unit_name;
use bpf_oomd_bpf::{Parameter, policy_parameters};
use chronicle::{Chronicle, Counted};
use config_watch::ConfigWatch;
use faults::{FaultBook, Faults, Subject};
use pending::PendingKills;
use refusals::Refusals;
use run_time::RunTime;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};
use units::Units;

/// The state of the daemon.
pub struct Core<E> {
    engine: E,
    tree: Tree,
    index: Index,
    units: Units,
    configuration: Configuration,
    /// Why changes of the configuration are not noticed, if they are not.
    unwatched: Option<Fault>,
    /// Whether all units have been known once. Before that nothing is taken away: it may be somebody's.
    all_known: bool,
    attached: BTreeMap<CgroupId, Attached>,
    told: BTreeMap<CgroupId, OwnSettings>,
    /// Why cgroups could not be told what is said about them.
    untold: BTreeMap<CgroupId, Fault>,
    /// Why cgroups are not watched for pressure.
    unwatched_cgroups: BTreeMap<CgroupId, Fault>,
    /// Why none is.
    pressure_fault: Option<Fault>,
    /// Why the machine's memory is not watched, or that what is said of the engine does not count yet.
    machine_faults: Vec<Fault>,
    refusals: Refusals,
    /// When that was last tried which could not be done before.
    caught_up: Instant,
    faults: FaultBook,
    /// Why nothing is heard from systemd, while that is so.
    bus_lost: Option<String>,
    /// Why others cannot reach the daemon on the bus, if they cannot.
    unreachable: Option<Fault>,
    lost_events: u64,
    /// How often there was something to do.
    wakeups: u64,
    /// What each policy program can be told.
    parameters: BTreeMap<&'static str, Vec<Parameter>>,
    /// What each was told.
    given_parameters: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// Cgroups that are watched for pressure.
    watched: BTreeSet<CgroupId>,
    /// Since the service was started.
    counted: Counted,
    chronicle: Chronicle,
    pending: PendingKills,
    history: Arc<History>,
    /// As it was looked at last.
    shown: Shown,
    policies_stale: bool,
}

/// Something the engine has attached.
#[derive(Debug, Clone)]
struct Attached {
    in_force: InForce,
    /// Nothing as long as it is not known whose it is: an earlier daemon attached it.
    unit: String,
}

impl<E: Engine> Core<E> {
    /// A core that knows nothing yet but what was set at run time, counted and told before the daemon was restarted, which is in the
    /// directory `state`.
    pub fn new(
        engine: E,
        tree: Tree,
        files: Files,
        configuration: Configuration,
        state: &Path,
    ) -> Self {
        let programs = engine.programs();
        let run_time = RunTime::load(state, programs, boottime::now());
        let units = Units::new(files, programs, run_time);
        let (chronicle, past) = Chronicle::open(state);
        let history = Arc::new(History::default());
        for kill in past.kills {
            history.push(Arc::new(kill));
        }
        let found = engine.found();
        let attached = found.attachments.into_iter().map(|(id, in_force)| {
            let unit = String::new();
            (id, Attached { in_force, unit })
        });
        // What it was told is told again, or taken away.
        let told = found
            .told
            .into_iter()
            .map(|id| (id, OwnSettings::default()));
        Core {
            attached: attached.collect(),
            told: told.collect(),
            lost_events: found.lost_events,
            all_known: false,
            engine,
            tree,
            configuration,
            unwatched: None,
            untold: BTreeMap::new(),
            unwatched_cgroups: BTreeMap::new(),
            pressure_fault: None,
            machine_faults: Vec::new(),
            index: Index::default(),
            units,
            refusals: Refusals::default(),
            caught_up: Instant::now(),
            faults: FaultBook::default(),
            bus_lost: Some("not connected to the system bus yet".into()),
            unreachable: None,
            wakeups: 0,
            parameters: programs
                .iter()
                .map(|program| (*program, policy_parameters(program)))
                .collect(),
            given_parameters: BTreeMap::new(),
            watched: BTreeSet::new(),
            shown: Shown {
                last_kill: past.counted.last,
                ..Shown::default()
            },
            counted: past.counted,
            chronicle,
            history,
            pending: PendingKills::default(),
            policies_stale: true,
        }
    }

    /// Takes news about units, and acts on them.
    pub fn update(&mut self, update: Update) {
        match update {
            Update::Lost(reason) => {
                // Attachments stay: they need nobody. Facts stay as well, until there are better ones.
                if self.bus_lost.is_none() {
                    warn!("Units are not followed for now: {reason}");
                }
                self.bus_lost = Some(reason);
                return;
            }
            Update::All { known, .. } => {
                if self.bus_lost.take().is_some() {
                    info!("Following units");
                }
                let here: HashSet<&str> = known.iter().map(|facts| facts.name.as_str()).collect();
                let names = self.units.names();
                let gone: Vec<String> = names
                    .filter(|name| !here.contains(name.as_str()))
                    .cloned()
                    .collect();
                self.forget(&gone);
                self.learn(known);
                self.all_known = true;
            }
            Update::Some { known, gone } => {
                self.forget(&gone);
                self.learn(known);
            }
        }
        self.reconcile();
    }

    fn learn(&mut self, known: Vec<UnitFacts>) {
        for facts in known {
            let name = facts.name.clone();
            let reloaded = self.units.learn(facts, &self.tree, &mut self.index);
            // Somebody may have put right what was in the way.
            if reloaded && let Some(id) = self.units.cgroup(&name) {
                self.refusals.retry_now(id);
            }
        }
    }

    fn forget(&mut self, names: &[String]) {
        for name in names {
            self.units.forget(name, &mut self.index);
        }
    }

    /// Reads the configuration and all unit files again, as they are now.
    fn reread_files(&mut self, watch: &mut ConfigWatch) {
        self.read_configuration(watch);
        self.units.reread_files();
        self.reconcile();
    }

    /// Reads the configuration again, as it is now, and acts on it.
    fn reload_configuration(&mut self, watch: &mut ConfigWatch) {
        self.read_configuration(watch);
        self.reconcile();
    }

    /// Reads the configuration, and watches it from now on.
    fn read_configuration(&mut self, watch: &mut ConfigWatch) {
        self.unwatched = watch
            .renew(&self.configuration)
            .err()
            .map(|error| Fault::new(format!("changes are noticed some seconds late: {error}")));
        if self.configuration.read() {
            self.units.configure(self.configuration.config().clone());
            self.give_parameters();
            self.tell_machine();
            self.shown.configurations += 1;
            info!("The configuration was read, and is not what it was");
        } else if self.given_parameters.is_empty() {
            // An earlier daemon may have given them what is not said any more.
            self.give_parameters();
        }
    }

    fn tell_machine(&mut self) {
        let machine = self.configuration.config().machine();
        let other_engine = machine.engine.excludes(self.engine.name()).then(|| {
            Fault::new(format!(
                "engine = \"{}\" counts when the daemon is started again; the engine is {:?}",
                machine.engine,
                self.engine.name()
            ))
        });
        let unwatched = self.engine.set_machine(machine).err();
        let unwatched = unwatched.map(|error| Fault::new(causes(&error)));
        self.machine_faults = other_engine.into_iter().chain(unwatched).collect();
    }

    fn give_parameters(&mut self) {
        for &program in self.engine.programs() {
            let said = self.configuration.config().parameters(program);
            let said = said
                .into_iter()
                .flatten()
                .map(|(name, (value, _))| (name.clone(), *value))
                .collect();
            match self.engine.set_parameters(program, &said) {
                Ok(()) => {
                    self.given_parameters.insert(program, said);
                    self.policies_stale = true;
                }
                Err(error) => error!("{}", causes(&error)),
            }
        }
    }

    /// Makes what is attached what should be attached, and tells what is wrong.
    pub fn reconcile(&mut self) {
        if !self.is_configuration_behind() && self.is_time_to_catch_up() {
            self.caught_up = Instant::now();
            self.units.catch_up();
        }
        self.enforce();
        self.tell_faults();
    }

    /// Makes what is attached what should be attached.
    fn enforce(&mut self) {
        /// A unit that is restarted while it is looked at has a new cgroup each time. Looking a few times is enough: its
        /// signals bring us back.
        const ROUNDS: usize = 3;
        for _ in 0..ROUNDS {
            if !self.one_round() {
                break;
            }
        }
    }

    fn tell_faults(&mut self) {
        let mut faults = Faults::default();
        let of_configuration = self.configuration.faults().iter();
        for fault in of_configuration
            .chain(&self.unwatched)
            .chain(&self.pressure_fault)
            .chain(&self.machine_faults)
        {
            faults.add(Subject::Configuration, fault.clone());
        }
        if let Some(shortcoming) = self.engine.shortcoming() {
            faults.add(Subject::Kernel, Fault::new(shortcoming));
        }
        for concern in self.engine.concerns() {
            faults.add(Subject::Kept, Fault::new(concern));
        }
        if let Some(fault) = self.chronicle.fault() {
            faults.add(Subject::Kills, fault.clone());
        }
        // Without the bus nobody is reachable, and that is told already.
        if let (Some(fault), None) = (&self.unreachable, &self.bus_lost) {
            faults.add(Subject::Bus, fault.clone());
        }
        let of_cgroups = [&self.untold, &self.unwatched_cgroups];
        self.units.report(&self.refusals, of_cgroups, &mut faults);
        self.faults.update(faults);
    }

    /// Returns whether the facts turned out to be old, and it is worth another round.
    fn one_round(&mut self) -> bool {
        let (world, cgroups) = (self.units.world(), self.units.cgroups());
        let mut want = State {
            attachments: desired_attachments(world, cgroups),
            settings: desired_settings(world, cgroups),
        };
        self.refusals.keep_only(&want.attachments);
        self.recognise(&want.attachments);
        let now = Instant::now();
        let held_back: Vec<CgroupId> = want
            .attachments
            .iter()
            .filter(|(id, want)| self.refusals.hold_back(**id, &want.policy, now))
            .map(|(id, _)| *id)
            .collect();
        let mut have = State {
            attachments: self
                .attached
                .iter()
                .map(|(id, attached)| (*id, attached.in_force.clone()))
                .collect(),
            settings: self.told.clone(),
        };
        for id in held_back {
            // What is there meanwhile stays.
            want.attachments.remove(&id);
            have.attachments.remove(&id);
        }
        let wanted = &want.settings;
        self.untold.retain(|id, _| wanted.contains_key(id));
        let mut again = false;
        for action in plan(&want, &have) {
            match action {
                Action::Tell(id, settings) => self.tell(id, settings),
                Action::Attach(id, want) => again |= self.attach(id, want),
                Action::Detach(id) if let Some(want) = want.attachments.get(&id) => {
                    self.make_way(id, want);
                }
                Action::Untell(_) | Action::Detach(_) if !self.all_known => {}
                Action::Untell(id) => self.untell(id),
                Action::Detach(id) => self.detach(id),
            }
        }
        if self.all_known {
            self.watch_for_pressure(&want.settings);
        }
        again
    }

    /// Learns whose cgroups are those on which something was found.
    fn recognise(&mut self, want: &BTreeMap<CgroupId, Desired>) {
        let mut recognised = Vec::new();
        for (id, attached) in &mut self.attached {
            if attached.unit.is_empty()
                && let Some(want) = want.get(id)
            {
                attached.unit.clone_from(&want.unit);
                recognised.push(want.unit.clone());
            }
        }
        for unit in recognised {
            self.mark(&unit);
        }
    }

    /// Takes away what is attached, for something else to be attached at once, unless that cannot be: then it stays.
    fn make_way(&mut self, id: CgroupId, want: &Desired) {
        if let Policy::Bpf(program) = &want.policy
            && let Err(error) = self.engine.prepare(program)
        {
            let fault = Fault::new(causes(&error));
            self.refusals
                .insert(id, want.policy.clone(), fault, Instant::now());
            return;
        }
        self.detach(id);
    }

    fn watch_for_pressure(&mut self, settings: &BTreeMap<CgroupId, OwnSettings>) {
        let triggers = desired_triggers(self.units.world(), self.units.cgroups());
        let births = settings
            .values()
            .any(|said| matches!(said.units_pressure, Some(Some(_))));
        match self.engine.set_triggers(&triggers, births) {
            Ok(refused) => {
                self.pressure_fault = None;
                let mut watched: BTreeSet<CgroupId> = triggers.into_keys().collect();
                watched.retain(|id| !refused.contains_key(id));
                for id in watched.symmetric_difference(&std::mem::take(&mut self.watched)) {
                    self.mark_cgroup(*id);
                }
                self.watched = watched;
                self.unwatched_cgroups = refused
                    .into_iter()
                    .map(|(id, why)| (id, Fault::new(TriggerError(why).to_string())))
                    .collect();
            }
            Err(error) => self.pressure_fault = Some(Fault::new(causes(&error))),
        }
    }

    fn tell(&mut self, id: CgroupId, settings: OwnSettings) {
        match self.engine.put_settings(id, &settings) {
            Ok(()) => {
                self.untold.remove(&id);
                self.told.insert(id, settings);
                self.mark_cgroup(id);
            }
            // It is tried again with the next change, whatever changes. Until then what is above decides.
            Err(error) => {
                self.untold.insert(id, Fault::new(causes(&error)));
            }
        }
    }

    fn untell(&mut self, id: CgroupId) {
        if let Err(error) = self.engine.remove_settings(id) {
            error!("{}", causes(&error));
        }
        if self.told.remove(&id).is_some() {
            self.mark_cgroup(id);
        }
    }

    fn detach(&mut self, id: CgroupId) {
        self.engine.detach(id);
        if let Some(Attached { in_force, unit }) = self.attached.remove(&id) {
            let policy = in_force.policy;
            if unit.is_empty() {
                info!("Detached what an earlier daemon left on the cgroup with id {id}");
                return;
            }
            self.mark(&unit);
            info!(
                UNIT = unit,
                OOM_POLICY = policy.to_string(),
                "Detached {policy} from {unit}"
            );
        }
    }

    /// Returns whether the unit's cgroup turned out to be another one than the facts said.
    fn attach(&mut self, id: CgroupId, want: Desired) -> bool {
        let Desired { unit, policy, .. } = want;
        // What is left to the kernel is a matter of settings.
        let Policy::Bpf(program) = &policy else {
            return false;
        };
        // What was there could not make way.
        if self.attached.contains_key(&id) {
            return false;
        }
        let result = if id == CgroupId::SYSTEM {
            self.engine.attach(id, None, program)
        } else {
            let path = self.index.path(id).unwrap_or_default().to_owned();
            match self.tree.open_cgroup(&path) {
                Ok((cgroup, found)) if found == id => {
                    self.engine.attach(id, Some(cgroup.as_fd()), program)
                }
                // Gone, or replaced.
                Ok(_) => return self.look_again(&unit),
                Err(error) if cgroup::says_gone(&error) => return self.look_again(&unit),
                Err(source) => Err(AttachError::Io {
                    what: "opening the cgroup",
                    source,
                }),
            }
        };
        match result {
            Ok(()) => {
                let why = self.units.world().own(&unit, Key::Policy);
                let why = why.map_or(String::new(), |(_, speaker, said)| speaker.place(said));
                info!(
                    UNIT = unit,
                    OOM_POLICY = policy.to_string(),
                    "Attached {policy} to {unit} ({why})"
                );
                self.refusals.forget(id);
                self.mark(&unit);
                let in_force = InForce {
                    policy,
                    current: true,
                };
                self.attached.insert(id, Attached { in_force, unit });
                false
            }
            Err(AttachError::NoMemoryController) if self.is_on_its_way_out(id) => {
                self.look_again(&unit)
            }
            Err(error) => {
                self.refusals
                    .insert(id, policy, Fault::new(causes(&error)), Instant::now());
                false
            }
        }
    }

    /// The kernel says the same of a cgroup without the memory controller and of one that is being removed.
    fn is_on_its_way_out(&self, id: CgroupId) -> bool {
        let path = self.index.path(id).unwrap_or_default();
        self.tree.id(path) != Some(id) || self.tree.is_given_memory_controller(path)
    }

    fn look_again(&mut self, unit: &str) -> bool {
        let before = self.units.cgroup(unit);
        self.units.look_at_cgroup(unit, &self.tree, &mut self.index);
        self.units.cgroup(unit) != before
    }

    /// When something that was refused, or could not be done, is to be tried again.
    pub fn next_retry(&self) -> Option<Instant> {
        let all = [self.refusals.next(), self.catching_up()];
        all.into_iter().flatten().min()
    }

    /// When to do what could not be done for want of descriptors, memory or room on a disk.
    fn catching_up(&self) -> Option<Instant> {
        const PAUSE: Duration = Duration::from_secs(5);
        let is_behind = self.units.is_behind() || self.is_configuration_behind();
        is_behind.then(|| self.caught_up + PAUSE)
    }

    /// Whether the configuration may be another one than is known, without anybody who tells.
    fn is_configuration_behind(&self) -> bool {
        self.configuration.is_behind() || self.unwatched.is_some()
    }

    fn is_time_to_catch_up(&self) -> bool {
        self.catching_up().is_some_and(|due| due <= Instant::now())
    }

    /// Tries again what is due.
    fn retry(&mut self, watch: &mut ConfigWatch) {
        if self.is_configuration_behind() && self.is_time_to_catch_up() {
            self.caught_up = Instant::now();
            self.reload_configuration(watch);
        } else {
            self.reconcile();
        }
    }

    /// Takes what the engine has to tell.
    pub fn take_events(&mut self) {
        let fault = self.chronicle.fault().cloned();
        // Each call says that what came of the one before is told.
        loop {
            let mut events = Vec::new();
            if let Err(error) = self.engine.events(&mut events) {
                error!("{error}");
            }
            if events.is_empty() {
                break;
            }
            for event in events {
                self.take_event(event);
            }
        }
        match self.engine.lost_events() {
            Ok(lost) if lost > self.lost_events => {
                warn!(
                    "{} reports of kills were lost: they came faster than they could be read, or the daemon was killed just then",
                    lost - self.lost_events
                );
                self.lost_events = lost;
            }
            Ok(_) => {}
            Err(error) => error!("{error}"),
        }
        if self.chronicle.fault() != fault.as_ref() {
            self.tell_faults();
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Warned(warning) => {
                let path = |id| self.path(id);
                let report = events::kill::describe(warning.kill.clone(), path);
                events::warning::report(&report, &warning);
                let machine = self.configuration.config().machine();
                let record = report.record(boottime::to_realtime);
                self.pending.add(&warning, record, machine);
            }
            Event::WentAway(kill) => {
                self.pending.remove(kill.victim);
                let path = |id| self.path(id);
                events::warning::report_gone(&events::kill::describe(kill, path));
            }
            Event::Kill(kill) => {
                self.pending.remove(kill.victim);
                let path = |id| self.path(id);
                let report = events::kill::describe(kill, path);
                events::kill::report(&report);
                self.keep_kill(report.record(boottime::to_realtime));
            }
            Event::Stalled(stalled) => {
                self.counted.stalls += 1;
                let all = || self.history.after(0);
                self.chronicle.add_stall(&self.counted, all);
                self.tell_stall(stalled);
            }
            Event::KernelKill(kill) => {
                let path = |id| self.path(id);
                let report = events::kernel_kill::describe(kill, path);
                events::kernel_kill::report(&report);
                self.keep_kill(report.record(boottime::to_realtime));
            }
            Event::CgroupGone(id) => self.cgroup_is_gone(id),
        }
    }

    /// The programs before a kill have ended.
    fn programs_ended(&mut self, victim: CgroupId) {
        self.engine.programs_ended(victim);
    }

    /// Keeps a kill for those who ask about it, and counts it.
    fn keep_kill(&mut self, kill: KillRecord) {
        let kill = Arc::new(NumberedKill {
            id: self.counted.last + 1,
            record: kill,
        });
        let loaded = &self.units.world().units;
        self.counted.kill(&kill, |unit| loaded.contains_key(unit));
        if let Some(unit) = &kill.record.unit {
            self.units.stale.mark_alone(unit);
        }
        // Nobody sees it before it is in the file, so that no other one ever has its number.
        let all = || self.history.with(&kill);
        self.chronicle.add_kill(&kill, &self.counted, all);
        self.shown.last_kill = kill.id;
        self.history.push(kill);
    }

    fn tell_stall(&mut self, stalled: Stalled) {
        let unit = self
            .path(stalled.domain)
            .or_else(|| stalled.domain_path.clone())
            .map(|path| unit_name::of_cgroup(&path).unit);
        let policy = unit.map_or(Policy::Kernel, |unit| self.units.world().policy(&unit));
        let victim = match (&policy, stalled.outcome) {
            // Nobody was chosen; so it is asked now, by the same rules.
            (Policy::Bpf(program), Outcome::Reported) => self
                .engine
                .next_victim(program, stalled.domain)
                .inspect_err(|error| error!("{}", causes(error)))
                .unwrap_or_default(),
            _ => None,
        };
        let path = |id| self.path(id);
        events::stall::report(&events::stall::describe(stalled, policy, victim, path));
    }

    /// The path of a cgroup. It is looked for in what is known first, because systemd removes a cgroup as soon as it
    /// is empty, and then in the tree: cgroups that no unit of the system manager stands for are only there.
    fn path(&self, id: CgroupId) -> Option<String> {
        if id == CgroupId::SYSTEM {
            return Some("/".into());
        }
        self.index
            .path(id)
            .map(str::to_owned)
            .or_else(|| self.tree.path(id))
    }

    fn cgroup_is_gone(&mut self, id: CgroupId) {
        self.detach(id);
        self.untell(id);
        self.engine.forget(id);
        self.index.remove(id);
        // Not a matter of facts from the bus: the kernel says so, and the unit's next cgroup has another id.
        self.units.cgroup_is_gone(id);
    }

    /// One line on how things are.
    pub fn status(&self) -> String {
        status::text(&status::Summary {
            bus_lost: self.bus_lost.as_deref(),
            units: self.units.running(),
            attached: self
                .attached
                .values()
                .map(|attached| attached.in_force.policy.to_string())
                .collect(),
            faults: self.faults.all().collect(),
            lost_events: self.lost_events,
        })
    }

    /// Whether systemd's units are being followed.
    pub fn is_following(&self) -> bool {
        self.bus_lost.is_none()
    }
}
