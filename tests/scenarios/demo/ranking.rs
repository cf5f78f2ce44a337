// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the policy would do, by its own ranking program: the same choice without a kill.

use std::path::PathBuf;

use bpf_oomd_bpf::{Candidate, Excluded, PolicyProgram, SharedMaps};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::text::size;

/// A leaf of the slice as the policy judges it.
pub struct Judged {
    pub unit: String,
    candidate: Candidate,
}

/// Ranks what is below a cgroup, whose directory this is, by policy `name`; `units` are the units that may be in it, with their cgroups.
pub fn rank(name: &str, domain: &std::path::Path, units: &[(String, PathBuf)]) -> Vec<Judged> {
    let shared = SharedMaps::new().expect("maps");
    let policy = PolicyProgram::load(name, &shared).expect("load the policy");
    let ranking = policy.ranking(id_of(domain)).expect("run the ranking");
    ranking
        .candidates
        .into_iter()
        .map(|candidate| {
            let unit = units
                .iter()
                .find(|(_, cgroup)| id_of(cgroup) == candidate.cgroup_id);
            Judged {
                unit: unit.map_or_else(
                    || format!("cgroup {}", candidate.cgroup_id),
                    |(unit, _)| unit.clone(),
                ),
                candidate,
            }
        })
        .collect()
}

/// Who would die.
pub fn victim(ranking: &[Judged]) -> Option<&Judged> {
    ranking
        .first()
        .filter(|judged| judged.candidate.excluded.is_none())
}

/// Prints it, best first.
pub fn print(ranking: &[Judged]) {
    for (number, judged) in ranking.iter().enumerate() {
        let (place, verdict) = match judged.candidate.excluded {
            None => (
                format!("{}.", number + 1),
                format!("score {}", judged.candidate.score),
            ),
            Some(Excluded::Unkillable) => (
                "-".to_owned(),
                "excluded: a process in it must not be killed".to_owned(),
            ),
            Some(Excluded::NoProcess) => (
                "-".to_owned(),
                "excluded: no process in it can be killed".to_owned(),
            ),
            Some(Excluded::ScoreZero) => (
                "-".to_owned(),
                "excluded: nothing would be gained".to_owned(),
            ),
            Some(Excluded::Omitted) => (
                "-".to_owned(),
                "excluded: it says that it must not be chosen".to_owned(),
            ),
            Some(Excluded::Other(reason)) => ("-".to_owned(), format!("excluded: reason {reason}")),
        };
        println!(
            "  {place:<3} {:<28} {:>8}  {verdict}",
            judged.unit,
            size(judged.candidate.bytes)
        );
    }
}
