// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl`: what an administrator asks, checks and sets. What only asks works without root, and without the daemon too.

mod cat_config;
mod check;
mod daemon;
mod explain;
mod pressure;
mod run_time;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit status: what was asked for was found out, and it is not good (`check` found faults, `explain` no such unit), or
/// the daemon refused what it was asked to do.
const BAD: u8 = 1;
/// Exit status: it could not be found out or done. clap uses the same one for a command line that it does not understand.
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
    /// The daemon is asked what is in force. If it does not run, or the unit does not, the files are read as they are now, and that is
    /// said.
    Explain {
        /// Units: sshd.service, user.slice
        #[arg(required = true, value_name = "UNIT", allow_hyphen_values = true)]
        units: Vec<String>,
    },
    /// Give a unit a policy at run time, whatever its files and the configuration say
    ///
    /// Returns when it is in force; for a unit that does not run, that is when it starts. It stays until it is reset, its time is over,
    /// or bpf-oomd is stopped.
    SetPolicy {
        /// The unit: sshd.service, user.slice, -.slice for the system
        #[arg(allow_hyphen_values = true)]
        unit: String,
        /// The policy: bpf:NAME or kernel
        policy: String,
        /// For how long: 10min, 1h 30min
        #[arg(long = "for", value_name = "TIME", value_parser = run_time::length, default_value = "infinity")]
        length: run_time::Length,
    },
    /// Take away the policy that a unit was given at run time
    ResetPolicy {
        /// The unit
        #[arg(allow_hyphen_values = true)]
        unit: String,
    },
    /// Show the units that are watched for pressure, and what came of their stalls
    Pressure,
    /// Let bpf-oomd read the configuration and all unit files again
    Reload,
}

/// Does what the arguments say. Output goes to standard output, and what went wrong to standard error.
pub fn run(arguments: Arguments) -> ExitCode {
    let result = match arguments.command {
        Command::Check { files, root } if files.is_empty() => check::configuration(&root),
        Command::Check { files, .. } => check::files(&files),
        Command::CatConfig { root } => cat_config::cat_config(&root),
        Command::Explain { units } => explain::explain(&units),
        Command::SetPolicy {
            unit,
            policy,
            length,
        } => run_time::set_policy(&unit, &policy, length.0),
        Command::ResetPolicy { unit } => run_time::reset_policy(&unit),
        Command::Pressure => pressure::pressure(),
        Command::Reload => run_time::reload(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parsed(line: &str) -> Option<Command> {
        let arguments = Arguments::try_parse_from(line.split(' '));
        arguments.ok().map(|arguments| arguments.command)
    }

    #[test]
    fn the_root_slice_is_a_unit_and_no_option() {
        for line in [
            "bpf-oomctl set-policy -.slice kernel --for=2s",
            "bpf-oomctl set-policy --for=2s -.slice kernel",
            "bpf-oomctl set-policy --for 2s -.slice kernel",
        ] {
            let Some(Command::SetPolicy {
                unit,
                policy,
                length,
            }) = parsed(line)
            else {
                panic!("{line}");
            };
            assert_eq!((&*unit, &*policy), ("-.slice", "kernel"), "{line}");
            assert_eq!(length.0, Some(Duration::from_secs(2)), "{line}");
        }
        assert!(matches!(
            parsed("bpf-oomctl reset-policy -.slice"),
            Some(Command::ResetPolicy { unit }) if unit == "-.slice"
        ));
        assert!(matches!(
            parsed("bpf-oomctl explain -.slice a.slice"),
            Some(Command::Explain { units }) if units == ["-.slice", "a.slice"]
        ));
    }
}
