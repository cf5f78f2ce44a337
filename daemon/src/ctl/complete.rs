// SPDX-License-Identifier: MIT OR Apache-2.0
//! What shells complete: the files for them call `bpf-oomctl complete-units` and `complete-policies`.
//!
//! systemd is asked and not the daemon, because units can be named that the daemon knows nothing about, and while it does not run.
//! Whatever goes wrong, nothing is said: somebody is typing.

use super::daemon::run;
use super::{Outcome, Output};
use crate::systemd::{bus, unit_name};
use zbus::Connection;

/// The units that may be named, one a line.
pub(super) fn units(output: &Output) -> Outcome {
    let listed = run(async {
        let bus = Connection::system().await?;
        bus::list_units(&bus).await
    });
    let mut names: Vec<String> = listed
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
        .into_iter()
        .map(|unit| unit.name)
        .filter(|name| unit_name::section(name).is_some())
        .collect();
    names.sort_unstable();
    lines(output, names)
}

/// The policies that there are, one a line.
pub(super) fn policies(output: &Output) -> Outcome {
    let programs = bpf_oomd_bpf::policy_names().iter();
    let names = programs.map(|name| format!("bpf:{name}"));
    lines(output, names.chain(["kernel".to_owned()]))
}

fn lines(output: &Output, names: impl IntoIterator<Item = String>) -> Outcome {
    let text: String = names.into_iter().map(|name| name + "\n").collect();
    output.text(&text)?;
    Ok(true)
}
