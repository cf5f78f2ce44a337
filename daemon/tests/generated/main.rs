// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is made of the definition of `bpf-oomctl`'s command line, and is checked in: the reference in its man page, and completion.
//!
//! To write all of it anew: `BPF_OOMD_GENERATE=1 cargo test -p bpf-oomd --test generated`.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used)]

mod bash;
mod completion;
mod fish;
mod man;
mod zsh;

use clap::{Command, CommandFactory};
use std::path::PathBuf;
use std::{env, fs};

/// The command line, with everything in it that clap adds.
fn definition() -> Command {
    let mut definition = bpf_oomd::ctl::Arguments::command();
    definition.build();
    definition
}

/// Holds a file that is installed against what it should be, or writes it.
#[track_caller]
fn is_up_to_date(name: &str, expected: &str) {
    let path = installed(name);
    if env::var_os("BPF_OOMD_GENERATE").is_some() {
        let directory = path.parent().unwrap();
        fs::create_dir_all(directory).unwrap();
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the command line is now; to write it anew:\n\
         BPF_OOMD_GENERATE=1 cargo test -p bpf-oomd --test generated",
        path.display()
    );
}

/// Where a file is that is installed below /usr/share.
fn installed(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../units/usr/share")
        .join(name)
}
