// SPDX-License-Identifier: MIT OR Apache-2.0
//! Victims that have some time before they are killed, for the journal.

use super::entry::Entry;
use super::kill::Report;
use crate::engine::Warning;
use crate::systemd::value::TimeSpan;

/// journalctl MESSAGE_ID=: a victim has some time before it is killed, or has ended by itself within it.
pub const WARNING_MESSAGE_ID: &str = "59aeadefa04242988da9732e47390a34";

/// Values of the field OOM_OUTCOME.
const WARNED: &str = "warned";
const WENT_AWAY: &str = "went-away";

/// Writes to the journal that a victim has some time. `report` is of the kill.
pub fn report(report: &Report, warning: &Warning) {
    entry(report, WARNED, given(report, warning)).warn();
}

/// Writes to the journal that a victim that had some time has ended by itself. `report` is of the kill that would have been.
pub fn report_gone(report: &Report) {
    entry(report, WENT_AWAY, gone(report)).warn();
}

fn entry<'a>(report: &'a Report, outcome: &'static str, message: String) -> Entry<'a> {
    Entry {
        message_id: WARNING_MESSAGE_ID,
        message,
        outcome: Some(outcome),
        ..report.entry()
    }
}

fn given(report: &Report, warning: &Warning) -> String {
    let before = match (warning.asked, warning.programs) {
        (true, true) => "it was asked to end, programs are run before",
        (true, false) => "it was asked to end",
        (false, _) => "programs are run before",
    };
    let time = TimeSpan(warning.time_left);
    format!(
        "{}; {before}, and it is killed in {time} at the latest",
        report.message()
    )
}

fn gone(report: &Report) -> String {
    format!("{}; it has ended by itself", report.message())
}

#[cfg(test)]
mod tests {
    use super::super::kill;
    use super::*;
    use crate::engine::{Kill, Reason};
    use crate::policy::{self, CgroupId, Preference};
    use std::time::Duration;

    fn warning(asked: bool, programs: bool) -> Warning {
        Warning {
            kill: Kill {
                time_ns: 1,
                domain: CgroupId(10),
                domain_path: Some("/a.slice".into()),
                reason: Reason::Allocation,
                attachment: CgroupId(10),
                victim: CgroupId(20),
                victim_path: Some("/a.slice/b.service".into()),
                program: "biggest-leaf".into(),
                usage_before: 80 << 20,
                victim_bytes: 31 << 20,
                victim_score: 1,
                preference: Preference::None,
                kill: policy::Kill::Cgroup,
                candidates: 2,
                handler_us: 1,
                processes_total: 2,
                processes: Vec::new(),
            },
            time_left: Duration::from_millis(2500),
            asked,
            programs,
        }
    }

    #[test]
    fn it_is_told_what_the_time_is_for() {
        let said = |asked, programs| {
            let warning = warning(asked, programs);
            let said = given(&kill::describe(warning.kill.clone(), |_| None), &warning);
            let (_, said) = said.split_once("; ").unwrap();
            said.to_owned()
        };
        let end = ", and it is killed in 2s 500ms at the latest";
        assert_eq!(said(true, false), format!("it was asked to end{end}"));
        assert_eq!(said(false, true), format!("programs are run before{end}"));
        assert_eq!(
            said(true, true),
            format!("it was asked to end, programs are run before{end}")
        );
    }

    #[test]
    fn it_is_told_who_and_why() {
        let report = kill::describe(warning(true, false).kill, |_| None);
        assert_eq!(
            gone(&report),
            format!("{}; it has ended by itself", report.message())
        );
        assert!(
            report
                .message()
                .contains("chose b.service, 31.0M in 2 processes")
        );
    }
}
