// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completion for fish.

use super::completion::{Choice, Kind, global, subcommands};
use super::is_up_to_date;
use std::fmt::Write;

const FILE: &str = "fish/vendor_completions.d/bpf-oomctl.fish";

const BEGIN: &str = r#"# SPDX-License-Identifier: MIT OR Apache-2.0
# Generated from the definition of bpf-oomctl's command line.

# How many arguments there are after the command. Options with their values in another word are few, and known.
function __bpf_oomctl_place
    set -l place -1
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip -eq 1
            set skip 0
        else if contains -- $word $argv[2..-1]
            set skip 1
        else if not string match -qr -- '^-[^.]' $word
            set place (math $place + 1)
        end
    end
    string match -qr -- "^$argv[1]\$" $place
end

complete -c bpf-oomctl -f
"#;

fn script() -> String {
    let mut text = BEGIN.to_owned();
    let commands = subcommands();
    // Writing to a string does not fail.
    let mut put = |line: String| writeln!(text, "{line}").unwrap();
    for choice in global() {
        put(format!(
            "complete -c bpf-oomctl -n __fish_use_subcommand{}",
            option(&choice)
        ));
    }
    for command in &commands {
        let (name, help) = (&command.name, quoted(&command.help));
        put(format!(
            "complete -c bpf-oomctl -n __fish_use_subcommand -a {name} -d '{help}'"
        ));
    }
    for command in &commands {
        let seen = format!("__fish_seen_subcommand_from {}", command.name);
        put(String::new());
        for choice in &command.choices {
            put(format!(
                "complete -c bpf-oomctl -n '{seen}'{}",
                option(choice)
            ));
        }
        let with_value = command
            .choices
            .iter()
            .filter(|choice| choice.value.is_some());
        let values: String = with_value
            .flat_map(|choice| {
                let short = choice.short.map(|short| format!(" -{short}"));
                short.into_iter().chain([format!(" --{}", choice.long)])
            })
            .collect();
        for (place, positional) in command.positionals.iter().enumerate() {
            let place = match positional.repeated {
                true => "[0-9]+".to_owned(),
                false => place.to_string(),
            };
            let what = match value(positional.kind) {
                "" => continue,
                what => what,
            };
            put(format!(
                "complete -c bpf-oomctl -n '{seen}; and __bpf_oomctl_place \"{place}\"{values}'{what}"
            ));
        }
    }
    text
}

fn option(choice: &Choice) -> String {
    let short = choice
        .short
        .map_or(String::new(), |short| format!(" -s {short}"));
    let value = match &choice.value {
        Some((_, kind)) => format!(" -x{}", value(*kind)),
        None => String::new(),
    };
    let help = quoted(&choice.help);
    format!("{short} -l {}{value} -d '{help}'", choice.long)
}

fn value(kind: Kind) -> &'static str {
    match kind {
        Kind::Unit => " -a '(bpf-oomctl complete-units 2>/dev/null)'",
        Kind::Policy => " -a '(bpf-oomctl complete-policies 2>/dev/null)'",
        Kind::File => " -F",
        Kind::Directory => " -a '(__fish_complete_directories)'",
        Kind::Other => "",
    }
}

/// A text in single quotes.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[test]
fn completion_for_fish_is_up_to_date() {
    is_up_to_date(FILE, &script());
}
