// SPDX-License-Identifier: MIT OR Apache-2.0
//! Precedence and masks, as directory trees.

use super::*;
use crate::systemd::files::LARGEST_FILE;
use std::os::unix::fs::symlink;

const ETC: &str = "etc/bpf-oomd/conf.d";
const RUN: &str = "run/bpf-oomd/conf.d";
const LIB: &str = "usr/lib/bpf-oomd/conf.d";

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Tree(tempfile::tempdir().unwrap());
        for directory in DIRECTORIES {
            fs::create_dir_all(tree.at(&directory[1..])).unwrap();
        }
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
    }

    fn link(&self, target: &str, path: &str) {
        symlink(target, self.at(path)).unwrap();
    }

    /// Files as `PATH: CONTENT`, in order.
    fn read(&self) -> Vec<String> {
        let found = ConfigRoot::below(self.0.path()).read();
        assert_eq!(found.unreadable, []);
        let show = |file: &ConfigFile| match &file.content {
            Content::Text(text) => {
                format!("{}: {}", file.path.display(), String::from_utf8_lossy(text))
            }
            Content::Masked => format!("{}: masked", file.path.display()),
            Content::Fault(fault) => fault.to_string(),
        };
        found.files.values().map(show).collect()
    }
}

#[test]
fn no_directories_are_no_files() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(ConfigRoot::below(root.path()).read(), Found::default());
}

#[test]
fn the_highest_directory_wins_and_names_are_sorted_together() {
    let tree = Tree::new();
    let local = "usr/local/lib/bpf-oomd/conf.d";
    for (path, text) in [(LIB, "lib"), (local, "local"), (RUN, "run"), (ETC, "etc")] {
        tree.write(&format!("{path}/50-all.toml"), text);
    }
    for path in [LIB, local, RUN] {
        tree.write(&format!("{path}/40-run.toml"), path);
    }
    tree.write(&format!("{LIB}/10.toml"), "first");
    tree.write(&format!("{LIB}/9.toml"), "by bytes");
    tree.write(&format!("{ETC}/Z.toml"), "upper case");
    tree.write(&format!("{ETC}/a.toml"), "lower case");
    assert_eq!(
        tree.read(),
        [
            "/usr/lib/bpf-oomd/conf.d/10.toml: first",
            "/run/bpf-oomd/conf.d/40-run.toml: run/bpf-oomd/conf.d",
            "/etc/bpf-oomd/conf.d/50-all.toml: etc",
            "/usr/lib/bpf-oomd/conf.d/9.toml: by bytes",
            "/etc/bpf-oomd/conf.d/Z.toml: upper case",
            "/etc/bpf-oomd/conf.d/a.toml: lower case",
        ]
    );
}

#[test]
fn other_names_are_not_read() {
    let tree = Tree::new();
    for name in [
        ".hidden.toml",
        ".toml",
        "a.toml~",
        "#a.toml#",
        "a.conf",
        "toml",
        "a.TOML",
    ] {
        tree.write(&format!("{ETC}/{name}"), "x");
    }
    assert_eq!(tree.read(), [""; 0]);
}

#[test]
fn a_link_to_dev_null_and_an_empty_file_mask() {
    let tree = Tree::new();
    for name in ["absolute", "relative", "chain", "empty", "linked-empty"] {
        tree.write(&format!("{LIB}/{name}.toml"), "hidden");
    }
    tree.link("/dev/null", &format!("{ETC}/absolute.toml"));
    tree.link("../../../dev/null", &format!("{ETC}/relative.toml"));
    tree.link("absolute.toml", &format!("{ETC}/chain.toml"));
    tree.write(&format!("{RUN}/empty.toml"), "");
    tree.write("etc/nothing", "");
    tree.link("/etc/nothing", &format!("{ETC}/linked-empty.toml"));
    assert_eq!(
        tree.read(),
        [
            "/etc/bpf-oomd/conf.d/absolute.toml: masked",
            "/etc/bpf-oomd/conf.d/chain.toml: masked",
            "/run/bpf-oomd/conf.d/empty.toml: masked",
            "/etc/bpf-oomd/conf.d/linked-empty.toml: masked",
            "/etc/bpf-oomd/conf.d/relative.toml: masked",
        ]
    );
}

#[test]
fn links_are_followed_inside_the_root() {
    let tree = Tree::new();
    fs::create_dir_all(tree.at("opt/v1")).unwrap();
    tree.write("opt/v1/x", "linked");
    tree.link("v1", "opt/now");
    tree.link("/opt/now/x", &format!("{ETC}/a.toml"));
    tree.link("../../../opt/now/x", &format!("{ETC}/b.toml"));
    // A directory may be one too.
    fs::remove_dir(tree.at(RUN)).unwrap();
    tree.link("/opt/v1", RUN);
    tree.write("opt/v1/c.toml", "in a linked directory");
    assert_eq!(
        tree.read(),
        [
            "/etc/bpf-oomd/conf.d/a.toml: linked",
            "/etc/bpf-oomd/conf.d/b.toml: linked",
            "/run/bpf-oomd/conf.d/c.toml: in a linked directory",
        ]
    );
}

#[test]
fn what_is_no_file_is_a_fault_and_hides_lower_ones() {
    let tree = Tree::new();
    for name in ["directory", "fifo", "loop", "nowhere", "out"] {
        tree.write(&format!("{LIB}/{name}.toml"), "hidden");
    }
    fs::create_dir(tree.at(&format!("{ETC}/directory.toml"))).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.at(&format!("{ETC}/fifo.toml")),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    tree.link("loop.toml", &format!("{ETC}/loop.toml"));
    tree.link("/nowhere/x", &format!("{ETC}/nowhere.toml"));
    // It exists, but not inside the root.
    let outside = tempfile::NamedTempFile::new().unwrap();
    tree.link(outside.path().to_str().unwrap(), &format!("{ETC}/out.toml"));
    assert_eq!(
        tree.read(),
        [
            "/etc/bpf-oomd/conf.d/directory.toml: not a regular file".to_owned(),
            "/etc/bpf-oomd/conf.d/fifo.toml: not a regular file".to_owned(),
            "/etc/bpf-oomd/conf.d/loop.toml: cannot be read: Too many levels of symbolic links (os error 40)".to_owned(),
            "/etc/bpf-oomd/conf.d/nowhere.toml: the link leads to /nowhere/x, which does not exist".to_owned(),
            format!(
                "/etc/bpf-oomd/conf.d/out.toml: the link leads to {}, which does not exist",
                outside.path().display()
            ),
        ]
    );
}

#[test]
fn an_endless_file_is_a_fault() {
    let tree = Tree::new();
    let file = fs::File::create(tree.at(&format!("{ETC}/big.toml"))).unwrap();
    file.set_len(100 << 20).unwrap();
    assert_eq!(
        tree.read(),
        [format!(
            "/etc/bpf-oomd/conf.d/big.toml: the file is larger than {LARGEST_FILE} bytes"
        )]
    );
}

#[test]
fn a_directory_that_cannot_be_read_is_a_fault_and_the_others_are_read() {
    let tree = Tree::new();
    tree.write(&format!("{LIB}/a.toml"), "read");
    fs::remove_dir(tree.at(ETC)).unwrap();
    tree.link("conf.d", ETC);
    fs::remove_dir(tree.at(RUN)).unwrap();
    tree.write(RUN, "a file");
    let found = ConfigRoot::below(tree.0.path()).read();
    let faults: Vec<(usize, String)> = found
        .unreadable
        .iter()
        .map(|(directory, fault)| (*directory, fault.to_string()))
        .collect();
    assert_eq!(
        faults,
        [
            (
                0,
                "/etc/bpf-oomd/conf.d: cannot be read: Too many levels of symbolic links (os error 40)"
                    .to_owned()
            ),
            (
                1,
                "/run/bpf-oomd/conf.d: cannot be read: Not a directory (os error 20)".to_owned()
            ),
        ]
    );
    assert_eq!(found.files.len(), 1);
}
