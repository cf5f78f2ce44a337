// SPDX-License-Identifier: MIT OR Apache-2.0
//! Units with memory under slices with limits and different policies, and what was said about each, as the test said it.
//!
//! `storm.slice` has a policy. In it are groups, each a slice with a limit; in each of these, two slices with units, which have limits of their
//! own. What is said of slices is in force whether or not there is a daemon. Units come and go, so of them only that is said which systemd
//! itself puts on a new cgroup.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use bpf_oomd_tests::cgroup::{MIB, id_of};
use bpf_oomd_tests::random::Random;
use bpf_oomd_tests::rating::{memory_current, processes_in};
use bpf_oomd_tests::systemctl::{PATIENCE, daemon_reload, start, systemctl};
use bpf_oomd_tests::units::{Units, hog_service, slice};
use bpf_oomd_tests::wait::eventually_within;

const ROOT: &str = "/sys/fs/cgroup/storm.slice";
const POLICY: &str = "ManagedOOMPolicy=bpf:biggest-leaf";
const KERNEL: &str = "ManagedOOMPolicy=kernel";

/// What units use, in MB: all of it much more than what makes memory use uncertain, and apart from each other and from [`MIN_SIZES`].
const SIZES: [u64; 10] = [3, 4, 5, 7, 8, 10, 11, 12, 13, 14];
/// What policies may be told to leave alone, in KB.
pub const MIN_SIZES: [u64; 3] = [0, 6656, 9728];
/// What one process of a unit uses at least, in MB.
const SMALLEST: u64 = 3;
/// What there is in a slice beside what its units were told to use, in MB: what they use all the same, and what whoever runs out uses up.
const ROOM: u64 = 14;

/// Who chooses victims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decides {
    Policy,
    Kernel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    Avoid,
    Omit,
}

/// What was said of a slice, or of a unit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said {
    pub decides: Option<Decides>,
    pub one_process_dies: Option<bool>,
    pub preference: Option<Preference>,
}

impl Said {
    /// The lines that say it.
    fn lines(&self) -> Vec<&'static str> {
        let decides = self.decides.map(|decides| match decides {
            Decides::Policy => POLICY,
            Decides::Kernel => KERNEL,
        });
        let kill = self.one_process_dies.map(|one| match one {
            true => "ManagedOOMPolicyKill=process",
            false => "ManagedOOMPolicyKill=cgroup",
        });
        let preference = self.preference.map(|preference| match preference {
            Preference::Avoid => "ManagedOOMPreference=avoid",
            Preference::Omit => "ManagedOOMPreference=omit",
        });
        decides.into_iter().chain(kill).chain(preference).collect()
    }
}

/// A unit that may be a victim.
pub struct Unit {
    pub name: String,
    pub path: PathBuf,
    pub said: Said,
    /// How many processes it has, and how much each was told to use, in bytes.
    processes: u64,
    each: u64,
    /// The processes that it has now.
    pub pids: BTreeSet<u32>,
}

impl Unit {
    /// The id of its cgroup now.
    #[track_caller]
    pub fn id(&self) -> u64 {
        id_of(&self.path)
    }

    /// Waits until it has all of its memory.
    #[track_caller]
    fn wait_grown(&mut self) {
        self.pids = eventually_within(PATIENCE, || {
            let pids = processes_in(&self.path);
            let (count, wanted) = (pids.len() as u64, self.processes * self.each);
            if count == self.processes && memory_current(&self.path) >= wanted {
                return Ok(pids);
            }
            Err(format!("{} has {count} processes and grows", self.name))
        });
    }
}

/// A slice with a limit, which runs out of memory.
pub struct Slice {
    pub path: PathBuf,
    pub said: Said,
    /// In bytes.
    pub limit: u64,
}

impl Slice {
    /// The id of its cgroup.
    #[track_caller]
    pub fn id(&self) -> u64 {
        id_of(&self.path)
    }

    /// The cgroup in it in which somebody may run out of memory who is never killed.
    pub fn stays(&self) -> PathBuf {
        let name = self.path.file_name().expect("a name").to_string_lossy();
        let name = name.trim_end_matches(".slice");
        self.path.join(format!("{name}-stays.service"))
    }
}

/// A group: a slice, and two slices in it with units.
pub struct Group {
    pub outer: Slice,
    pub inner: [Slice; 2],
    /// Those of the first and those of the second slice.
    pub units: [Vec<Unit>; 2],
}

/// All of them.
pub struct Tree {
    pub groups: Vec<Group>,
    /// Kept for as long as they are to run.
    _units: Units,
}

/// What is said in a group: of it, of its first slice and of its second one. Each kind of group has another answer to who decides.
fn said_in(kind: usize) -> [Said; 3] {
    let nothing = Said::default();
    let decides = |decides| Said {
        decides: Some(decides),
        ..nothing
    };
    let policy = decides(Decides::Policy);
    let kernel = decides(Decides::Kernel);
    let one_dies = |said| Said {
        one_process_dies: Some(true),
        ..said
    };
    let all_die = Said {
        one_process_dies: Some(false),
        ..nothing
    };
    let prefers = |preference| Said {
        preference: Some(preference),
        ..nothing
    };
    match kind % 7 {
        0 => [nothing, nothing, nothing],
        1 => [one_dies(policy), nothing, all_die],
        2 => [nothing, policy, prefers(Preference::Avoid)],
        3 => [kernel, nothing, nothing],
        4 => [kernel, one_dies(policy), nothing],
        5 => [policy, kernel, prefers(Preference::Omit)],
        _ => [one_dies(nothing), policy, kernel],
    }
}

impl Tree {
    /// Starts so many groups, with so many units in each of their slices.
    #[track_caller]
    pub fn start(groups: usize, each: usize, random: &mut Random) -> Self {
        let mut units = Units::new();
        units.write("storm.slice", &slice(&[POLICY]));
        let mut stay = Vec::new();
        let groups: Vec<Group> = (0..groups)
            .map(|number| group(number, each, random, &mut units, &mut stay))
            .collect();
        daemon_reload();
        start(&stay.iter().map(String::as_str).collect::<Vec<_>>());
        let mut tree = Self {
            groups,
            _units: units,
        };
        for group in &mut tree.groups {
            let mut all: Vec<&mut Unit> = group.units.iter_mut().flatten().collect();
            restart(&mut all);
        }
        tree
    }

    /// Every unit that is not as it was. `but` are those that may be.
    pub fn changed(&self, but: &[&str]) -> Vec<String> {
        let units = self.groups.iter().flat_map(|group| &group.units).flatten();
        units
            .filter(|unit| !but.contains(&&*unit.name) && processes_in(&unit.path) != unit.pids)
            .map(|unit| unit.name.clone())
            .collect()
    }
}

/// Starts units, or starts them again, and waits until they have their memory.
#[track_caller]
pub fn restart(units: &mut [&mut Unit]) {
    let names: Vec<&str> = units.iter().map(|unit| &*unit.name).collect();
    systemctl(&[&["restart"], &names[..]].concat());
    for unit in units {
        unit.wait_grown();
    }
}

fn group(
    number: usize,
    each: usize,
    random: &mut Random,
    files: &mut Units,
    stay: &mut Vec<String>,
) -> Group {
    let said = said_in(number);
    let mut sizes = SIZES[..2 * each].to_vec();
    for last in (1..sizes.len()).rev() {
        sizes.swap(last, random.below(last + 1));
    }
    let all: u64 = sizes.iter().sum();
    let outer_name = format!("storm-{number}");
    let outer = write_slice(
        &outer_name,
        Path::new(ROOT),
        said[0],
        all + 2 * ROOM,
        files,
        stay,
    );
    let mut inner = Vec::new();
    let mut units = Vec::new();
    for (letter, (said, sizes)) in ["a", "b"]
        .into_iter()
        .zip(said[1..].iter().zip(sizes.chunks(each)))
    {
        let name = format!("{outer_name}-{letter}");
        let all: u64 = sizes.iter().sum();
        let slice = write_slice(&name, &outer.path, *said, all + ROOM, files, stay);
        let units_of_slice = (0..).zip(sizes).map(|(one, size): (usize, _)| {
            write_unit(
                &format!("{name}-{one}.service"),
                &slice.path,
                *size,
                random,
                files,
            )
        });
        units.push(units_of_slice.collect());
        inner.push(slice);
    }
    let two = "two slices";
    Group {
        outer,
        inner: inner.try_into().unwrap_or_else(|_| panic!("{two}")),
        units: units.try_into().unwrap_or_else(|_| panic!("{two}")),
    }
}

/// A slice with a limit in MB, and in it a unit that stays.
fn write_slice(
    name: &str,
    above: &Path,
    said: Said,
    limit: u64,
    files: &mut Units,
    stay: &mut Vec<String>,
) -> Slice {
    let file = format!("{name}.slice");
    let limit_line = format!("MemoryMax={limit}M");
    files.write(
        &file,
        &slice(&[&[&*limit_line], &said.lines()[..]].concat()),
    );
    let stays = format!("{name}-stays.service");
    let settings = ["OOMScoreAdjust=-1000"];
    files.write(
        &stays,
        &hog_service(&file, &settings, "notify=READY=1 pause"),
    );
    stay.push(stays);
    Slice {
        path: above.join(file),
        said,
        limit: limit * MIB,
    }
}

fn write_unit(name: &str, slice: &Path, size: u64, random: &mut Random, files: &mut Units) -> Unit {
    // Some have their memory in several processes, which the kernel's own killer takes for less.
    let most = size / SMALLEST;
    let processes = (1..=most.min(3))
        .rev()
        .find(|count| size.is_multiple_of(*count));
    let processes = processes.filter(|_| random.below(2) == 0).unwrap_or(1);
    let each = size / processes;
    let preference = match random.below(8) {
        0 => Some(Preference::Omit),
        1 => Some(Preference::Avoid),
        _ => None,
    };
    let said = Said {
        // For an OOM of its own, which it does not have; so that attachments come and go with units.
        decides: (random.below(4) == 0).then_some(Decides::Policy),
        preference,
        ..Said::default()
    };
    // The kernel's killer goes by that, and policies do not.
    let adjustment = [0, 0, 0, 100, -100][random.below(5)];
    let mut steps = String::new();
    if processes > 1 {
        write!(steps, "fork={} ", processes - 1).expect("write to a string");
    }
    write!(steps, "anon={each}M notify=READY=1 pause").expect("write to a string");
    let adjust = format!("OOMScoreAdjust={adjustment}");
    let mut settings = said.lines();
    settings.extend([
        &*adjust,
        "OOMPolicy=continue",
        // It is not its own fault that it is killed.
        "[Unit]",
        "StartLimitIntervalSec=0",
    ]);
    let file = slice.file_name().expect("a name").to_string_lossy();
    files.write(name, &hog_service(&file, &settings, &steps));
    Unit {
        name: name.to_owned(),
        path: slice.join(name),
        said,
        processes,
        each: each * MIB,
        pids: BTreeSet::new(),
    }
}

/// Whether a process is there and has not been killed.
pub fn lives(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may contain anything.
    let state = status.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|rest| !rest.starts_with(['Z', 'X']))
}
