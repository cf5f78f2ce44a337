// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl tree`: cgroups with what they use, the policies on them, and who would die next.

use super::daemon::{Daemon, NoAnswer, run};
use super::list::policy;
use super::look::{Look, Style};
use super::number::{pressure, size};
use super::record::Unit;
use super::table::{Cell, Table, names, numbers, words};
use super::usage::{Source, Usage};
use super::victims::{self, NextVictim};
use super::{Outcome, Output, json};
use crate::cgroup::depth;
use crate::systemd::unit_name::{self, ROOT_SLICE};
use serde::Serialize;
use std::collections::HashMap;

/// A cgroup.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Node {
    /// Its path.
    control_group: String,
    /// The unit that it belongs to.
    unit: String,
    /// The policy that is in force. None for a cgroup that is no unit's own.
    policy: Option<String>,
    /// Whether the policy is attached to it.
    attached: bool,
    /// What it uses.
    #[serde(flatten)]
    usage: Usage,
    /// How much it may use. None if it has no limit of its own.
    memory_max: Option<u64>,
    /// The units that it is the next victim of.
    next_victim_of: Vec<String>,
    /// What is drawn before its name.
    #[serde(skip)]
    lines: String,
    /// How full the nearest domain with a limit is by it: all of its memory and its page cache, from 0 to 1.
    #[serde(skip)]
    fill: Option<(f64, f64)>,
}

/// Shows the whole tree, or what is below a unit.
pub(super) fn tree(output: &Output, unit: Option<&str>) -> Outcome {
    let (units, victims) = run(async {
        let daemon = Daemon::connect().await?;
        let units = daemon.units().await?;
        let victims = victims::next(&daemon, victims::domains(&units)).await?;
        Ok::<_, NoAnswer>((units, victims))
    })??;
    let Some(root) = root(unit, &units) else {
        eprintln!("{} does not run", unit.unwrap_or_default());
        return Ok(false);
    };
    let nodes = walk(&root, &Source::system(), &units, &victims, &output.look);
    if output.json {
        json::write(&nodes)?;
    } else {
        output.text(&text(&nodes, &output.look))?;
    }
    Ok(true)
}

/// Where the tree begins.
fn root(unit: Option<&str>, units: &[Unit]) -> Option<String> {
    match unit {
        None | Some(ROOT_SLICE) => Some("/".to_owned()),
        Some(name) => {
            let unit = units.iter().find(|unit| unit.name == name)?;
            let path = &unit.control_group;
            (!path.is_empty()).then(|| path.clone())
        }
    }
}

/// All cgroups from `root` down, each above those in it.
fn walk(
    root: &str,
    source: &Source,
    units: &[Unit],
    victims: &[NextVictim],
    look: &Look,
) -> Vec<Node> {
    let by_path = units.iter().map(|unit| {
        let path = match unit.name.as_str() {
            ROOT_SLICE => "/",
            _ => &unit.control_group,
        };
        (path, unit)
    });
    let mut victims_of: HashMap<&str, Vec<String>> = HashMap::new();
    for victim in victims {
        let domains = victims_of.entry(&victim.cgroup).or_default();
        domains.push(victim.domain.clone());
    }
    let mut walk = Walk {
        source,
        units: by_path.collect(),
        victims_of,
        look,
        nodes: Vec::new(),
    };
    let above = ancestors(root).filter_map(|path| source.limit(path)).min();
    walk.visit(root, above, "", "");
    walk.nodes
}

struct Walk<'a> {
    source: &'a Source,
    units: HashMap<&'a str, &'a Unit>,
    victims_of: HashMap<&'a str, Vec<String>>,
    look: &'a Look,
    nodes: Vec<Node>,
}

impl Walk<'_> {
    /// A cgroup, in a domain of that size. Before its name `own` is drawn, and before those below it `below`.
    fn visit(&mut self, path: &str, domain: Option<u64>, own: &str, below: &str) {
        let usage = self.source.usage(path);
        let limit = self.source.limit(path);
        let domain = [domain, limit].into_iter().flatten().min();
        let unit = self.units.get(path);
        self.nodes.push(Node {
            control_group: path.to_owned(),
            unit: match unit {
                Some(unit) => unit.name.clone(),
                None => unit_name::of_cgroup(path).unit,
            },
            policy: unit.map(|unit| unit.policy.clone()),
            attached: unit.is_some_and(|unit| unit.attached),
            usage,
            memory_max: limit,
            next_victim_of: self.victims_of.get(path).cloned().unwrap_or_default(),
            lines: own.to_owned(),
            fill: domain.and_then(|domain| fill(usage, domain)),
        });
        let (fork, last, through) = match self.look.unicode {
            true => ("├─", "└─", "│ "),
            false => ("|-", "`-", "| "),
        };
        let names = self.source.below(path);
        for (index, name) in names.iter().enumerate() {
            let path = format!("{}/{name}", path.trim_end_matches('/'));
            let (own, through) = match index + 1 == names.len() {
                true => (last, "  "),
                false => (fork, through),
            };
            self.visit(
                &path,
                domain,
                &format!("{below}{own}"),
                &format!("{below}{through}"),
            );
        }
    }
}

/// The paths of all cgroups above one.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(at, _)| at);
    let below_root = ends.filter(|at| *at > 0).map(|at| &path[..at]);
    std::iter::once("/").chain(below_root)
}

/// A part of a whole, as what is not page cache and as page cache.
#[allow(clippy::cast_precision_loss)]
fn fill(usage: Usage, domain: u64) -> Option<(f64, f64)> {
    let part = |bytes: u64| (bytes as f64 / domain.max(1) as f64).min(1.0);
    let memory = usage.memory?;
    let cache = usage.page_cache.unwrap_or(0).min(memory);
    Some((part(memory), part(cache)))
}

/// How wide a bar is.
const BAR: usize = 12;

/// Memory in use, page cache after it, and what is left of the domain.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]
fn bar(fill: Option<(f64, f64)>, look: &Look) -> Cell {
    let Some((memory, cache)) = fill else {
        return "".into();
    };
    let (used, cached, free) = match look.unicode {
        true => ("█", "▒", "·"),
        false => ("#", "=", "."),
    };
    let cells = |part: f64| ((part * BAR as f64).round() as usize).min(BAR);
    let (all, own) = (cells(memory), cells(memory - cache));
    let style = match memory - cache {
        0.9.. => Style::Bad,
        0.7.. => Style::Warning,
        _ => Style::Good,
    };
    let text = used.repeat(own) + &cached.repeat(all - own) + &free.repeat(BAR - all);
    Cell::new(style, text)
}

fn text(nodes: &[Node], look: &Look) -> String {
    let mut table = Table::new([
        names("CGROUP"),
        numbers("MEMORY"),
        words("OF DOMAIN"),
        numbers("PRESSURE"),
        words("POLICY"),
        names("NEXT VICTIM"),
    ]);
    let arrow = if look.unicode { "◀" } else { "<-" };
    for node in nodes {
        let name = match depth(&node.control_group) {
            0 => ROOT_SLICE,
            _ => node.control_group.rsplit('/').next().unwrap_or_default(),
        };
        let victim = match node.next_victim_of.as_slice() {
            [] => String::new(),
            domains => format!("{arrow} of {}", domains.join(", ")),
        };
        let style = match victim.is_empty() {
            true => Style::Plain,
            false => Style::Bad,
        };
        table.push([
            Cell::new(style, format!("{}{name}", node.lines)),
            size(node.usage.memory).into(),
            bar(node.fill, look),
            pressure(node.usage.pressure_some_avg10),
            match &node.policy {
                Some(name) => policy_of(name, node.attached),
                None => "".into(),
            },
            Cell::new(Style::Bad, victim),
        ]);
    }
    table.text(look)
}

/// As in the list; what the kernel decides because nobody said anything is left out, to show the rest.
fn policy_of(name: &str, attached: bool) -> Cell {
    match (name, attached) {
        ("kernel", false) => "".into(),
        _ => policy(name, attached),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ctl::usage::tests::tree;
    use crate::ctl::victims::tests::unit;

    const LEAF: &str = "bpf:biggest-leaf";

    pub(in crate::ctl) fn sample() -> impl Serialize {
        nodes("/", &Look::default())
    }

    fn nodes(root: &str, look: &Look) -> Vec<Node> {
        let (_directory, source) = tree(&[
            ("/a.slice", 2 << 20, 1 << 19, "2097152"),
            ("/a.slice/x.service", 3 << 19, 0, "max"),
            ("/a.slice/x.service/inner", 3 << 19, 0, "max"),
            ("/a.slice/y.service", 1 << 19, 1 << 19, "max"),
            ("/z.service", 0, 0, "max"),
        ]);
        let units = [
            unit("-.slice", "kernel", "", false),
            unit("a.slice", LEAF, "/a.slice", true),
            unit("x.service", LEAF, "/a.slice/x.service", false),
            unit("y.service", "kernel", "/a.slice/y.service", true),
        ];
        let victims = [NextVictim {
            domain: "a.slice".into(),
            policy: LEAF.into(),
            unit: "x.service".into(),
            cgroup: "/a.slice/x.service/inner".into(),
            bytes: 3 << 19,
        }];
        walk(root, &source, &units, &victims, look)
    }

    #[test]
    fn a_tree_has_bars_policies_and_the_next_victim() {
        let look = Look {
            unicode: true,
            ..Look::default()
        };
        assert_eq!(
            text(&nodes("/", &look), &look),
            "CGROUP         MEMORY  OF DOMAIN     PRESSURE  POLICY            NEXT VICTIM\n\
             -.slice          3.0M  █████████···      0.5%\n\
             ├─a.slice        2.0M  █████████▒▒▒     12.3%  bpf:biggest-leaf\n\
             │ ├─x.service    1.5M  █████████···     12.3%  bpf:biggest-leaf\n\
             │ │ └─inner      1.5M  █████████···     12.3%                    ◀ of a.slice\n\
             │ └─y.service  512.0K  ▒▒▒·········     12.3%  kernel\n\
             └─z.service        0B  ············     12.3%\n"
        );
    }

    #[test]
    fn a_tree_can_begin_at_a_unit_and_be_ascii() {
        let look = Look::default();
        assert_eq!(
            text(&nodes("/a.slice/x.service", &look), &look),
            "CGROUP     MEMORY  OF DOMAIN     PRESSURE  POLICY            NEXT VICTIM\n\
             x.service    1.5M  #########...     12.3%  bpf:biggest-leaf\n\
             `-inner      1.5M  #########...     12.3%                    <- of a.slice\n"
        );
        let units = [unit("x.service", LEAF, "/a.slice/x.service", false)];
        assert_eq!(root(None, &units).as_deref(), Some("/"));
        assert_eq!(root(Some("-.slice"), &units).as_deref(), Some("/"));
        assert_eq!(
            root(Some("x.service"), &units).as_deref(),
            Some("/a.slice/x.service")
        );
        assert_eq!(root(Some("y.service"), &units), None);
    }

    #[test]
    fn a_cgroup_is_told_with_its_unit() {
        let nodes = nodes("/", &Look::default());
        let inner = nodes
            .iter()
            .find(|node| node.control_group.ends_with("inner"));
        let inner = inner.unwrap();
        assert_eq!(inner.unit, "x.service");
        assert_eq!(inner.policy, None);
        assert_eq!(inner.next_victim_of, ["a.slice"]);
    }

    #[test]
    fn what_is_above_is_known_by_the_path() {
        let all = |path| ancestors(path).collect::<Vec<_>>();
        assert_eq!(all("/a.slice/x.service"), ["/", "/a.slice"]);
        assert_eq!(all("/a.slice"), ["/"]);
        assert_eq!(all("/"), ["/"]);
    }
}
