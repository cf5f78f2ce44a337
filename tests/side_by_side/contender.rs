// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemons: how each is told the same, and when it knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::Journal;
use bpf_oomd_tests::machine::meminfo;
use bpf_oomd_tests::oomctl;
use bpf_oomd_tests::systemctl::{daemon_reload, eventually, stop, systemctl};
use bpf_oomd_tests::units::Units;

use crate::scene::SLICE;

/// A slice whose tasks wait for memory for that part of the time ...
const STALL_PERCENT: u32 = 40;
/// ... for that long is out of memory.
const STALL_SECONDS: u32 = 3;
/// A machine is out of memory when less than that is available, and less than that of its swap is free.
const LEAST_PERCENT: u32 = 10;

/// Of what a daemon is told that it is out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The slice, by its pressure.
    Pressure,
    /// The machine, by its memory and swap.
    Low,
}

/// What everybody is told, in words.
pub fn thresholds() -> [String; 2] {
    [
        format!("the slice stalls (full) {STALL_PERCENT} % of the time for {STALL_SECONDS} s"),
        format!(
            "less than {LEAST_PERCENT} % of memory available and {LEAST_PERCENT} % of swap free"
        ),
    ]
}

/// Whether the machine is low on memory and swap by now, as everybody is told.
pub fn is_machine_low() -> bool {
    let is_low = |free, total| meminfo(free) * 100 < meminfo(total) * u64::from(LEAST_PERCENT);
    is_low("MemAvailable:", "MemTotal:") && is_low("SwapFree:", "SwapTotal:")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    BpfOomd,
    SystemdOomd,
    Earlyoom,
}

use Contender::{BpfOomd, Earlyoom, SystemdOomd};

/// The first is what the others are compared with.
pub const ALL: [Contender; 3] = [BpfOomd, SystemdOomd, Earlyoom];

/// A daemon that runs and has been told. Dropping it stops it, and takes back what it was told.
pub struct Running {
    contender: Contender,
    units: Units,
    configuration: Configuration,
    files: Vec<PathBuf>,
}

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            BpfOomd => "bpf-oomd",
            SystemdOomd => "systemd-oomd",
            Earlyoom => "earlyoom",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            BpfOomd => daemon::UNIT,
            SystemdOomd => "systemd-oomd.service",
            Earlyoom => "earlyoom.service",
        }
    }

    /// Whether it knows of such a thing.
    pub fn knows(self, rule: Rule) -> bool {
        self != Earlyoom || rule == Rule::Low
    }

    /// What it says of its version.
    pub fn version(self) -> String {
        let output = match self {
            BpfOomd => run("/usr/lib/bpf-oomd/bpf-oomd", &["--version"]),
            SystemdOomd => run("/usr/lib/systemd/systemd-oomd", &["--version"]),
            Earlyoom => run("earlyoom", &["-v"]),
        };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        said.lines().next().unwrap_or("unknown").to_owned()
    }

    /// Tells it the rules, starts it, and waits until it knows them. Units of the scene run already.
    #[track_caller]
    pub fn start(self, rules: &[Rule]) -> Running {
        let mut running = Running {
            contender: self,
            units: Units::new(),
            configuration: Configuration::new(),
            files: Vec::new(),
        };
        match self {
            BpfOomd => running.start_bpf_oomd(rules),
            SystemdOomd => running.start_systemd_oomd(rules),
            Earlyoom => running.start_earlyoom(),
        }
        running
    }
}

impl Running {
    #[track_caller]
    fn start_bpf_oomd(&mut self, rules: &[Rule]) {
        let mut text = String::new();
        let mut told = Vec::new();
        if rules.contains(&Rule::Pressure) {
            text += &format!(
                "[slice.\"{SLICE}\"]\npolicy = \"bpf:biggest-leaf\"\n\
                 pressure = \"memory full {STALL_PERCENT}%/1s for={STALL_SECONDS}s\"\n"
            );
            told.push(SLICE);
        }
        if rules.contains(&Rule::Low) {
            text += &format!(
                "[slice.\"-.slice\"]\npolicy = \"bpf:biggest-leaf\"\npressure = \"none\"\n\
                 [defaults]\nmin-available = \"{LEAST_PERCENT}%\"\nmin-swap = \"{LEAST_PERCENT}%\"\n"
            );
            told.push("-.slice");
        }
        self.configuration.write("50-side-by-side", &text);
        daemon::started();
        for unit in told {
            oomctl::wait_in_force(unit);
        }
    }

    #[track_caller]
    fn start_systemd_oomd(&mut self, rules: &[Rule]) {
        self.write(
            "/run/systemd/oomd.conf.d/50-side-by-side.conf",
            &format!(
                "[OOM]\nSwapUsedLimit={}%\nDefaultMemoryPressureDurationSec={STALL_SECONDS}s\n",
                100 - LEAST_PERCENT
            ),
        );
        let mut told = Vec::new();
        if rules.contains(&Rule::Pressure) {
            let text = format!(
                "[Slice]\nManagedOOMMemoryPressure=kill\nManagedOOMMemoryPressureLimit={STALL_PERCENT}%\n"
            );
            self.units.write_drop_in(SLICE, "50-side-by-side", &text);
            told.push(("Memory Pressure Monitored CGroups:", format!("/{SLICE}")));
        }
        if rules.contains(&Rule::Low) {
            let text = "[Slice]\nManagedOOMSwap=kill\n";
            self.units.write_drop_in("-.slice", "50-side-by-side", text);
            told.push(("Swap Monitored CGroups:", "/".to_owned()));
        }
        daemon_reload();
        start(&["systemd-oomd.socket", self.contender.unit()]);
        for (kind, path) in told {
            eventually("systemd-oomd watches the cgroup", || {
                monitors(&text(&run("oomctl", &["dump"])), kind, &path)
            });
        }
    }

    #[track_caller]
    fn start_earlyoom(&mut self) {
        // The report that it writes every hour is as Debian has it.
        let text = format!(
            "[Service]\nExecStart=\nExecStart=/usr/bin/earlyoom -m {LEAST_PERCENT} -s {LEAST_PERCENT} -r 3600\n"
        );
        let unit = self.contender.unit();
        self.units.write_drop_in(unit, "50-side-by-side", &text);
        daemon_reload();
        let journal = Journal::from_now();
        start(&[unit]);
        journal.wait_for_message(unit, "sending SIGTERM when");
    }

    fn write(&mut self, path: &str, text: &str) {
        let path = Path::new(path);
        let directory = path.parent().expect("a file in a directory");
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(path, text))
            .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        self.files.push(path.to_owned());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        stop(&[self.contender.unit()]);
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

/// Starts units that are masked in this machine.
#[track_caller]
fn start(units: &[&str]) {
    systemctl(&[&["unmask"], units].concat());
    systemctl(&[&["start"], units].concat());
}

/// Whether `oomctl dump` lists a cgroup below one of its headings.
fn monitors(dump: &str, kind: &str, path: &str) -> bool {
    let below = dump.lines().skip_while(|line| line.trim() != kind).skip(1);
    // Headings are not indented.
    let mut listed = below.take_while(|line| line.starts_with(['\t', ' ']));
    listed.any(|line| line.trim() == format!("Path: {path}"))
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("run {program}: {error}"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
