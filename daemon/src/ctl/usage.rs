// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory cgroups use, and how much they wait for it: read where everybody may read it.

use crate::cgroup::MOUNT_POINT;
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

/// What a cgroup uses. What cannot be told, because the cgroup is gone or without that controller, is None.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(super) struct Usage {
    /// Bytes of memory, page cache included.
    pub(super) memory: Option<u64>,
    /// Bytes of it that are page cache.
    pub(super) page_cache: Option<u64>,
    /// In how many percent of the last ten seconds some task waited for memory.
    pub(super) pressure_some_avg10: Option<f64>,
    /// The same for all tasks at once.
    pub(super) pressure_full_avg10: Option<f64>,
}

/// Where numbers are read.
#[derive(Debug)]
pub(super) struct Source {
    cgroups: PathBuf,
    proc: PathBuf,
}

impl Source {
    /// The running system.
    pub(super) fn system() -> Self {
        Source {
            cgroups: MOUNT_POINT.into(),
            proc: "/proc".into(),
        }
    }

    /// Directories that look like it.
    #[cfg(test)]
    pub(super) fn stand_in(cgroups: &std::path::Path, proc: &std::path::Path) -> Self {
        Source {
            cgroups: cgroups.to_owned(),
            proc: proc.to_owned(),
        }
    }

    /// What the cgroup at a path uses. `/` is the whole system.
    pub(super) fn usage(&self, path: &str) -> Usage {
        let file = |name: &str| fs::read_to_string(self.directory(path).join(name)).ok();
        let pressure = match is_root(path) {
            // The root has no file of its own where the kernel is told to keep no pressure of cgroups.
            true => fs::read_to_string(self.proc.join("pressure/memory")).ok(),
            false => file("memory.pressure"),
        };
        let pressure = |level| average(pressure.as_deref()?, level);
        Usage {
            memory: match is_root(path) {
                true => self
                    .system_total()
                    .zip(self.meminfo("MemFree:"))
                    .map(|(total, free)| total.saturating_sub(free)),
                false => file("memory.current").and_then(|text| text.trim().parse().ok()),
            },
            page_cache: file("memory.stat").and_then(|text| field(&text, "file")),
            pressure_some_avg10: pressure("some"),
            pressure_full_avg10: pressure("full"),
        }
    }

    /// The limit of the cgroup at a path: for the whole system, what the machine has. None if it has none of its own.
    pub(super) fn limit(&self, path: &str) -> Option<u64> {
        if is_root(path) {
            return self.system_total();
        }
        let text = fs::read_to_string(self.directory(path).join("memory.max")).ok()?;
        // "max" is no number, and no limit.
        text.trim().parse().ok()
    }

    /// The names of the cgroups directly below the one at a path, sorted.
    pub(super) fn below(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.directory(path)) else {
            // Gone meanwhile.
            return Vec::new();
        };
        let directories = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<String> = directories
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.cgroups.join(path.trim_start_matches('/'))
    }

    fn system_total(&self) -> Option<u64> {
        self.meminfo("MemTotal:")
    }

    fn meminfo(&self, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.proc.join("meminfo")).ok()?;
        Some(field(&text, name)? * 1024)
    }
}

/// Whether a path is that of the whole system.
fn is_root(path: &str) -> bool {
    path.trim_matches('/').is_empty()
}

/// The number in a line `NAME NUMBER ...`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut parts = line.split_whitespace();
        (parts.next() == Some(name)).then(|| parts.next()?.parse().ok())?
    })
}

/// `avg10` of a line of a pressure file: `some avg10=0.00 avg60=...`.
fn average(text: &str, level: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(level))?;
    let mut parts = line.split_whitespace();
    parts.find_map(|part| part.strip_prefix("avg10=")?.parse().ok())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A tree of cgroups: path, memory, page cache, limit.
    pub(in crate::ctl) fn tree(cgroups: &[(&str, u64, u64, &str)]) -> (tempfile::TempDir, Source) {
        let directory = tempfile::tempdir().unwrap();
        let source = Source::stand_in(
            &directory.path().join("cgroup"),
            &directory.path().join("proc"),
        );
        let write = |path: PathBuf, text: String| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (path, memory, cache, limit) in cgroups {
            let at = source.directory(path);
            write(at.join("memory.current"), format!("{memory}\n"));
            write(
                at.join("memory.stat"),
                format!("anon 5\nfile {cache}\nfile_mapped 7\n"),
            );
            write(at.join("memory.max"), format!("{limit}\n"));
            write(
                at.join("memory.pressure"),
                "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.50 avg60=0.00 avg300=0.00 total=1\n".into(),
            );
        }
        write(
            source.proc.join("meminfo"),
            "MemTotal:  4096 kB\nMemFree:  1024 kB\n".into(),
        );
        write(
            source.proc.join("pressure/memory"),
            "some avg10=0.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n".into(),
        );
        (directory, source)
    }

    #[test]
    fn numbers_of_a_cgroup_are_read() {
        let (_directory, source) = tree(&[("/a.slice", 100, 30, "200"), ("/b.slice", 1, 0, "max")]);
        let usage = Usage {
            memory: Some(100),
            page_cache: Some(30),
            pressure_some_avg10: Some(12.34),
            pressure_full_avg10: Some(1.5),
        };
        assert_eq!(source.usage("/a.slice"), usage);
        assert_eq!(source.limit("/a.slice"), Some(200));
        assert_eq!(source.limit("/b.slice"), None);
        assert_eq!(source.below("/"), ["a.slice", "b.slice"]);
    }

    #[test]
    fn the_root_is_the_machine() {
        let (_directory, source) = tree(&[("/", 1, 7, "max")]);
        let usage = source.usage("/");
        assert_eq!(usage.memory, Some(3 << 20));
        assert_eq!(usage.page_cache, Some(7));
        assert_eq!(usage.pressure_some_avg10, Some(0.5));
        assert_eq!(source.limit("/"), Some(4 << 20));
    }

    #[test]
    fn of_a_cgroup_that_is_gone_nothing_is_told() {
        let (_directory, source) = tree(&[]);
        assert_eq!(source.usage("/x.service"), Usage::default());
        assert_eq!(source.limit("/x.service"), None);
        assert!(source.below("/x.service").is_empty());
    }
}
