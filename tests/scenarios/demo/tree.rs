// SPDX-License-Identifier: MIT OR Apache-2.0
//! A tree of units with their memory, as the cgroup files and systemd have it at one moment.

use std::fs;
use std::path::Path;

use bpf_oomd_tests::systemctl::show;
use bpf_oomd_tests::text::size;

/// Where the columns begin.
const NAME: usize = 34;

/// A unit, and the units inside it.
pub struct Unit {
    pub name: String,
    /// None if it has no cgroup: it does not run.
    cgroup: Option<Cgroup>,
    children: Vec<Unit>,
}

struct Cgroup {
    /// Bytes.
    current: u64,
    /// Bytes; None is no limit.
    limit: Option<u64>,
    processes: usize,
    /// Of its first process.
    scores: Option<Scores>,
}

/// What the kernel's own killer goes by, if nobody else decides (proc_pid_oom_score(5)).
struct Scores {
    adjust: i32,
    score: u32,
}

impl Scores {
    /// None if the process is gone.
    fn of(pid: &str) -> Option<Self> {
        let number = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        Some(Scores {
            adjust: number("oom_score_adj")?.trim().parse().ok()?,
            score: number("oom_score")?.trim().parse().ok()?,
        })
    }
}

impl Unit {
    /// Reads the cgroup with that directory, and everything below it.
    pub fn read(directory: &Path) -> Self {
        let name = directory.file_name().expect("a name").to_string_lossy();
        let text = |file: &str| {
            let path = directory.join(file);
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let processes = text("cgroup.procs");
        let scores = processes.lines().next().and_then(Scores::of);
        let mut children: Vec<Unit> = fs::read_dir(directory)
            .expect("list a cgroup")
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| Unit::read(&entry.path()))
            .collect();
        children.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        Unit {
            name: name.into_owned(),
            cgroup: Some(Cgroup {
                current: text("memory.current").trim().parse().expect("bytes"),
                limit: text("memory.max").trim().parse().ok(),
                processes: processes.lines().count(),
                scores,
            }),
            children,
        }
    }

    /// Services first, then slices.
    fn sort_key(&self) -> (bool, &str) {
        (self.name.ends_with(".slice"), &self.name)
    }

    /// Adds what was in `before` and is gone, in its place.
    pub fn with_the_gone_of(mut self, before: &Unit) -> Self {
        for old in &before.children {
            match self
                .children
                .iter()
                .position(|child| child.name == old.name)
            {
                Some(at) => {
                    let child = self.children.remove(at);
                    self.children.insert(at, child.with_the_gone_of(old));
                }
                None => self.children.push(Unit {
                    name: old.name.clone(),
                    cgroup: None,
                    children: Vec::new(),
                }),
            }
        }
        self.children
            .sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        self
    }

    /// The names of the units that are below this one and do not run.
    pub fn gone(&self) -> Vec<&str> {
        let own = self.cgroup.is_none().then_some(self.name.as_str());
        let below = self.children.iter().flat_map(Unit::gone);
        own.into_iter().chain(below).collect()
    }

    /// The unit below this one whose process has the highest oom_score.
    pub fn highest_oom_score(&self) -> Option<(&str, u32)> {
        let own = self.cgroup.as_ref().and_then(|it| it.scores.as_ref());
        let own = own.map(|scores| (self.name.as_str(), scores.score));
        let below = self.children.iter().filter_map(Unit::highest_oom_score);
        below.chain(own).max_by_key(|(_, score)| *score)
    }

    /// Prints it with its heading.
    pub fn print(&self) {
        println!(
            "  {:<NAME$} {:>8} {:>7} {:>10} {:>15} {:>10}",
            "unit", "memory", "limit", "processes", "OOMScoreAdjust=", "oom_score"
        );
        self.print_line("", "");
    }

    fn print_line(&self, prefix: &str, branch: &str) {
        let label = format!("{prefix}{branch}{}", self.name);
        let columns = match &self.cgroup {
            Some(cgroup) => cgroup.columns(),
            None => format!(
                "{:>8} {} (Result={})",
                "-",
                show(&self.name, "ActiveState"),
                show(&self.name, "Result")
            ),
        };
        println!("  {label:<NAME$} {columns}");
        let inner = match branch {
            "" => String::new(),
            "└─ " => format!("{prefix}   "),
            _ => format!("{prefix}│  "),
        };
        for (number, child) in self.children.iter().enumerate() {
            let last = number + 1 == self.children.len();
            child.print_line(&inner, if last { "└─ " } else { "├─ " });
        }
    }
}

impl Cgroup {
    fn columns(&self) -> String {
        let limit = self.limit.map(size).unwrap_or_default();
        let mut columns = format!("{:>8} {limit:>7}", size(self.current));
        // Slices have no processes of their own here.
        if let Some(Scores { adjust, score }) = &self.scores {
            columns += &format!(" {:>10} {adjust:>15} {score:>10}", self.processes);
        }
        columns.truncate(columns.trim_end().len());
        columns
    }
}
