// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages of bpf-oomd, as an administrator meets them: installed, upgraded, removed, and purged. One file per kind of package,
//! one test per statement.
//!
//! Runs as root in a test machine in which the project is not installed (`tests/vm/run --packages`), and leaves it so.

mod deb;
mod files;
mod installed;
mod package;
mod rpm;

use std::process::{Command, Output};

/// Where the image has the packages.
const DIRECTORY: &str = "/usr/lib/bpf-oomd-tests/built";
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .unwrap_or_else(|error| panic!("run {program}: {error}"))
}

/// Runs what has to succeed; returns all that it says.
#[track_caller]
fn told(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
