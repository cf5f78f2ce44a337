// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl simulate`: who would die if a unit ran out of memory now, and who after that.

use super::daemon::{Daemon, run};
use super::look::{Look, Style};
use super::number::size;
use super::record::Simulation;
use super::table::{Cell, Table, names, numbers, words};
use super::{Outcome, Output, json};

/// Shows all candidates of a unit.
pub(super) fn simulate(output: &Output, unit: &str) -> Outcome {
    let simulation = run(async { Daemon::connect().await?.simulate(unit).await })??;
    if output.json {
        json::write(&simulation)?;
    } else {
        output.text(&text(&simulation, &output.look))?;
    }
    Ok(true)
}

fn text(simulation: &Simulation, look: &Look) -> String {
    let Simulation {
        unit,
        policy,
        candidates,
    } = simulation;
    if policy == "kernel" {
        return format!(
            "If {unit} runs out of memory, the kernel's own killer decides. Whom it chooses cannot be told beforehand.\n"
        );
    }
    let heading = format!("If {unit} runs out of memory, {policy} decides.");
    if candidates.is_empty() {
        return format!("{heading} Nobody is there who could be killed.\n");
    }
    let mut table = Table::new([
        numbers("#"),
        names("UNIT"),
        numbers("MEMORY"),
        numbers("SCORE"),
        numbers("PROCESSES"),
        words("PREFERENCE"),
        words("SPARED"),
        names("CGROUP"),
    ]);
    for (index, candidate) in candidates.iter().enumerate() {
        let style = match (candidate.may_die(), index) {
            (true, 0) => Style::Bad,
            (true, _) => Style::Plain,
            (false, _) => Style::Weak,
        };
        let number = match candidate.may_die() {
            true => (index + 1).to_string(),
            false => "-".to_owned(),
        };
        let cell = |text: String| Cell::new(style, text);
        table.push([
            cell(number),
            cell(candidate.unit.clone()),
            cell(size(Some(candidate.bytes))),
            cell(candidate.score.to_string()),
            cell(candidate.processes.to_string()),
            cell(candidate.preference.clone()),
            cell(spared(&candidate.excluded).to_owned()),
            cell(candidate.cgroup.clone()),
        ]);
    }
    format!("{heading}\n\n{}", table.text(look))
}

/// Why somebody is no candidate, in words.
fn spared(excluded: &str) -> &str {
    match excluded {
        "" => "",
        "unkillable" => "has a process that must not die",
        "no-process" => "has no process",
        "score-zero" => "nothing to be had",
        "omitted" => "omitted",
        other => other,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ctl::victims::tests::candidate;

    pub(in crate::ctl) fn sample() -> Simulation {
        simulation("bpf:biggest-leaf")
    }

    fn simulation(policy: &str) -> Simulation {
        Simulation {
            unit: "a.slice".into(),
            policy: policy.into(),
            candidates: vec![
                candidate("/a.slice/large.service", 3 << 20, ""),
                candidate("/a.slice/small.service", 1 << 20, ""),
                candidate("/a.slice/vital.service", 9 << 20, "unkillable"),
            ],
        }
    }

    #[test]
    fn candidates_are_in_the_order_in_which_they_die() {
        assert_eq!(
            text(&simulation("bpf:biggest-leaf"), &Look::default()),
            "If a.slice runs out of memory, bpf:biggest-leaf decides.\n\
             \n\
             #  UNIT           MEMORY    SCORE  PROCESSES  PREFERENCE  SPARED                           CGROUP\n\
             1  large.service    3.0M  3145728          2  none                                         /a.slice/large.service\n\
             2  small.service    1.0M  1048576          2  none                                         /a.slice/small.service\n\
             -  vital.service    9.0M  9437184          2  none        has a process that must not die  /a.slice/vital.service\n"
        );
    }

    #[test]
    fn what_the_kernel_decides_and_an_empty_domain_are_said() {
        let text = |simulation| super::text(&simulation, &Look::default());
        assert!(text(simulation("kernel")).contains("the kernel's own killer decides"));
        let empty = Simulation {
            candidates: Vec::new(),
            ..simulation("bpf:biggest-leaf")
        };
        assert!(text(empty).contains("Nobody is there"));
    }
}
