// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has to be looked at again. Signals only leave a mark here; how many there were, and in which order, does not matter.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// How long a daemon-reload is waited for. Longer ones are looked at in the middle, and again at their end.
const LONGEST_RELOAD: Duration = Duration::from_secs(60);

/// Marks, left by one task and taken by another of the same thread.
#[derive(Debug, Default)]
pub struct Marks {
    state: RefCell<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    all: bool,
    /// The unit, and whether systemd may have loaded it anew.
    units: BTreeMap<String, bool>,
    reloading_since: Option<Instant>,
    /// Those who wait for what is marked now.
    waiting: Vec<oneshot::Sender<()>>,
}

/// What was marked.
#[derive(Debug, PartialEq, Eq)]
pub enum Marked {
    /// Everything.
    All,
    /// These units; true for those that systemd may have loaded anew.
    Units(BTreeMap<String, bool>),
}

impl Marks {
    /// Everything has to be looked at again.
    pub fn mark_all(&self) {
        self.state.borrow_mut().all = true;
        self.changed.notify_one();
    }

    /// A unit has to be looked at again. `loaded` if systemd may have loaded it anew.
    pub fn mark(&self, unit: String, loaded: bool) {
        *self.state.borrow_mut().units.entry(unit).or_default() |= loaded;
        self.changed.notify_one();
    }

    /// The same for somebody who has to know when the facts are known to whoever gets them.
    pub fn mark_and_tell(&self, unit: String, known: oneshot::Sender<()>) {
        self.state.borrow_mut().waiting.push(known);
        self.mark(unit, false);
    }

    /// Those who wait for what [`Self::take`] has just returned. To be called before anything else is waited for.
    pub fn take_waiting(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut self.state.borrow_mut().waiting)
    }

    /// systemd starts or ends a daemon-reload. In between it forgets all units and loads them again, which looks as if they had
    /// all gone; nothing is to be taken from here until it is over.
    pub fn reloading(&self, begins: bool) {
        {
            let mut state = self.state.borrow_mut();
            state.reloading_since = begins.then(Instant::now);
            state.all |= !begins;
        }
        self.changed.notify_one();
    }

    /// Waits until something is marked, and takes all marks.
    pub async fn take(&self) -> Marked {
        loop {
            let patience = {
                let mut state = self.state.borrow_mut();
                let patience = state
                    .reloading_since
                    .and_then(|since| LONGEST_RELOAD.checked_sub(since.elapsed()));
                if patience.is_none() {
                    if state.reloading_since.take().is_some() {
                        state.all = true;
                    }
                    if std::mem::take(&mut state.all) {
                        state.units.clear();
                        return Marked::All;
                    }
                    if !state.units.is_empty() {
                        return Marked::Units(std::mem::take(&mut state.units));
                    }
                }
                patience
            };
            match patience {
                // Either the reload ends or patience does; both are looked at above.
                Some(patience) => {
                    drop(tokio::time::timeout(patience, self.changed.notified()).await)
                }
                None => self.changed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(marks: &Marks) -> Option<Marked> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(20), marks.take())
                .await
                .ok()
        })
    }

    #[test]
    fn many_marks_of_one_unit_are_one() {
        let marks = Marks::default();
        marks.mark("a.service".into(), false);
        marks.mark("a.service".into(), true);
        marks.mark("a.service".into(), false);
        marks.mark("b.service".into(), false);
        let expected = [
            ("a.service".to_owned(), true),
            ("b.service".to_owned(), false),
        ];
        assert_eq!(taken(&marks), Some(Marked::Units(expected.into())));
        assert_eq!(taken(&marks), None);
    }

    #[test]
    fn everything_includes_every_unit() {
        let marks = Marks::default();
        marks.mark("a.service".into(), false);
        marks.mark_all();
        assert_eq!(taken(&marks), Some(Marked::All));
        assert_eq!(taken(&marks), None);
    }

    #[test]
    fn nothing_is_taken_during_a_reload_and_everything_after_it() {
        let marks = Marks::default();
        marks.reloading(true);
        marks.mark("a.service".into(), true);
        assert_eq!(taken(&marks), None);
        marks.reloading(false);
        assert_eq!(taken(&marks), Some(Marked::All));
    }

    #[test]
    fn whoever_waits_is_told_with_the_facts_that_were_read_after_the_question() {
        let marks = Marks::default();
        marks.mark("a.service".into(), false);
        let (known, mut told) = oneshot::channel();
        marks.mark_and_tell("b.service".into(), known);
        let both = ["a.service", "b.service"].map(|unit| (unit.to_owned(), false));
        assert_eq!(taken(&marks), Some(Marked::Units(both.into())));
        let waiting = marks.take_waiting();
        assert_eq!(waiting.len(), 1);
        assert!(marks.take_waiting().is_empty());
        assert!(told.try_recv().is_err());
        for known in waiting {
            known.send(()).unwrap();
        }
        assert_eq!(told.try_recv(), Ok(()));
    }
}
