// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree of units that the project began with: a slice with too little memory, in it a unit that the kernel's own killer would
//! take first, one that nobody may kill, and a slice with two more.

use std::path::{Path, PathBuf};

use crate::kmsg::Kmsg;
use crate::systemctl::{cgroup_of, daemon_reload, signal, start, wait_for_property};
use crate::units::{Units, hog_service, slice};

/// The slice with the limit.
pub const SLICE: &str = "seed.slice";
/// The slice inside it.
pub const INNER: &str = "seed-inner.slice";
/// Uses 10 MiB, and asks to be killed first (OOMScoreAdjust=1000).
pub const DISLIKED: &str = "seed-disliked.service";
/// Will use 40 MiB, and may not be killed (OOMScoreAdjust=-1000).
pub const UNKILLABLE: &str = "seed-unkillable.service";
/// Uses 30 MiB, in the inner slice.
pub const LARGER: &str = "seed-larger.service";
/// Uses 20 MiB, in the inner slice.
pub const SMALLER: &str = "seed-smaller.service";
/// All services.
pub const SERVICES: [&str; 4] = [DISLIKED, UNKILLABLE, LARGER, SMALLER];

/// The running tree.
pub struct SeedUnits {
    /// Their files, to which a test may add.
    pub units: Units,
    /// The file of the slice with the limit.
    pub slice_file: PathBuf,
}

impl SeedUnits {
    /// Starts the units; `policy` are lines of the slice's `[Slice]` section. Together they stay below the limit for now.
    ///
    /// Each service copies its memory.events to [`Self::last_events`] when it ends, because systemd removes its cgroup then.
    #[track_caller]
    pub fn start(policy: &[&str]) -> Self {
        let mut units = Units::new();
        let slice_file = units.write(SLICE, &slice(&[&["MemoryMax=80M"], policy].concat()));
        units.write(INNER, &slice(&[]));
        let mut write = |name: &str, slice: &str, adjust: &str, steps: &str| {
            let keep = format!(
                "ExecStopPost=/bin/sh -c 'cat /sys/fs/cgroup$$(cut -d: -f3 /proc/self/cgroup)/memory.events >{}'",
                last_events_path(name).display()
            );
            let settings = [format!("OOMScoreAdjust={adjust}"), keep];
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            units.write(name, &hog_service(slice, &settings, steps));
        };
        write(DISLIKED, SLICE, "1000", "anon=10M notify=READY=1 pause");
        write(
            UNKILLABLE,
            SLICE,
            "-1000",
            "anon=10M notify=READY=1 usr1 anon=30M notify=STATUS=grown pause",
        );
        write(LARGER, INNER, "0", "anon=30M notify=READY=1 pause");
        write(SMALLER, INNER, "0", "anon=20M notify=READY=1 pause");
        daemon_reload();
        for name in SERVICES {
            // What an earlier tree left behind would look like this one's.
            let _ = std::fs::remove_file(last_events_path(name));
        }
        start(&SERVICES);
        Self { units, slice_file }
    }

    /// Lets the unkillable unit ask for the memory that is not there. Its status is "grown" when it has got it.
    pub fn run_out_of_memory(&self) {
        signal(UNKILLABLE, "USR1");
    }

    /// Does that, waits until it has got it, and returns the kernel's word for who decided.
    #[track_caller]
    pub fn run_out(&self) -> String {
        let log = Kmsg::before_a_report();
        self.run_out_of_memory();
        wait_for_property(UNKILLABLE, "StatusText", "grown");
        log.wait_for_report()[1].clone()
    }

    /// The directory of the cgroup of the slice with the limit.
    pub fn slice_cgroup(&self) -> PathBuf {
        cgroup_of(SLICE)
    }

    /// A service's memory.events as it was when the service ended.
    pub fn last_events(&self, service: &str) -> std::io::Result<String> {
        std::fs::read_to_string(last_events_path(service))
    }
}

fn last_events_path(service: &str) -> PathBuf {
    Path::new("/run").join(format!("{service}.memory.events"))
}
