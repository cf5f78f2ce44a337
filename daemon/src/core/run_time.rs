// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is set at run time, and the file that keeps it over a restart of the daemon.
//!
//! The file is the daemon's own, in a directory that systemd keeps when the daemon is restarted and removes when it is stopped
//! (`RuntimeDirectoryPreserve=restart`). It is replaced whole, so that a daemon that ends in the middle leaves the old one.

use crate::config::check_unit;
use crate::fault::{Fault, causes};
use crate::policy::{Policy, RunTimeSetting, Term};
use crate::systemd::syntax::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the daemon keeps what has to outlive a restart: the `RuntimeDirectory=` of its unit.
pub const STATE_DIRECTORY: &str = "/run/bpf-oomd/state";

const FILE_NAME: &str = "run-time.toml";

/// All settings that are said at run time, by unit.
#[derive(Debug)]
pub(super) struct RunTime {
    file: PathBuf,
    settings: BTreeMap<String, RunTimeSetting>,
    /// What is wrong with the file.
    faults: Vec<Fault>,
    /// Whether the file could not be written when it had to be.
    unsaved: bool,
}

impl RunTime {
    /// Those that an earlier daemon left in a directory and whose time is not over. What cannot be used is a fault until the file
    /// is written again.
    pub(super) fn load(directory: &Path, programs: &[&str], now: u64) -> Self {
        let file = directory.join(FILE_NAME);
        let (settings, faults) = match fs::read_to_string(&file) {
            Ok(text) => read(&file, &text, programs),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            Err(error) => (
                BTreeMap::new(),
                vec![Fault::of_file(&file, unusable(&error))],
            ),
        };
        let mut run_time = RunTime {
            file,
            settings,
            faults,
            unsaved: false,
        };
        run_time.take_over(now);
        run_time
    }

    pub(super) fn get(&self, unit: &str) -> Option<&RunTimeSetting> {
        self.settings.get(unit)
    }

    pub(super) fn all(&self) -> &BTreeMap<String, RunTimeSetting> {
        &self.settings
    }

    /// Puts a setting of a unit in place of the one it has, or takes it away. Returns the one it had.
    pub(super) fn replace(
        &mut self,
        unit: &str,
        setting: Option<RunTimeSetting>,
    ) -> Option<RunTimeSetting> {
        match setting {
            Some(setting) => self.settings.insert(unit.to_owned(), setting),
            None => self.settings.remove(unit),
        }
    }

    /// Takes away those whose time is over, and returns the units they were of.
    pub(super) fn take_over(&mut self, now: u64) -> Vec<String> {
        let mut over = Vec::new();
        self.settings.retain(|unit, setting| {
            let stays = !setting.is_over(now);
            if !stays {
                over.push(unit.clone());
            }
            stays
        });
        over
    }

    /// When the next one is over.
    pub(super) fn next_end(&self) -> Option<u64> {
        let terms = self.settings.values().filter_map(|setting| setting.term);
        terms.map(|term| term.end).min()
    }

    /// Writes the file. What was wrong with it is history then.
    pub(super) fn save(&mut self) -> io::Result<()> {
        let directory = self.file.parent().unwrap_or(Path::new("/"));
        // systemd makes it; a daemon that somebody starts by hand is no other.
        fs::create_dir_all(directory)?;
        let new = self.file.with_extension("toml.new");
        fs::write(&new, text(&self.settings).map_err(io::Error::other)?)?;
        fs::rename(&new, &self.file)?;
        self.faults.clear();
        self.unsaved = false;
        Ok(())
    }

    /// The same where nobody waits for an answer: what goes wrong is a fault.
    pub(super) fn save_or_tell(&mut self) {
        if let Err(error) = self.save() {
            let message = format!("cannot be written: {error}");
            self.faults = vec![Fault::of_file(&self.file, message)];
            self.unsaved = true;
        }
    }

    /// Whether the file has to be written still.
    pub(super) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    pub(super) fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

/// The file, as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    setting: Vec<StoredSetting>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StoredSetting {
    unit: String,
    policy: String,
    uid: u32,
    /// Microseconds since 1970.
    at: u64,
    term: Option<StoredTerm>,
}

/// In microseconds, the end by CLOCK_BOOTTIME: the file does not outlive the boot.
#[derive(Debug, Serialize, Deserialize)]
struct StoredTerm {
    length: u64,
    end: u64,
}

fn text(settings: &BTreeMap<String, RunTimeSetting>) -> Result<String, toml::ser::Error> {
    let setting = settings
        .iter()
        .map(|(unit, setting)| StoredSetting {
            unit: unit.clone(),
            policy: setting.policy.to_string(),
            uid: setting.uid,
            at: setting.at,
            term: setting.term.map(|term| StoredTerm {
                length: u64::try_from(term.length.as_micros()).unwrap_or(u64::MAX),
                end: term.end,
            }),
        })
        .collect();
    let body = toml::to_string(&Stored { setting })?;
    Ok(format!(
        "# Written by bpf-oomd: what was set at run time. \"bpf-oomctl reset-policy UNIT\" takes it away.\n\n{body}"
    ))
}

fn read(
    file: &Path,
    text: &str,
    programs: &[&str],
) -> (BTreeMap<String, RunTimeSetting>, Vec<Fault>) {
    let stored: Stored = match toml::from_str(text) {
        Ok(stored) => stored,
        Err(error) => {
            let message = unusable(&error.message());
            let fault = match error.span() {
                Some(span) => Fault::at(file, position(text, span.start), message),
                None => Fault::of_file(file, message),
            };
            return (BTreeMap::new(), vec![fault]);
        }
    };
    let mut settings = BTreeMap::new();
    let mut faults = Vec::new();
    for one in stored.setting {
        let unit = one.unit.clone();
        match setting(one, programs) {
            Ok(setting) => drop(settings.insert(unit, setting)),
            Err(reason) => faults.push(Fault::of_file(file, format!("{unit}: {reason}"))),
        }
    }
    (settings, faults)
}

fn setting(stored: StoredSetting, programs: &[&str]) -> Result<RunTimeSetting, String> {
    check_unit(&stored.unit).map_err(|error| causes(&error))?;
    // An upgrade may have taken a policy away.
    let policy = Policy::parse(&stored.policy, programs).map_err(|error| causes(&error))?;
    Ok(RunTimeSetting {
        policy,
        uid: stored.uid,
        at: stored.at,
        term: stored.term.map(|term| Term {
            length: Duration::from_micros(term.length),
            end: term.end,
        }),
    })
}

fn unusable(why: &dyn std::fmt::Display) -> String {
    format!(
        "what was set at run time cannot be read and is not in force: {why}; the next change writes the file anew"
    )
}

/// The place of a byte of a text.
fn position(text: &str, at: usize) -> Position {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or(before);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Position {
        line: count(before.matches('\n').count() + 1),
        column: count(line.chars().count() + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROGRAMS: [&str; 2] = ["biggest-leaf", "p"];

    fn forever(policy: &str) -> RunTimeSetting {
        RunTimeSetting {
            policy: Policy::parse(policy, &PROGRAMS).unwrap(),
            uid: 0,
            at: 1_795_615_934_000_000,
            term: None,
        }
    }

    fn limited(end: u64) -> RunTimeSetting {
        RunTimeSetting {
            term: Some(Term {
                length: Duration::from_secs(2),
                end,
            }),
            ..forever("kernel")
        }
    }

    fn loaded(directory: &Path, now: u64) -> RunTime {
        RunTime::load(directory, &PROGRAMS, now)
    }

    fn told(run_time: &RunTime) -> Vec<String> {
        run_time.faults().iter().map(Fault::to_string).collect()
    }

    #[test]
    fn where_nothing_was_saved_nothing_is_set_and_nothing_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let run_time = loaded(&directory.path().join("not/there"), 0);
        assert!(run_time.all().is_empty());
        assert_eq!(told(&run_time), [""; 0]);
    }

    #[test]
    fn what_was_saved_is_there_again_as_far_as_its_time_is_not_over() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let mut before = loaded(&state, 0);
        before.replace("a.slice", Some(forever("bpf:biggest-leaf")));
        before.replace("b.service", Some(limited(100)));
        before.replace("c.service", Some(limited(101)));
        before.save().unwrap();
        assert_eq!(before.next_end(), Some(100));
        let after = loaded(&state, 100);
        assert_eq!(
            after.all().keys().collect::<Vec<_>>(),
            ["a.slice", "c.service"]
        );
        assert_eq!(after.get("a.slice"), before.get("a.slice"));
        assert_eq!(after.next_end(), Some(101));
    }

    #[test]
    fn the_file_can_be_read_by_a_person() {
        let settings = [
            ("a.slice".to_owned(), forever("bpf:p")),
            (r"dev-x\x2dy.swap".to_owned(), limited(7)),
        ];
        let text = text(&settings.into()).unwrap();
        let (_, body) = text.split_once("\n\n").unwrap();
        assert_eq!(
            body,
            "[[setting]]\nunit = \"a.slice\"\npolicy = \"bpf:p\"\nuid = 0\nat = 1795615934000000\n\n\
             [[setting]]\nunit = 'dev-x\\x2dy.swap'\npolicy = \"kernel\"\nuid = 0\nat = 1795615934000000\n\n\
             [setting.term]\nlength = 2000000\nend = 7\n"
        );
    }

    #[test]
    fn a_damaged_file_is_a_fault_until_it_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE_NAME);
        for (damaged, at) in [
            ("[[setting]]\nunit = \"a.slice\"\npoli", ":3:5: "),
            ("[[setting]]\nunit = 7\n", ":2:8: "),
            ("setting = 1", ":1:11: "),
        ] {
            fs::write(&file, damaged).unwrap();
            let mut run_time = loaded(directory.path(), 0);
            assert!(run_time.all().is_empty());
            let faults = told(&run_time);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(
                faults[0].starts_with(&format!("{}{at}", file.display())),
                "{faults:?}"
            );
            run_time.save().unwrap();
            assert_eq!(told(&run_time), [""; 0]);
            assert_eq!(told(&loaded(directory.path(), 0)), [""; 0]);
        }
        fs::write(&file, b"\xff").unwrap();
        assert_eq!(told(&loaded(directory.path(), 0)).len(), 1);
    }

    #[test]
    fn one_setting_that_cannot_be_used_does_not_take_the_others_along() {
        let directory = tempfile::tempdir().unwrap();
        let setting = |unit: &str, policy: &str| {
            format!("[[setting]]\nunit = '{unit}'\npolicy = '{policy}'\nuid = 0\nat = 0\n")
        };
        let text = [
            setting("a.slice", "bpf:gone"),
            setting("b", "kernel"),
            setting("c.slice", "kernel"),
        ]
        .concat();
        fs::write(directory.path().join(FILE_NAME), text).unwrap();
        let run_time = loaded(directory.path(), 0);
        assert_eq!(run_time.all().keys().collect::<Vec<_>>(), ["c.slice"]);
        let faults = told(&run_time);
        assert_eq!(faults.len(), 2);
        assert!(faults[0].contains("a.slice: unknown policy \"bpf:gone\""));
        assert!(faults[1].contains("b: \"b\" is no unit"));
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_one_that_is_there() {
        // A directory stands where the new file would be made: that stops root too.
        let directory = tempfile::tempdir().unwrap();
        let mut run_time = loaded(directory.path(), 0);
        run_time.replace("a.slice", Some(forever("kernel")));
        run_time.save().unwrap();
        fs::create_dir(directory.path().join(format!("{FILE_NAME}.new"))).unwrap();
        run_time.replace("b.slice", Some(forever("kernel")));
        assert!(run_time.save().is_err());
        run_time.save_or_tell();
        assert!(told(&run_time)[0].contains("cannot be written: "));
        assert!(run_time.is_unsaved());
        assert_eq!(loaded(directory.path(), 0).all().len(), 1);
        // And then it can be.
        fs::remove_dir(directory.path().join(format!("{FILE_NAME}.new"))).unwrap();
        run_time.save_or_tell();
        assert!(!run_time.is_unsaved());
        assert_eq!(told(&run_time), [""; 0]);
    }

    fn units() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9:_.\\\\]{1,20}\\.(service|scope|slice|mount|swap|socket)"
    }

    fn settings() -> impl Strategy<Value = RunTimeSetting> {
        let policy = prop_oneof![
            Just(Policy::Kernel),
            Just(Policy::Bpf("biggest-leaf".into())),
            Just(Policy::Bpf("p".into()))
        ];
        let term = prop::option::of((any::<u64>(), any::<u64>()))
            .prop_map(|term| term.map(|(now, long)| Term::from(now, Duration::from_micros(long))));
        (policy, any::<u32>(), 0..i64::MAX as u64, term).prop_map(|(policy, uid, at, term)| {
            RunTimeSetting {
                policy,
                uid,
                at,
                term,
            }
        })
    }

    proptest! {
        #[test]
        fn whatever_is_set_is_read_again(
            settings in prop::collection::btree_map(units(), settings(), 0..8)
        ) {
            let text = text(&settings).unwrap();
            let (again, faults) = read(Path::new("f"), &text, &PROGRAMS);
            prop_assert_eq!(faults, []);
            prop_assert_eq!(again, settings);
        }

        #[test]
        fn any_text_is_read_or_a_fault(text in "(\\[\\[setting\\]\\]\n)?(.|\n){0,60}") {
            let (settings, faults) = read(Path::new("f"), &text, &PROGRAMS);
            prop_assert!(settings.is_empty() || faults.is_empty());
        }

        /// After any number of changes there is what was said last about each unit and is not over.
        #[test]
        fn the_last_word_about_a_unit_counts_until_it_is_over(
            said in prop::collection::vec(
                (0..3usize, prop::option::of(prop::option::of(0..50u64))), 0..20,
            ),
            now in 0..60u64,
        ) {
            const UNITS: [&str; 3] = ["a.slice", "b.service", "c.scope"];
            let directory = tempfile::tempdir().unwrap();
            let mut run_time = loaded(directory.path(), 0);
            for (unit, setting) in &said {
                let setting = setting.map(|end| match end {
                    Some(end) => limited(end),
                    None => forever("bpf:p"),
                });
                run_time.replace(UNITS[*unit], setting);
            }
            let over = run_time.take_over(now);
            run_time.save().unwrap();
            let after = loaded(directory.path(), now);
            prop_assert_eq!(after.all(), run_time.all());
            for (index, unit) in UNITS.iter().enumerate() {
                let last = said.iter().rev().find(|(about, _)| *about == index);
                let last = last.and_then(|(_, setting)| *setting);
                let counts = last.is_some_and(|end| end.is_none_or(|end| end > now));
                prop_assert_eq!(run_time.get(unit).is_some(), counts, "{}", unit);
                let ended = matches!(last, Some(Some(end)) if end <= now);
                prop_assert_eq!(over.iter().any(|name| name == unit), ended);
            }
            prop_assert!(run_time.next_end().is_none_or(|end| end > now));
        }
    }
}
