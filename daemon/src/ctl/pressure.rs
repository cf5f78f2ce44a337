// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl pressure`: which units are watched, and what came of their stalls.

use super::Outcome;
use super::daemon::{Daemon, NoAnswer, Watched};

/// Prints all of them.
pub(super) fn pressure() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async { Daemon::connect().await?.pressure().await });
    match result {
        Ok(watched) => {
            print!("{}", table(&watched));
            Ok(true)
        }
        Err(NoAnswer::Refused { message, .. }) => Err(message.into()),
        Err(NoAnswer::NotThere) => Err("bpf-oomd does not run".into()),
        Err(NoAnswer::Trouble(error)) => Err(error.into()),
    }
}

/// One line for each unit.
fn table(watched: &[Watched]) -> String {
    let heading = ["UNIT", "PRESSURE", "STALLS"].map(str::to_owned);
    let rows = watched.iter().map(|(unit, setting, counts)| {
        let counts: Vec<String> = counts
            .iter()
            .map(|(outcome, count)| format!("{outcome} {count}"))
            .collect();
        let counts = match counts.is_empty() {
            true => "none".to_owned(),
            false => counts.join(", "),
        };
        [unit.clone(), setting.clone(), counts]
    });
    let rows: Vec<[String; 3]> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let (units, settings) = (width(0), width(1));
    let line = |[unit, setting, counts]: &[String; 3]| {
        format!("{unit:units$}  {setting:settings$}  {counts}\n")
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_in_columns() {
        let watched = [
            (
                "a-long-name.service".to_owned(),
                "memory full 400ms/1s".to_owned(),
                [("killed".to_owned(), 1), ("too-short".to_owned(), 12)].into(),
            ),
            (
                "b.slice".to_owned(),
                "io some 1s/10s for=0".to_owned(),
                [].into(),
            ),
        ];
        assert_eq!(
            table(&watched),
            "UNIT                 PRESSURE              STALLS\n\
             a-long-name.service  memory full 400ms/1s  killed 1, too-short 12\n\
             b.slice              io some 1s/10s for=0  none\n"
        );
    }
}
