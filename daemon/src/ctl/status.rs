// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl status`: whether the daemon runs, what it and the kernel can do, what it has done, and what is wrong.

use super::daemon::{Daemon, NoAnswer, run};
use super::look::{Look, Style, harmless};
use super::number::count;
use super::record::{PendingKill, RunTime, Status};
use super::{Outcome, Output, json};
use crate::boottime;
use crate::fault::Fault;
use crate::systemd::value::TimeSpan;
use std::collections::BTreeMap;
use std::time::Duration;

/// Shows all of that. Faults are not good.
pub(super) fn status(output: &Output) -> Outcome {
    let status = run(async { Daemon::connect().await?.status().await })?;
    let status = match status {
        Err(NoAnswer::NotThere) if output.json => {
            json::write(&not_running())?;
            return Err(NoAnswer::NotThere.into());
        }
        status => status?,
    };
    if output.json {
        json::write(&status)?;
    } else {
        output.text(&text(&status, boottime::now(), &output.look))?;
    }
    Ok(status.faults.is_empty())
}

fn not_running() -> Status {
    Status {
        running: false,
        version: None,
        engine: None,
        kernel_interface: Vec::new(),
        counters: BTreeMap::new(),
        run_time: Vec::new(),
        pending_kills: Vec::new(),
        faults: Vec::new(),
    }
}

fn text(status: &Status, now: u64, look: &Look) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| {
        // Lines without a name go on with the one above.
        let colon = if name.is_empty() { ' ' } else { ':' };
        let name = format!("{name:>9}");
        let name = look.paint(Style::Strong, &name);
        lines.push(format!("{name}{colon} {text}\n"));
    };
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
    line("bpf-oomd", format!("{}, running", known(&status.version)));
    line("Engine", known(&status.engine));
    for (index, feature) in status.kernel_interface.iter().enumerate() {
        let name = if index == 0 { "Kernel" } else { "" };
        let text = match feature.present {
            true => look
                .paint(Style::Good, &format!("{}: yes", feature.name))
                .into_owned(),
            false => {
                let missing = format!("{}: missing", feature.name);
                let missing = look.paint(Style::Warning, &missing);
                format!("{missing}. {}", harmless(&feature.meaning))
            }
        };
        line(name, text);
    }
    let number = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let units = format!(
        "{}, {}, {} watched for pressure",
        count(number("units"), "unit followed", "units followed"),
        count(number("attachments"), "attachment", "attachments"),
        number("watched")
    );
    line("Units", units);
    let kills = format!(
        "{} by policies, {} by the kernel, {} without a policy's kill",
        number("kills"),
        number("kernel-kills"),
        count(number("stalls"), "stall", "stalls")
    );
    line("Kills", kills);
    if number("lost-records") > 0 {
        let lost = count(number("lost-records"), "record", "records");
        let lost = format!(
            "{lost} of kills, because there were too many at once, or the daemon was killed"
        );
        line("Lost", look.paint(Style::Warning, &lost).into_owned());
    }
    for (index, set) in status.run_time.iter().enumerate() {
        let name = if index == 0 { "Set" } else { "" };
        line(name, run_time(set, now));
    }
    for (index, pending) in status.pending_kills.iter().enumerate() {
        let name = if index == 0 { "Dying" } else { "" };
        let text = harmless(&pending_kill(pending, now)).into_owned();
        line(name, look.paint(Style::Warning, &text).into_owned());
    }
    if status.faults.is_empty() {
        line("Faults", look.paint(Style::Good, "none").into_owned());
    }
    for (index, fault) in status.faults.iter().enumerate() {
        let name = if index == 0 { "Faults" } else { "" };
        let subject = fault.subject.as_deref().unwrap_or_default();
        let text = format!("{subject}: {}", Fault::from(fault));
        line(name, look.paint(Style::Bad, &harmless(&text)).into_owned());
    }
    lines.concat()
}

/// Who is about to be killed, and when.
fn pending_kill(pending: &PendingKill, now: u64) -> String {
    let who = [&pending.user_unit, &pending.unit];
    let who = who.into_iter().flatten().next();
    let left = pending.until_boottime_usec.saturating_sub(now) / 1_000_000;
    format!(
        "{}, chosen by {}, within {}{}",
        who.unwrap_or(&pending.cgroup),
        pending.policy,
        TimeSpan(Duration::from_secs(left)),
        match pending.asked {
            true => "; it was asked to end",
            false => "",
        }
    )
}

/// What was set for a unit, and for how long.
fn run_time(set: &RunTime, now: u64) -> String {
    let RunTime { unit, policy, .. } = set;
    match set.until_boottime_usec {
        None => format!("{unit}: {policy}, until reset"),
        Some(end) => {
            // Nobody waits for microseconds.
            let left = end.saturating_sub(now) / 1_000_000;
            let left = TimeSpan(Duration::from_secs(left));
            format!("{unit}: {policy}, for another {left}")
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ctl::record::{self, Feature};

    pub(in crate::ctl) fn full() -> Status {
        let feature = |name: &str, present| Feature {
            name: name.into(),
            present,
            meaning: "Nothing is declared.".into(),
        };
        let numbers = [
            ("units", 45),
            ("attachments", 1),
            ("kills", 2),
            ("stalls", 1),
        ];
        Status {
            running: true,
            version: Some("0.1.0".into()),
            engine: Some("kernel".into()),
            kernel_interface: vec![
                feature("oom-handlers", true),
                feature("pressure-handlers", false),
            ],
            counters: numbers
                .map(|(name, number)| (name.to_owned(), number))
                .into(),
            run_time: vec![RunTime {
                unit: "a.slice".into(),
                policy: "kernel".into(),
                until_boottime_usec: Some(90_000_001),
            }],
            pending_kills: vec![PendingKill {
                unit: Some("y.service".into()),
                user_unit: None,
                cgroup: "/a.slice/y.service".into(),
                policy: "biggest-leaf".into(),
                until_boottime_usec: 35_000_000,
                asked: true,
            }],
            faults: vec![record::Fault {
                subject: Some("x.service".into()),
                file: Some("/x".into()),
                line: Some(4),
                column: Some(18),
                message: "no such policy".into(),
            }],
        }
    }

    #[test]
    fn everything_is_told() {
        assert_eq!(
            text(&full(), 30_000_000, &Look::default()),
            " bpf-oomd: 0.1.0, running\n   \
               Engine: kernel\n   \
               Kernel: oom-handlers: yes\n           \
                       pressure-handlers: missing. Nothing is declared.\n    \
                Units: 45 units followed, 1 attachment, 0 watched for pressure\n    \
                Kills: 2 by policies, 0 by the kernel, 1 stall without a policy's kill\n      \
                  Set: a.slice: kernel, for another 1min\n    \
                Dying: y.service, chosen by biggest-leaf, within 5s; it was asked to end\n   \
               Faults: x.service: /x:4:18: no such policy\n"
        );
    }

    #[test]
    fn what_is_well_is_short() {
        let status = Status {
            faults: Vec::new(),
            run_time: Vec::new(),
            pending_kills: Vec::new(),
            ..full()
        };
        let text = text(&status, 0, &Look::default());
        assert!(text.ends_with("   Faults: none\n"), "{text}");
        assert!(!text.contains("Set:"), "{text}");
    }
}
