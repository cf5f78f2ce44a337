// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a person is told about kills.

use super::application::Application;
use crate::ctl::moment::Moment;
use crate::ctl::record::Kill;
use crate::events::bytes;
use crate::systemd::unit_name::{ROOT_SLICE, of_cgroup};
use crate::systemd::value::TimeSpan;
use std::time::Duration;

/// So many applications are named.
const NAMED: usize = 8;

/// Somebody's application that was killed.
#[derive(Debug, Clone)]
pub(super) struct Death {
    /// How that was.
    pub(super) kill: Kill,
    /// What it was.
    pub(super) application: Application,
}

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notification {
    /// Its heading.
    pub(super) summary: String,
    /// Its text, without markup.
    pub(super) body: String,
    /// Name or path of its icon.
    pub(super) icon: String,
}

/// One notification for all of these and as many more as were not kept.
pub(super) fn of(deaths: &[Death], left_out: usize) -> Notification {
    match deaths {
        [death] if left_out == 0 => one(death),
        deaths => many(deaths, left_out),
    }
}

fn one(Death { kill, application }: &Death) -> Notification {
    let name = &application.name;
    let whole = kill.kill.as_deref() != Some("process");
    let summary = match whole {
        true => format!("{name} was killed because memory ran out"),
        false => format!("A process of {name} was killed because memory ran out"),
    };
    let mut body = why(kill);
    let chose = match kill.killer.as_deref() {
        Some("policy") => format!("The policy bpf:{}", kill.policy.as_deref().unwrap_or("?")),
        _ => "The kernel".to_owned(),
    };
    let process = kill.processes.iter().flatten().next();
    let victim = match (whole, process) {
        (false, Some(process)) => format!("its process {}", process.name),
        _ => "it".to_owned(),
    };
    let used = kill
        .bytes
        .map_or(String::new(), |used| format!(", with {}", bytes(used)));
    body += &format!("\n{chose} chose {victim}{used}{}.", at(kill));
    if let Some(unit) = kill.user_unit.as_ref().or(kill.unit.as_ref()) {
        body += &format!("\nUnit: {unit}");
    }
    Notification {
        summary,
        body,
        icon: application.icon.clone(),
    }
}

fn many(deaths: &[Death], left_out: usize) -> Notification {
    // One line for each application, in the order in which they died first.
    let mut lines: Vec<(&Death, usize)> = Vec::new();
    for death in deaths {
        let same = lines
            .iter_mut()
            .find(|(first, _)| first.application == death.application);
        match same {
            Some((_, count)) => *count += 1,
            None => lines.push((death, 1)),
        }
    }
    let total = deaths.len() + left_out;
    let summary = format!("Memory ran out {total} times");
    let more: usize = lines.iter().skip(NAMED).map(|(_, count)| count).sum();
    let named = lines.iter().take(NAMED).map(|(death, count)| {
        let name = &death.application.name;
        let what = match death.kill.kill.as_deref() {
            Some("process") => format!("A process of {name}"),
            _ => name.clone(),
        };
        match count {
            1 => format!("{what} was killed{}.", at(&death.kill)),
            count => format!("{what} was killed {count} times, first{}.", at(&death.kill)),
        }
    });
    let mut body: Vec<String> = named.collect();
    if more + left_out > 0 {
        body.push(format!("{} more were killed.", more + left_out));
    }
    body.extend(deaths.last().map(|last| why(&last.kill)));
    Notification {
        summary,
        body: body.join("\n"),
        icon: deaths
            .first()
            .map_or(String::new(), |death| death.application.icon.clone()),
    }
}

/// ` at 14:12`, if that is known.
fn at(kill: &Kill) -> String {
    let shown = kill.time_usec.map(|time| Moment(time).shown());
    let clock = shown.as_deref().and_then(|shown| shown.get(11..16));
    clock.map_or(String::new(), |clock| format!(" at {clock}"))
}

/// Why memory ran out.
fn why(kill: &Kill) -> String {
    let used = |text: &str| match kill.domain_bytes {
        Some(used) => format!("{text} ({})", bytes(used)),
        None => text.to_owned(),
    };
    match kill.reason.as_deref() {
        Some("system") => "The computer ran out of memory.".to_owned(),
        Some("limit") => format!(
            "{} used all the memory that it may have.",
            used(&domain(kill))
        ),
        Some("pressure") => {
            let spans = kill.stall_usec.zip(kill.stall_window_usec);
            let span = |usec| TimeSpan(Duration::from_micros(usec));
            let stall = spans.map_or(String::new(), |(stall, window)| {
                format!(" for {} of {}", span(stall), span(window))
            });
            format!(
                "{} could not go on for lack of memory{stall}.",
                domain(kill)
            )
        }
        Some("sysrq") => "Somebody asked the kernel to kill whoever uses most memory.".to_owned(),
        // What a later daemon may say.
        _ => "Memory ran out.".to_owned(),
    }
}

/// What ran out, as the subject of a sentence.
fn domain(kill: &Kill) -> String {
    let Some(path) = &kill.domain else {
        return kill.domain_unit.clone().unwrap_or_else(|| "It".to_owned());
    };
    let units = of_cgroup(path);
    let own = (Some(&units.unit), units.user_unit.as_ref());
    match (
        own == (kill.unit.as_ref(), kill.user_unit.as_ref()),
        units.user_unit,
    ) {
        (true, _) => "It".to_owned(),
        (false, Some(user_unit)) => user_unit,
        (false, None) if units.unit == ROOT_SLICE => "The computer".to_owned(),
        (false, None) => units.unit,
    }
}

/// A text as one with markup, in which it means the same.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::record::Process;

    const APP: &str = "/user.slice/user-1.slice/user@1.service/app.slice";

    fn death(name: &str, change: impl FnOnce(&mut Kill)) -> Death {
        let mut kill = Kill {
            killer: Some("policy".into()),
            policy: Some("biggest-leaf".into()),
            reason: Some("limit".into()),
            kill: Some("cgroup".into()),
            unit: Some("user@1.service".into()),
            user_unit: Some(format!("{name}.service")),
            bytes: Some(30 << 20),
            domain: Some(APP.into()),
            domain_bytes: Some(80 << 20),
            processes: Some(vec![Process {
                pid: 1,
                bytes: 1,
                name: "cc1".into(),
            }]),
            ..Kill::default()
        };
        change(&mut kill);
        Death {
            kill,
            application: Application {
                name: name.into(),
                icon: format!("{name}-icon"),
            },
        }
    }

    #[test]
    fn one_is_told_with_why_by_whom_and_how_much() {
        let told = of(&[death("editor", |_| {})], 0);
        assert_eq!(told.summary, "editor was killed because memory ran out");
        assert_eq!(
            told.body,
            "app.slice (80.0M) used all the memory that it may have.\n\
             The policy bpf:biggest-leaf chose it, with 30.0M.\n\
             Unit: editor.service"
        );
        assert_eq!(told.icon, "editor-icon");
    }

    #[test]
    fn reasons_are_told_in_words() {
        for (change, expected) in [
            (
                (|kill: &mut Kill| kill.reason = Some("system".into())) as fn(&mut Kill),
                "The computer ran out of memory.",
            ),
            (
                |kill| kill.domain = Some(format!("{APP}/x.service")),
                "It (80.0M) used all the memory that it may have.",
            ),
            (
                |kill| {
                    kill.reason = Some("pressure".into());
                    kill.domain = Some("/user.slice".into());
                    (kill.stall_usec, kill.stall_window_usec) = (Some(400_000), Some(1_000_000));
                },
                "user.slice could not go on for lack of memory for 400ms of 1s.",
            ),
            (
                |kill| kill.reason = Some("sysrq".into()),
                "Somebody asked the kernel to kill whoever uses most memory.",
            ),
            (|kill| kill.reason = None, "Memory ran out."),
        ] {
            let told = of(&[death("x", change)], 0);
            assert_eq!(told.body.lines().next(), Some(expected));
        }
    }

    #[test]
    fn a_process_of_an_application_is_not_the_application() {
        let told = of(
            &[death("terminal", |kill| {
                kill.kill = Some("process".into());
                kill.killer = Some("kernel".into());
                kill.time_usec = Some(0);
            })],
            0,
        );
        assert_eq!(
            told.summary,
            "A process of terminal was killed because memory ran out"
        );
        let line = told.body.lines().nth(1).unwrap();
        let begin = "The kernel chose its process cc1, with 30.0M at ";
        assert!(line.starts_with(begin) && line.ends_with(":00."), "{line}");
    }

    #[test]
    fn many_are_one_line_for_each_and_not_too_many() {
        let mut deaths = vec![death("a", |_| {}), death("b", |_| {}), death("a", |_| {})];
        let told = of(&deaths, 0);
        assert_eq!(told.summary, "Memory ran out 3 times");
        assert_eq!(
            told.body,
            "a was killed 2 times, first.\nb was killed.\n\
             app.slice (80.0M) used all the memory that it may have."
        );
        for number in 0..20 {
            deaths.push(death(&format!("x{number}"), |_| {}));
        }
        let told = of(&deaths, 5);
        assert_eq!(told.summary, "Memory ran out 28 times");
        let lines: Vec<&str> = told.body.lines().collect();
        assert_eq!(lines.len(), NAMED + 2);
        assert_eq!(lines[NAMED], "19 more were killed.");
    }

    #[test]
    fn markup_in_names_means_nothing() {
        assert_eq!(escaped("<b>R&D</b>"), "&lt;b&gt;R&amp;D&lt;/b&gt;");
    }
}
