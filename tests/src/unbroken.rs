// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watching from outside that something in the kernel is never missing, as often as it can be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::attachments::links;

/// A thread that looks at all struct_ops links, again and again.
pub struct Watcher {
    over: Arc<AtomicBool>,
    looks: JoinHandle<Looks>,
}

/// What it has seen.
pub struct Looks {
    /// How often it looked.
    pub count: usize,
    /// What was missing, the first time that anything was.
    pub missing: Option<String>,
}

impl Watcher {
    /// Watches that these links, by id, are there and on the same cgroups all the time.
    pub fn of_links(links: BTreeMap<u32, u64>) -> Self {
        Self::start(move |now| {
            let gone = links
                .iter()
                .find(|(id, cgroup)| now.get(id) != Some(cgroup));
            gone.map(|(id, cgroup)| format!("link {id} on cgroup {cgroup} is not in {now:?}"))
        })
    }

    /// Watches that something is attached to at least one of these cgroups all the time.
    pub fn of_cover(cgroups: BTreeSet<u64>) -> Self {
        Self::start(move |now| {
            let covered = now.values().any(|cgroup| cgroups.contains(cgroup));
            (!covered).then(|| format!("none of {cgroups:?} is in {now:?}"))
        })
    }

    fn start(missing: impl Fn(&BTreeMap<u32, u64>) -> Option<String> + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let looks = thread::spawn(move || {
            let mut looks = Looks {
                count: 0,
                missing: None,
            };
            while !seen.load(Ordering::Relaxed) {
                looks.count += 1;
                if looks.missing.is_none() {
                    looks.missing = missing(&links());
                }
            }
            looks
        });
        Self { over, looks }
    }

    /// Stops looking.
    pub fn end(self) -> Looks {
        self.over.store(true, Ordering::Relaxed);
        self.looks.join().expect("the watching thread")
    }

    /// Stops looking, and makes sure that nothing was missing at any time.
    #[track_caller]
    pub fn assert_unbroken(self) {
        let looks = self.end();
        assert_eq!(looks.missing, None);
        assert!(looks.count >= 20, "looked {} times only", looks.count);
    }
}
