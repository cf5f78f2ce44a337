// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl pressure`: which units are watched, and what came of their stalls.

use super::daemon::{Daemon, run};
use super::look::Look;
use super::record::Watched;
use super::table::{Table, names};
use super::{Outcome, Output, json};

/// Shows all of them.
pub(super) fn pressure(output: &Output) -> Outcome {
    let watched = run(async { Daemon::connect().await?.pressure().await })??;
    if output.json {
        json::write(&watched)?;
    } else {
        output.text(&text(&watched, &output.look))?;
    }
    Ok(true)
}

/// One line for each unit.
fn text(watched: &[Watched], look: &Look) -> String {
    let mut table = Table::new([names("UNIT"), names("PRESSURE"), names("STALLS")]);
    for Watched {
        unit,
        pressure,
        stalls,
    } in watched
    {
        let counts = stalls.iter();
        let counts: Vec<String> = counts
            .map(|(outcome, count)| format!("{outcome} {count}"))
            .collect();
        let counts = match counts.is_empty() {
            true => "none".to_owned(),
            false => counts.join(", "),
        };
        table.push([(**unit).into(), (**pressure).into(), counts.into()]);
    }
    table.text(look)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ctl) fn sample() -> Vec<Watched> {
        let unit = |name: &str, pressure: &str, stalls: &[(&str, u64)]| Watched {
            unit: name.into(),
            pressure: pressure.into(),
            stalls: stalls
                .iter()
                .map(|(outcome, count)| ((*outcome).to_owned(), *count))
                .collect(),
        };
        vec![
            unit(
                "a-long-name.service",
                "memory full 400ms/1s",
                &[("killed", 1), ("too-short", 12)],
            ),
            unit("b.slice", "io some 1s/10s for=0", &[]),
        ]
    }

    #[test]
    fn units_are_told_in_columns() {
        assert_eq!(
            text(&sample(), &Look::default()),
            "UNIT                 PRESSURE              STALLS\n\
             a-long-name.service  memory full 400ms/1s  killed 1, too-short 12\n\
             b.slice              io some 1s/10s for=0  none\n"
        );
    }
}
