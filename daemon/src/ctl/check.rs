// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl check`: the messages that the daemon would have, before it has them.

use super::{Outcome, Output, json, record};
use crate::config::{Configuration, check_file};
use crate::fault::Fault;
use crate::systemd::files::Files;
use crate::systemd::{directives, unit_name};
use std::ffi::OsStr;
use std::path::{Path, PathBuf, absolute};

/// Checks all configuration files below `root`.
pub(super) fn configuration(output: &Output, root: &Path) -> Outcome {
    let mut configuration = Configuration::below(root);
    configuration.read();
    tell(output, configuration.faults())
}

/// Checks some files.
pub(super) fn files(output: &Output, paths: &[PathBuf]) -> Outcome {
    let mut faults = Vec::new();
    for path in paths {
        let path = absolute(path)?;
        faults.extend(match unit_of(&path) {
            Some(unit) => unit_file(&path, &unit),
            None if path.extension() == Some(OsStr::new("toml")) => check_file(&path),
            None => vec![Fault::of_file(
                &path,
                "not a file that says anything about memory, expected a name that ends in .toml, a unit file, or a drop-in of one \
                 (UNIT.d/NAME.conf)",
            )],
        });
    }
    tell(output, &faults)
}

fn unit_file(path: &Path, unit: &str) -> Vec<Fault> {
    // A file that systemd names may have been removed meanwhile. One that somebody wants to have checked should be there.
    if let Err(error) = path.symlink_metadata() {
        return vec![Fault::of_file(path, error)];
    }
    let files = Files::below("/");
    let programs = bpf_oomd_bpf::policy_names();
    directives::read(unit, &[path.to_owned()], |path| files.read(path), programs).1
}

/// The unit that a unit file or a drop-in belongs to, if it is one of a kind of unit that has a cgroup.
fn unit_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = if path.extension() == Some(OsStr::new("conf")) {
        // NAME.conf of a directory "x.service.d", "service.d" or "foo-.service.d".
        let directory = path.parent()?.file_name()?.to_str()?.strip_suffix(".d")?;
        match directory.contains('.') {
            true => directory.to_owned(),
            false => format!("any.{directory}"),
        }
    } else {
        name.to_owned()
    };
    unit_name::section(&name).is_some().then_some(name)
}

fn tell(output: &Output, faults: &[Fault]) -> Outcome {
    if output.json {
        let faults: Vec<record::Fault> = faults.iter().map(Into::into).collect();
        json::write(&faults)?;
    } else {
        let lines: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        output.text(&lines)?;
    }
    Ok(faults.is_empty())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ctl) fn sample() -> Vec<record::Fault> {
        vec![(&Fault::of_file("/x", "wrong")).into()]
    }

    #[test]
    fn unit_files_and_all_kinds_of_drop_ins_are_known() {
        for (path, unit) in [
            ("/etc/systemd/system/x.service", Some("x.service")),
            ("/x/x@.service", Some("x@.service")),
            ("/x/x.slice.d/50-y.conf", Some("x.slice")),
            ("/x/service.d/50-y.conf", Some("any.service")),
            ("/x/foo-.service.d/50-y.conf", Some("foo-.service")),
            ("/x/timer.d/50-y.conf", None),
            ("/x/x.timer", None),
            ("/x/y.conf", None),
            ("/x/y.toml", None),
        ] {
            assert_eq!(unit_of(Path::new(path)).as_deref(), unit, "{path}");
        }
    }
}
