// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Not of a disk, or other programs' logs, caches and lists of packages.
const SKIPPED: [&str; 13] = [
    "/dev",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/tmp",
    "/usr/lib/sysimage/rpm",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/log",
    "/var/tmp",
];

/// Every file and directory of the system, and every link.
pub fn all() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    walk(Path::new("/"), &mut found);
    found
}

fn walk(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.expect("an entry of a directory");
        let path = entry.path();
        if SKIPPED.iter().any(|skipped| path == Path::new(skipped)) {
            continue;
        }
        if entry.file_type().expect("what it is").is_dir() {
            walk(&path, found);
        }
        found.insert(path);
    }
}

/// Fails if there are others than there were.
#[track_caller]
pub fn assert_same_as(before: &BTreeSet<PathBuf>) {
    let now = all();
    let new: Vec<_> = now.difference(before).collect();
    let gone: Vec<_> = before.difference(&now).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "new: {new:#?}, gone: {gone:#?}"
    );
}
