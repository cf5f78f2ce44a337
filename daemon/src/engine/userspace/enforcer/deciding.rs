// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is killed, and how: at once, or after a warning and after the administrator's programs.

use super::{Enforcer, READY, Source, time_ns};
use crate::engine::userspace::aftermath::Process;
use crate::engine::userspace::held::{Held, KillError};
use crate::engine::userspace::kill::Target;
use crate::engine::userspace::now;
use crate::engine::userspace::pending::Waiting;
use crate::engine::userspace::place::Place;
use crate::engine::userspace::sources::Sources;
use crate::engine::{Event, Kill, Outcome, Reason, Warning};
use crate::fault::causes;
use crate::policy::{self, CgroupId};
use bpf_oomd_bpf::{Candidate, Ranking};
use rustix::fs::OFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tracing::{debug, error, info};

/// How many of a domain's candidates are made ready.
const PREPARED: usize = 2;

/// Whether there is time for anything before a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// None: the kernel's killer is next.
    Now,
    /// As much as is said.
    CanWait,
}

/// How much time there is before a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Time {
    /// For the victim, to end by itself.
    warning: Duration,
    /// For the administrator's programs.
    programs: Duration,
}

/// What leads to a kill.
struct Decision<'a> {
    domain: &'a Place,
    reason: Reason,
    urgency: Urgency,
    attachment: CgroupId,
    program: &'static str,
    usage_before: u64,
    candidates: u32,
    started: Duration,
}

/// A victim that is not killed yet.
pub(super) struct Chosen {
    target: Target,
    how: policy::Kill,
    /// Whether its processes were asked to end.
    asked: bool,
    /// What there is to tell of it, processes left out.
    kill: Kill,
    /// What wakes up the thread when it is gone, and its token.
    watched: Option<(OwnedFd, u64)>,
}

impl Chosen {
    /// Whether none of those who were asked to end is there any more.
    fn is_gone(&self) -> bool {
        self.asked && self.target.processes().iter().all(Process::is_gone)
    }
}

impl Enforcer {
    /// The attachments that are asked for a domain, one after the other. To be given back to `self.asked`.
    fn take_asked(&mut self, domain: &Place) -> Vec<(CgroupId, &'static str)> {
        let mut asked = std::mem::take(&mut self.asked);
        asked.clear();
        let mut take = |id, program: &&'static str| asked.push((id, *program));
        self.said.asked(&domain.chain, &self.attachments, &mut take);
        asked
    }

    /// Asks a program. The ranking is without those that cannot be killed, and to be given back to `self.ranking`; None if the program
    /// does not say whom it would kill.
    fn take_ranking(&mut self, domain: &Place, program: &str) -> Option<Ranking> {
        let none = Ranking {
            candidates: Vec::new(),
            left_out: 0,
        };
        let program = self.programs.get(program)?;
        let mut ranking = std::mem::replace(&mut self.ranking, none);
        if let Err(error) = program.ranking_into(domain.id.0, &mut ranking) {
            let why = causes(&error);
            error!("{} does not say whom it would kill: {why}", program.name());
            self.ranking = ranking;
            return None;
        }
        ranking.candidates.retain(|candidate| {
            let id = CgroupId(candidate.cgroup_id);
            candidate.excluded.is_none() && !self.aftermath.is_stuck(id)
        });
        Some(ranking)
    }

    /// Memory is short in a domain: makes ready those who would be killed now.
    pub(super) fn get_ready(&mut self, domain: &Place, until: Duration) {
        let asked = self.take_asked(domain);
        for &(_, program) in &asked {
            let Some(ranking) = self.take_ranking(domain, program) else {
                continue;
            };
            for (index, candidate) in ranking.candidates.iter().take(PREPARED).enumerate() {
                let is_ready = self.make_ready(CgroupId(candidate.cgroup_id));
                if index == 0
                    && is_ready
                    && self.machine.nominate
                    && let Some(target) = self.ready.last()
                {
                    let (cgroup, processes) = (&target.place, target.processes());
                    self.nominees
                        .nominate(&self.tree, domain.id, cgroup, processes, until);
                }
            }
            let found = !ranking.candidates.is_empty();
            self.ranking = ranking;
            if found {
                self.ready_until = self.ready_until.max(Some(until));
                break;
            }
        }
        self.asked = asked;
    }

    /// Makes one ready, or what is known of it new. Returns whether it is, as the last one.
    fn make_ready(&mut self, id: CgroupId) -> bool {
        let there = self.ready.iter().position(|target| target.id() == id);
        let target = match there.map(|index| self.ready.remove(index)) {
            Some(mut target) => target.renew().map(|()| target),
            None => self.prepare(id),
        };
        match target {
            Ok(target) => {
                if self.ready.len() == READY {
                    self.ready.remove(0);
                }
                self.ready.push(target);
                true
            }
            Err(_) => false,
        }
    }

    fn prepare(&self, id: CgroupId) -> Result<Target, KillError> {
        Target::prepare(Place::open(&self.tree, id)?)
    }

    /// A domain is out of memory: the policies from it upwards are asked, and the first victim that can be killed is.
    pub(super) fn out_of_memory(
        &mut self,
        sources: &Sources,
        domain: &Place,
        reason: Reason,
        urgency: Urgency,
    ) -> Outcome {
        let started = now();
        let usage_before = domain.usage();
        let asked = self.take_asked(domain);
        let mut outcome = Outcome::Nobody;
        for &(attachment, program) in &asked {
            let Some(ranking) = self.take_ranking(domain, program) else {
                continue;
            };
            let decision = Decision {
                domain,
                reason,
                urgency,
                attachment,
                program,
                usage_before,
                candidates: u32::try_from(ranking.candidates.len()).unwrap_or(u32::MAX),
                started,
            };
            let mut candidates = ranking.candidates.iter();
            let killed = candidates.any(|candidate| self.choose(sources, &decision, candidate));
            self.ranking = ranking;
            if killed {
                outcome = Outcome::Killed;
                break;
            }
        }
        self.asked = asked;
        if outcome == Outcome::Nobody {
            debug!("{}: nobody is killed", domain.path);
        }
        outcome
    }

    /// Kills a candidate or gives it its time, if that is possible.
    fn choose(
        &mut self,
        sources: &Sources,
        decision: &Decision<'_>,
        candidate: &Candidate,
    ) -> bool {
        let id = CgroupId(candidate.cgroup_id);
        let ready = self.ready.iter().position(|target| target.id() == id);
        let target = match ready {
            Some(index) => self.renewed(index),
            None => self.prepare(id),
        };
        let mut target = match target {
            Ok(target) => target,
            // Gone meanwhile.
            Err(KillError::Io(error)) => {
                debug!("the cgroup with id {id} cannot be killed: {error}");
                return false;
            }
            Err(reason) => {
                info!("the cgroup with id {id} is not killed: {reason}");
                return false;
            }
        };
        let how = self.said.kill(&target.place.chain);
        let time = match decision.urgency {
            Urgency::CanWait => self.time_before(&target.place),
            Urgency::Now => Time::default(),
        };
        if time != Time::default() {
            return self.give_time(sources, decision, candidate, target, how, time);
        }
        let time_ns = time_ns();
        match target.kill(how) {
            Ok(total) => {
                let kill = decision.told(candidate, how, time_ns);
                self.killed(target, total, kill);
                true
            }
            Err(error) => {
                not_killed(&target.place, &error);
                false
            }
        }
    }

    /// Takes one that is ready. Of which the largest process is to die, it is looked again which one that is.
    fn renewed(&mut self, index: usize) -> Result<Target, KillError> {
        let mut target = self.ready.swap_remove(index);
        if self.said.kill(&target.place.chain) == policy::Kill::Process {
            target.renew()?;
        }
        Ok(target)
    }

    /// How much time a victim has.
    fn time_before(&self, victim: &Place) -> Time {
        Time {
            warning: self.said.warn(&victim.chain),
            programs: match self.machine.pre_kill.is_empty() {
                true => Duration::ZERO,
                false => self.machine.pre_kill_timeout,
            },
        }
    }

    /// Warns a victim, and lets it be known that it is about to be killed.
    fn give_time(
        &mut self,
        sources: &Sources,
        decision: &Decision<'_>,
        candidate: &Candidate,
        mut target: Target,
        how: policy::Kill,
        time: Time,
    ) -> bool {
        let time_ns = time_ns();
        let asked = time.warning > Duration::ZERO;
        let mut kill = decision.told(candidate, how, time_ns);
        kill.victim_path = Some(target.place.path.clone());
        kill.processes_total = candidate.processes;
        if asked {
            match target.warn(how) {
                Ok(total) => kill.processes_total = total,
                Err(error) => {
                    not_killed(&target.place, &error);
                    return false;
                }
            }
        }
        let now = now();
        let until = |time: Duration| (time > Duration::ZERO).then(|| now + time);
        let watched = match asked {
            true => self.watch_warned(sources, &target, how),
            false => None,
        };
        self.events.push(Event::Warned(Warning {
            kill: kill.clone(),
            time_left: time.warning.max(time.programs),
            asked,
            programs: time.programs > Duration::ZERO,
        }));
        self.pending.push(Waiting {
            victim: kill.victim,
            chain: target.place.chain.clone(),
            warned_until: until(time.warning),
            programs_until: until(time.programs),
            what: Chosen {
                target,
                how,
                asked,
                kill,
                watched,
            },
        });
        true
    }

    /// Wakes up when one that was warned is gone. It is also looked at when its time is over.
    fn watch_warned(
        &mut self,
        sources: &Sources,
        target: &Target,
        how: policy::Kill,
    ) -> Option<(OwnedFd, u64)> {
        let file = match how {
            policy::Kill::Cgroup => target.place.file("cgroup.events", OFlags::RDONLY).ok()?,
            policy::Kill::Process => {
                let process = target.processes().first()?;
                process.as_fd().try_clone_to_owned().ok()?
            }
        };
        let token = self.token(Source::Warned);
        if sources.add_changes(&file, token).is_err() {
            self.tokens.remove(&token);
            return None;
        }
        Some((file, token))
    }

    /// Some of those who were warned may be gone.
    pub(super) fn look_at_warned(&mut self, sources: &Sources) {
        while let Some(waiting) = self.pending.take(|it| it.what.is_gone()) {
            self.carry_out(sources, waiting);
        }
    }

    /// The time of a victim is over, or it is gone.
    pub(super) fn carry_out(&mut self, sources: &Sources, waiting: Waiting<Chosen>) {
        let is_gone = waiting.what.is_gone();
        let Chosen {
            mut target,
            how,
            asked,
            kill,
            watched,
        } = waiting.what;
        if let Some((file, token)) = watched {
            sources.remove(&file);
            self.tokens.remove(&token);
        }
        let result = match (is_gone, asked) {
            (true, _) => Err(KillError::Empty),
            (_, true) => target
                .end(how)
                .map(|()| kill.processes_total)
                .map_err(KillError::from),
            (_, false) => target.renew().and_then(|()| target.kill(how)),
        };
        match result {
            Ok(total) => self.killed(target, total, kill),
            Err(KillError::Empty) => {
                // What it had is given back, which takes its time as after a kill.
                self.aftermath.killed(kill.domain, now());
                self.events.push(Event::WentAway(kill));
            }
            Err(error) => not_killed(&target.place, &error),
        }
    }

    /// Somebody was killed, of whom there is this to tell.
    fn killed(&mut self, target: Target, total: u32, kill: Kill) {
        let (place, held) = target.into_parts();
        let now = now();
        self.events.push(Event::Kill(Kill {
            victim_path: Some(place.path),
            processes_total: total,
            processes: held.iter().map(Held::told).collect(),
            ..kill
        }));
        self.aftermath.killed(kill.domain, now);
        self.aftermath.dies(kill.victim, place.chain, held, now);
    }
}

impl Decision<'_> {
    /// What there is to tell of a kill of a candidate, but for its processes.
    fn told(&self, candidate: &Candidate, how: policy::Kill, time_ns: u64) -> Kill {
        let handler = now().saturating_sub(self.started);
        Kill {
            time_ns,
            domain: self.domain.id,
            domain_path: Some(self.domain.path.clone()),
            reason: self.reason,
            attachment: self.attachment,
            victim: CgroupId(candidate.cgroup_id),
            victim_path: None,
            program: self.program.to_owned(),
            usage_before: self.usage_before,
            victim_bytes: candidate.bytes,
            victim_score: candidate.score,
            preference: candidate.preference.into(),
            kill: how,
            candidates: self.candidates,
            handler_us: u64::try_from(handler.as_micros()).unwrap_or(u64::MAX),
            processes_total: 0,
            processes: Vec::new(),
        }
    }
}

fn not_killed(victim: &Place, error: &KillError) {
    match error {
        KillError::Io(error) => error!("{} cannot be killed: {error}", victim.path),
        reason => info!("{} is not killed: {reason}", victim.path),
    }
}
