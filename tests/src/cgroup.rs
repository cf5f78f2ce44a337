// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cgroups of a test's own, directly below the root and so out of systemd's way, gone when the test is over.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::user::set_attribute;
use crate::wait::{SOON, eventually_within};

const ROOT: &str = "/sys/fs/cgroup";

/// 1 MiB in bytes.
pub const MIB: u64 = 1024 * 1024;

/// A cgroup; dropping it kills what is inside and removes it with everything below.
pub struct Cgroup {
    path: PathBuf,
    id: u64,
}

impl Cgroup {
    /// A new cgroup below the root, with the memory controller. A number is added to the name, so that it is always a new one.
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        enable_memory(Path::new(ROOT));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        Self::create(Path::new(ROOT).join(format!("bpf-oomd-test-{pid}-{number}-{name}")))
    }

    /// A new cgroup inside this one, with the memory controller. This one must not have processes of its own.
    pub fn child(&self, name: &str) -> Self {
        enable_memory(&self.path);
        Self::create(self.path.join(name))
    }

    /// A new cgroup inside this one, without turning the memory controller on for it.
    pub fn child_without_memory(&self, name: &str) -> Self {
        Self::create(self.path.join(name))
    }

    fn create(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap_or_else(|error| panic!("mkdir {}: {error}", path.display()));
        let id = id_of(&path);
        let cgroup = Self { path, id };
        // Anonymous memory must stay where the tests put it.
        if cgroup.path.join("memory.swap.max").exists() {
            cgroup.write("memory.swap.max", "0");
        }
        cgroup
    }

    /// The cgroup's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is in the tree, as records say it: what is mounted at `/sys/fs/cgroup` is the root.
    pub fn path_in_the_tree(&self) -> String {
        let below = self.path.strip_prefix(ROOT).expect("a cgroup");
        Path::new("/").join(below).display().to_string()
    }

    /// Sets an extended attribute of the directory.
    #[track_caller]
    pub fn set_attribute(&self, name: &str, value: &str) {
        set_attribute(&self.path, name, value.as_bytes())
            .unwrap_or_else(|error| panic!("set {name} of {}: {error}", self.path.display()));
    }

    /// The cgroup's id; on 64-bit machines that is its directory's inode number (`include/linux/kernfs.h`).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A file descriptor of the directory.
    pub fn open(&self) -> OwnedFd {
        fs::File::open(&self.path)
            .unwrap_or_else(|error| panic!("open {}: {error}", self.path.display()))
            .into()
    }

    /// Writes one of the cgroup's files.
    #[track_caller]
    pub fn write(&self, file: &str, value: &str) {
        if let Err(error) = self.try_write(file, value) {
            panic!("write {value:?} to {}/{file}: {error}", self.path.display());
        }
    }

    /// Writes one of the cgroup's files, which may be refused.
    pub fn try_write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.path.join(file), value)
    }

    /// Sets `memory.max`, in bytes.
    pub fn limit(&self, bytes: u64) {
        self.write("memory.max", &bytes.to_string());
    }

    /// Reads one of the cgroup's files.
    #[track_caller]
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file))
            .unwrap_or_else(|error| panic!("read {}/{file}: {error}", self.path.display()))
    }

    /// `memory.current`, in bytes.
    #[track_caller]
    pub fn memory_current(&self) -> u64 {
        number(&self.read("memory.current"))
    }

    /// One value of a file of lines `KEY VALUE`, such as `memory.events` or `memory.stat`.
    #[track_caller]
    pub fn value(&self, file: &str, key: &str) -> u64 {
        self.optional_value(file, key)
            .unwrap_or_else(|| panic!("no {key} in {}/{file}", self.path.display()))
    }

    /// The same, for a key that not every kernel has.
    #[track_caller]
    pub fn optional_value(&self, file: &str, key: &str) -> Option<u64> {
        let text = self.read(file);
        let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
        Some(number(pairs.find(|(name, _)| *name == key)?.1))
    }

    /// How many processes the OOM killer has killed here and below: `oom_kill` of `memory.events`.
    #[track_caller]
    pub fn oom_kills(&self) -> u64 {
        self.value("memory.events", "oom_kill")
    }

    /// How long some or all (`full`) of its tasks have waited for a resource so far.
    #[track_caller]
    pub fn pressure(&self, resource: &str, level: &str) -> Duration {
        pressure_of(&self.path, resource, level)
    }

    /// Waits until all of its tasks have waited for memory for so long, from now on.
    #[track_caller]
    pub fn wait_for_stall(&self, time: Duration) {
        let before = self.pressure("memory", "full");
        eventually_within(SOON, || {
            let stalled = self.pressure("memory", "full") - before;
            if stalled >= time {
                return Ok(());
            }
            Err(format!("stalled for {stalled:?} only"))
        });
    }

    /// Kills every process here and below.
    pub fn kill_all(&self) {
        self.write("cgroup.kill", "1");
    }

    /// Takes the memory controller away from the cgroups inside this one.
    pub fn disable_memory_below(&self) {
        self.write("cgroup.subtree_control", "-memory");
    }

    /// Removes the empty directory, as rmdir does. Waits for processes that have been killed to be gone.
    #[track_caller]
    pub fn remove(self) {
        remove_dir(&self.path);
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !self.path.exists() {
            return;
        }
        let clean_up = || {
            let _ = self.try_write("cgroup.kill", "1");
            remove_tree(&self.path);
        };
        if thread::panicking() {
            // The test has failed already; a second panic here would abort the run and hide the first.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(clean_up));
        } else {
            clean_up();
        }
    }
}

/// The id of the cgroup with this directory.
pub fn id_of(path: &Path) -> u64 {
    fs::metadata(path)
        .unwrap_or_else(|error| panic!("stat {}: {error}", path.display()))
        .ino()
}

/// How long some or all (`full`) tasks of the cgroup with this directory have waited for a resource so far, as its pressure file says.
#[track_caller]
pub fn pressure_of(path: &Path, resource: &str, level: &str) -> Duration {
    let file = path.join(format!("{resource}.pressure"));
    let text = fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
    let total = text
        .lines()
        .find(|line| line.starts_with(level))
        .and_then(|line| line.rsplit_once("total="))
        .unwrap_or_else(|| panic!("no {level} in {text:?}"));
    Duration::from_micros(number(total.1))
}

fn enable_memory(path: &Path) {
    let file = path.join("cgroup.subtree_control");
    fs::write(&file, "+memory")
        .unwrap_or_else(|error| panic!("+memory to {}: {error}", file.display()));
}

fn number(text: &str) -> u64 {
    let text = text.trim();
    text.parse()
        .unwrap_or_else(|_| panic!("not a number: {text:?}"))
}

fn remove_dir(path: &Path) {
    eventually_within(SOON, || match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("rmdir {}: {error}", path.display())),
    });
}

fn remove_tree(path: &Path) {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path());
            }
        }
    }
    remove_dir(path);
}
