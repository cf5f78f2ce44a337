// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl top`: who waits for memory, who has it, and who would die next; again and again.

use super::daemon::{Daemon, NoAnswer, run};
use super::list::{Row, kills, policy};
use super::look::{Look, Style};
use super::moment::Moment;
use super::number::{count, pressure, size};
use super::screen::{Over, Screen};
use super::table::{Cell, Table, names, numbers, words};
use super::usage::{Source, Usage};
use super::victims::{self, NextVictim};
use super::{Outcome, Output, json};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::{IsTerminal, stdin, stdout};
use std::time::Duration;

/// What is seen at one moment.
#[derive(Debug, Serialize)]
struct Frame {
    /// When, by CLOCK_REALTIME.
    time_usec: u64,
    /// What the whole system uses.
    system: Usage,
    /// Who waits most comes first, and then who has most.
    units: Vec<Row>,
    /// Who would die next.
    next_victims: Vec<NextVictim>,
}

/// Shows frames, one each `interval`; `frames` of them if that is given.
pub(super) fn top(output: &Output, interval: Duration, frames: Option<u64>) -> Outcome {
    let live = !output.json && stdin().is_terminal() && stdout().is_terminal();
    let shown: Outcome = run(async {
        let daemon = Daemon::connect().await?;
        let source = Source::system();
        // Seen before the terminal is taken: what is said when there is no daemon should stay there.
        let mut frame = look(&daemon, &source).await?;
        let mut screen = live.then(Screen::take).transpose()?;
        let mut shown = 0;
        loop {
            show(output, &frame, screen.as_ref(), shown > 0)?;
            shown += 1;
            if frames.is_some_and(|frames| shown >= frames) {
                return Ok(true);
            }
            match &mut screen {
                Some(screen) => {
                    if screen.pause(interval).await? == Over::Quit {
                        return Ok(true);
                    }
                }
                None => tokio::time::sleep(interval).await,
            }
            frame = look(&daemon, &source).await?;
        }
    })?;
    shown
}

async fn look(daemon: &Daemon, source: &Source) -> Result<Frame, NoAnswer> {
    let units = daemon.units().await?;
    let next_victims = victims::next(daemon, victims::domains(&units)).await?;
    let with_cgroup = units
        .into_iter()
        .filter(|unit| !unit.control_group.is_empty());
    let mut units: Vec<Row> = with_cgroup.map(|unit| Row::read(unit, source)).collect();
    units.sort_by(order);
    Ok(Frame {
        time_usec: Moment::now().0,
        system: source.usage("/"),
        units,
        next_victims,
    })
}

/// Who is in trouble comes first.
fn order(one: &Row, other: &Row) -> Ordering {
    let pressure = |row: &Row| {
        let Usage {
            pressure_some_avg10: some,
            pressure_full_avg10: full,
            ..
        } = row.usage;
        (full.unwrap_or(0.0), some.unwrap_or(0.0))
    };
    let ((full, some), (other_full, other_some)) = (pressure(one), pressure(other));
    other_full
        .total_cmp(&full)
        .then(other_some.total_cmp(&some))
        .then(other.usage.memory.cmp(&one.usage.memory))
        .then(one.unit.name.cmp(&other.unit.name))
}

fn show(
    output: &Output,
    frame: &Frame,
    screen: Option<&Screen>,
    again: bool,
) -> std::io::Result<()> {
    if output.json {
        return json::write(frame);
    }
    match screen {
        // A terminal may have another size than before.
        Some(screen) => screen.draw(&text(frame, &Look::of_stdout())),
        None => {
            let separator = if again { "\n" } else { "" };
            let text = text(frame, &output.look);
            output.text(&format!("{separator}{text}"))
        }
    }
}

fn text(frame: &Frame, look: &Look) -> String {
    let system = &frame.system;
    let percent = |average: Option<f64>| average.map_or("-".into(), |it| format!("{it:.1}%"));
    let heading = format!(
        "{}  {}, {} used, {} page cache, pressure some {} full {}\n\n",
        Moment(frame.time_usec).shown(),
        count(
            u64::try_from(frame.units.len()).unwrap_or(u64::MAX),
            "unit",
            "units"
        ),
        size(system.memory),
        size(system.page_cache),
        percent(system.pressure_some_avg10),
        percent(system.pressure_full_avg10),
    );
    let mut victims: HashMap<&str, Vec<&str>> = HashMap::new();
    for victim in &frame.next_victims {
        let domains = victims.entry(&victim.unit).or_default();
        domains.push(&victim.domain);
    }
    let mut table = Table::new([
        names("UNIT"),
        numbers("SOME"),
        numbers("FULL"),
        numbers("MEMORY"),
        numbers("CACHE"),
        words("POLICY"),
        numbers("KILLS"),
        names("NEXT VICTIM OF"),
    ]);
    // The line of the whole, an empty one, and the headings.
    let room = look
        .height
        .map_or(usize::MAX, |height| height.saturating_sub(3));
    for Row { unit, usage } in frame.units.iter().take(room) {
        let domains = victims.get(unit.name.as_str());
        let domains = domains.map_or(String::new(), |domains| domains.join(", "));
        table.push([
            (*unit.name).into(),
            pressure(usage.pressure_some_avg10),
            pressure(usage.pressure_full_avg10),
            size(usage.memory).into(),
            size(usage.page_cache).into(),
            policy(&unit.policy, unit.attached),
            kills(unit.kills),
            Cell::new(Style::Bad, domains),
        ]);
    }
    heading + &table.text(look)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ctl::list::tests::rows;

    pub(in crate::ctl) fn sample() -> impl Serialize {
        frame()
    }

    fn frame() -> Frame {
        Frame {
            time_usec: 1_764_079_920_000_000,
            system: Usage {
                memory: Some(3 << 30),
                page_cache: Some(1 << 30),
                pressure_some_avg10: Some(0.25),
                pressure_full_avg10: None,
            },
            units: rows(),
            next_victims: vec![NextVictim {
                domain: "batch.slice".into(),
                policy: "bpf:biggest-leaf".into(),
                unit: "batch.slice".into(),
                cgroup: "/batch.slice".into(),
                bytes: 1,
            }],
        }
    }

    #[test]
    fn a_frame_shows_the_whole_and_its_units() {
        let text = text(&frame(), &Look::default());
        let (time, rest) = text.split_at(19);
        assert_eq!(time, Moment(frame().time_usec).shown());
        assert_eq!(
            rest,
            "  2 units, 3.0G used, 1.0G page cache, pressure some 0.2% full -\n\
             \n\
             UNIT          SOME  FULL  MEMORY  CACHE  POLICY            KILLS  NEXT VICTIM OF\n\
             batch.slice  12.3%  0.0%   64.0M   1.5M  bpf:biggest-leaf      2  batch.slice\n\
             x.service        -     -       -      -  kernel                0\n"
        );
    }

    #[test]
    fn a_frame_is_not_higher_than_the_terminal() {
        let look = Look {
            height: Some(4),
            ..Look::default()
        };
        assert_eq!(text(&frame(), &look).lines().count(), 4);
    }

    #[test]
    fn who_waits_comes_before_who_has_much() {
        let row = |name: &str, full, some, memory| {
            let mut row = rows().remove(0);
            row.unit.name = name.into();
            row.usage = Usage {
                memory,
                pressure_full_avg10: full,
                pressure_some_avg10: some,
                page_cache: None,
            };
            row
        };
        let mut units = [
            row("nothing", None, None, None),
            row("large", Some(0.0), Some(0.0), Some(9)),
            row("b", Some(0.0), Some(0.0), Some(5)),
            row("a", Some(0.0), Some(0.0), Some(5)),
            row("some", Some(0.0), Some(20.0), Some(1)),
            row("full", Some(5.0), Some(6.0), Some(1)),
        ];
        units.sort_by(order);
        let names = units.map(|row| row.unit.name);
        assert_eq!(names, ["full", "some", "large", "a", "b", "nothing"]);
    }
}
