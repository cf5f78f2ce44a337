// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an earlier daemon left in force.

use super::*;
use crate::engine::Found;
use crate::policy::InForce;

impl Scene {
    /// A daemon that goes on with what this one leaves; `current` says whether it has the same programs. It knows no units yet.
    fn succeeded(self, current: bool) -> Self {
        let mut engine = engine();
        engine.attached = self.core.engine.attached;
        engine.settings = self.core.engine.settings;
        let in_force = |policy: &String| InForce {
            policy: Policy::Bpf(policy.as_str().into()),
            current,
        };
        engine.found = Found {
            attachments: engine
                .attached
                .iter()
                .map(|(id, policy)| (*id, in_force(policy)))
                .collect(),
            told: engine.settings.keys().copied().collect(),
            lost_events: 0,
        };
        Scene {
            core: core_with(engine, &self.root),
            root: self.root,
        }
    }
}

/// A slice and a unit in it, each with a policy that was set at run time and is known to the next daemon.
fn scene() -> Scene {
    let mut scene = Scene::new("");
    for unit in ["a.slice", "x.service"] {
        scene.set(unit, "bpf:p").unwrap();
    }
    assert_eq!(scene.attached(), ["a.slice p", "x.service p"]);
    scene
}

#[test]
fn what_is_as_it_should_be_is_not_touched_and_shown_as_its_units() {
    let mut scene = scene().succeeded(true);
    // The engine panics if something is attached where something is, and counts what is taken away.
    scene.start();
    assert_eq!(scene.attached(), ["a.slice p", "x.service p"]);
    assert_eq!(scene.core.engine.detached, 0);
    assert!(scene.shown().units["x.service"].attached.is_some());
}

#[test]
fn nothing_is_taken_away_before_all_units_are_known() {
    let mut scene = scene().succeeded(true);
    let said = scene.core.engine.settings.clone();
    scene.core.update(Update::Some {
        known: vec![running("a.slice", true)],
        gone: Vec::new(),
    });
    scene.core.reconcile();
    assert_eq!(scene.core.engine.attached.len(), 2);
    assert_eq!(scene.core.engine.settings, said);
    scene.core.update(Update::All {
        known: vec![running("-.slice", true)],
        asked: 0,
    });
    assert_eq!(scene.core.engine.attached.len(), 0);
    assert_eq!(scene.core.engine.settings.len(), 0);
}

#[test]
fn what_an_older_version_attached_is_replaced() {
    let mut scene = scene().succeeded(false);
    scene.start();
    assert_eq!(scene.attached(), ["a.slice p", "x.service p"]);
    assert_eq!(scene.core.engine.detached, 2);
    // Once.
    scene.core.reconcile();
    assert_eq!(scene.core.engine.detached, 2);
}

#[test]
fn what_is_there_stays_if_nothing_can_replace_it() {
    let mut scene = scene().succeeded(false);
    scene.core.engine.broken = "p";
    scene.start();
    scene.core.reconcile();
    assert_eq!(scene.core.engine.attached.len(), 2);
    assert_eq!(scene.core.engine.detached, 0);
    let faults = scene.faults();
    assert!(
        faults.iter().any(|(subject, _)| subject == "x.service"),
        "{faults:?}"
    );
}
