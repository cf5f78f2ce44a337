// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomd-bench-daemons`: the daemon beside systemd-oomd and earlyoom, in one machine and one run, with the same thresholds, in
//! turns. What it prints are ratios: the machine may be slow, and is often emulated.
//!
//! Run as root in the test machine, with the project's package installed (`tests/bench`). Writes `side-by-side.json` to where the machine
//! collects what is to be kept. The environment says how much of it is done: `BPF_OOMD_BENCH_ROUNDS` of each scene, and
//! `BPF_OOMD_BENCH_MINUTES` of idling for each daemon.

mod contender;
mod idle;
mod report;
mod scene;
mod turn;

use std::time::Duration;

use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::systemctl::stop;

use contender::{ALL, Contender};
use idle::{Cost, Still};
use report::{Compared, Idled};
use scene::{SCENES, Scene};
use turn::Turn;

fn main() {
    let _machine = TestMachine::enter();
    // Whoever looks at a machine without memory must not wait for memory.
    // SAFETY: takes flags alone.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
    assert_eq!(locked, 0, "mlockall: {}", std::io::Error::last_os_error());
    stop(&[Contender::BpfOomd.unit()]);
    let rounds = how_many("BPF_OOMD_BENCH_ROUNDS", 5);
    let minutes = how_many("BPF_OOMD_BENCH_MINUTES", 3);
    let idled = idle(minutes);
    let compared: Vec<Compared> = SCENES.iter().map(|scene| compare(scene, rounds)).collect();
    report::print(&compared, &idled);
    report::keep(&compared, &idled);
}

/// A number that the environment may say.
fn how_many(name: &str, otherwise: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")),
        Err(_) => otherwise,
    }
}

/// Everybody who can, in turns.
fn compare(scene: &'static Scene, rounds: usize) -> Compared {
    let who = ALL.into_iter().filter(|who| who.knows(scene.rule));
    let mut compared = Compared::new(scene, who.collect());
    for round in 1..=rounds {
        for index in 0..compared.contenders.len() {
            let (contender, turns) = &mut compared.contenders[index];
            let turn = Turn::take(scene, *contender);
            println!(
                "{}, round {round}, {}: {turn}",
                scene.name,
                contender.name()
            );
            turns.push(turn);
        }
    }
    compared
}

fn idle(minutes: usize) -> Idled {
    let _still = Still::set();
    let mut idled = Idled::new(ALL.to_vec());
    for minute in 1..=minutes {
        for (contender, costs) in &mut idled.contenders {
            costs.push(Cost::measure(*contender, Duration::from_secs(60)));
            println!("idle, minute {minute}, {}", contender.name());
        }
    }
    idled
}
