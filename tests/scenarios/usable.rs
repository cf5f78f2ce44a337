// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole machine runs out of memory again and again, and stays usable: services that are not to be victims answer all the time.
//!
//! `tests/long system-wide` runs this for long, with a round for each OOM.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bpf_oomd_tests::answers::Answers;
use bpf_oomd_tests::attachments::attachments;
use bpf_oomd_tests::cgroup::{MIB, id_of};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::ledger::{Kill, Ledger};
use bpf_oomd_tests::long::Run;
use bpf_oomd_tests::machine::{TestMachine, meminfo, vmstat};
use bpf_oomd_tests::rating::{bytes_of, memory_current, processes_in};
use bpf_oomd_tests::systemctl::{
    PATIENCE, cgroup_of, daemon_reload, eventually, show_number, start,
};
use bpf_oomd_tests::units::{Units, hog_service};
use bpf_oomd_tests::wait::eventually_within;

/// How long whoever asks a service waits for an answer. It includes the making of a process, on an emulated machine that is out of memory.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the victims use, in MB, in how many processes, the smallest first.
const VICTIMS: [(u64, u64); 8] = [
    (12, 1),
    (15, 3),
    (17, 1),
    (20, 2),
    (22, 1),
    (24, 3),
    (26, 1),
    (28, 2),
];
/// How many of them there are at a time.
const AT_A_TIME: usize = 5;
/// What those use who are not to be victims: more than any of them.
const SERVICE: u64 = 36;
/// What is left of the machine's memory before it runs out.
const LEFT: u64 = 40 * MIB;

/// Two services as sshd is one: one says by itself that it is to be left alone, of the other it is said in the configuration.
const SERVICES: [&str; 2] = ["usable-says.service", "usable-is-said.service"];
const ASKS: &str = "usable-asks.service";
const BALLAST: &str = "usable-ballast.service";

/// How far apart the two largest ones are at least, for it to be sure which one is larger.
const SURE: u64 = MIB / 2;

fn victim(number: usize) -> String {
    format!("usable-victim-{number}.service")
}

fn socket(unit: &str) -> PathBuf {
    Path::new("/run").join(format!("{unit}.socket"))
}

/// Writes all units, and starts them so that little memory is left.
#[track_caller]
fn scene(units: &mut Units) {
    let service = |settings: &[&str], steps: &str| hog_service("system.slice", settings, steps);
    for (number, (size, processes)) in VICTIMS.into_iter().enumerate() {
        let each = size / processes;
        let steps = match processes {
            1 => format!("anon={each}M notify=READY=1 pause"),
            _ => format!("fork={} anon={each}M notify=READY=1 pause", processes - 1),
        };
        let settings = [
            "OOMPolicy=continue",
            // Nor does systemd end those that are left when the main one is gone: they would not count as killed for want of memory.
            "KillMode=process",
            "[Unit]",
            "StartLimitIntervalSec=0",
        ];
        units.write(&victim(number), &service(&settings, &steps));
    }
    for (unit, settings) in SERVICES
        .into_iter()
        .zip([&["ManagedOOMPreference=omit"][..], &[]])
    {
        let socket = socket(unit);
        let _ = fs::remove_file(&socket);
        let steps = format!("anon={SERVICE}M serve={}", socket.display());
        units.write(unit, &service(settings, &steps));
    }
    let stays = ["OOMScoreAdjust=-1000"];
    units.write(ASKS, &service(&stays, "notify=READY=1 pause"));
    daemon_reload();
    start(&SERVICES);
    start(&[ASKS]);
    (0..AT_A_TIME).for_each(start_victim);
    let available = meminfo("MemAvailable:");
    let ballast = available.saturating_sub(LEFT) / MIB;
    let steps = format!("anon={ballast}M notify=READY=1 pause");
    units.write(BALLAST, &service(&stays, &steps));
    daemon_reload();
    start(&[BALLAST]);
}

/// Starts a victim, and waits until it has its memory.
#[track_caller]
fn start_victim(number: usize) {
    let unit = victim(number);
    start(&[&unit]);
    let cgroup = cgroup_of(&unit);
    let (size, processes) = VICTIMS[number];
    eventually_within(PATIENCE, || {
        let count = processes_in(&cgroup).len() as u64;
        let all = count == processes && memory_current(&cgroup) >= size * MIB;
        all.then_some(())
            .ok_or_else(|| format!("{unit} has {count} processes and grows"))
    });
}

/// Those of the victims that have not all of their processes.
fn died(running: &BTreeSet<usize>) -> Vec<String> {
    let died = running.iter().filter(|number| {
        let cgroup = Path::new("/sys/fs/cgroup/system.slice").join(victim(**number));
        processes_in(&cgroup).len() as u64 != VICTIMS[**number].1
    });
    died.map(|number| victim(*number)).collect()
}

/// Cgroups without others inside, in a directory.
fn leaves(directory: &Path, found: &mut Vec<PathBuf>) {
    let inside = fs::read_dir(directory).into_iter().flatten().flatten();
    let inside: Vec<PathBuf> = inside
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    if inside.is_empty() {
        found.push(directory.to_owned());
    }
    for directory in inside {
        leaves(&directory, found);
    }
}

/// The cgroup that should die when the machine runs out of memory: the largest one of all in which nobody is unkillable, and of which nobody
/// has said that it is to be left alone.
#[track_caller]
fn expected() -> PathBuf {
    let mut all = Vec::new();
    leaves(Path::new("/sys/fs/cgroup"), &mut all);
    let mut candidates: Vec<(u64, PathBuf)> = all
        .into_iter()
        .filter(|leaf| !SERVICES.iter().any(|name| leaf.ends_with(name)))
        .filter(|leaf| {
            let processes = processes_in(leaf);
            let mut adjustments = processes.iter().map(|pid| {
                fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default()
            });
            !processes.is_empty() && adjustments.all(|adjustment| adjustment.trim() != "-1000")
        })
        .map(|leaf| (bytes_of(&leaf), leaf))
        .collect();
    candidates.sort();
    let (largest, victim) = candidates.pop().expect("a candidate");
    let second = candidates.last().map_or(0, |(bytes, _)| *bytes);
    assert!(largest - second >= SURE, "which one is the largest?");
    victim
}

#[test]
fn the_machine_stays_usable_through_one_oom_after_the_other() {
    let _machine = TestMachine::enter();
    let mut run = Run::of(6);
    daemon::started();
    let mut units = Units::new();
    let mut files = Configuration::new();
    files.write(
        "50-usable",
        "[slice.\"-.slice\"]\npolicy = \"bpf:biggest-leaf\"\n\
         [unit.\"usable-is-*.service\"]\npreference = \"omit\"\n",
    );
    scene(&mut units);
    eventually("the policy is on the system", || attachments().contains(&0));
    let survivors = [SERVICES[0], SERVICES[1], ASKS, BALLAST, daemon::UNIT];
    let survivors = survivors.map(|unit| (unit, show_number(unit, "MainPID")));
    let answers = Answers::of(&SERVICES.map(socket), DEADLINE);
    let asks = cgroup_of(ASKS);
    let mut ledger = Ledger::begin();
    let mut running: BTreeSet<usize> = (0..AT_A_TIME).collect();
    for round in 0..run.rounds {
        let number = running.pop_last().expect("one that runs");
        let victim = expected();
        assert!(
            victim.ends_with(self::victim(number)),
            "{}",
            victim.display()
        );
        let (id, processes) = (id_of(&victim), VICTIMS[number].1);
        let before = vmstat("oom_kill");
        let mut asking = Hog::start_in(&asks, "adj=-1000 grow ready hold");
        asking.wait_ready_within(PATIENCE);
        eventually_within(PATIENCE, || match processes_in(&victim).len() {
            0 => Ok(()),
            left => Err(format!("{left} processes of {} live", victim.display())),
        });
        assert_eq!(vmstat("oom_kill") - before, processes, "round {round}");
        drop(asking);
        ledger.add(Kill {
            victim: id,
            domain: 0,
            policy: "biggest-leaf",
            processes,
        });
        assert!(answers.all_answer(), "round {round}");
        assert_eq!(died(&running), [""; 0], "round {round}");
        // Perhaps the same one.
        let others: Vec<usize> = (0..VICTIMS.len())
            .filter(|other| !running.contains(other))
            .collect();
        let next = others[run.random.below(others.len())];
        start_victim(next);
        running.insert(next);
        if round % 50 == 49 {
            println!("{} times out of memory", round + 1);
        }
    }
    for (unit, pid) in survivors {
        assert_eq!(show_number(unit, "MainPID"), pid, "{unit}");
    }
    let times = answers.end();
    println!(
        "{} answers; half of them within {:?}, 99 of 100 within {:?}, all within {:?}",
        times.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1]
    );
    println!("{}", ledger.check());
    for unit in SERVICES {
        fs::remove_file(socket(unit)).expect("remove a socket");
    }
}
