// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration as the daemon uses it: whoever makes a new watch and then reads, whenever something was noticed, ends
//! with what is in the files, however they were changed meanwhile.

use bpf_oomd::config::directories::{ConfigRoot, DIRECTORIES};
use bpf_oomd::config::store::Store;
use bpf_oomd::config::watch::Watch;
use bpf_oomd::policy::{Assignment, Key};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn store() -> Store {
    Store::new(["biggest-leaf"], |_| Vec::new())
}

/// Changes files in all the ways there are, the same ways for the same number.
fn change(root: &Path, number: u32) {
    let mut seed = number.wrapping_mul(2_654_435_761);
    let mut pick = |of: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) as usize % of
    };
    let directory = root.join(&DIRECTORIES[pick(DIRECTORIES.len())][1..]);
    let path = directory.join(["1.toml", "2.toml", "3.toml"][pick(3)]);
    let target = root.join("opt/a/x");
    let text = format!("[defaults]\ncooldown = '{number}ms'\n");
    // What cannot be done at the moment is not done.
    let _ = match pick(9) {
        0 => fs::create_dir_all(&directory),
        1 => fs::write(&path, &text),
        2 => fs::write(root.join("new"), &text).and_then(|()| fs::rename(root.join("new"), &path)),
        3 => fs::remove_file(&path),
        4 => symlink("/dev/null", &path),
        5 => symlink("/opt/a/x", &path),
        6 => fs::create_dir_all(root.join("opt/a")).and_then(|()| fs::write(&target, &text)),
        7 if pick(4) == 0 => fs::remove_dir_all(root.join("opt")),
        8 if pick(4) == 0 => fs::remove_dir_all(&directory),
        _ => fs::write(&path, &text),
    };
}

/// What the files say that have no faults. One that has may keep what it said, or what the one said that it hides.
fn said(store: &Store) -> Vec<&Assignment> {
    let faulty: Vec<Option<&OsStr>> = store
        .faults()
        .iter()
        .map(|fault| fault.file.as_deref().and_then(Path::file_name))
        .collect();
    store
        .config()
        .defaults()
        .history(Key::Cooldown)
        .iter()
        .filter(|assignment| !faulty.contains(&assignment.at.file.file_name()))
        .collect()
}

#[test]
fn however_files_change_the_last_state_is_the_one_that_is_read() {
    // Many short bursts: only a burst's last change shows whether something was missed.
    const BURSTS: u32 = 400;
    const CHANGES: u32 = 8;
    let tree = tempfile::tempdir().unwrap();
    let root = ConfigRoot::below(tree.path());
    let mut store = store();
    let mut watch = Watch::new(&root).unwrap();
    store.load(&root);
    for burst in 0..BURSTS {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=CHANGES {
                    change(tree.path(), burst * CHANGES + number);
                    // Bursts of different speed end in different moments of a reading.
                    thread::sleep(Duration::from_micros(u64::from(burst % 20) * 10));
                }
                done.store(true, Ordering::SeqCst);
            });
            loop {
                // Looked at first: what was changed before it is reported by now.
                let is_last = done.load(Ordering::SeqCst);
                if watch.drain() {
                    watch = Watch::new(&root).unwrap();
                    store.load(&root);
                } else if is_last {
                    break;
                }
            }
        });
        let mut fresh = self::store();
        fresh.load(&root);
        assert_eq!(store.faults(), fresh.faults(), "{burst}");
        assert_eq!(said(&store), said(&fresh), "{burst}");
    }
}

#[test]
fn two_hundred_files_are_read_and_watched_soon() {
    let tree = tempfile::tempdir().unwrap();
    let root = ConfigRoot::below(tree.path());
    for (number, directory) in (0..200).zip(DIRECTORIES.iter().cycle()) {
        let directory = tree.path().join(&directory[1..]);
        fs::create_dir_all(&directory).unwrap();
        let text = format!("[unit.'u{number}.service']\npreference = 'avoid'\n");
        fs::write(directory.join(format!("{number}.toml")), text).unwrap();
    }
    let mut store = store();
    let start = Instant::now();
    let watch = Watch::new(&root).unwrap();
    assert!(store.load(&root));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    drop(watch);
    for number in 0..200 {
        let layers = store.config().for_unit(&format!("u{number}.service"));
        assert_eq!(layers.len(), 1);
        assert!(layers[0].1.decides(Key::Preference).is_some());
    }
}
