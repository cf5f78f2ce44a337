// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl list`: the units that run, and what becomes of them when memory runs out.

use super::daemon::{Daemon, run};
use super::look::{Look, Style};
use super::number::{pressure, size};
use super::record::Unit;
use super::table::{Cell, Table, names, numbers, words};
use super::usage::{Source, Usage};
use super::{Outcome, Output, json};
use serde::Serialize;

/// A unit, and what it uses.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// What the daemon knows.
    #[serde(flatten)]
    pub(super) unit: Unit,
    /// What its cgroup says.
    #[serde(flatten)]
    pub(super) usage: Usage,
}

impl Row {
    /// A unit with what it uses now.
    pub(super) fn read(unit: Unit, source: &Source) -> Self {
        let usage = match unit.control_group.as_str() {
            "" => Usage::default(),
            path => source.usage(path),
        };
        Row { unit, usage }
    }
}

/// Shows those whose names are given; or else those that run or were victims, or `all` that systemd has loaded.
pub(super) fn list(output: &Output, wanted: &[String], all: bool) -> Outcome {
    let units = run(async { Daemon::connect().await?.units().await })??;
    let source = Source::system();
    let mut rows: Vec<Row> = units
        .into_iter()
        .filter(|unit| match wanted {
            [] => all || matters(unit),
            wanted => wanted.contains(&unit.name),
        })
        .map(|unit| Row::read(unit, &source))
        .collect();
    rows.sort_by(|one, other| one.unit.name.cmp(&other.unit.name));
    if output.json {
        json::write(&rows)?;
    } else {
        output.text(&text(&rows, &output.look))?;
    }
    let found = |name: &String| rows.iter().any(|row| row.unit.name == *name);
    let missing: Vec<&String> = wanted.iter().filter(|name| !found(name)).collect();
    for name in &missing {
        eprintln!("{name} is not loaded");
    }
    Ok(missing.is_empty())
}

/// Whether somebody who asks for nothing in particular wants to see it. A victim does not run any more.
fn matters(unit: &Unit) -> bool {
    !unit.control_group.is_empty() || unit.kills > 0
}

fn text(rows: &[Row], look: &Look) -> String {
    let mut table = Table::new([
        names("UNIT"),
        words("POLICY"),
        numbers("MEMORY"),
        numbers("CACHE"),
        numbers("PRESSURE"),
        numbers("KILLS"),
        names("FROM"),
    ]);
    for Row { unit, usage } in rows {
        table.push([
            (*unit.name).into(),
            policy(&unit.policy, unit.attached),
            size(usage.memory).into(),
            size(usage.page_cache).into(),
            pressure(usage.pressure_some_avg10),
            kills(unit.kills),
            match unit.policy_place.as_str() {
                "" => Cell::new(Style::Weak, "built in"),
                place => place.into(),
            },
        ]);
    }
    table.text(look)
}

/// A unit's policy: strong if its own cgroup has it, weak if nobody said anything.
pub(super) fn policy(name: &str, attached: bool) -> Cell {
    let style = match (attached, name) {
        (true, _) => Style::Strong,
        (false, "kernel") => Style::Weak,
        (false, _) => Style::Plain,
    };
    Cell::new(style, name)
}

/// How often somebody was the victim.
pub(super) fn kills(number: u64) -> Cell {
    let style = match number {
        0 => Style::Weak,
        _ => Style::Bad,
    };
    Cell::new(style, number.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ctl::victims::tests::unit;

    pub(in crate::ctl) fn rows() -> Vec<Row> {
        let usage = Usage {
            memory: Some(64 << 20),
            page_cache: Some(3 << 19),
            pressure_some_avg10: Some(12.34),
            pressure_full_avg10: Some(0.0),
        };
        let slice = Unit {
            policy_place: "/etc/systemd/system/batch.slice:4:18".into(),
            kills: 2,
            ..unit("batch.slice", "bpf:biggest-leaf", "/batch.slice", true)
        };
        let service = unit("x.service", "kernel", "/system.slice/x.service", false);
        let gone = Usage::default();
        vec![
            Row { unit: slice, usage },
            Row {
                unit: service,
                usage: gone,
            },
        ]
    }

    #[test]
    fn a_unit_is_a_line() {
        assert_eq!(
            text(&rows(), &Look::default()),
            "UNIT         POLICY            MEMORY  CACHE  PRESSURE  KILLS  FROM\n\
             batch.slice  bpf:biggest-leaf   64.0M   1.5M     12.3%      2  /etc/systemd/system/batch.slice:4:18\n\
             x.service    kernel                 -      -         -      0  built in\n"
        );
    }

    #[test]
    fn victims_are_listed_when_they_do_not_run_any_more() {
        let unit = |path: &str, kills| Unit {
            kills,
            ..unit("x.service", "kernel", path, false)
        };
        assert!(matters(&unit("/x.service", 0)));
        assert!(matters(&unit("", 1)));
        assert!(!matters(&unit("", 0)));
    }

    #[test]
    fn on_a_terminal_there_are_colours() {
        let look = Look {
            colour: true,
            ..Look::default()
        };
        let text = text(&rows(), &look);
        assert!(text.contains("\x1b[1mbpf:biggest-leaf\x1b[0m"), "{text}");
        assert!(text.contains("\x1b[1;31m12.3%\x1b[0m"), "{text}");
    }
}
