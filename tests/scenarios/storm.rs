// SPDX-License-Identifier: MIT OR Apache-2.0
//! One memory shortage after the other, several at a time, in a tree of units with different policies, while the daemon is killed all the
//! time. Each time the right one dies, and nobody else; and each kill is recorded once, or counted as lost.
//!
//! `tests/long storm` runs this for long, with 200 units and a round for each OOM.

mod model;
mod tree;

use bpf_oomd_tests::attachments::attachments;
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::hog::Hog;
use bpf_oomd_tests::ledger::{Kill, Ledger};
use bpf_oomd_tests::long::Run;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{json, of};
use bpf_oomd_tests::random::Random;
use bpf_oomd_tests::rating::{bytes_of, killed_in, memory_current};
use bpf_oomd_tests::restless::{Restless, restart_at_once};
use bpf_oomd_tests::systemctl::{PATIENCE, eventually};
use bpf_oomd_tests::units::Units;
use bpf_oomd_tests::wait::eventually_within;
use model::{Domain, Expected};
use std::collections::BTreeSet;
use std::path::Path;
use tree::{Decides, Group, MIN_SIZES, Tree, lives, restart};

/// From so many rounds on the tree is the large one.
const LONG: usize = 100;
/// How many slices run out of memory at the same time.
const AT_A_TIME: usize = 5;
/// How often somebody runs out of memory before policies are told something else.
const EPOCH: usize = 60;

/// A slice that runs out of memory.
struct Shortage {
    group: usize,
    domain: Domain,
    decides: Decides,
    /// Names of those that should die, and ids of their cgroups.
    victims: Vec<(String, u64)>,
    /// How many processes die.
    processes: u64,
    killed_before: u64,
    /// Uses memory that is not there.
    asking: Hog,
}

impl Shortage {
    #[track_caller]
    fn begin(group: usize, of: &Group, domain: Domain, expected: &Expected<'_>) -> Self {
        let slice = of.slice(domain);
        let used = memory_current(&slice.path);
        let cache = used - bytes_of(&slice.path);
        // Too much by half of what there is when the victim is gone, and half of page cache, which may be in the way or not.
        let asks = (slice.limit - used + (expected.gives + cache) / 2) / 1024;
        let victim = expected.victims[0];
        let steps = format!("adj=-1000 anon={asks}K ready hold");
        let victims = expected.victims.iter();
        Self {
            group,
            domain,
            decides: expected.decides,
            victims: victims.map(|unit| (unit.name.clone(), unit.id())).collect(),
            processes: match expected.one_process_dies {
                true => 1,
                false => victim.pids.len() as u64,
            },
            killed_before: killed_in(&slice.path),
            asking: Hog::start_in(&slice.stays(), &steps),
        }
    }

    /// Waits until whoever asked has got the memory, and sees to it that the right one was killed for it. Returns the names of units that
    /// are not as they were.
    #[track_caller]
    fn end(mut self, tree: &Tree, ledger: &mut Ledger) -> Vec<String> {
        self.asking.wait_ready_within(PATIENCE);
        let group = &tree.groups[self.group];
        let slice = group.slice(self.domain);
        let what = slice.path.display();
        let killed = || killed_in(&slice.path) - self.killed_before;
        // What the kernel's killer takes is its own affair, as long as it is the next one in its order.
        let victims = match self.decides {
            Decides::Policy => &self.victims[..1],
            Decides::Kernel => &self.victims[..usize::try_from(killed()).expect("a few")],
        };
        assert!(!victims.is_empty(), "nobody was killed in {what}");
        let least = match self.decides {
            Decides::Policy => self.processes,
            Decides::Kernel => 1,
        };
        let names: BTreeSet<&str> = victims.iter().map(|(name, _)| &**name).collect();
        let units = group.units.iter().flatten();
        for unit in units.filter(|unit| names.contains(&*unit.name)) {
            eventually_within(PATIENCE, || {
                let gone = unit.pids.iter().filter(|pid| !lives(**pid)).count() as u64;
                (gone >= least)
                    .then_some(())
                    .ok_or_else(|| format!("{gone} of {} have died in {what}", unit.name))
            });
        }
        if self.decides == Decides::Policy {
            // Less than there were: systemd ends what is left of a unit whose first process is gone, be it about to be killed or not.
            let killed = killed();
            assert!(
                (1..=self.processes).contains(&killed),
                "{killed} processes were killed in {what}"
            );
        }
        for (_, victim) in victims {
            ledger.add(Kill {
                victim: *victim,
                domain: slice.id(),
                policy: match self.decides {
                    Decides::Policy => "biggest-leaf",
                    Decides::Kernel => "kernel",
                },
                processes: self.processes,
            });
        }
        names.into_iter().map(str::to_owned).collect()
    }
}

struct Storm {
    tree: Tree,
    random: Random,
    files: Configuration,
    min_size: u64,
    ledger: Ledger,
    /// Draws of which it could not be said for sure who should die.
    unsure: usize,
}

impl Storm {
    /// Tells policies whom to leave alone, and waits until that is in force.
    #[track_caller]
    fn tell(&mut self) {
        let size = MIN_SIZES[self.random.below(MIN_SIZES.len())];
        self.min_size = size * 1024;
        let text = format!("[policy.\"biggest-leaf\"]\nmin-size = \"{size}K\"\n");
        self.files.write("50-storm", &text);
        let shown = match size {
            0 => "0".to_owned(),
            size => format!("{size}K"),
        };
        eventually(&format!("min-size is {shown}"), || {
            let policies = json(&["policies"]);
            let parameters = &of(&policies, "name", "bpf:biggest-leaf")["parameters"];
            of(parameters, "name", "min-size")["value"] == shown
        });
    }

    /// Lets several slices run out of memory, of different groups. Returns how many.
    #[track_caller]
    fn strike(&mut self, most: usize) -> usize {
        let mut left: Vec<usize> = (0..self.tree.groups.len()).collect();
        let mut shortages = Vec::new();
        while shortages.len() < most.min(AT_A_TIME) && !left.is_empty() {
            let number = left.swap_remove(self.random.below(left.len()));
            let domain = match self.random.below(4) {
                0 | 1 => Domain::Outer,
                inner => Domain::Inner(inner - 2),
            };
            let group = &self.tree.groups[number];
            match group.expected(domain, self.min_size) {
                Some(expected) => {
                    shortages.push(Shortage::begin(number, group, domain, &expected));
                }
                None => self.unsure += 1,
            }
        }
        let count = shortages.len();
        let mut changed = Vec::new();
        let mut groups = BTreeSet::new();
        let mut said = Vec::new();
        for shortage in shortages {
            groups.insert(shortage.group);
            let names = shortage.end(&self.tree, &mut self.ledger);
            said.push(names.join(", "));
            changed.extend(names);
        }
        let but: Vec<&str> = changed.iter().map(String::as_str).collect();
        assert_eq!(
            self.tree.changed(&but),
            [""; 0],
            "others died than {changed:?}"
        );
        let units = self
            .tree
            .groups
            .iter_mut()
            .flat_map(|group| &mut group.units);
        let mut victims: Vec<_> = units
            .flatten()
            .filter(|unit| changed.contains(&unit.name))
            .collect();
        restart(&mut victims);
        count
    }
}

/// What should be attached.
fn attached_by_now(tree: &Tree) -> BTreeSet<u64> {
    let policy = |decides: Option<Decides>| decides == Some(Decides::Policy);
    let slices = tree.groups.iter().flat_map(|group| {
        let slices = [&group.outer].into_iter().chain(&group.inner);
        slices.filter(|slice| policy(slice.said.decides))
    });
    let units = tree.groups.iter().flat_map(|group| &group.units).flatten();
    let units = units.filter(|unit| policy(unit.said.decides));
    slices
        .map(tree::Slice::id)
        .chain(units.map(tree::Unit::id))
        .chain([id_of(Path::new("/sys/fs/cgroup/storm.slice"))])
        .collect()
}

#[test]
fn the_right_one_dies_once_and_is_recorded_once_whoever_kills_the_daemon() {
    let _machine = TestMachine::enter();
    let mut run = Run::of(10);
    let mut units = Units::new();
    restart_at_once(&mut units);
    daemon::started();
    let (groups, each) = if run.rounds >= LONG { (20, 5) } else { (7, 3) };
    let tree = Tree::start(groups, each, &mut run.random);
    let expected = attached_by_now(&tree);
    eventually("all policies are attached", || attachments() == expected);
    let mut storm = Storm {
        tree,
        random: run.random,
        files: Configuration::new(),
        min_size: 0,
        ledger: Ledger::begin(),
        unsure: 0,
    };
    let (mut done, mut daemons) = (0, 0);
    while done < run.rounds {
        storm.tell();
        let restless = Restless::start(Random::with_seed(storm.random.number()));
        let end = run.rounds.min(done + EPOCH);
        while done < end {
            done += storm.strike(end - done);
        }
        daemons += restless.end();
        println!(
            "{done} times out of memory, {daemons} daemons killed, min-size {}K, {} draws unsure",
            storm.min_size / 1024,
            storm.unsure
        );
    }
    assert!(daemons > 0, "no daemon was killed");
    println!("{}", storm.ledger.check());
    let expected = attached_by_now(&storm.tree);
    eventually("what should be is attached", || attachments() == expected);
    drop(storm);
}
