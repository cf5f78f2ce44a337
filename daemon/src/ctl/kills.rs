// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl kills`: who was killed, by whom and why; and who is, as it happens.

use super::daemon::{Daemon, run};
use super::follower::{Follower, Seen};
use super::look::Style;
use super::moment::Moment;
use super::number::size;
use super::record::Kill;
use super::table::{Cell, Column, Table, names, numbers, words};
use super::{Outcome, Output, json};

/// What is wanted.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Since when. None: since the service was started.
    pub(super) since: Option<Moment>,
    /// How many at most. None: all.
    pub(super) max: Option<u32>,
    /// Of which units. Empty: of all.
    pub(super) units: &'a [String],
}

impl Wanted<'_> {
    fn is_of_a_unit(&self, kill: &Kill) -> bool {
        let names = [&kill.unit, &kill.user_unit];
        let mut names = names.into_iter().flatten();
        self.units.is_empty() || names.any(|name| self.units.contains(name))
    }

    /// What to ask the daemon for: what it leaves out is not missed here.
    fn request(&self) -> (u64, u32) {
        let since = self.since.map_or(0, |since| since.0);
        let max = match self.units.is_empty() {
            true => self.max.unwrap_or(0),
            false => 0,
        };
        (since, max)
    }

    /// Those that are wanted of those that the daemon knows.
    fn choose(&self, mut kills: Vec<Kill>) -> Vec<Kill> {
        kills.retain(|kill| self.is_of_a_unit(kill));
        let max = self.max.and_then(|max| usize::try_from(max).ok());
        kills.split_off(max.map_or(0, |max| kills.len().saturating_sub(max)))
    }
}

/// Shows those that there were.
pub(super) fn kills(output: &Output, wanted: &Wanted<'_>) -> Outcome {
    let (since, max) = wanted.request();
    let kills = run(async { Daemon::connect().await?.kills(since, max).await })??;
    let kills = wanted.choose(kills);
    if output.json {
        json::write(&kills)?;
    } else {
        output.text(&table(&kills).text(&output.look))?;
    }
    Ok(true)
}

/// Shows those that there were, and then every one as it happens, until somebody ends the program.
pub(super) fn follow(output: &Output, wanted: &Wanted<'_>) -> Outcome {
    run(async {
        let mut follower = Follower::listen(Seen::default()).await?;
        let (since, max) = wanted.request();
        let kills = wanted.choose(follower.history(since, max).await?);
        if output.json {
            for kill in &kills {
                json::write(kill)?;
            }
        } else {
            output.text(&table(&kills).text(&output.look))?;
        }
        loop {
            let kill = follower.next().await?;
            if !wanted.is_of_a_unit(&kill) {
                continue;
            }
            if output.json {
                json::write(&kill)?;
            } else {
                output.text(&table(&[kill]).rows(&output.look))?;
            }
        }
    })?
}

/// Wide enough for most of what comes later.
const COLUMNS: [Column; 7] = [
    words("TIME").at_least(19),
    names("VICTIM").at_least(24),
    numbers("MEMORY").at_least(7),
    numbers("DIED"),
    words("BY").at_least(16),
    words("REASON").at_least(8),
    names("DOMAIN"),
];

fn table(kills: &[Kill]) -> Table<7> {
    let mut table = Table::new(COLUMNS);
    for kill in kills {
        table.push(row(kill));
    }
    table
}

fn row(kill: &Kill) -> [Cell; 7] {
    let time = kill
        .time_usec
        .map_or("-".into(), |time| Moment(time).shown());
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let policy = match (kill.killer.as_deref(), kill.policy.as_deref()) {
        (Some("kernel"), _) | (_, Some("kernel")) => Cell::new(Style::Warning, "kernel"),
        (_, Some(name)) => format!("bpf:{name}").into(),
        (_, None) => "-".into(),
    };
    let victim = kill.user_unit.as_ref().or(kill.unit.as_ref());
    let victim = victim.or(kill.cgroup.as_ref());
    let domain = match (&kill.domain_unit, kill.reason.as_deref()) {
        (Some(unit), _) => unit.clone(),
        (None, Some("system")) => "the system".to_owned(),
        (None, _) => text(&kill.domain),
    };
    [
        time.into(),
        Cell::new(Style::Bad, text(&victim.cloned())),
        size(kill.bytes).into(),
        kill.processes_total
            .map_or("-".into(), |total| total.to_string())
            .into(),
        policy,
        text(&kill.reason).into(),
        domain.into(),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ctl::look::Look;

    pub(in crate::ctl) fn kill(id: u64, unit: &str) -> Kill {
        Kill {
            id: Some(id),
            time_usec: Some(id * 1_000_000),
            killer: Some("policy".into()),
            policy: Some("biggest-leaf".into()),
            reason: Some("limit".into()),
            unit: Some(unit.into()),
            bytes: Some(3 << 20),
            processes_total: Some(2),
            domain_unit: Some("a.slice".into()),
            ..Kill::default()
        }
    }

    fn wanted(max: Option<u32>, units: &[String]) -> Wanted<'_> {
        Wanted {
            since: None,
            max,
            units,
        }
    }

    #[test]
    fn a_kill_is_a_line() {
        let kernels = Kill {
            killer: Some("kernel".into()),
            policy: Some("kernel".into()),
            reason: Some("system".into()),
            unit: None,
            cgroup: Some("/x".into()),
            bytes: None,
            domain_unit: None,
            ..kill(2, "")
        };
        let text = table(&[kill(1, "x.service"), kernels]).text(&Look::default());
        let lines: Vec<String> = text
            .lines()
            // The local time is not the same everywhere.
            .map(|line| {
                format!(
                    "{}|{}",
                    line.chars().take(4).collect::<String>(),
                    &line[19..]
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "TIME|  VICTIM                     MEMORY  DIED  BY                REASON    DOMAIN",
                &format!(
                    "{}|  x.service                    3.0M     2  bpf:biggest-leaf  limit     a.slice",
                    &Moment(0).shown()[..4]
                ),
                &format!(
                    "{}|  /x                              -     2  kernel            system    the system",
                    &Moment(0).shown()[..4]
                ),
            ]
        );
    }

    #[test]
    fn the_newest_of_a_unit_are_chosen() {
        let kills = || {
            vec![
                kill(1, "x.service"),
                kill(2, "y.service"),
                kill(3, "x.service"),
            ]
        };
        let ids = |kills: Vec<Kill>| kills.iter().filter_map(|kill| kill.id).collect::<Vec<_>>();
        assert_eq!(ids(wanted(None, &[]).choose(kills())), [1, 2, 3]);
        assert_eq!(ids(wanted(Some(2), &[]).choose(kills())), [2, 3]);
        assert_eq!(ids(wanted(Some(9), &[]).choose(kills())), [1, 2, 3]);
        let units = ["x.service".to_owned()];
        assert_eq!(ids(wanted(None, &units).choose(kills())), [1, 3]);
        assert_eq!(ids(wanted(Some(1), &units).choose(kills())), [3]);
        // The daemon knows nothing of units, so it must not count.
        assert_eq!(wanted(Some(1), &units).request(), (0, 0));
        assert_eq!(wanted(Some(1), &[]).request(), (0, 1));
    }
}
