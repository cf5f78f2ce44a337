// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl`: what an administrator asks, checks and sets. What only asks works without root; what reads files, without the daemon
//! too.
//!
//! One file for each command. What it shows is made by a function that is given data and a `Look`, and nothing else.

mod agent;
mod cat_config;
mod check;
mod complete;
mod daemon;
mod explain;
mod follower;
mod json;
mod kills;
mod list;
mod look;
mod moment;
mod notify;
mod number;
mod policies;
mod pressure;
mod record;
mod run_time;
mod screen;
mod simulate;
mod status;
mod table;
mod top;
mod tree;
mod usage;
mod victims;

use clap::{Args, Parser, Subcommand};
use daemon::NoAnswer;
use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Exit status: what was asked for was found out, and it is not good (`check` or `status` found faults, there is no such unit), or
/// the daemon refused what it was asked to do.
const BAD: u8 = 1;
/// Exit status: it could not be found out or done. clap uses the same one for a command line that it does not understand.
const TROUBLE: u8 = 2;
/// Exit status: the daemon does not run. systemctl says the same of units that do not.
const NOT_RUNNING: u8 = 3;

/// Shows, checks and sets what bpf-oomd does when memory runs out.
#[derive(Debug, Parser)]
#[command(name = "bpf-oomctl", version)]
pub struct Arguments {
    /// Print JSON, as described in bpf-oomctl(1)
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show whether bpf-oomd runs, what the kernel can do, what was done, and what is wrong
    ///
    /// Exits with 0 if it runs and nothing is wrong, with 1 if something is, and with 3 if it does not run.
    Status,
    /// Show units: their policies and where those are said, memory, pressure, kills
    ///
    /// Those that run, and those that were victims since bpf-oomd was started. MEMORY is all memory, CACHE the part of it that is page
    /// cache. PRESSURE says in how many percent of the last ten seconds some task of the unit waited for memory. KILLS says how often
    /// the unit was the victim.
    List {
        /// Show these units alone
        #[arg(value_name = "UNIT", allow_hyphen_values = true)]
        units: Vec<String>,
        /// Show all that systemd has loaded, also those that do not run
        #[arg(long, short, conflicts_with = "units")]
        all: bool,
    },
    /// Show the tree of cgroups: memory, policies, and who would die next
    ///
    /// A bar shows how much of the nearest limit, its own or one above it, a cgroup uses: memory, then page cache, then what is left.
    /// Of each unit that has a policy program the next victim is marked, as simulate finds it.
    Tree {
        /// Show what is below this unit
        #[arg(value_name = "UNIT", allow_hyphen_values = true)]
        unit: Option<String>,
    },
    /// Show every setting of a unit, with where it was said and what was overruled
    ///
    /// The daemon is asked what is in force. If it does not run, or the unit does not, the files are read as they are now, and that is
    /// said on standard error.
    Explain {
        /// Units: sshd.service, user.slice
        #[arg(required = true, value_name = "UNIT", allow_hyphen_values = true)]
        units: Vec<String>,
    },
    /// Show who would die if a unit ran out of memory now, and who after that
    ///
    /// The same program ranks that decides when memory runs out, so what is shown is what would happen. Nobody is killed. Whom the
    /// kernel's own killer would choose cannot be told.
    Simulate {
        /// The unit that runs out: batch.slice, -.slice for the system
        #[arg(value_name = "UNIT", allow_hyphen_values = true)]
        unit: String,
    },
    /// Show who was killed, when, by whom and why
    ///
    /// bpf-oomd keeps the last 1024 kills until it is stopped; the journal keeps them as long as the rest. With --follow, kills are
    /// shown as they happen after those that there were, each once, until the program is ended.
    Kills {
        /// Since when: "2026-11-25 14:12:00", "14:12", "yesterday", "1h ago", "-10min"
        #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment::Moment::parse)]
        since: Option<moment::Moment>,
        /// No more than that many, the newest ones
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        max: Option<u32>,
        /// Of this unit alone; may be given more than once
        #[arg(long = "unit", value_name = "UNIT")]
        units: Vec<String>,
        /// Go on as kills happen
        #[arg(long, short)]
        follow: bool,
    },
    /// Tell the user of a desktop which of their applications were killed, and why
    ///
    /// Each kill in a unit of the user's own service manager, or in one of the user's login sessions, becomes a notification of the
    /// desktop (org.freedesktop.Notifications on the session bus). Kills that follow each other fast become one. If nobody shows
    /// notifications, they are shown as soon as somebody does. It goes on until the program is ended; in desktop sessions that systemd
    /// knows of, bpf-oomd-notify.service of the user's service manager runs it.
    Notify,
    /// Show which policies there are, what they do, and what they can be told
    Policies,
    /// Show the units that are watched for pressure, and what came of their stalls
    ///
    /// When a stall of each is an OOM, how often the kernel told of a stall, and what came of it. The words are explained in bpf-oomd(8).
    Pressure,
    /// Show pressure, memory and next victims again and again
    ///
    /// Units that wait for memory come first, and then those that have most. On a terminal the view is redrawn until q or Ctrl-C is
    /// pressed; elsewhere one follows the other.
    Top {
        /// How long from one view to the next: 500ms, 5
        #[arg(long, value_name = "TIME", value_parser = interval, default_value = "2s")]
        interval: Duration,
        /// End after that many views
        #[arg(long, short = 'n', value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        iterations: Option<u64>,
    },
    /// Give a unit a policy at run time, whatever its files and the configuration say
    ///
    /// Returns when it is in force; for a unit that does not run, that is when it starts. What is set at run time comes first. Units
    /// below a slice inherit it as they inherit what files say for the slice, and -.slice stands for the system. It stays until it is
    /// reset or set anew, its time is over, or bpf-oomd is stopped; a restart of the daemon does not end it. Time goes on while the
    /// machine sleeps.
    ///
    /// The unit need not run, and not even exist: then it has the policy when it starts. It has to be named by its own name, and not by
    /// an alias. If the kernel refuses the policy, or the unit is left to the kernel by enabled = false, that is an error, and what was
    /// in force before stays in force.
    SetPolicy {
        /// The unit: sshd.service, user.slice, -.slice for the system
        #[arg(value_name = "UNIT", allow_hyphen_values = true)]
        unit: String,
        /// The policy: bpf:NAME or kernel
        #[arg(value_name = "POLICY")]
        policy: String,
        /// For how long: 10min, 1h 30min
        #[arg(long = "for", value_name = "TIME", value_parser = run_time::length, default_value = "infinity")]
        length: run_time::Length,
        #[command(flatten)]
        password: Password,
    },
    /// Take away the policy that a unit was given at run time
    ///
    /// If it was given none, nothing changes. What files say is in force again.
    ResetPolicy {
        /// The unit
        #[arg(value_name = "UNIT", allow_hyphen_values = true)]
        unit: String,
        #[command(flatten)]
        password: Password,
    },
    /// Let bpf-oomd read the configuration and all unit files again
    ///
    /// As systemctl reload bpf-oomd does. The configuration is read by itself when it changes.
    Reload {
        #[command(flatten)]
        password: Password,
    },
    /// Check configuration files and unit files; without arguments the whole configuration
    ///
    /// Says for each fault FILE:LINE:COLUMN, what was found and what was expected, as the daemon does. Exits with 0 if there is none,
    /// and else with 1.
    Check {
        /// Files to check: TOML drop-ins (*.toml), unit files, and drop-ins of unit files
        #[arg(value_name = "FILE")]
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
    /// For shells: the units that may be named
    #[command(hide = true)]
    CompleteUnits,
    /// For shells: the policies that there are
    #[command(hide = true)]
    CompletePolicies,
}

/// Whether somebody may be asked.
#[derive(Debug, Args)]
struct Password {
    /// Ask nobody for a password: what needs one is refused
    #[arg(long)]
    no_ask_password: bool,
}

/// Where and how a command tells what it has found.
#[derive(Debug)]
struct Output {
    /// To programs.
    json: bool,
    /// To people.
    look: look::Look,
}

impl Output {
    /// Writes a text for people.
    #[allow(clippy::unused_self)]
    fn text(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// Does what the arguments say. Output goes to standard output, and what went wrong to standard error.
pub fn run(arguments: Arguments) -> ExitCode {
    let output = &Output {
        json: arguments.json,
        look: look::Look::of_stdout(),
    };
    let ask = |password: Password| !password.no_ask_password;
    let result = match arguments.command {
        Command::Status => status::status(output),
        Command::List { units, all } => list::list(output, &units, all),
        Command::Tree { unit } => tree::tree(output, unit.as_deref()),
        Command::Explain { units } => explain::explain(output, &units),
        Command::Simulate { unit } => simulate::simulate(output, &unit),
        Command::Kills {
            since,
            max,
            units,
            follow,
        } => {
            let units = &units;
            let wanted = kills::Wanted { since, max, units };
            match follow {
                true => kills::follow(output, &wanted),
                false => kills::kills(output, &wanted),
            }
        }
        Command::Notify => notify::notify(output),
        Command::Policies => policies::policies(output),
        Command::Pressure => pressure::pressure(output),
        Command::Top {
            interval,
            iterations,
        } => top::top(output, interval, iterations),
        Command::SetPolicy {
            unit,
            policy,
            length,
            password,
        } => run_time::set_policy(output, &unit, &policy, length.0, ask(password)),
        Command::ResetPolicy { unit, password } => {
            run_time::reset_policy(output, &unit, ask(password))
        }
        Command::Reload { password } => run_time::reload(output, ask(password)),
        Command::Check { files, root } if files.is_empty() => check::configuration(output, &root),
        Command::Check { files, .. } => check::files(output, &files),
        Command::CatConfig { root } => cat_config::cat_config(output, &root),
        Command::CompleteUnits => complete::units(output),
        Command::CompletePolicies => complete::policies(output),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(BAD),
        Err(error) => failed(&*error),
    }
}

/// Says what went wrong, as far as somebody has to know.
fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    if is_closed_pipe(error) {
        // Whoever reads has seen enough: `bpf-oomctl kills --follow | head -1`.
        return ExitCode::SUCCESS;
    }
    let status = match error.downcast_ref::<NoAnswer>() {
        // What the daemon says is whole.
        Some(NoAnswer::Refused { message, .. }) => {
            eprintln!("{message}");
            return ExitCode::from(BAD);
        }
        Some(NoAnswer::NotThere) => NOT_RUNNING,
        _ => TROUBLE,
    };
    eprintln!("bpf-oomctl: {}", crate::fault::causes(error));
    ExitCode::from(status)
}

fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Reads the time of `--interval`.
fn interval(text: &str) -> Result<Duration, String> {
    /// The kernel's averages change every two seconds, and what is asked for more often than this is all that the machine does.
    const SHORTEST: Duration = Duration::from_millis(100);
    use crate::systemd::value::{TimeSpan, parse_time};
    let length = parse_time(text).map_err(|error| error.to_string())?;
    match length {
        Some(length) if length >= SHORTEST => Ok(length),
        _ => Err(format!("expected {} or more", TimeSpan(SHORTEST))),
    }
}

/// True if all is well, false if something is not as it should be, or an error if that cannot be told.
type Outcome = Result<bool, Box<dyn Error>>;

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
                ..
            }) = parsed(line)
            else {
                panic!("{line}");
            };
            assert_eq!((&*unit, &*policy), ("-.slice", "kernel"), "{line}");
            assert_eq!(length.0, Some(Duration::from_secs(2)), "{line}");
        }
        assert!(matches!(
            parsed("bpf-oomctl reset-policy -.slice"),
            Some(Command::ResetPolicy { unit, .. }) if unit == "-.slice"
        ));
        assert!(matches!(
            parsed("bpf-oomctl explain -.slice a.slice"),
            Some(Command::Explain { units }) if units == ["-.slice", "a.slice"]
        ));
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn json_is_asked_for_before_or_after_the_command() {
        for line in ["bpf-oomctl --json list", "bpf-oomctl list --json"] {
            assert!(Arguments::try_parse_from(line.split(' ')).unwrap().json);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "bpf-oomctl kills --max=0",
            "bpf-oomctl kills --since=soon",
            "bpf-oomctl top --interval=10ms",
            "bpf-oomctl top --interval=infinity",
            "bpf-oomctl top -n 0",
            "bpf-oomctl simulate",
        ] {
            assert!(parsed(line).is_none(), "{line}");
        }
        assert!(parsed("bpf-oomctl kills --since -10min -f").is_some());
        assert!(matches!(
            parsed("bpf-oomctl top"),
            Some(Command::Top { interval, iterations: None }) if interval == Duration::from_secs(2)
        ));
    }

    #[test]
    fn exit_statuses_tell_a_daemon_that_does_not_run_from_one_that_refuses() {
        let status = |error: Box<dyn Error>| format!("{:?}", failed(&*error));
        let code = |status| format!("{:?}", ExitCode::from(status));
        let refused = NoAnswer::Refused {
            name: "x".into(),
            message: "no".into(),
        };
        assert_eq!(status(refused.into()), code(BAD));
        assert_eq!(status(NoAnswer::NotThere.into()), code(NOT_RUNNING));
        assert_eq!(status("x".into()), code(TROUBLE));
        assert_eq!(
            status(io::Error::from(ErrorKind::BrokenPipe).into()),
            code(0)
        );
    }
}
