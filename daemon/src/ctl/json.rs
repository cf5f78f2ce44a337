// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--json`: one document in one line, for `jq` and its like.

use serde::Serialize;
use std::io::{self, Write};

/// Writes a document.
pub(super) fn write<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::super::record::{Process, RunTime};
    use super::super::{
        cat_config, check, explain, kills, list, notify, policies, pressure, run_time, simulate,
        status, top, tree,
    };
    use serde_json::{Value, to_value};
    use std::collections::BTreeSet;

    /// All keys of a document: those of its first object, and with the key before them those of objects below.
    fn keys(value: &Value) -> BTreeSet<String> {
        /// Documented elsewhere, or with keys that are data.
        const WHOLE: [&str; 4] = ["counters", "stalls", "units", "system"];
        match value {
            Value::Array(values) => values.iter().flat_map(keys).collect(),
            Value::Object(members) => members
                .iter()
                .flat_map(|(key, value)| {
                    let below = match WHOLE.contains(&key.as_str()) {
                        true => BTreeSet::new(),
                        false => keys(value),
                    };
                    let below = below.iter().map(|below| format!("{key}.{below}"));
                    below.chain([key.clone()]).collect::<Vec<_>>()
                })
                .collect(),
            _ => BTreeSet::new(),
        }
    }

    /// The keys that bpf-oomctl(1) lists for a command.
    fn documented(command: &str) -> BTreeSet<String> {
        let page = include_str!("../../../units/usr/share/man/man1/bpf-oomctl.1");
        let (_, json) = page.split_once("\n.SH JSON\n").unwrap();
        let (json, _) = json.split_once("\n.SH ").unwrap();
        let mut sections = json.split("\n.SS ").skip(1);
        let section = sections.find(|section| {
            let (commands, _) = section.split_once('\n').unwrap();
            commands.split(", ").any(|it| it == command)
        });
        let section = section.unwrap_or_else(|| panic!("{command} is not documented"));
        let (_, list) = section.split_once(".nf\n").unwrap();
        let (list, _) = list.split_once("\n.fi").unwrap();
        let lines = list.lines().filter(|line| !line.starts_with(' '));
        let keys = lines.filter_map(|line| line.split_whitespace().next());
        keys.map(str::to_owned).collect()
    }

    fn sample(command: &str) -> Value {
        let value = match command {
            "status" => to_value(status::tests::full()),
            "list" => to_value(list::tests::rows()),
            "tree" => to_value(tree::tests::sample()),
            "explain" => to_value(explain::tests::sample()),
            "simulate" => to_value(simulate::tests::sample()),
            "kills" => {
                let mut kill = kills::tests::kill(1, "x.service");
                kill.processes = Some(vec![Process {
                    pid: 1,
                    bytes: 2,
                    name: "x".into(),
                }]);
                to_value([kill])
            }
            "notify" => to_value(notify::tests::sample()),
            "policies" => {
                let parameters = vec![policies::tests::parameter("1M")];
                to_value([policies::tests::policy("bpf:a", parameters)])
            }
            "pressure" => to_value(pressure::tests::sample()),
            "top" => to_value(top::tests::sample()),
            "set-policy" | "reset-policy" | "reload" => to_value(run_time::tests::sample()),
            "check" => to_value(check::tests::sample()),
            "cat-config" => to_value(cat_config::tests::sample()),
            command => panic!("what does {command} print?"),
        };
        value.unwrap()
    }

    #[test]
    fn every_key_is_documented_and_every_documented_key_is_there() {
        use clap::CommandFactory;
        let definition = crate::ctl::Arguments::command();
        let commands = definition
            .get_subcommands()
            .filter(|command| !command.is_hide_set());
        for command in commands.map(clap::Command::get_name) {
            assert_eq!(keys(&sample(command)), documented(command), "{command}");
        }
    }

    #[test]
    fn a_kill_has_the_keys_of_the_bus() {
        let of_the_bus = crate::bus::KILL_KEYS.map(|(key, ..)| key.to_owned());
        let told = keys(&sample("kills"));
        let told = told.into_iter().filter(|key| !key.contains('.'));
        assert_eq!(told.collect::<BTreeSet<_>>(), of_the_bus.into());
    }

    #[test]
    fn what_is_not_known_is_null() {
        let set = RunTime {
            unit: "a.slice".into(),
            policy: "kernel".into(),
            until_boottime_usec: None,
        };
        assert_eq!(
            serde_json::to_string(&set).unwrap(),
            r#"{"unit":"a.slice","policy":"kernel","until_boottime_usec":null}"#
        );
    }
}
