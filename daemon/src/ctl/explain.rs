// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl explain`: for every setting of a unit who says what, and who wins.
//!
//! The daemon is asked, because it knows what is in force. Where it does not run, or knows nothing about a unit because that one does
//! not run, the files are read here, and it is said that this was done.

use super::daemon::{Daemon, NoAnswer};
use super::{Outcome, Output, json, record};
use crate::boottime;
use crate::bus::{Explanation, explanations};
use crate::cgroup::{MOUNT_POINT, Tree};
use crate::config::{Configuration, check_unit};
use crate::fault::Fault;
use crate::policy::{Key, Layer, Policy, Speaker, UnitSaid, Verdict, World, said};
use crate::systemd::bus::{self, UnitObject};
use crate::systemd::files::Files;
use crate::systemd::value::TimeSpan;
use crate::systemd::{directives, preference};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use zbus::Connection;

/// A unit, and everything that is said about it.
#[derive(Debug, Serialize)]
struct Explained {
    unit: String,
    /// Whether the daemon said so, and it is in force. Else it was read in files.
    in_force: bool,
    statements: Vec<Explanation>,
}

/// Explains units of the running system.
pub(super) fn explain(output: &Output, units: &[String]) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let daemon = runtime.block_on(Daemon::connect())?;
    let faults = runtime.block_on(daemon.faults()).unwrap_or_default();
    tell_faults(&faults, "configuration");
    let mut good = true;
    let mut explained = Vec::new();
    // Read when they are needed, and then once.
    let mut files = None;
    for unit in units {
        if let Err(error) = check_unit(unit) {
            eprintln!("{error}");
            good = false;
            continue;
        }
        let (in_force, statements) = match runtime.block_on(daemon.explain(unit)) {
            Ok(told) => {
                tell_faults(&faults, unit);
                (true, told)
            }
            Err(no_answer) => {
                let reason = reason(unit, no_answer);
                eprintln!("{reason}; this is what files say now");
                if files.is_none() {
                    files = Some(runtime.block_on(Sources::read(&daemon)));
                }
                let told = match &files {
                    Some(files) => {
                        let world = runtime.block_on(world(unit, files, daemon.bus()))?;
                        explanations(&world.explain_all(unit))
                    }
                    None => Vec::new(),
                };
                (false, told)
            }
        };
        explained.push(Explained {
            unit: unit.clone(),
            in_force,
            statements,
        });
    }
    if output.json {
        json::write(&explained)?;
    } else {
        let texts: Vec<String> = explained
            .iter()
            .map(|explained| text(&explained.unit, &explained.statements))
            .collect();
        output.text(&texts.join("\n"))?;
    }
    Ok(good)
}

/// Why the daemon does not explain a unit.
fn reason(unit: &str, no_answer: NoAnswer) -> String {
    match no_answer {
        NoAnswer::NotThere => "bpf-oomd does not run, and nothing is in force".to_owned(),
        NoAnswer::Refused { name, .. } if name.ends_with(".NoSuchUnit") => {
            format!("{unit} does not run")
        }
        no_answer => no_answer.to_string(),
    }
}

/// Shows what the daemon finds wrong with something.
fn tell_faults(faults: &[record::Fault], about: &str) {
    let about = Some(about);
    for fault in faults
        .iter()
        .filter(|fault| fault.subject.as_deref() == about)
    {
        eprintln!("{}", Fault::from(fault));
    }
}

/// Where everything is said that units do not say themselves.
struct Sources {
    configuration: Configuration,
    /// What is set at run time: unit, policy, and for how long in words.
    run_time: Vec<(String, Policy, String)>,
    /// Without a cgroup tree there are no attributes, and everything else can be explained all the same.
    tree: Option<Tree>,
}

impl Sources {
    async fn read(daemon: &Daemon) -> Self {
        let mut configuration = Configuration::below(Path::new("/"));
        configuration.read();
        for fault in configuration.faults() {
            eprintln!("{fault}");
        }
        let now = boottime::now();
        let set = daemon.run_time().await.unwrap_or_default();
        let run_time = set.into_iter().filter_map(|set| {
            let policy = Policy::parse(&set.policy, bpf_oomd_bpf::policy_names()).ok()?;
            let how = match set.until_boottime_usec {
                None => "until reset".to_owned(),
                Some(end) => {
                    let left = Duration::from_micros(end.saturating_sub(now));
                    format!("for another {}", TimeSpan(left))
                }
            };
            Some((set.unit, policy, how))
        });
        Sources {
            run_time: run_time.collect(),
            configuration,
            tree: Tree::open(Path::new(MOUNT_POINT)).ok(),
        }
    }
}

/// Everything that is said about a unit and the slices above it.
async fn world(unit: &str, sources: &Sources, bus: &Connection) -> zbus::Result<World> {
    let mut world = World {
        defaults: sources.configuration.config().defaults().clone(),
        ..World::default()
    };
    let mut next = Some(unit.to_owned());
    while let Some(name) = next {
        let said = unit_said(bus, &name, sources).await?;
        world.units.insert(name.clone(), said);
        next = world.slice_of(&name);
    }
    Ok(world)
}

async fn unit_said(bus: &Connection, name: &str, all: &Sources) -> zbus::Result<UnitSaid> {
    let loaded = bus::load_unit(bus, name).await?;
    let object = UnitObject {
        bus,
        object: &loaded,
        interface: bus::interface_of(name),
    };
    let programs = bpf_oomd_bpf::policy_names();
    let paths = object.files().await?;
    let files = Files::below("/");
    let (declared, faults) = directives::read(name, &paths, |path| files.read(path), programs);
    for fault in faults {
        eprintln!("{fault}");
    }
    let set = all.run_time.iter().filter(|(unit, ..)| unit == name);
    let mut sources: Vec<(Speaker, Layer)> = set
        .map(|(_, policy, how)| said(how.clone(), policy.clone()))
        .collect();
    sources.push((
        Speaker::UnitFiles,
        directives::in_force(declared, &Layer::default()),
    ));
    if let (Some(tree), Some(path)) = (&all.tree, object.control_group().await?) {
        sources.push((Speaker::Attribute, preference::read(tree, &path)));
    }
    let sections = all.configuration.config().for_unit(name).into_iter();
    sources.extend(sections.map(|(speaker, layer)| (speaker, layer.clone())));
    Ok(UnitSaid {
        sources,
        slice: object.slice().await?,
    })
}

/// A setting, its value, and below it everything that was said about it.
fn text(unit: &str, told: &[Explanation]) -> String {
    let mut lines = vec![unit.to_owned()];
    for key in Key::ALL.map(Key::name) {
        let of_key = || told.iter().filter(|said| said.key == key);
        let decides = of_key().find(|said| said.verdict == Verdict::Decides.name());
        let value = decides.map_or("none", |said| &said.value);
        lines.push(format!("  {key}: {value}"));
        lines.extend(of_key().map(|said| line(unit, said)));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn line(unit: &str, told: &Explanation) -> String {
    let Explanation {
        value,
        speaker,
        about,
        place,
        verdict,
        ..
    } = told;
    let value = match value.as_str() {
        "" => "(reset)",
        value => value,
    };
    let about = match about == unit {
        true => String::new(),
        false => format!(" of {about}"),
    };
    let at = match place.as_str() {
        "" => String::new(),
        place => format!(", {place}"),
    };
    let known = Verdict::ALL.into_iter().find(|it| it.name() == verdict);
    let mark = match known {
        Some(Verdict::Decides) => '*',
        _ => '-',
    };
    let verdict = known.map_or(verdict.clone(), |verdict| verdict.to_string());
    format!("    {mark} {value}: {speaker}{about}{at}: {verdict}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::policy::{Assignment, Provenance, Value};

    pub(in crate::ctl) fn sample() -> impl Serialize {
        let mut world = World::default();
        world.units.insert("x.service".into(), UnitSaid::default());
        [Explained {
            unit: "x.service".into(),
            in_force: true,
            statements: explanations(&world.explain_all("x.service")),
        }]
    }

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
                sources: vec![
                    said("set by uid 0 until reset".into(), Policy::Kernel),
                    (Speaker::UnitFiles, own),
                ],
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
        let text = text("x.service", &explanations(&world.explain_all("x.service")));
        let policy: Vec<&str> = text.lines().skip(3).take(5).collect();
        assert_eq!(
            policy,
            [
                "  policy: kernel",
                "    * kernel: run time, set by uid 0 until reset: decides",
                "    - kernel: unit files, /etc/systemd/system/x.service:3:10: overruled by what comes before it",
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
