// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon is killed anywhere: while it starts, attaches, reads everything again, goes on with what it finds, or tells of a kill;
//! and meanwhile units come and go, change, and run out of memory. Whatever happens, what is attached is what should be, the right
//! unit dies, each kill is told once or counted as lost, and nothing is left over.
//!
//! `tests/long killed` runs this for long, with a round for each time that the daemon is killed.

use std::collections::BTreeSet;
use std::path::Path;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, settings, watched};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::ids::BpfObjects;
use bpf_oomd_tests::journal::{Journal, field, number};
use bpf_oomd_tests::killer::Killer;
use bpf_oomd_tests::long::Run;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::told;
use bpf_oomd_tests::random::Random;
use bpf_oomd_tests::restless::restart_at_once;
use bpf_oomd_tests::systemctl::{
    PATIENCE, cgroup_of, daemon_reload, eventually, show, show_number, signal, start, stop,
    systemctl, systemctl_if_possible, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};
use bpf_oomd_tests::wait::eventually_within;

const SLICE: &str = "killed.slice";
const ASKS: &str = "killed-asks.service";
const POLICY: &str = "ManagedOOMPolicy=bpf:biggest-leaf";
const PRESSURE: &str = "[slice.\"killed.slice\".pressure]\nstall = \"900ms\"\nfor = \"1h\"\napplies-to = \"each-unit\"\n";

/// Units in the slice. Each uses more memory than the one before, in MB.
const SIZES: [u64; 5] = [6, 10, 14, 18, 22];
/// The limit of the slice, in MB: more than all of them together need.
const LIMIT: u64 = 96;

/// More calls than the daemon needs for a start, or for what it is given to do here while it runs; then it is killed while it is idle.
const CALLS_OF_START: usize = 160;
const CALLS_OF_CHANGE: usize = 24;

/// What should be so.
struct World {
    units: Units,
    files: Configuration,
    running: [bool; SIZES.len()],
    with_policy: [bool; SIZES.len()],
    pressure: bool,
    kills: u64,
    random: Random,
}

fn unit(number: usize) -> String {
    format!("killed-{number}.service")
}

impl World {
    fn new(random: Random) -> Self {
        let mut units = Units::new();
        let limit = format!("MemoryMax={LIMIT}M");
        units.write(SLICE, &slice(&[POLICY, &limit]));
        for (number, size) in SIZES.iter().enumerate() {
            let steps = format!("anon={size}M notify=READY=1 pause");
            units.write(&unit(number), &hog_service(SLICE, &[], &steps));
        }
        // Keeps the slice.
        units.write(
            "killed-stays.service",
            &hog_service(SLICE, &["OOMScoreAdjust=-1000"], "notify=READY=1 pause"),
        );
        restart_at_once(&mut units);
        start(&["killed-stays.service"]);
        World {
            units,
            files: Configuration::new(),
            running: Default::default(),
            with_policy: Default::default(),
            pressure: false,
            kills: 0,
            random,
        }
    }

    /// Something happens. Returns what.
    fn change(&mut self) -> String {
        let number = self.random.below(SIZES.len());
        let name = unit(number);
        match self.random.below(6) {
            0 | 1 => {
                self.running[number] = !self.running[number];
                match self.running[number] {
                    true => start(&[&name]),
                    false => stop(&[&name]),
                }
                format!("{name} runs: {}", self.running[number])
            }
            2 => {
                self.with_policy[number] = !self.with_policy[number];
                match self.with_policy[number] {
                    true => drop(self.units.write_drop_in(
                        &name,
                        "50-policy",
                        &format!("[Service]\n{POLICY}\n"),
                    )),
                    false => self.units.remove_drop_in(&name, "50-policy"),
                }
                daemon_reload();
                format!("{name} has a policy: {}", self.with_policy[number])
            }
            3 => {
                self.pressure = !self.pressure;
                self.files
                    .write("50-killed", if self.pressure { PRESSURE } else { "" });
                format!("pressure: {}", self.pressure)
            }
            4 => {
                // It may be killed while systemd waits for it.
                systemctl_if_possible(&["reload", daemon::UNIT]);
                "reload".into()
            }
            _ => self.run_out(),
        }
    }

    /// The slice runs out of memory, and the unit dies that uses the most.
    fn run_out(&mut self) -> String {
        if !self.running.contains(&true) {
            self.running[0] = true;
            start(&[&unit(0)]);
        }
        let running = (0..SIZES.len()).filter(|number| self.running[*number]);
        let used: u64 = running.clone().map(|number| SIZES[number]).sum();
        let victim = running
            .max_by_key(|number| SIZES[*number])
            .expect("one that runs");
        // Too much by half of what the victim has.
        let asks = LIMIT - used + SIZES[victim] / 2;
        let steps = format!("notify=READY=1 usr1 anon={asks}M notify=STATUS=grown pause");
        self.units
            .write(ASKS, &hog_service(SLICE, &["OOMScoreAdjust=-1000"], &steps));
        daemon_reload();
        start(&[ASKS]);
        signal(ASKS, "USR1");
        wait_for_property(&unit(victim), "Result", "oom-kill");
        wait_for_property(ASKS, "StatusText", "grown");
        stop(&[ASKS]);
        self.running[victim] = false;
        self.kills += 1;
        for number in (0..SIZES.len()).filter(|number| self.running[*number]) {
            assert_eq!(
                show(&unit(number), "ActiveState"),
                "active",
                "a second one died"
            );
        }
        systemctl(&["reset-failed", &unit(victim)]);
        format!("{} dies for {asks} MB", unit(victim))
    }

    /// Waits until everything is as it should be.
    #[track_caller]
    fn check(&self) {
        let id = |unit: &str| id_of(&cgroup_of(unit));
        let running = || (0..SIZES.len()).filter(|number| self.running[*number]);
        let own: BTreeSet<u64> = running()
            .filter(|number| self.with_policy[*number])
            .map(|number| id(&unit(number)))
            .chain([id(SLICE)])
            .collect();
        let mut all: BTreeSet<u64> = running().map(|number| id(&unit(number))).collect();
        all.insert(id("killed-stays.service"));
        let of_pressure = if self.pressure { all } else { BTreeSet::new() };
        eventually_within(PATIENCE, || {
            // Links of the pressure program are the system's.
            let mut attached = attachments();
            let pressure = attached.remove(&0);
            let found = (attached, settings(), watched(), pressure);
            let expected = (own.clone(), own.clone(), of_pressure.clone(), self.pressure);
            match found == expected {
                true => Ok(()),
                false => Err(format!(
                    "attached, told and watched are {found:?}, not {expected:?}"
                )),
            }
        });
    }
}

/// What there is in the kernel and in systemd's store when nothing happens any more.
#[track_caller]
fn settled() -> ([usize; 3], u64) {
    let mut last = None;
    eventually_within(PATIENCE, || {
        let kept = show_number(daemon::UNIT, "NFileDescriptorStore");
        let now = Some((BpfObjects::now().counts(), kept));
        let same = now == last;
        last = now;
        now.filter(|_| same)
            .ok_or_else(|| "BPF objects come and go".into())
    })
}

/// Records that were lost, as the daemon says.
#[track_caller]
fn lost() -> u64 {
    let text = told(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    status["counters"]["lost-records"]
        .as_u64()
        .unwrap_or_else(|| panic!("no lost-records in {text}"))
}

#[test]
fn wherever_the_daemon_is_killed_the_next_one_is_right() {
    let _machine = TestMachine::enter();
    let run = Run::of(4);
    stop(&[daemon::UNIT]);
    eventually("nothing is attached", || attachments().is_empty());
    let none = BpfObjects::now();
    let journal = Journal::from_now();
    let mut world = World::new(run.random);
    daemon::started();
    world.check();
    let cgroup = Path::new("/sys/fs/cgroup").join(daemon::UNIT);
    for round in 0..run.rounds {
        let pid = daemon::pid();
        let starting = world.random.below(3) > 0;
        let killer = if starting {
            let n = 1 + world.random.below(CALLS_OF_START);
            let killer = Killer::of_process_in(&cgroup, "bpf-oomd", Some(pid), n);
            signal(daemon::UNIT, "KILL");
            killer
        } else {
            let n = 1 + world.random.below(CALLS_OF_CHANGE);
            Killer::of_process_in(&cgroup, "bpf-oomd", None, n)
        };
        let mut happened = vec![world.change()];
        if world.random.below(2) == 0 {
            happened.push(world.change());
        }
        let killed = match starting {
            true => killer.wait(),
            false => killer.wait_a_moment(),
        };
        let when = if starting { "starting" } else { "running" };
        println!("round {round}: {when}, {killed:?}; {}", happened.join("; "));
        daemon::wait_for_another(killed.pid);
        world.check();
    }

    // Each kill is told once, or may have been, and is counted.
    let kill = format!("MESSAGE_ID={KILL_MESSAGE_ID}");
    let lost = lost();
    eventually("every kill is told or lost", || {
        journal.entries(&[&kill]).len() as u64 + lost >= world.kills
    });
    let entries = journal.entries(&[&kill]);
    let mut victims = BTreeSet::new();
    for entry in &entries {
        assert_eq!(field(entry, "OOM_POLICY"), "biggest-leaf");
        let victim = number(entry, "VICTIM_CGROUP_ID");
        assert!(victims.insert(victim), "told twice: {entry:#?}");
    }
    assert!(entries.len() as u64 <= world.kills);
    println!("{} kills, {} told, {lost} lost", world.kills, entries.len());

    // As much as there would be without a past. Everything is in use, so that it is there both times.
    world.files.write("50-killed", PRESSURE);
    world.pressure = true;
    world.check();
    let after = settled();
    stop(&[daemon::UNIT]);
    eventually("nothing is attached", || attachments().is_empty());
    none.wait_until_back();
    daemon::started();
    world.check();
    assert_eq!(after, settled(), "before and after a new beginning");
}
