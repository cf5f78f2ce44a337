// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completion for zsh.

use super::completion::{Choice, Kind, Positional, global, subcommands};
use super::is_up_to_date;
use std::fmt::Write;

const FILE: &str = "zsh/vendor-completions/_bpf-oomctl";

const BEGIN: &str = r#"#compdef bpf-oomctl
# SPDX-License-Identifier: MIT OR Apache-2.0
# Generated from the definition of bpf-oomctl's command line.

(( $+functions[_bpf-oomctl_units] )) || _bpf-oomctl_units() {
  local -a units
  units=(${(f)"$(_call_program units bpf-oomctl complete-units 2>/dev/null)"})
  compadd -a "$@" - units
}

(( $+functions[_bpf-oomctl_policies] )) || _bpf-oomctl_policies() {
  local -a policies
  policies=(${(f)"$(_call_program policies bpf-oomctl complete-policies 2>/dev/null)"})
  compadd -a "$@" - policies
}

_bpf-oomctl() {
  local curcontext=$curcontext state line
  typeset -A opt_args
"#;

fn script() -> String {
    let mut text = BEGIN.to_owned();
    // Writing to a string does not fail.
    let mut put = |line: String| writeln!(text, "{line}").unwrap();
    put("  _arguments -C \\".into());
    for choice in global() {
        put(format!("    {} \\", option(&choice)));
    }
    put("    '1: :->command' '*:: :->arguments' && return\n".into());
    put("  case $state in\n    command)\n      local -a commands=(".into());
    for command in subcommands() {
        let name = &command.name;
        put(format!("        '{name}:{}'", quoted(&command.help)));
    }
    put("      )\n      _describe command commands\n      ;;".into());
    put("    arguments)\n      case $line[1] in".into());
    for command in subcommands() {
        put(format!("        {})", command.name));
        let options = command.choices.iter().map(option);
        let positionals = command.positionals.iter().map(positional);
        let all: Vec<String> = options.chain(positionals).collect();
        let all = all.join(" \\\n            ");
        put(format!("          _arguments \\\n            {all}"));
        put("          ;;".into());
    }
    put("      esac\n      ;;\n  esac\n}\n".into());
    put("_bpf-oomctl \"$@\"".into());
    text
}

fn option(choice: &Choice) -> String {
    let help = quoted(&choice.help);
    let long = format!("--{}", choice.long);
    let many = if choice.repeated { "*" } else { "" };
    let value = match &choice.value {
        Some((name, kind)) => format!(":{name}:{}", action(*kind)),
        None => String::new(),
    };
    let long_form = match choice.value {
        Some(_) => format!("{long}="),
        None => long.clone(),
    };
    match choice.short {
        // One of the two forms is enough.
        Some(short) => {
            let short_form = match choice.value {
                Some(_) => format!("-{short}+"),
                None => format!("-{short}"),
            };
            format!("'(-{short} {long})'{{{short_form},{long_form}}}'[{help}]{value}'")
        }
        None => format!("'{many}{long_form}[{help}]{value}'"),
    }
}

fn positional(positional: &Positional) -> String {
    let many = if positional.repeated { "*" } else { "" };
    format!("'{many}:{}:{}'", positional.name, action(positional.kind))
}

fn action(kind: Kind) -> &'static str {
    match kind {
        Kind::Unit => "_bpf-oomctl_units",
        Kind::Policy => "_bpf-oomctl_policies",
        Kind::File => "_files",
        Kind::Directory => "_files -/",
        Kind::Other => " ",
    }
}

/// A text in single quotes and in brackets.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
        .replace('[', "\\[")
        .replace(']', "\\]")
        .replace(':', "\\:")
}

#[test]
fn completion_for_zsh_is_up_to_date() {
    is_up_to_date(FILE, &script());
}
