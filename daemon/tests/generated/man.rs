// SPDX-License-Identifier: MIT OR Apache-2.0
//! COMMANDS and OPTIONS of bpf-oomctl(1). Everything else in that page is written by hand.

use super::completion::is_repeated;
use super::{definition, installed, is_up_to_date};
use clap::Command;
use clap_mangen::Man;
use std::fs;
use std::io::{self, Write};

const PAGE: &str = "man/man1/bpf-oomctl.1";
const BEGIN: &str = ".\\\" From here on generated from the definition of the command line.\n";
const END: &str = ".\\\" From here on written by hand.\n";

#[test]
fn the_man_page_describes_the_command_line() {
    let page = fs::read_to_string(installed(PAGE)).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let reference = reference();
    is_up_to_date(PAGE, &[before, BEGIN, &reference, END, after].concat());
}

fn reference() -> String {
    let definition = definition();
    let mut text = ".SH COMMANDS\n".to_owned();
    for command in definition.get_subcommands() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        // These two are for all commands, and described once.
        let own = command
            .clone()
            .mut_arg("json", |argument| argument.hide(true))
            .mut_arg("help", |argument| argument.hide(true));
        text += &format!(".SS {}\n", escaped(command.get_name()));
        text += &synopsis(&own);
        text += ".PP\n";
        text += &about(&own);
        let has_arguments = own.get_arguments().any(|argument| !argument.is_hide_set());
        if has_arguments {
            text += &part(&own, Man::render_options_section);
        }
    }
    let all = definition.clone().disable_help_subcommand(true);
    text + ".SH OPTIONS\n" + &part(&all, Man::render_options_section)
}

/// How a command is called. clap_mangen's own leaves out values, and that there may be many.
fn synopsis(command: &Command) -> String {
    let mut line = format!("\\fBbpf\\-oomctl {}\\fR", escaped(command.get_name()));
    for argument in command.get_arguments().filter(|it| !it.is_hide_set()) {
        let value = argument.get_value_names().unwrap_or_default().first();
        let value = value.map_or(String::new(), |name| format!("\\fI{name}\\fR"));
        let name = match (argument.get_short(), argument.get_long()) {
            (Some(short), _) => format!("\\-{short}"),
            (None, Some(long)) => format!("\\-\\-{}", escaped(long)),
            (None, None) => String::new(),
        };
        let takes_value = argument.get_action().takes_values();
        let separator = match (argument.get_short(), argument.is_positional()) {
            (_, true) => "",
            (Some(_), _) => " ",
            (None, _) => "=",
        };
        let text = match takes_value {
            true => format!("{name}{separator}{value}"),
            false => name,
        };
        let many = match is_repeated(argument) {
            true => "...",
            false => "",
        };
        line += &match argument.is_required_set() {
            true => format!(" {text}{many}"),
            false => format!(" [{text}{many}]"),
        };
    }
    line + "\n"
}

/// What a command is for, and then the rest of what is to be said about it.
fn about(command: &Command) -> String {
    let text = command.get_long_about().or_else(|| command.get_about());
    let text = text.unwrap().to_string();
    let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut paragraphs = format!("{}.\n", escaped(first));
    for paragraph in rest.split("\n\n").filter(|text| !text.is_empty()) {
        paragraphs += &format!(".PP\n{}\n", escaped(paragraph));
    }
    paragraphs
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// A section without what makes it one: it becomes a part of another.
fn part(command: &Command, render: impl Fn(&Man, &mut dyn Write) -> io::Result<()>) -> String {
    let mut section = Vec::new();
    render(&Man::new(command.clone()), &mut section).unwrap();
    let section = String::from_utf8(section).unwrap();
    let lines = section.lines().filter(|line| {
        // The preamble that each section has when it is rendered alone.
        !line.starts_with(".SH ") && !line.starts_with(".ie ") && !line.starts_with(".el ")
    });
    lines.map(|line| format!("{line}\n")).collect()
}
