// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completion for bash: bash-completion loads it when somebody completes the first time.

use super::completion::{Choice, Kind, global, subcommands};
use super::is_up_to_date;
use std::fmt::Write;
use std::process::Command;

const FILE: &str = "bash-completion/completions/bpf-oomctl";

const BEGIN: &str = r#"# SPDX-License-Identifier: MIT OR Apache-2.0
# Generated from the definition of bpf-oomctl's command line.

_bpf_oomctl() {
    local -a words
    local line=${COMP_LINE:0:COMP_POINT} typed cur prefix='' broken='' word
    local command='' options='' values='' kind='' skip=0 place=0

    # Not COMP_WORDS, in which "bpf:x" and "--for=1h" are three words each.
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    typed=${words[-1]}
    words=("${words[@]:1:${#words[@]}-2}")

    for word in "${words[@]}"; do
        _bpf_oomctl_arguments
        if ((skip)); then
            skip=0
        elif [[ " $values " == *" $word "* ]]; then
            skip=1
        elif [[ $word == -* && $word != -.* ]]; then
            continue
        elif [[ -z $command ]]; then
            command=$word
        else
            ((++place))
        fi
    done
    _bpf_oomctl_arguments
    cur=$typed
    if ((skip)); then
        _bpf_oomctl_value "${words[-1]}"
    elif [[ $typed == --*=* ]]; then
        prefix=${typed%%=*}=
        cur=${typed#*=}
        _bpf_oomctl_value "${prefix%=}"
    elif [[ $typed == -* && $typed != -.* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
        return
    fi

    case $kind in
        commands) mapfile -t COMPREPLY < <(compgen -W "$_bpf_oomctl_commands" -- "$cur") ;;
        units) _bpf_oomctl_names complete-units ;;
        policies) _bpf_oomctl_names complete-policies ;;
        files) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        directories) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    esac

    # What is before the last of these characters stays in the line, and must not be put there again.
    for word in : =; do
        [[ $COMP_WORDBREAKS == *"$word"* && $typed == *"$word"* ]] || continue
        word=${typed%"${typed##*"$word"}"}
        ((${#word} > ${#broken})) && broken=$word
    done
    for word in "${!COMPREPLY[@]}"; do
        COMPREPLY[word]=$prefix${COMPREPLY[word]}
        COMPREPLY[word]=${COMPREPLY[word]#"$broken"}
    done
}

# Not with compgen -W, for which a backslash is no part of the name of a unit.
_bpf_oomctl_names() {
    local name
    while read -r name; do
        printf -v name %q "$name"
        [[ $name == "$cur"* ]] && COMPREPLY+=("$name")
    done < <("${COMP_WORDS[0]}" "$1" 2>/dev/null)
}

"#;

const END: &str = "\ncomplete -F _bpf_oomctl bpf-oomctl\n";

fn script() -> String {
    let mut text = BEGIN.to_owned();
    let commands = subcommands();
    let names: Vec<&str> = commands
        .iter()
        .map(|command| command.name.as_str())
        .collect();
    // Writing to a string does not fail.
    let mut put = |line: String| writeln!(text, "{line}").unwrap();
    put(format!("_bpf_oomctl_commands='{}'", names.join("\n")));
    put("\n# What can be said after the command and the words that are there.".into());
    put("_bpf_oomctl_arguments() {".into());
    put("    kind=''".into());
    put("    case $command in".into());
    put(format!(
        "        '') {} kind=commands ;;",
        options(&global())
    ));
    for command in &commands {
        put(format!("        {})", command.name));
        put(format!("            {}", options(&command.choices)));
        let positionals = &command.positionals;
        for (place, positional) in positionals.iter().enumerate() {
            let condition = match positional.repeated {
                true => format!("place >= {place}"),
                false => format!("place == {place}"),
            };
            let word = word(positional.kind);
            if !word.is_empty() {
                put(format!("            (({condition})) && kind={word}"));
            }
        }
        put("            ;;".into());
    }
    put("    esac\n}\n".into());
    put("# What can be the value of an option.".into());
    put("_bpf_oomctl_value() {".into());
    put("    kind=''".into());
    put("    case $command$1 in".into());
    for command in &commands {
        for choice in &command.choices {
            if let Some((_, kind)) = &choice.value
                && *kind != Kind::Other
            {
                let word = word(*kind);
                put(format!(
                    "        {}--{}) kind={word} ;;",
                    command.name, choice.long
                ));
            }
        }
    }
    put("    esac\n}".into());
    text + END
}

/// All options, and those whose value is another word.
fn options(choices: &[Choice]) -> String {
    let mut options = Vec::new();
    let mut values = Vec::new();
    for choice in choices {
        let long = format!("--{}", choice.long);
        let short = choice.short.map(|short| format!("-{short}"));
        match choice.value {
            Some(_) => {
                values.extend(short);
                values.push(long.clone());
                options.push(format!("{long}="));
            }
            None => options.push(long),
        }
    }
    format!(
        "options='{}' values='{}'",
        options.join(" "),
        values.join(" ")
    )
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Unit => "units",
        Kind::Policy => "policies",
        Kind::File => "files",
        Kind::Directory => "directories",
        Kind::Other => "",
    }
}

#[test]
fn completion_for_bash_is_up_to_date() {
    is_up_to_date(FILE, &script());
}

/// What bash completes at the end of a line.
fn completed(line: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    // What the shell asks, with units that are the same everywhere.
    let program = directory.path().join("bpf-oomctl");
    std::fs::write(
        &program,
        "#!/bin/sh\ncase $1 in\n\
         complete-units) printf '%s\\n' -.slice a.service a.slice 'dev-x\\x2dy.swap' ;;\n\
         complete-policies) printf '%s\\n' bpf:biggest-leaf bpf:other kernel ;;\n\
         esac\n",
    )
    .unwrap();
    let mut permissions = std::fs::metadata(&program).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&program, permissions).unwrap();
    std::fs::write(directory.path().join("a-file.toml"), "").unwrap();
    let script = format!(
        "{}\ncompopt() {{ :; }}\nCOMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:'\n\
         COMP_LINE=$1 COMP_POINT=${{#1}} COMP_WORDS=(bpf-oomctl)\n\
         _bpf_oomctl\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script()
    );
    let path = format!(
        "{}:{}",
        directory.path().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("bash")
        .args(["--norc", "-c", &script, "bash", line])
        .env("PATH", path)
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{line}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    assert_eq!(completed("bpf-oomctl se"), ["set-policy"]);
    assert_eq!(
        completed("bpf-oomctl --json re"),
        ["reset-policy", "reload"]
    );
    assert_eq!(completed("bpf-oomctl kills --f"), ["--follow"]);
    assert_eq!(completed("bpf-oomctl kills --s"), ["--since="]);
    assert_eq!(completed("bpf-oomctl --j"), ["--json"]);
    assert_eq!(completed("bpf-oomctl nonsense x"), [""; 0]);
}

#[test]
fn bash_completes_names_of_units() {
    assert_eq!(completed("bpf-oomctl explain a."), ["a.service", "a.slice"]);
    assert_eq!(
        completed("bpf-oomctl explain a.service -"),
        ["--json", "--help"]
    );
    assert_eq!(completed("bpf-oomctl explain -."), ["-.slice"]);
    assert_eq!(completed("bpf-oomctl simulate dev"), ["dev-x\\\\x2dy.swap"]);
    assert_eq!(completed("bpf-oomctl simulate a.slice a"), [""; 0]);
    for line in [
        "bpf-oomctl kills --unit a.se",
        "bpf-oomctl kills --unit=a.se",
    ] {
        assert_eq!(completed(line), ["a.service"], "{line}");
    }
}

#[test]
fn bash_completes_names_of_policies_after_the_unit() {
    let line = "bpf-oomctl set-policy a.slice";
    assert_eq!(completed(line), ["a.slice"]);
    assert_eq!(
        completed(&format!("{line} ")),
        ["bpf:biggest-leaf", "bpf:other", "kernel"]
    );
    // bash breaks words at the colon, and keeps what is before it.
    assert_eq!(completed(&format!("{line} bpf:b")), ["biggest-leaf"]);
    for options in ["--for=1h", "--for 1h", "--no-ask-password"] {
        let line = format!("bpf-oomctl set-policy {options} -.slice k");
        assert_eq!(completed(&line), ["kernel"], "{line}");
    }
}

#[test]
fn bash_completes_names_of_files() {
    assert_eq!(completed("bpf-oomctl check a-"), ["a-file.toml"]);
}
