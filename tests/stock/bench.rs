// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomd-bench-ranking`: who would die among 1,111 cgroups, by the ranking that the daemon uses on every kernel, and by what a
//! daemon without BPF has to do at least for it: read `memory.stat` of each. Both in one run, in turns, because only their ratio says
//! something: the machine may be slow, and is often emulated.
//!
//! Run as root in the test machine. Prints a table, and writes `ranking.json` to where the machine collects artifacts.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use bpf_oomd_bpf::{Ranking, SharedMaps, StockPolicy};
use bpf_oomd_tests::cgroup::Cgroup;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::measured::{self, Numbers};
use serde_json::json;

/// Children of each cgroup that has some.
const WIDTH: usize = 10;
/// One, with 10 in it, with 10 in each, with 10 in each of those.
const CGROUPS: usize = 1 + WIDTH + WIDTH * WIDTH + LEAVES;
const LEAVES: usize = WIDTH * WIDTH * WIDTH;
const ROUNDS: usize = 15;

/// A tree of [`CGROUPS`] with a process in each of its [`LEAVES`].
struct Tree {
    /// The root first. Dropping that removes all the others, and kills what is in them.
    cgroups: Vec<Cgroup>,
    processes: Vec<libc::pid_t>,
}

impl Tree {
    fn new() -> Self {
        let mut cgroups = vec![Cgroup::new("bench")];
        let mut parent = 0;
        while cgroups.len() < CGROUPS {
            for number in 0..WIDTH {
                let child = cgroups[parent].child(&format!("{number}"));
                cgroups.push(child);
            }
            parent += 1;
        }
        let leaves = &cgroups[CGROUPS - LEAVES..];
        let processes = leaves.iter().map(start_process).collect();
        Self { cgroups, processes }
    }

    fn directories(&self) -> Vec<PathBuf> {
        let cgroups = self.cgroups.iter();
        cgroups.map(|cgroup| cgroup.path().to_owned()).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.cgroups[0].kill_all();
        for &process in &self.processes {
            // SAFETY: waits for a child of this process.
            unsafe { libc::waitpid(process, std::ptr::null_mut(), 0) };
        }
        // Children before parents.
        while let Some(cgroup) = self.cgroups.pop() {
            cgroup.remove();
        }
    }
}

/// A process in a cgroup that does nothing.
fn start_process(cgroup: &Cgroup) -> libc::pid_t {
    let mut procs = OpenOptions::new()
        .write(true)
        .open(cgroup.path().join("cgroup.procs"))
        .expect("open cgroup.procs");
    let mut adjustment = OpenOptions::new();
    // SAFETY: the child makes system calls only and allocates nothing (short paths are copied to the stack).
    let child = unsafe { libc::fork() };
    match child {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let entered = procs.write_all(b"0").is_ok()
                && adjustment
                    .write(true)
                    .open("/proc/self/oom_score_adj")
                    .and_then(|mut file| file.write_all(b"0"))
                    .is_ok();
            // SAFETY: waits for the signal that ends it.
            while entered && unsafe { libc::pause() } != 0 {}
            // SAFETY: ends the child without the parent's clean-up.
            unsafe { libc::_exit(1) }
        }
        child => child,
    }
}

/// What a daemon without BPF reads, and makes of it: the largest cgroup, by index.
fn read_all(directories: &[PathBuf], buffer: &mut String) -> usize {
    let (mut largest, mut most) = (0, 0);
    for (index, directory) in directories.iter().enumerate() {
        buffer.clear();
        File::open(directory.join("memory.stat"))
            .and_then(|mut file| file.read_to_string(buffer))
            .expect("read memory.stat");
        let anonymous = buffer
            .lines()
            .find_map(|line| line.strip_prefix("anon "))
            .and_then(|number| number.parse::<u64>().ok())
            .expect("anon in memory.stat");
        if anonymous > most {
            (largest, most) = (index, anonymous);
        }
    }
    largest
}

fn main() {
    let _machine = TestMachine::enter();
    let tree = Tree::new();
    let directories = tree.directories();
    let shared = SharedMaps::new().expect("maps");
    let policy = StockPolicy::load("biggest-leaf", &shared).expect("load the ranking");
    let domain = tree.cgroups[0].id();

    let mut ranking = Ranking::with_room();
    let mut buffer = String::with_capacity(64 * 1024);
    let (mut ranked, mut read) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        policy
            .ranking_into(domain, &mut ranking)
            .expect("run the ranking");
        ranked.push(began.elapsed().as_secs_f64());
        assert_eq!((ranking.candidates.len(), ranking.left_out), (LEAVES, 0));

        let began = Instant::now();
        std::hint::black_box(read_all(&directories, &mut buffer));
        read.push(began.elapsed().as_secs_f64());
    }
    let ratios = ranked.iter().zip(&read).map(|(ranked, read)| read / ranked);
    let ratio = numbers(ratios.collect());
    let (ranked, read) = (numbers(ranked), numbers(read));
    let kernel = measured::kernel();
    let machine = measured::processor();
    let (median, (least, most)) = (ratio.median(), ratio.range());
    println!(
        "{CGROUPS} cgroups, {LEAVES} leaves, on {kernel} ({machine}), medians of {ROUNDS} rounds:"
    );
    println!("    one ranking                      1");
    println!("    reading memory.stat of each  {median:>5.1}  ({least:.1} to {most:.1})");
    measured::keep(
        "ranking",
        &json!({
            "benchmark": "ranking",
            "kernel": kernel,
            "machine": machine,
            "virtualization": measured::virtualization(),
            "cgroups": CGROUPS,
            "leaves": LEAVES,
            "rounds": ROUNDS,
            "ranking_seconds": ranked.json(),
            "memory_stat_seconds": read.json(),
            "ratio": ratio.json(),
        }),
    );
}

fn numbers(all: Vec<f64>) -> Numbers {
    Numbers::new(all).expect("there are rounds")
}
