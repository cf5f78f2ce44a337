// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stays in force when files change, as directory trees.

use super::*;
use crate::policy::Key;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const ETC: &str = "etc/bpf-oomd/conf.d";
const LIB: &str = "usr/lib/bpf-oomd/conf.d";

struct Machine {
    tree: tempfile::TempDir,
    store: Store,
}

impl Machine {
    fn new() -> Self {
        let tree = tempfile::tempdir().unwrap();
        for directory in [ETC, LIB] {
            fs::create_dir_all(tree.path().join(directory)).unwrap();
        }
        let store = Store::new(["biggest-leaf"], |_| Vec::new());
        Machine { tree, store }
    }

    fn at(&self, directory: &str, name: &str) -> PathBuf {
        self.tree.path().join(directory).join(name)
    }

    fn write(&self, directory: &str, name: &str, text: &str) {
        fs::write(self.at(directory, name), text).unwrap();
    }

    fn load(&mut self) -> bool {
        self.store.load(&ConfigRoot::below(self.tree.path()))
    }

    /// What is said about how victims are killed, by default.
    fn kill(&self) -> Option<String> {
        let (value, _) = self.store.config().defaults().decides(Key::Kill)?;
        Some(value.to_string())
    }

    fn faults(&self) -> Vec<String> {
        self.store.faults().iter().map(Fault::to_string).collect()
    }
}

const PROCESS: &str = "[defaults]\nkill = 'process'\n";
const CGROUP: &str = "[defaults]\nkill = 'cgroup'\n";
const WRONG: &str = "[defaults]\nkill = 'proces'\n";

#[test]
fn a_file_with_faults_keeps_what_it_said_and_others_apply() {
    let mut machine = Machine::new();
    assert!(!machine.load());
    machine.write(ETC, "10.toml", PROCESS);
    assert!(machine.load());
    assert!(!machine.load());
    assert_eq!(machine.kill().as_deref(), Some("process"));
    machine.write(ETC, "10.toml", WRONG);
    machine.write(ETC, "20.toml", "[defaults]\ncooldown = '1s'\n");
    assert!(machine.load());
    assert_eq!(machine.kill().as_deref(), Some("process"));
    let defaults = machine.store.config().defaults();
    assert!(defaults.decides(Key::Cooldown).is_some());
    assert_eq!(
        machine.faults(),
        [
            "/etc/bpf-oomd/conf.d/10.toml:2:8: unknown value \"proces\", expected one of: cgroup, process; did you mean \
             \"process\"?"
        ]
    );
    assert!(!machine.load());
    machine.write(ETC, "10.toml", CGROUP);
    assert!(machine.load());
    assert_eq!(machine.kill().as_deref(), Some("cgroup"));
    assert_eq!(machine.faults(), [""; 0]);
}

#[test]
fn a_file_with_faults_at_the_start_is_left_out() {
    let mut machine = Machine::new();
    machine.write(LIB, "10.toml", PROCESS);
    machine.write(ETC, "20.toml", WRONG);
    assert!(machine.load());
    assert_eq!(machine.kill().as_deref(), Some("process"));
    assert_eq!(machine.faults().len(), 1);
}

#[test]
fn a_removed_or_masked_file_is_forgotten() {
    let mut machine = Machine::new();
    machine.write(ETC, "10.toml", PROCESS);
    machine.load();
    machine.write(ETC, "10.toml", "");
    assert!(machine.load());
    assert_eq!(machine.kill(), None);
    // There is nothing good to go back to.
    machine.write(ETC, "10.toml", WRONG);
    machine.load();
    assert_eq!(machine.kill(), None);
    fs::remove_file(machine.at(ETC, "10.toml")).unwrap();
    assert!(machine.load());
    assert_eq!(machine.faults(), [""; 0]);
}

#[test]
fn a_new_file_with_faults_leaves_in_force_what_it_hides() {
    let mut machine = Machine::new();
    machine.write(LIB, "10.toml", PROCESS);
    machine.load();
    machine.write(ETC, "10.toml", WRONG);
    machine.load();
    assert_eq!(machine.kill().as_deref(), Some("process"));
    machine.write(ETC, "10.toml", CGROUP);
    machine.load();
    // The other way round the good one is gone.
    machine.write(LIB, "10.toml", WRONG);
    fs::remove_file(machine.at(ETC, "10.toml")).unwrap();
    machine.load();
    assert_eq!(machine.kill(), None);
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_it_said() {
    let mut machine = Machine::new();
    machine.write(ETC, "10.toml", PROCESS);
    machine.load();
    fs::remove_file(machine.at(ETC, "10.toml")).unwrap();
    symlink("10.toml", machine.at(ETC, "10.toml")).unwrap();
    machine.load();
    assert_eq!(machine.kill().as_deref(), Some("process"));
    assert_eq!(machine.faults().len(), 1);
}

#[test]
fn a_directory_that_cannot_be_read_keeps_what_was_in_it() {
    let mut machine = Machine::new();
    machine.write(ETC, "10.toml", PROCESS);
    machine.write(ETC, "20.toml", "[defaults]\ncooldown = '1s'\n");
    machine.write(LIB, "10.toml", CGROUP);
    machine.load();
    let directory = machine.tree.path().join(ETC);
    fs::rename(&directory, directory.with_extension("old")).unwrap();
    symlink("conf.d", &directory).unwrap();
    assert!(machine.load());
    assert_eq!(machine.kill().as_deref(), Some("process"));
    assert!(
        machine
            .store
            .config()
            .defaults()
            .decides(Key::Cooldown)
            .is_some()
    );
    assert_eq!(machine.faults().len(), 1);
    assert!(!machine.load());
    fs::remove_file(&directory).unwrap();
    machine.load();
    assert_eq!(machine.kill().as_deref(), Some("cgroup"));
}

#[test]
fn files_say_in_order_what_they_say_without_masks_and_mistakes() {
    let mut machine = Machine::new();
    machine.write(ETC, "20.toml", WRONG);
    machine.write(ETC, "40.toml", CGROUP);
    machine.write(LIB, "10.toml", PROCESS);
    machine.write(LIB, "30.toml", PROCESS);
    symlink("/dev/null", machine.at(ETC, "30.toml")).unwrap();
    machine.load();
    let defaults = machine.store.config().defaults();
    let said: Vec<String> = defaults
        .history(Key::Kill)
        .iter()
        .map(|assignment| assignment.at.to_string())
        .collect();
    assert_eq!(
        said,
        [
            "/usr/lib/bpf-oomd/conf.d/10.toml:2:8",
            "/etc/bpf-oomd/conf.d/40.toml:2:8"
        ]
    );
    let [fault] = &machine.faults()[..] else {
        panic!("{:?}", machine.faults());
    };
    assert!(fault.starts_with("/etc/bpf-oomd/conf.d/20.toml:2:8: "));
}
