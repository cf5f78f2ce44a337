// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was counted and who was killed, in a file: so that both go on when the daemon is restarted, or was killed.
//!
//! Why a file beside that of what is set at run time, and no descriptor in systemd's store: it is there for as long
//! (`RuntimeDirectoryPreserve=restart`), serves the engine that keeps nothing in the store as well, grows and shrinks with what is in it,
//! and any version reads what it knows of it. It is written when a kill is in the journal already, so nothing waits for it that matters.
//!
//! One line is one thing that happened, and is written at once. A daemon that is killed in the middle leaves a line without an end, which
//! counts for nothing: the record was being told then, and so counts as lost. When there are many lines, those that still say something
//! are written to a new file, which takes the place of the old one.

use super::history::{KILLS_KEPT, NumberedKill};
use crate::events::record::Killer;
use crate::fault::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE_NAME: &str = "kills.json";

/// How many lines there are before the file is made anew. More than what it says then, so that most kills are one line's work.
const MOST_LINES: usize = KILLS_KEPT + 256;

/// What was counted since the service was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Counted {
    /// The number of the last kill.
    pub(super) last: u64,
    /// Kills by policies.
    pub(super) kills: u64,
    /// Kills by the kernel's own killer.
    pub(super) kernel_kills: u64,
    /// Stalls for which no policy killed.
    pub(super) stalls: u64,
    /// How often units were victims. Those that systemd has forgotten are forgotten when there are too many.
    pub(super) victims: BTreeMap<String, u64>,
}

impl Counted {
    const MOST_VICTIMS: usize = 4096;

    /// One more kill.
    pub(super) fn kill(&mut self, kill: &NumberedKill, is_loaded: impl Fn(&str) -> bool) {
        self.last = kill.id;
        match kill.record.killer {
            Killer::Policy => self.kills += 1,
            Killer::Kernel => self.kernel_kills += 1,
        }
        if let Some(unit) = &kill.record.unit {
            if self.victims.len() >= Self::MOST_VICTIMS && !self.victims.contains_key(unit) {
                self.victims.retain(|unit, _| is_loaded(unit));
            }
            *self.victims.entry(unit.clone()).or_default() += 1;
        }
    }
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line<Kill, Counts> {
    Kill(Kill),
    Stall,
    /// How many of everything there were until then.
    Counted(Counts),
}

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) kills: Vec<NumberedKill>,
    pub(super) counted: Counted,
}

/// The file.
#[derive(Debug)]
pub(super) struct Chronicle {
    path: PathBuf,
    /// None if it has to be made anew before anything is added to it.
    file: Option<File>,
    lines: usize,
    /// What is wrong with it.
    fault: Option<Fault>,
}

impl Chronicle {
    /// Goes on with the file that an earlier daemon left in a directory, if there is one. What cannot be read of it is a fault until
    /// it is made anew.
    pub(super) fn open(directory: &Path) -> (Self, Past) {
        let mut chronicle = Chronicle {
            path: directory.join(FILE_NAME),
            file: None,
            lines: 0,
            fault: None,
        };
        let past = match fs::read_to_string(&chronicle.path) {
            Ok(text) => {
                let (past, unread) = read(&text);
                if unread > 0 {
                    chronicle.is_wrong(&format!(
                        "{unread} lines about earlier kills cannot be read; the journal has them"
                    ));
                } else if text.ends_with('\n') {
                    chronicle.lines = text.matches('\n').count();
                    let file = File::options().append(true).open(&chronicle.path);
                    chronicle.file = file.ok();
                }
                past
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    chronicle.is_wrong(&format!("earlier kills cannot be read: {error}"));
                } else if let Err(error) = chronicle.make_anew(&[], &Counted::default()) {
                    // From the beginning: when somebody is killed there may be no descriptor for it.
                    chronicle.is_unwritten(&error);
                }
                Past::default()
            }
        };
        (chronicle, past)
    }

    /// One more kill. `all` says what is to be in a new file, this one included.
    pub(super) fn add_kill(
        &mut self,
        kill: &NumberedKill,
        counted: &Counted,
        all: impl FnOnce() -> Vec<Arc<NumberedKill>>,
    ) {
        self.add(&Line::Kill(kill), counted, all);
    }

    /// One more stall.
    pub(super) fn add_stall(
        &mut self,
        counted: &Counted,
        all: impl FnOnce() -> Vec<Arc<NumberedKill>>,
    ) {
        self.add(&Line::Stall, counted, all);
    }

    /// What is wrong with the file, if something is.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    fn add(
        &mut self,
        line: &Line<&NumberedKill, &Counted>,
        counted: &Counted,
        all: impl FnOnce() -> Vec<Arc<NumberedKill>>,
    ) {
        let result = match &mut self.file {
            Some(file) if self.lines < MOST_LINES => {
                self.lines += 1;
                written(line).and_then(|line| file.write_all(&line))
            }
            _ => self.make_anew(&all(), counted),
        };
        if let Err(error) = result {
            // Perhaps half of a line is there.
            self.file = None;
            self.is_unwritten(&error);
        }
    }

    fn is_unwritten(&mut self, error: &io::Error) {
        self.is_wrong(&format!(
            "cannot be written: {error}; kills are forgotten when the daemon is restarted, the journal has them"
        ));
    }

    fn make_anew(&mut self, kills: &[Arc<NumberedKill>], counted: &Counted) -> io::Result<()> {
        let mut text = Vec::new();
        for kill in kills {
            text.extend(written(&Line::Kill(&**kill))?);
        }
        // Last: it says more than the kills that are kept.
        text.extend(written(&Line::Counted(counted))?);
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        // systemd makes it; a daemon that somebody starts by hand is no other.
        fs::create_dir_all(directory)?;
        let new = self.path.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        fs::rename(&new, &self.path)?;
        self.file = Some(file);
        self.lines = kills.len() + 1;
        self.fault = None;
        Ok(())
    }

    fn is_wrong(&mut self, what: &str) {
        self.fault = Some(Fault::of_file(&self.path, what));
    }
}

fn written(line: &Line<&NumberedKill, &Counted>) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

/// What the lines of a file say, and how many say nothing that is known. The last one does not count if it has no end.
fn read(text: &str) -> (Past, usize) {
    let mut past = Past::default();
    let mut unread = 0;
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        match serde_json::from_str::<Line<NumberedKill, Counted>>(line) {
            Ok(Line::Kill(kill)) => {
                past.counted.kill(&kill, |_| true);
                past.kills.push(kill);
            }
            Ok(Line::Stall) => past.counted.stalls += 1,
            Ok(Line::Counted(counted)) => past.counted = counted,
            Err(_) => unread += 1,
        }
    }
    (past, unread)
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::record;
    use super::*;
    use crate::bus::tests::everything;
    use crate::events::record::KillRecord;

    /// A daemon's part of it: what it knows, and its file.
    struct Daemon {
        chronicle: Chronicle,
        kills: Vec<Arc<NumberedKill>>,
        counted: Counted,
    }

    impl Daemon {
        fn start(directory: &Path) -> Self {
            let (chronicle, past) = Chronicle::open(directory);
            Daemon {
                chronicle,
                kills: past.kills.into_iter().map(Arc::new).collect(),
                counted: past.counted,
            }
        }

        fn kill(&mut self, unit: &str, killer: Killer) {
            let mut record = record(self.counted.last + 1);
            record.unit = Some(unit.to_owned());
            record.killer = killer;
            self.record(record);
        }

        fn record(&mut self, record: KillRecord) {
            let kill = NumberedKill {
                id: self.counted.last + 1,
                record,
            };
            self.counted.kill(&kill, |_| true);
            let kill = Arc::new(kill);
            self.kills.push(Arc::clone(&kill));
            let first = self.kills.len().saturating_sub(KILLS_KEPT);
            self.kills.drain(..first);
            let kills = &self.kills;
            self.chronicle
                .add_kill(&kill, &self.counted, || kills.clone());
        }

        fn stall(&mut self) {
            self.counted.stalls += 1;
            let kills = &self.kills;
            self.chronicle.add_stall(&self.counted, || kills.clone());
        }

        fn is_followed_by(&self, next: &Daemon) {
            assert_eq!(next.counted, self.counted);
            let first = next.kills.len().saturating_sub(KILLS_KEPT);
            assert_eq!(next.kills[first..], self.kills[..]);
            assert_eq!(next.chronicle.fault(), None);
        }
    }

    #[test]
    fn everything_that_is_known_of_a_kill_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut daemon = Daemon::start(directory.path());
        daemon.record(everything());
        daemon.is_followed_by(&Daemon::start(directory.path()));
    }

    #[test]
    fn where_nothing_was_nothing_is_known_and_nothing_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let (chronicle, past) = Chronicle::open(&directory.path().join("not/there"));
        assert_eq!(past, Past::default());
        assert_eq!(chronicle.fault(), None);
    }

    #[test]
    fn the_next_daemon_knows_what_this_one_knew_however_much_that_was() {
        let directory = tempfile::tempdir().unwrap();
        let mut daemon = Daemon::start(&directory.path().join("state"));
        for number in 0..3000 {
            let killer = match number % 3 {
                0 => Killer::Kernel,
                _ => Killer::Policy,
            };
            daemon.kill(&format!("{}.service", number % 7), killer);
            if number % 5 == 0 {
                daemon.stall();
            }
            if number % 400 == 1 {
                let next = Daemon::start(&directory.path().join("state"));
                daemon.is_followed_by(&next);
                daemon.chronicle = next.chronicle;
            }
        }
        assert_eq!(daemon.counted.last, 3000);
        assert_eq!(daemon.counted.kernel_kills, 1000);
        assert_eq!(daemon.counted.stalls, 600);
        daemon.is_followed_by(&Daemon::start(&directory.path().join("state")));
        let text = fs::read_to_string(&daemon.chronicle.path).unwrap();
        assert!(text.lines().count() <= MOST_LINES);
        assert_eq!(
            fs::read_dir(directory.path().join("state"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn wherever_a_line_was_broken_off_the_ones_before_count_and_the_next_is_added() {
        let directory = tempfile::tempdir().unwrap();
        let mut whole = Daemon::start(directory.path());
        whole.kill("a.service", Killer::Policy);
        whole.stall();
        let before = fs::read(&whole.chronicle.path).unwrap();
        whole.kill("b.service", Killer::Kernel);
        let after = fs::read(&whole.chronicle.path).unwrap();
        for end in before.len()..after.len() {
            fs::write(&whole.chronicle.path, &after[..end]).unwrap();
            let mut next = Daemon::start(directory.path());
            assert_eq!((next.counted.last, next.counted.stalls), (1, 1), "{end}");
            next.kill("c.service", Killer::Policy);
            let third = Daemon::start(directory.path());
            next.is_followed_by(&third);
            assert_eq!(third.counted.kills, 2);
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_fault_until_something_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let mut first = Daemon::start(directory.path());
        first.kill("a.service", Killer::Policy);
        let good = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{{\"of-the-future\":1}}\n{good}no\n")).unwrap();
        let mut next = Daemon::start(directory.path());
        assert_eq!(next.counted.kills, 1);
        assert_eq!(
            next.chronicle.fault().map(|fault| fault.message.as_str()),
            Some("2 lines about earlier kills cannot be read; the journal has them")
        );
        next.stall();
        assert_eq!(next.chronicle.fault(), None);
        next.is_followed_by(&Daemon::start(directory.path()));
    }

    #[test]
    fn where_nothing_can_be_written_it_is_told_and_all_is_written_when_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        fs::write(&state, "in the way").unwrap();
        let mut daemon = Daemon::start(&state);
        daemon.kill("a.service", Killer::Policy);
        let fault = daemon.chronicle.fault().unwrap().to_string();
        assert!(fault.contains("kills.json: cannot be written: "), "{fault}");
        fs::remove_file(&state).unwrap();
        daemon.kill("b.service", Killer::Policy);
        assert_eq!(daemon.chronicle.fault(), None);
        daemon.is_followed_by(&Daemon::start(&state));
    }

    #[test]
    fn of_too_many_victims_those_that_systemd_knows_stay() {
        let mut counted = Counted::default();
        let mut kill = |unit: String| {
            let mut record = record(1);
            record.unit = Some(unit);
            let kill = NumberedKill { id: 1, record };
            counted.kill(&kill, |unit| unit == "7.service");
        };
        for number in 0..=Counted::MOST_VICTIMS {
            kill(format!("{number}.service"));
        }
        let last = format!("{}.service", Counted::MOST_VICTIMS);
        assert_eq!(
            counted.victims.keys().collect::<Vec<_>>(),
            [&last, "7.service"]
        );
    }
}
