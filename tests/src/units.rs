// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unit files of a test's own, in their real place, gone when the test is over.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crate::hog;
use crate::systemctl::{daemon_reload, start, systemctl_if_possible};

/// Where an administrator would put them, but gone with the next boot.
const DIRECTORY: &str = "/run/systemd/system";

/// Unit files and drop-ins; dropping them stops the units and removes the files.
#[derive(Default)]
pub struct Units {
    files: BTreeSet<PathBuf>,
    /// To be stopped at the end.
    names: BTreeSet<String>,
}

impl Units {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the file of a unit and returns its path. systemd has not read it yet.
    pub fn write(&mut self, name: &str, text: &str) -> PathBuf {
        self.names.insert(name.to_owned());
        self.put(Path::new(DIRECTORY).join(name), text)
    }

    /// Writes the drop-in `NAME.conf` of a unit, perhaps of one that is not the test's own, and returns its path.
    pub fn write_drop_in(&mut self, unit: &str, name: &str, text: &str) -> PathBuf {
        self.put(drop_in(unit, name), text)
    }

    /// Removes a drop-in.
    pub fn remove_drop_in(&mut self, unit: &str, name: &str) {
        let path = drop_in(unit, name);
        fs::remove_file(&path).unwrap_or_else(|error| panic!("rm {}: {error}", path.display()));
        self.files.remove(&path);
    }

    /// Stops a unit at the end that has no file of its own here: an instance of a template.
    pub fn stop_at_the_end(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    /// Does not stop a unit at the end: it is over already.
    pub fn forget(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Starts slices without anything in them or said of them: `NAME0.slice` and so on. They are stopped at the end.
    #[track_caller]
    pub fn start_slices(&mut self, name: &str, number: usize) {
        let names: Vec<String> = (0..number).map(|n| format!("{name}{n}.slice")).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        start(&all);
        self.names.extend(names);
    }

    fn put(&mut self, path: PathBuf, text: &str) -> PathBuf {
        let directory = path.parent().expect("a file in a directory");
        fs::create_dir_all(directory)
            .unwrap_or_else(|error| panic!("mkdir {}: {error}", directory.display()));
        fs::write(&path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        self.files.insert(path.clone());
        path
    }
}

fn drop_in(unit: &str, name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{unit}.d/{name}.conf"))
}

impl Drop for Units {
    fn drop(&mut self) {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        if !names.is_empty() {
            // Units that are not there, or have not failed, are refused; nothing is left of them either way.
            systemctl_if_possible(&[&["stop", "--"], &names[..]].concat());
            systemctl_if_possible(&[&["reset-failed", "--"], &names[..]].concat());
        }
        for file in &self.files {
            let removed = fs::remove_file(file);
            if let Some(directory) = file.parent()
                && directory != Path::new(DIRECTORY)
            {
                // Succeeds when it was the last drop-in. The directory of all units stays: by it, programs see that systemd runs.
                let _ = fs::remove_dir(directory);
            }
            if !thread::panicking() {
                removed.unwrap_or_else(|error| panic!("rm {}: {error}", file.display()));
            }
        }
        if !thread::panicking() {
            daemon_reload();
        } else {
            systemctl_if_possible(&["daemon-reload"]);
        }
    }
}

/// The text of a unit file that makes a service of a hog, in a slice. It counts as started when it has done a `notify=READY=1` step.
/// `settings` are further lines of its `[Service]` section.
pub fn hog_service(slice: &str, settings: &[&str], steps: &str) -> String {
    let mut text = format!(
        "[Unit]\nDescription=Uses memory: {steps}\n\n\
         [Service]\nType=notify\nSlice={slice}\nExecStart={} {steps}\n\
         # Anonymous memory must stay where the test puts it.\n\
         MemorySwapMax=0\n",
        hog::program().display()
    );
    for setting in settings {
        writeln!(text, "{setting}").expect("write to a string");
    }
    text
}

/// The text of a unit file of a slice with these settings.
pub fn slice(settings: &[&str]) -> String {
    format!("[Slice]\nMemorySwapMax=0\n{}\n", settings.join("\n"))
}
