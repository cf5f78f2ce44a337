// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line that `systemctl status` shows.

use super::faults::Subject;
use crate::fault::Fault;
use std::collections::BTreeMap;

pub(super) struct Summary<'a> {
    pub(super) bus_lost: Option<&'a str>,
    pub(super) units: usize,
    /// The policy of every attachment.
    pub(super) attached: Vec<String>,
    /// With what each is about.
    pub(super) faults: Vec<(&'a Subject, &'a Fault)>,
    pub(super) lost_events: u64,
}

/// `N units followed; N attached (POLICY N, …); N faults: WHAT: FILE:LINE:COLUMN: …`
///
/// The faults are the reason why somebody looks; the first one is told whole, and the journal has the others.
pub(super) fn text(summary: &Summary<'_>) -> String {
    let mut parts = vec![match summary.bus_lost {
        Some(reason) => format!("units not followed ({reason})"),
        None => format!("{} followed", count(summary.units as u64, "unit")),
    }];
    parts.push(attached(&summary.attached));
    if summary.lost_events > 0 {
        parts.push(format!("{} lost", count(summary.lost_events, "report")));
    }
    if let Some((subject, fault)) = summary.faults.first() {
        let faults = count(summary.faults.len() as u64, "fault");
        parts.push(format!("{faults}: {subject}: {fault}"));
    }
    // The protocol knows one line.
    parts.join("; ").replace(['\n', '\r'], " ")
}

fn attached(policies: &[String]) -> String {
    let mut by_policy: BTreeMap<&str, usize> = BTreeMap::new();
    for policy in policies {
        *by_policy.entry(policy).or_default() += 1;
    }
    let each: Vec<String> = by_policy
        .iter()
        .map(|(policy, times)| format!("{policy} {times}"))
        .collect();
    match each.as_slice() {
        [] => "none attached".to_owned(),
        each => format!("{} attached ({})", policies.len(), each.join(", ")),
    }
}

fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::syntax::Position;

    fn summary() -> Summary<'static> {
        Summary {
            bus_lost: None,
            units: 132,
            attached: Vec::new(),
            faults: Vec::new(),
            lost_events: 0,
        }
    }

    #[test]
    fn all_is_well() {
        assert_eq!(text(&summary()), "132 units followed; none attached");
        let attached = ["bpf:b", "bpf:a", "bpf:b"].map(str::to_owned).to_vec();
        assert_eq!(
            text(&Summary {
                units: 1,
                attached,
                ..summary()
            }),
            "1 unit followed; 3 attached (bpf:a 1, bpf:b 2)"
        );
    }

    #[test]
    fn the_first_fault_is_told_and_the_others_are_counted() {
        let position = Position {
            line: 3,
            column: 18,
        };
        let first = Fault::at(
            "/etc/systemd/system/x.service",
            position,
            "unknown policy\n\"a\"",
        );
        let second = Fault::new("no");
        let units = ["x.service", "y.service"].map(|name| Subject::Unit(name.to_owned()));
        let faults = vec![(&units[0], &first), (&units[1], &second)];
        assert_eq!(
            text(&Summary {
                faults,
                lost_events: 1,
                ..summary()
            }),
            "132 units followed; none attached; 1 report lost; \
             2 faults: x.service: /etc/systemd/system/x.service:3:18: unknown policy \"a\""
        );
    }

    #[test]
    fn a_lost_bus_comes_first() {
        let lost = Summary {
            bus_lost: Some("it is gone"),
            ..summary()
        };
        assert_eq!(
            text(&lost),
            "units not followed (it is gone); none attached"
        );
    }
}
