// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens: a slice or a machine runs out of memory because of one unit, and others are there that have nothing to do with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bpf_oomd_tests::cgroup::{MIB, pressure_of};
use bpf_oomd_tests::machine::meminfo;
use bpf_oomd_tests::systemctl::{cgroup_of, daemon_reload, eventually, show, show_number, start};
use bpf_oomd_tests::units::{Units, hog_service, slice};

use crate::contender::Rule;

/// Everybody is in it.
pub const SLICE: &str = "scene.slice";
/// Whose memory it is.
pub const CULPRIT: &str = "scene-culprit.service";
/// Uses its memory all the time.
const WORKER: &str = "scene-worker.service";
/// Has read a file.
const READER: &str = "scene-reader.service";
const IDLE: [&str; 2] = ["scene-idle1.service", "scene-idle2.service"];
const FILE: &str = "/var/tmp/scene-reader";

/// A way to run out of memory.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
    pub rule: Rule,
    /// In bytes, on zram.
    pub swap: u64,
    /// Further lines of the slice.
    slice: &'static [&'static str],
    /// What the culprit does when it begins.
    culprit: &'static str,
    /// What the worker has in memory, in MiB.
    worker: u64,
}

pub const SCENES: [Scene; 3] = [
    Scene {
        name: "slice",
        what: "a slice with a limit thrashes: a unit of three processes goes over 300M where there are 200M, the rest is in swap",
        rule: Rule::Pressure,
        swap: 512 * MIB,
        slice: &["MemoryMax=200M"],
        culprit: "fork=2 sweep=100M:0",
        worker: 40,
    },
    Scene {
        name: "leak",
        what: "the machine runs out of memory and swap: a process grows without end",
        rule: Rule::Low,
        swap: 256 * MIB,
        slice: &[],
        culprit: "leak=4M:100",
        worker: 150,
    },
    Scene {
        name: "leaks",
        what: "the machine runs out of memory and swap: four processes of a unit grow without end, and none is the largest of the machine at first",
        rule: Rule::Low,
        swap: 256 * MIB,
        slice: &[],
        culprit: "fork=3 leak=1M:100",
        worker: 300,
    },
];

/// The units of a scene, before it begins. Dropping it stops them.
pub struct Set {
    _units: Units,
    /// Who need not die, and the main process of each.
    others: Vec<(&'static str, u64)>,
    /// What runs out.
    pub domain: Domain,
}

impl Scene {
    /// Starts the units.
    #[track_caller]
    pub fn set(&self) -> Set {
        let mut units = Units::new();
        let swaps = ["MemorySwapMax=infinity"];
        units.write(SLICE, &slice(&[&swaps, self.slice].concat()));
        let mut write = |name: &str, steps: &str| {
            units.write(name, &hog_service(SLICE, &swaps, steps));
        };
        write(CULPRIT, &format!("notify=READY=1 usr1 {}", self.culprit));
        write(
            WORKER,
            &format!("notify=READY=1 sweep={}M:1000", self.worker),
        );
        write(READER, &format!("cache={FILE}:40M notify=READY=1 pause"));
        for name in IDLE {
            write(name, "anon=10M notify=READY=1 pause");
        }
        daemon_reload();
        let others = [WORKER, READER, IDLE[0], IDLE[1]];
        start(&[&others[..], &[CULPRIT]].concat());
        eventually("the worker has its memory", || {
            number(&cgroup_of(WORKER), "memory.current") >= self.worker * MIB
        });
        Set {
            _units: units,
            others: others
                .map(|unit| (unit, show_number(unit, "MainPID")))
                .to_vec(),
            domain: match self.rule {
                Rule::Pressure => Domain::Slice(cgroup_of(SLICE)),
                Rule::Low => Domain::Machine,
            },
        }
    }
}

impl Set {
    /// Those that have died and need not have.
    pub fn dead(&self) -> Vec<&'static str> {
        let dead = |(unit, pid): &&(&'static str, u64)| show(unit, "MainPID") != pid.to_string();
        self.others
            .iter()
            .filter(dead)
            .map(|(unit, _)| *unit)
            .collect()
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let _ = fs::remove_file(FILE);
    }
}

/// What runs out of memory.
#[derive(Debug, Clone)]
pub enum Domain {
    Slice(PathBuf),
    Machine,
}

impl Domain {
    /// How long some of its tasks have waited for memory so far.
    pub fn stalled(&self) -> Duration {
        let root = PathBuf::from("/sys/fs/cgroup");
        match self {
            Domain::Slice(path) => pressure_of(path, "memory", "some"),
            Domain::Machine => pressure_of(&root, "memory", "some"),
        }
    }

    /// What it uses of memory and swap, in bytes.
    pub fn used(&self) -> u64 {
        match self {
            Domain::Slice(path) => {
                number(path, "memory.current") + number(path, "memory.swap.current")
            }
            Domain::Machine => {
                meminfo("MemTotal:") + meminfo("SwapTotal:")
                    - meminfo("MemAvailable:")
                    - meminfo("SwapFree:")
            }
        }
    }
}

fn number(directory: &Path, name: &str) -> u64 {
    let path = directory.join(name);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{}: {text}", path.display()))
}
