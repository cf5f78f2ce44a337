// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl explain`: for every setting of a unit who says what, and who wins.

use super::Outcome;
use crate::cgroup::{MOUNT_POINT, Tree};
use crate::config::Configuration;
use crate::policy::{Key, Layer, Speaker, Statement, UnitSaid, Verdict, World};
use crate::systemd::bus::{self, UnitObject};
use crate::systemd::files::Files;
use crate::systemd::{directives, preference, unit_name};
use std::io::Write;
use std::path::Path;
use zbus::Connection;

/// Explains units of the running system.
pub(super) fn explain(units: &[String]) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut configuration = Configuration::below(Path::new("/"));
    configuration.read();
    for fault in configuration.faults() {
        eprintln!("{fault}");
    }
    let mut out = std::io::stdout().lock();
    let mut good = true;
    for (index, unit) in units.iter().enumerate() {
        if unit_name::section(unit).is_none() {
            eprintln!(
                "{unit:?} is no unit that has a cgroup, expected a service, slice, scope, socket, mount or swap"
            );
            good = false;
            continue;
        }
        let world = runtime.block_on(world(unit, &configuration))?;
        if index > 0 {
            writeln!(out)?;
        }
        out.write_all(text(unit, &world).as_bytes())?;
    }
    Ok(good)
}

/// Everything that is said about a unit and the slices above it.
async fn world(unit: &str, configuration: &Configuration) -> zbus::Result<World> {
    let bus = Connection::system().await?;
    // Without a cgroup tree there are no attributes, and everything else can be explained all the same.
    let tree = Tree::open(Path::new(MOUNT_POINT)).ok();
    let mut world = World {
        defaults: configuration.config().defaults().clone(),
        ..World::default()
    };
    let mut next = Some(unit.to_owned());
    while let Some(name) = next {
        let said = unit_said(&bus, &name, configuration, tree.as_ref()).await?;
        world.units.insert(name.clone(), said);
        next = world.slice_of(&name);
    }
    Ok(world)
}

async fn unit_said(
    bus: &Connection,
    name: &str,
    configuration: &Configuration,
    tree: Option<&Tree>,
) -> zbus::Result<UnitSaid> {
    let loaded = bus::load_unit(bus, name).await?;
    let object = UnitObject {
        bus,
        object: &loaded,
        interface: bus::interface_of(name),
    };
    let programs = bpf_oomd_bpf::policy_names();
    let files = object.files().await?;
    let (declared, faults) = directives::read(name, &files, &Files::below("/"), programs);
    for fault in faults {
        eprintln!("{fault}");
    }
    let mut sources = vec![(
        Speaker::UnitFiles,
        directives::in_force(declared, &Layer::default()),
    )];
    if let (Some(tree), Some(path)) = (tree, object.control_group().await?) {
        sources.push((Speaker::Attribute, preference::read(tree, &path)));
    }
    let sections = configuration.config().for_unit(name).into_iter();
    sources.extend(sections.map(|(speaker, layer)| (speaker, layer.clone())));
    Ok(UnitSaid {
        sources,
        slice: object.slice().await?,
    })
}

/// A setting, its value, and below it everything that was said about it.
fn text(unit: &str, world: &World) -> String {
    let mut lines = vec![unit.to_owned()];
    for key in Key::ALL {
        let all = world.explain(unit, key);
        lines.push(format!("  {key}: {}", world.value(unit, key)));
        lines.extend(all.iter().map(|statement| line(unit, statement)));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn line(unit: &str, statement: &Statement) -> String {
    let Statement {
        about,
        speaker,
        value,
        assignment,
        verdict,
    } = statement;
    let value = value
        .as_ref()
        .map_or("(reset)".to_owned(), |value| value.to_string());
    let about = match about == unit {
        true => String::new(),
        false => format!(" of {about}"),
    };
    let at = match assignment {
        Some(said) => format!(", {}", said.at),
        None => String::new(),
    };
    let mark = match verdict {
        Verdict::Decides => '*',
        _ => '-',
    };
    format!("    {mark} {value}: {speaker}{about}{at}: {verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Assignment, Provenance, Value};

    fn layer(key: Key, text: &str, file: &str) -> Layer {
        let at = Provenance {
            file: file.into(),
            line: 3,
            column: 10,
        };
        let value = Some(Value::parse(key, text, &["biggest-leaf"]).unwrap());
        [(key, Assignment { value, at })].into_iter().collect()
    }

    #[test]
    fn a_unit_is_told_with_the_whole_chain() {
        let mut world = World::default();
        let own = layer(Key::Policy, "kernel", "/etc/systemd/system/x.service");
        let section = layer(
            Key::Policy,
            "bpf:biggest-leaf",
            "/etc/bpf-oomd/conf.d/50-a.toml",
        );
        let heading = Speaker::Section("slice.\"a.slice\"".into());
        world.units.insert(
            "x.service".into(),
            UnitSaid {
                sources: vec![(Speaker::UnitFiles, own)],
                slice: Some("a.slice".into()),
            },
        );
        world.units.insert(
            "a.slice".into(),
            UnitSaid {
                sources: vec![(heading, section)],
                slice: None,
            },
        );
        let text = text("x.service", &world);
        let policy: Vec<&str> = text.lines().skip(3).take(4).collect();
        assert_eq!(
            policy,
            [
                "  policy: kernel",
                "    * kernel: unit files, /etc/systemd/system/x.service:3:10: decides",
                "    - bpf:biggest-leaf: [slice.\"a.slice\"] of a.slice, /etc/bpf-oomd/conf.d/50-a.toml:3:10: overruled by what comes before it",
                "    - kernel: built in: overruled by what comes before it",
            ]
        );
        assert!(
            text.ends_with("  pressure: none\n    * none: built in: decides\n"),
            "{text}"
        );
    }
}
