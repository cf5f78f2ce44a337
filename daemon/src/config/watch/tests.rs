// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is noticed and what is not, as directory trees. The kernel queues a report before the change's system call returns, so
//! that nothing here waits.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

const ETC: &str = "etc/bpf-oomd/conf.d";

struct Tree {
    tree: tempfile::TempDir,
    watch: Watch,
}

impl Tree {
    fn new(directories: &[&str]) -> Self {
        let tree = tempfile::tempdir().unwrap();
        for directory in directories {
            fs::create_dir_all(tree.path().join(directory)).unwrap();
        }
        let watch = Watch::new(&ConfigRoot::below(tree.path())).unwrap();
        Tree { tree, watch }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.tree.path().join(path)
    }

    /// Makes the watch anew, as after a change.
    fn renew(&mut self) {
        self.watch = Watch::new(&ConfigRoot::below(self.tree.path())).unwrap();
    }

    /// Whether a change was noticed. Then the watch is made anew.
    fn noticed(&mut self) -> bool {
        let noticed = self.watch.drain();
        if noticed {
            self.renew();
        }
        assert!(!self.watch.drain());
        noticed
    }
}

#[test]
fn a_chain_of_directories_is_waited_for() {
    let mut tree = Tree::new(&[]);
    for directory in ["etc", "etc/bpf-oomd", ETC] {
        fs::create_dir(tree.at(directory)).unwrap();
        assert!(tree.noticed(), "{directory}");
    }
    fs::write(tree.at(ETC).join("a.toml"), "x").unwrap();
    assert!(tree.noticed());
    // All at once, faster than anybody looks.
    fs::create_dir_all(tree.at("usr/local/lib/bpf-oomd/conf.d")).unwrap();
    fs::write(tree.at("usr/local/lib/bpf-oomd/conf.d/a.toml"), "x").unwrap();
    assert!(tree.noticed());
    fs::write(tree.at("usr/local/lib/bpf-oomd/conf.d/a.toml"), "y").unwrap();
    assert!(tree.noticed());
}

#[test]
fn a_file_written_in_place_is_noticed_when_it_is_closed() {
    use std::io::Write;
    let mut tree = Tree::new(&[ETC]);
    let path = tree.at(ETC).join("a.toml");
    fs::write(&path, "x").unwrap();
    assert!(tree.noticed());
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"y").unwrap();
    assert!(!tree.noticed());
    drop(file);
    assert!(tree.noticed());
    fs::read(&path).unwrap();
    assert!(!tree.noticed());
}

#[test]
fn a_file_that_replaces_another_is_noticed() {
    let mut tree = Tree::new(&[ETC]);
    let path = tree.at(ETC).join("a.toml");
    fs::write(&path, "x").unwrap();
    assert!(tree.noticed());
    let new = path.with_file_name(".a.toml.new");
    fs::write(&new, "y").unwrap();
    assert!(!tree.noticed());
    fs::rename(&new, &path).unwrap();
    assert!(tree.noticed());
    fs::rename(&path, tree.at("a.toml")).unwrap();
    assert!(tree.noticed());
}

#[test]
fn deletion_masks_and_modes_are_noticed() {
    let mut tree = Tree::new(&[ETC]);
    let path = tree.at(ETC).join("a.toml");
    fs::write(&path, "x").unwrap();
    assert!(tree.noticed());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(tree.noticed());
    fs::remove_file(&path).unwrap();
    assert!(tree.noticed());
    symlink("/dev/null", &path).unwrap();
    assert!(tree.noticed());
}

#[test]
fn what_is_behind_a_link_is_watched() {
    let mut tree = Tree::new(&[ETC, "opt/v1", "opt/v2"]);
    fs::write(tree.at("opt/v1/x"), "x").unwrap();
    symlink("v1", tree.at("opt/now")).unwrap();
    assert!(!tree.noticed());
    symlink("/opt/now/x", tree.at(ETC).join("a.toml")).unwrap();
    assert!(tree.noticed());
    fs::write(tree.at("opt/v1/x"), "y").unwrap();
    assert!(tree.noticed());
    fs::write(tree.at("opt/v1/other"), "y").unwrap();
    fs::write(tree.at("opt/v2/x"), "z").unwrap();
    assert!(!tree.noticed());
    // The link on the way is turned.
    symlink("v2", tree.at("opt/next")).unwrap();
    fs::rename(tree.at("opt/next"), tree.at("opt/now")).unwrap();
    assert!(tree.noticed());
    fs::write(tree.at("opt/v2/x"), "zz").unwrap();
    assert!(tree.noticed());
    // The target comes and goes.
    fs::remove_file(tree.at("opt/v2/x")).unwrap();
    assert!(tree.noticed());
    fs::write(tree.at("opt/v2/x"), "zzz").unwrap();
    assert!(tree.noticed());
}

#[test]
fn a_link_that_leads_nowhere_is_waited_for() {
    let mut tree = Tree::new(&[ETC]);
    symlink("/srv/a/b", tree.at(ETC).join("a.toml")).unwrap();
    assert!(tree.noticed());
    fs::create_dir_all(tree.at("srv/a")).unwrap();
    assert!(tree.noticed());
    fs::write(tree.at("srv/a/b"), "x").unwrap();
    assert!(tree.noticed());
}

#[test]
fn a_linked_directory_is_watched() {
    let mut tree = Tree::new(&["etc/bpf-oomd", "opt/d"]);
    symlink("/opt/d", tree.at(ETC)).unwrap();
    assert!(tree.noticed());
    fs::write(tree.at("opt/d/a.toml"), "x").unwrap();
    assert!(tree.noticed());
}

#[test]
fn a_directory_that_goes_is_noticed() {
    let mut tree = Tree::new(&[ETC]);
    fs::rename(tree.at("etc/bpf-oomd"), tree.at("etc/old")).unwrap();
    assert!(tree.noticed());
    fs::write(tree.at("etc/old/conf.d/a.toml"), "x").unwrap();
    assert!(!tree.noticed());
    fs::rename(tree.at("etc/old"), tree.at("etc/bpf-oomd")).unwrap();
    assert!(tree.noticed());
    fs::remove_dir_all(tree.at("etc/bpf-oomd")).unwrap();
    assert!(tree.noticed());
}

#[test]
fn other_names_are_not_noticed() {
    let mut tree = Tree::new(&[ETC]);
    for path in [
        "etc/passwd",
        "etc/bpf-oomd/other",
        "etc/bpf-oomd/conf.d/a.toml~",
    ] {
        fs::write(tree.at(path), "x").unwrap();
    }
    assert!(!tree.noticed());
}

#[test]
fn a_link_that_goes_round_is_watched_too() {
    let mut tree = Tree::new(&[ETC]);
    let path = tree.at(ETC).join("a.toml");
    symlink("a.toml", &path).unwrap();
    assert!(tree.noticed());
    fs::remove_file(&path).unwrap();
    assert!(tree.noticed());
}

#[test]
fn reports_that_were_lost_are_a_change() {
    let tree = Tree::new(&[ETC]);
    let watch = tree.watch.inotify.watches().add(tree.at(ETC), CHANGES);
    assert!(
        tree.watch
            .matters(watch.unwrap(), EventMask::Q_OVERFLOW, None)
    );
}

#[test]
fn it_is_readable_when_there_is_something_to_drain() {
    let mut tree = Tree::new(&[ETC]);
    let ready = |watch: &Watch| {
        let mut polled = [rustix::event::PollFd::new(
            watch,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec::default();
        rustix::event::poll(&mut polled, Some(&now)).unwrap() == 1
    };
    assert!(!ready(&tree.watch));
    fs::write(tree.at(ETC).join("a.toml"), "x").unwrap();
    assert!(ready(&tree.watch));
    assert!(tree.watch.drain());
    assert!(!ready(&tree.watch));
}
