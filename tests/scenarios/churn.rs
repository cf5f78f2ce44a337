// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many short units leave nothing behind: not in the daemon, not in systemd's store, not in the kernel.
//!
//! `tests/long churn` runs this for long, with a round for each unit. What may have grown by is the same however long it is: so the longer,
//! the less can have been left by one unit.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use bpf_oomd_tests::attachments::{attachments, settings, wait_attached, watched};
use bpf_oomd_tests::cgroup::{MIB, id_of};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::ids::BpfObjects;
use bpf_oomd_tests::long::Run;
use bpf_oomd_tests::machine::{TestMachine, meminfo};
use bpf_oomd_tests::systemctl::{
    PATIENCE, cgroup_of, daemon_reload, eventually, show_number, start, stop, systemctl,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};
use bpf_oomd_tests::wait::eventually_within;

/// How many units there are at a time.
const BATCH: usize = 50;
/// How many times that before anything is measured: the programs are loaded then, and buffers have grown to what a batch needs.
const WARM_UP: usize = 3;

/// What the daemon's memory may have grown by, in bytes: what it has for itself, and all that is charged to its service, kernel memory for
/// BPF included. An allocator does not give back every page. With 400 units, a record kept for each of them would be found; with 10,000, a
/// hundred bytes.
const OWN_SLACK: u64 = MIB / 2;
const SERVICE_SLACK: u64 = MIB;
/// The same for all kernel memory of the machine, of which others have a part as well.
const KERNEL_SLACK: u64 = 6 * MIB;

const SLICES: [&str; 2] = ["churn-own.slice", "churn-inherited.slice"];
const STAYS: [&str; 2] = ["churn-own-stays.service", "churn-inherited-stays.service"];

/// What may not grow.
struct Measured {
    resident: u64,
    service: u64,
    slab: u64,
    percpu: u64,
}

impl Measured {
    fn now() -> Self {
        // What the kernel keeps because it may be of use: names of files that are gone, and with them cgroups that are.
        fs::write("/proc/sys/vm/drop_caches", "3").expect("drop caches");
        Self {
            resident: daemon::resident(),
            service: memory_of_the_service(),
            slab: meminfo("SUnreclaim:"),
            percpu: meminfo("Percpu:"),
        }
    }

    /// What has grown by more than it may.
    fn grown_since(&self, before: &Self) -> Vec<&'static str> {
        let limits = [
            ("resident", self.resident, before.resident, OWN_SLACK),
            ("service", self.service, before.service, SERVICE_SLACK),
            ("slab", self.slab, before.slab, KERNEL_SLACK),
            ("percpu", self.percpu, before.percpu, KERNEL_SLACK),
        ];
        let grown = limits
            .iter()
            .filter(|(_, now, before, slack)| *now > before + slack);
        grown.map(|(what, ..)| *what).collect()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kilobytes = |bytes: u64| bytes / 1024;
        write!(
            f,
            "daemon {} K resident, its service {} K; slab {} K, percpu {} K",
            kilobytes(self.resident),
            kilobytes(self.service),
            kilobytes(self.slab),
            kilobytes(self.percpu)
        )
    }
}

fn file_of_the_service(name: &str) -> PathBuf {
    cgroup_of(daemon::UNIT).join(name)
}

fn memory_of_the_service() -> u64 {
    let path = file_of_the_service("memory.current");
    let text = fs::read_to_string(&path).expect("memory.current");
    text.trim().parse().expect("a number")
}

/// How often the service got no memory within its limit.
fn ooms_of_the_service() -> u64 {
    let text = fs::read_to_string(file_of_the_service("memory.events")).expect("memory.events");
    let oom = text.lines().find_map(|line| line.strip_prefix("oom "));
    oom.expect("oom").parse().expect("a number")
}

/// Units of four kinds in equal parts: with a policy of their own and without, and that stay until somebody has looked or are gone before
/// anybody can.
struct Churn {
    units: Units,
    _files: Configuration,
    batches: usize,
    started: usize,
}

impl Churn {
    fn new() -> Self {
        let mut files = Configuration::new();
        files.write(
            "50-churn",
            "[slice.\"churn.slice\"]\npolicy = \"bpf:biggest-leaf\"\n\
             [slice.\"churn.slice\".pressure]\nstall = \"900ms\"\nfor = \"1h\"\napplies-to = \"each-unit\"\n",
        );
        let policy = "ManagedOOMPolicy=bpf:biggest-leaf";
        let mut units = Units::new();
        for (name, own) in SLICES.into_iter().zip([&[policy][..], &[]]) {
            units.write(name, &slice(&[&["MemoryMax=256M"], own].concat()));
            let kind = name.trim_end_matches(".slice");
            units.write(
                &format!("{kind}-held@.service"),
                &hog_service(name, own, "notify=READY=1 pause"),
            );
            let own = own.join("\n");
            units.write(
                &format!("{kind}-short@.service"),
                &format!("[Service]\nType=oneshot\nSlice={name}\nExecStart=/bin/true\n{own}\n"),
            );
            // Runs all the time, so that the slice is the same before and after.
            units.write(
                &format!("{kind}-stays.service"),
                &hog_service(name, &[], "notify=READY=1 pause"),
            );
        }
        daemon_reload();
        start(&STAYS);
        Self {
            units,
            _files: files,
            batches: 0,
            started: 0,
        }
    }

    /// What there is when nothing comes and goes: the two slices, and what stays in them.
    fn is_at_rest() -> Result<(), String> {
        let mut on = attachments();
        // Links of the pressure program are the system's.
        let pressure = on.remove(&0);
        let found = (on.len(), watched().len(), settings().len(), pressure);
        // churn.slice and churn-own.slice have a policy, and the former says more; units that stay are watched.
        match found == (2, 2, 2, true) {
            true => Ok(()),
            false => Err(format!(
                "attached, watched, told and pressure are {found:?}"
            )),
        }
    }

    /// Half of the units stay until all of them are attached and watched as they should be.
    fn batch(&mut self) {
        let number = self.batches;
        self.batches += 1;
        let names = |kind: &str| -> Vec<String> {
            let quarter = BATCH / 4 + 1;
            let kinds = SLICES.map(|slice| slice.trim_end_matches(".slice"));
            let all = kinds.into_iter().flat_map(|slice| {
                (0..quarter).map(move |one| format!("{slice}-{kind}@{number}-{one}.service"))
            });
            all.take(BATCH / 2).collect()
        };
        let (held, short) = (names("held"), names("short"));
        let with_policy = held.iter().filter(|name| name.contains("-own-")).count();
        for name in &held {
            self.units.stop_at_the_end(name);
        }
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let short: Vec<&str> = short.iter().map(String::as_str).collect();
        start(&held);
        eventually_within(PATIENCE, || {
            let found = (attachments().len(), watched().len());
            // The pressure program's link is one of the former.
            match found == (2 + 1 + with_policy, 2 + held.len()) {
                true => Ok(()),
                false => Err(format!("{found:?} are attached and watched")),
            }
        });
        start(&short);
        stop(&held);
        for name in &held {
            self.units.forget(name);
        }
        eventually_within(PATIENCE, Self::is_at_rest);
        self.started += held.len() + short.len();
    }
}

#[test]
fn many_short_units_leave_nothing_behind() {
    let _machine = TestMachine::enter();
    daemon::started();
    let run = Run::of(5 * BATCH);
    let mut churn = Churn::new();
    eventually_within(PATIENCE, Churn::is_at_rest);
    for _ in 0..WARM_UP {
        churn.batch();
    }
    let objects = BpfObjects::now().counts();
    let descriptors = daemon::descriptors();
    let kept = show_number(daemon::UNIT, "NFileDescriptorStore");
    let pid = daemon::pid();
    let before = Measured::now();
    println!("after {} units: {before}", churn.started);
    // From now on it has not much more than it uses. Whoever gets no memory here stands still, and systemd would start another one.
    let limit = memory_of_the_service() + 2 * SERVICE_SLACK;
    let limit = format!("MemoryMax={limit}");
    systemctl(&["set-property", "--runtime", daemon::UNIT, &limit]);

    for batch in 0..run.rounds.div_ceil(BATCH) {
        churn.batch();
        if batch % 10 == 9 {
            println!("after {} units: {}", churn.started, Measured::now());
        }
    }

    // Not the same ones: triggers that nobody wants are swept together now and then, and all are made anew by another link.
    eventually(
        "the kernel has no more links, maps and programs than before",
        || BpfObjects::now().counts() == objects,
    );
    eventually("descriptors are closed", || {
        daemon::descriptors() <= descriptors
    });
    eventually("systemd keeps no more than before", || {
        show_number(daemon::UNIT, "NFileDescriptorStore") == kept
    });
    let after = eventually_within(PATIENCE, || {
        let now = Measured::now();
        match now.grown_since(&before)[..] {
            [] => Ok(now),
            ref grown => Err(format!("{grown:?} grew: before {before}; now {now}")),
        }
    });
    println!("after {} units: {after}", churn.started);
    assert_eq!(ooms_of_the_service(), 0, "{limit} was not enough");
    assert_eq!(daemon::pid(), pid, "the daemon was restarted");
    systemctl(&["set-property", "--runtime", daemon::UNIT, "MemoryMax="]);
    // It still does its work.
    let last = "churn-own-held@last.service";
    churn.units.stop_at_the_end(last);
    start(&[last]);
    wait_attached(last);
    let id = id_of(&cgroup_of(last));
    eventually("the last one is watched", || watched().contains(&id));
}
