// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a daemon costs while nothing happens.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::swap::Swap;
use bpf_oomd_tests::systemctl::{cgroup_of, daemon_reload, start};
use bpf_oomd_tests::units::{Units, hog_service, slice};
use serde_json::{Value, json};

use crate::contender::{Contender, Rule};
use crate::scene::SLICE;

/// Units that are there, in the slice that is watched.
pub const UNITS: usize = 60;
/// Starting is over by then.
const SETTLED: Duration = Duration::from_secs(10);
const MINUTE: f64 = 60.0;

/// What it costs.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Microseconds of a processor, each minute.
    pub cpu: f64,
    /// How often one of its threads began to run after it had waited, each minute.
    pub wakeups: f64,
    /// What its cgroup is charged with, in bytes: with what it has in the kernel, and page cache that it was the first to use.
    pub charged: f64,
    /// Memory of its processes, in bytes.
    pub resident: f64,
    /// The part of that which is nobody else's: not a file's.
    pub anonymous: f64,
    /// Addresses of which it keeps what is there from being reclaimed, in bytes.
    pub locked: f64,
}

/// The units, idle, and swap.
pub struct Still {
    _units: Units,
    _swap: Swap,
}

impl Still {
    #[track_caller]
    pub fn set() -> Self {
        let mut units = Units::new();
        units.write(SLICE, &slice(&[]));
        let names: Vec<String> = (0..UNITS)
            .map(|number| format!("scene-{number}.service"))
            .collect();
        for name in &names {
            units.write(name, &hog_service(SLICE, &[], "notify=READY=1 pause"));
        }
        daemon_reload();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        start(&all);
        Still {
            _units: units,
            _swap: Swap::on(256 * MIB),
        }
    }
}

impl Cost {
    /// Measures one daemon for that long. It watches whatever it can watch.
    #[track_caller]
    pub fn measure(contender: Contender, time: Duration) -> Self {
        let _running = contender.start(&[Rule::Pressure, Rule::Low]);
        sleep(SETTLED);
        let cgroup = cgroup_of(contender.unit());
        let (cpu, switches) = (processor_time(&cgroup), switches(&cgroup));
        sleep(time);
        let each_minute = |growth: u64| growth as f64 * MINUTE / time.as_secs_f64();
        Cost {
            cpu: each_minute(processor_time(&cgroup) - cpu),
            wakeups: each_minute(self::switches(&cgroup) - switches),
            charged: text(&cgroup.join("memory.current"))
                .trim()
                .parse()
                .expect("a number of bytes"),
            resident: memory(&cgroup, "VmRSS:"),
            anonymous: memory(&cgroup, "RssAnon:"),
            locked: memory(&cgroup, "VmLck:"),
        }
    }

    /// The numbers of [`ROWS`].
    pub fn numbers(self) -> [f64; ROWS.len()] {
        [
            self.cpu,
            self.wakeups,
            self.charged,
            self.resident,
            self.anonymous,
        ]
    }

    pub fn json(self) -> Value {
        json!({
            "cpu_microseconds_per_minute": self.cpu,
            "wakeups_per_minute": self.wakeups,
            "charged_bytes": self.charged,
            "resident_bytes": self.resident,
            "anonymous_bytes": self.anonymous,
            "locked_bytes": self.locked,
        })
    }
}

/// What is compared.
pub const ROWS: [&str; 5] = [
    "processor time each minute",
    "wake-ups each minute",
    "memory charged (memory.current)",
    "memory resident (VmRSS)",
    "of that anonymous (RssAnon)",
];

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn processor_time(cgroup: &Path) -> u64 {
    let text = text(&cgroup.join("cpu.stat"));
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    line.and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no usage_usec in {text}"))
}

fn processes(cgroup: &Path) -> Vec<String> {
    let text = text(&cgroup.join("cgroup.procs"));
    text.lines().map(str::to_owned).collect()
}

/// How often threads have stopped running because there was nothing to do, which is once for each time that they were woken.
fn switches(cgroup: &Path) -> u64 {
    let mut count = 0;
    for process in processes(cgroup) {
        let tasks = format!("/proc/{process}/task");
        let tasks = fs::read_dir(&tasks).unwrap_or_else(|error| panic!("{tasks}: {error}"));
        for task in tasks {
            let status = text(&task.expect("a thread").path().join("status"));
            count += status_number(&status, "voluntary_ctxt_switches:");
        }
    }
    count
}

/// The sum over its processes, in bytes.
fn memory(cgroup: &Path, name: &str) -> f64 {
    let processes = processes(cgroup);
    let each = processes.iter().map(|process| {
        let status = text(Path::new(&format!("/proc/{process}/status")));
        status_number(&status, name) * 1024
    });
    each.sum::<u64>() as f64
}

fn status_number(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {status}"))
}
