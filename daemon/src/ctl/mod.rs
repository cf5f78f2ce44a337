// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl`: what an administrator asks and checks. Everything here works without the daemon and without root.

mod cat_config;
mod check;
mod explain;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit status: what was asked for was found out, and it is not good (`check` found faults, `explain` no such unit).
const BAD: u8 = 1;
/// Exit status: it could not be found out. clap uses the same one for a command line that it does not understand.
const TROUBLE: u8 = 2;

/// Shows and checks what bpf-oomd does when memory runs out.
#[derive(Debug, Parser)]
#[command(name = "bpf-oomctl", version, about, long_about = None)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check configuration files and unit files; without arguments the whole configuration
    ///
    /// Says for each fault FILE:LINE:COLUMN, what was found and what was expected, as the daemon does. Exits with 0 if there is none,
    /// and else with 1.
    Check {
        /// Files to check: TOML drop-ins (*.toml), unit files, and drop-ins of unit files
        files: Vec<PathBuf>,
        /// Check the configuration below another root directory
        #[arg(long, value_name = "DIRECTORY", default_value = "/")]
        root: PathBuf,
    },
    /// Show the configuration files that are in force, in the order in which they apply
    CatConfig {
        /// Show those below another root directory
        #[arg(long, value_name = "DIRECTORY", default_value = "/")]
        root: PathBuf,
    },
    /// Show every setting of a unit, with where it was said and what was overruled
    ///
    /// The files are read as they are now: what was edited after the daemon read it is not in force yet, and what is faulty may still
    /// be in force as it was before.
    Explain {
        /// Units: sshd.service, user.slice
        #[arg(required = true, value_name = "UNIT")]
        units: Vec<String>,
    },
}

/// Does what the arguments say. Output goes to standard output, and what went wrong to standard error.
pub fn run(arguments: Arguments) -> ExitCode {
    let result = match arguments.command {
        Command::Check { files, root } if files.is_empty() => check::configuration(&root),
        Command::Check { files, .. } => check::files(&files),
        Command::CatConfig { root } => cat_config::cat_config(&root),
        Command::Explain { units } => explain::explain(&units),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(BAD),
        Err(error) => {
            eprintln!("bpf-oomctl: {}", crate::fault::causes(&*error));
            ExitCode::from(TROUBLE)
        }
    }
}

/// True if all is well, false if something is not as it should be, or an error if that cannot be told.
type Outcome = Result<bool, Box<dyn std::error::Error>>;
