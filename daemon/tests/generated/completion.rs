// SPDX-License-Identifier: MIT OR Apache-2.0
//! What shells have to know of the command line, the same for all of them.

use super::definition;
use clap::{Arg, ArgAction, Command};

/// What a value is, and so what can be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A unit: `bpf-oomctl complete-units` knows which.
    Unit,
    /// A policy: `bpf-oomctl complete-policies` knows which.
    Policy,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// An option.
#[derive(Debug)]
pub struct Choice {
    pub short: Option<char>,
    pub long: String,
    pub help: String,
    /// None for a flag.
    pub value: Option<(String, Kind)>,
    pub repeated: bool,
}

/// A positional argument.
#[derive(Debug)]
pub struct Positional {
    pub name: String,
    pub kind: Kind,
    pub repeated: bool,
}

/// A command.
#[derive(Debug)]
pub struct Sub {
    pub name: String,
    pub help: String,
    pub choices: Vec<Choice>,
    pub positionals: Vec<Positional>,
}

/// All commands that people use.
pub fn subcommands() -> Vec<Sub> {
    let definition = definition();
    let commands = definition
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let sub = |command: &Command| Sub {
        name: command.get_name().to_owned(),
        help: command.get_about().unwrap().to_string(),
        choices: choices(command),
        positionals: command.get_positionals().map(positional).collect(),
    };
    commands.map(sub).collect()
}

/// The options that are for no command.
pub fn global() -> Vec<Choice> {
    choices(&definition())
}

fn choices(command: &Command) -> Vec<Choice> {
    let options = command
        .get_arguments()
        .filter(|argument| !argument.is_positional() && !argument.is_hide_set());
    options.map(choice).collect()
}

fn choice(argument: &Arg) -> Choice {
    let takes_values = argument.get_action().takes_values();
    let name = value_name(argument);
    Choice {
        short: argument.get_short(),
        long: argument.get_long().expect("a long name").to_owned(),
        help: argument.get_help().unwrap().to_string(),
        value: takes_values.then(|| (name.clone(), kind(&name))),
        repeated: is_repeated(argument),
    }
}

fn positional(argument: &Arg) -> Positional {
    let name = value_name(argument);
    Positional {
        kind: kind(&name),
        repeated: is_repeated(argument),
        name,
    }
}

/// Whether it may be said more than once.
pub fn is_repeated(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Append)
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.first().map_or(String::new(), ToString::to_string)
}

fn kind(name: &str) -> Kind {
    match name {
        "UNIT" => Kind::Unit,
        "POLICY" => Kind::Policy,
        "FILE" => Kind::File,
        "DIRECTORY" => Kind::Directory,
        "TIME" | "NUMBER" | "" => Kind::Other,
        name => panic!("say here what shells complete for {name}"),
    }
}
