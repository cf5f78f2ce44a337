// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::cgroup::Tree;
use crate::config::Configuration;
use crate::core::Shown;
use crate::engine::{
    AttachError, Event, EventsError, Excluded, Found, InterfacePart, ParameterError, RankingError,
    SettingsError, TriggerError, Watch,
};
use crate::policy::{CgroupId, Decider, OwnSettings, Preference, Trigger};
use crate::systemd::facts::{RunningFacts, UnitFacts, Update};
use crate::systemd::files::Files;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

mod found;
mod kept;

/// Does as it is told, but for one program that it refuses.
struct Obedient {
    attached: BTreeMap<CgroupId, String>,
    settings: BTreeMap<CgroupId, OwnSettings>,
    triggers: BTreeMap<CgroupId, Trigger>,
    refused: &'static str,
    broken: &'static str,
    found: Found,
    /// How many attachments were taken away.
    detached: usize,
    shortcoming: Option<&'static str>,
    nothing: File,
}

impl Engine for Obedient {
    fn name(&self) -> &'static str {
        "obedient"
    }

    fn interface(&self) -> Vec<InterfacePart> {
        Vec::new()
    }

    fn programs(&self) -> &'static [&'static str] {
        &["p", "q"]
    }

    fn found(&self) -> Found {
        self.found.clone()
    }

    fn prepare(&mut self, program: &str) -> Result<(), AttachError> {
        if program == self.broken {
            let (name, reason) = (program.to_owned(), "it is broken".to_owned());
            return Err(AttachError::Load { name, reason });
        }
        Ok(())
    }

    fn attach(
        &mut self,
        id: CgroupId,
        _: Option<BorrowedFd<'_>>,
        program: &str,
    ) -> Result<(), AttachError> {
        if program == self.refused {
            return Err(AttachError::Busy);
        }
        assert!(self.attached.insert(id, program.to_owned()).is_none());
        Ok(())
    }

    fn detach(&mut self, id: CgroupId) {
        self.detached += usize::from(self.attached.remove(&id).is_some());
    }

    fn put_settings(&mut self, id: CgroupId, settings: &OwnSettings) -> Result<(), SettingsError> {
        self.settings.insert(id, *settings);
        Ok(())
    }

    fn remove_settings(&mut self, id: CgroupId) -> Result<(), SettingsError> {
        self.settings.remove(&id);
        Ok(())
    }

    fn forget(&mut self, id: CgroupId) {
        self.attached.remove(&id);
    }

    fn set_triggers(
        &mut self,
        want: &BTreeMap<CgroupId, Trigger>,
        _: bool,
    ) -> Result<BTreeMap<CgroupId, String>, TriggerError> {
        self.triggers = want.clone();
        Ok(BTreeMap::new())
    }

    fn watch(&self, _: CgroupId) -> Result<Option<Watch>, TriggerError> {
        Ok(None)
    }

    fn ranking(&mut self, program: &str, domain: CgroupId) -> Result<Vec<Candidate>, RankingError> {
        assert_eq!(program, "p");
        let candidate = |id, preference, excluded| Candidate {
            cgroup: CgroupId(id),
            score: id,
            bytes: id,
            preference,
            processes: 1,
            excluded,
        };
        Ok(vec![
            candidate(domain.0, Preference::Avoid, None),
            candidate(u64::MAX, Preference::Omit, Some(Excluded::Omitted)),
        ])
    }

    fn set_parameters(
        &mut self,
        _: &'static str,
        _: &BTreeMap<String, u64>,
    ) -> Result<(), ParameterError> {
        Ok(())
    }

    fn shortcoming(&self) -> Option<&str> {
        self.shortcoming
    }

    fn events_fd(&self) -> BorrowedFd<'_> {
        self.nothing.as_fd()
    }

    fn events(&mut self, _: &mut Vec<Event>) -> Result<(), EventsError> {
        Ok(())
    }

    fn lost_events(&self) -> Result<u64, EventsError> {
        Ok(0)
    }
}

/// A machine with `x.service` in `a.slice`.
struct Scene {
    root: tempfile::TempDir,
    core: Core<Obedient>,
}

const CONFIGURATION: &str = "etc/bpf-oomd/conf.d/50-a.toml";

impl Scene {
    /// `configuration` is what is configured.
    fn new(configuration: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("tree/a.slice/x.service")).unwrap();
        fs::create_dir_all(root.path().join("etc/bpf-oomd/conf.d")).unwrap();
        fs::write(root.path().join(CONFIGURATION), configuration).unwrap();
        let mut scene = Scene {
            core: core(&root),
            root,
        };
        scene.start();
        scene
    }

    /// A daemon that is started after this one has ended.
    fn restarted(self) -> Self {
        let mut scene = Scene {
            core: core(&self.root),
            root: self.root,
        };
        scene.start();
        scene
    }

    fn start(&mut self) {
        self.core.configuration.read();
        let config = self.core.configuration.config().clone();
        self.core.units.configure(config);
        let units = ["-.slice", "a.slice", "x.service"].map(|name| running(name, true));
        self.core.update(Update::All {
            known: units.into(),
            asked: 0,
        });
    }

    /// What is attached, by unit.
    fn attached(&self) -> Vec<String> {
        let cgroups = self.core.units.cgroups();
        let named = cgroups.iter().filter_map(|(unit, (id, _))| {
            let program = self.core.engine.attached.get(id)?;
            Some(format!("{unit} {program}"))
        });
        named.collect()
    }

    fn set(&mut self, unit: &str, policy: &str) -> Result<(), RequestError> {
        self.core.set_policy(unit, policy, None, 7)
    }

    /// What is shown as set at run time.
    fn set_at_run_time(&mut self) -> Vec<String> {
        let shown = self.shown();
        let settings = shown.run_time.iter();
        settings
            .map(|(unit, policy, _)| format!("{unit} {policy}"))
            .collect()
    }

    fn shown(&mut self) -> Shown {
        self.core.shown().clone()
    }

    fn faults(&mut self) -> Vec<(String, Fault)> {
        self.shown().faults.to_vec()
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }
}

fn engine() -> Obedient {
    Obedient {
        attached: BTreeMap::new(),
        settings: BTreeMap::new(),
        triggers: BTreeMap::new(),
        refused: "q",
        broken: "",
        found: Found::default(),
        detached: 0,
        shortcoming: None,
        nothing: File::open("/dev/null").unwrap(),
    }
}

fn core(root: &tempfile::TempDir) -> Core<Obedient> {
    core_with(engine(), root)
}

fn core_with(engine: Obedient, root: &tempfile::TempDir) -> Core<Obedient> {
    let root = root.path();
    Core::new(
        engine,
        Tree::stand_in(&root.join("tree")),
        Files::below(root),
        Configuration::below(root),
        &root.join("state"),
    )
}

fn running(name: &str, runs: bool) -> UnitFacts {
    let (slice, control_group) = match name {
        "x.service" => (Some("a.slice"), "/a.slice/x.service"),
        "a.slice" => (Some("-.slice"), "/a.slice"),
        _ => (None, "/"),
    };
    UnitFacts {
        name: name.to_owned(),
        running: runs.then(|| RunningFacts {
            slice: slice.map(str::to_owned),
            control_group: Some(control_group.to_owned()),
            files: vec![format!("/etc/systemd/system/{name}").into()],
            loaded: 1,
        }),
    }
}

fn unit_file(scene: &mut Scene, text: &str) {
    let path = scene.root.path().join("etc/systemd/system/x.service");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    scene.core.units.reread_files();
    scene.core.reconcile();
}

#[test]
fn what_the_kernel_lacks_is_a_fault_and_policies_do_without() {
    let mut scene = Scene::new("");
    scene.core.engine.shortcoming = Some("something is not recorded");
    scene.set("x.service", "bpf:p").unwrap();
    assert_eq!(scene.attached(), ["x.service p"]);
    scene.core.reconcile();
    let status = scene.core.status();
    assert!(
        status.contains("1 fault: kernel: something is not recorded"),
        "{status}"
    );
}

#[test]
fn a_policy_is_in_force_when_it_is_said_and_what_files_say_when_it_is_reset() {
    let mut scene = Scene::new("");
    unit_file(&mut scene, "[Service]\nManagedOOMPolicy=bpf:p\n");
    assert_eq!(scene.attached(), ["x.service p"]);
    assert_eq!(scene.set("x.service", "kernel"), Ok(()));
    assert_eq!(scene.attached(), [""; 0]);
    assert_eq!(scene.set_at_run_time(), ["x.service kernel"]);
    assert_eq!(scene.set("a.slice", "bpf:p"), Ok(()));
    assert_eq!(scene.set("-.slice", "bpf:p"), Ok(()));
    assert_eq!(scene.attached(), ["-.slice p", "a.slice p"]);
    // A slice above has a program, so the unit has to be told that the kernel decides about it.
    let id = scene.core.units.cgroup("x.service").unwrap();
    let decider = |scene: &Scene| scene.core.engine.settings[&id].decider;
    assert_eq!(decider(&scene), Some(Decider::Kernel));
    for unit in ["x.service", "a.slice", "-.slice", "x.service"] {
        assert_eq!(scene.core.reset_policy(unit, 0), Ok(()));
    }
    assert_eq!(scene.attached(), ["x.service p"]);
    assert_eq!(decider(&scene), Some(Decider::Program));
    assert_eq!(scene.set_at_run_time(), [""; 0]);
}

#[test]
fn what_the_kernel_refuses_leaves_everything_as_it_was() {
    let mut scene = Scene::new("");
    unit_file(&mut scene, "[Service]\nManagedOOMPolicy=bpf:p\n");
    assert_eq!(scene.set("a.slice", "bpf:p"), Ok(()));
    for unit in ["x.service", "a.slice"] {
        let before = (scene.attached(), scene.shown());
        let error = scene.set(unit, "bpf:q").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "bpf:q cannot be put on {unit}: another program has an OOM policy attached to this cgroup"
            )
        );
        assert_eq!((scene.attached(), scene.shown()), before);
        assert_eq!(scene.core.next_retry(), None);
    }
    let mut scene = scene.restarted();
    assert_eq!(scene.set_at_run_time(), ["a.slice bpf:p"]);
}

#[test]
fn whoever_asks_is_not_told_of_an_earlier_refusal_but_of_one_now() {
    let mut scene = Scene::new("");
    unit_file(&mut scene, "[Service]\nManagedOOMPolicy=bpf:q\n");
    assert_eq!(scene.attached(), [""; 0]);
    assert_eq!(scene.faults().len(), 1);
    scene.core.engine.refused = "";
    // It would not be tried again for a second.
    assert_eq!(scene.set("x.service", "bpf:q"), Ok(()));
    assert_eq!(scene.attached(), ["x.service q"]);
    assert_eq!(scene.faults(), []);
}

#[test]
fn names_and_policies_that_do_not_exist_are_refused() {
    let mut scene = Scene::new("");
    let error = |result: Result<(), RequestError>| result.unwrap_err().to_string();
    assert_eq!(
        error(scene.set("x.service", "bpf:pp")),
        "unknown policy \"bpf:pp\", expected one of: kernel, bpf:p, bpf:q; did you mean \"bpf:p\"?"
    );
    assert!(error(scene.set("x", "kernel")).ends_with("did you mean \"x.service\"?"));
    assert!(error(scene.core.reset_policy("x.timer", 0)).contains("has no cgroup"));
    assert_eq!(scene.set_at_run_time(), [""; 0]);
    assert!(!scene.state().join("run-time.toml").exists());
}

#[test]
fn where_everything_is_turned_off_no_policy_can_be_set() {
    let mut scene = Scene::new("[slice.\"a.slice\"]\nenabled = false\n");
    let error = scene.set("x.service", "bpf:p").unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "x.service is left to the kernel by \"enabled = false\" (/{CONFIGURATION}:2:11), whatever its policy is"
        )
    );
    assert_eq!(scene.set_at_run_time(), [""; 0]);
    assert_eq!(scene.set("x.service", "kernel"), Ok(()));
}

#[test]
fn a_unit_that_does_not_run_has_it_when_it_starts() {
    let mut scene = Scene::new("");
    let gone = vec!["x.service".to_owned()];
    let known = Vec::new();
    scene.core.update(Update::Some { known, gone });
    assert_eq!(scene.set("x.service", "bpf:p"), Ok(()));
    assert_eq!(scene.set("never.service", "bpf:p"), Ok(()));
    assert_eq!(scene.attached(), [""; 0]);
    let known = vec![running("x.service", true)];
    let gone = Vec::new();
    scene.core.update(Update::Some { known, gone });
    assert_eq!(scene.attached(), ["x.service p"]);
}

#[test]
fn what_was_said_for_a_time_is_over_after_it() {
    let mut scene = Scene::new("");
    let long = Some(Duration::from_secs(3600));
    let core = &mut scene.core;
    assert_eq!(core.set_policy("a.slice", "bpf:p", long, 0), Ok(()));
    let moment = Some(Duration::from_micros(1));
    assert_eq!(core.set_policy("x.service", "bpf:p", moment, 0), Ok(()));
    let end = core.next_end().unwrap();
    assert!(end <= boottime::now() + 1);
    while boottime::now() < end {}
    core.end_terms();
    assert_eq!(scene.attached(), ["a.slice p"]);
    assert_eq!(scene.set_at_run_time(), ["a.slice bpf:p"]);
    let end = scene.core.next_end().unwrap();
    assert!(end > boottime::now() + 3_000_000_000);
    // The last word counts, and for as long as it says.
    assert_eq!(scene.set("a.slice", "kernel"), Ok(()));
    assert_eq!(scene.core.next_end(), None);
}

#[test]
fn it_is_there_again_after_a_restart() {
    let mut scene = Scene::new("");
    assert_eq!(scene.set("x.service", "bpf:p"), Ok(()));
    let before = scene.core.explain("x.service").unwrap();
    let scene = scene.restarted();
    assert_eq!(scene.attached(), ["x.service p"]);
    assert_eq!(scene.core.explain("x.service").unwrap(), before);
    let policy = before.iter().find(|(key, _)| *key == Key::Policy);
    let place = policy.unwrap().1.place();
    assert!(place.starts_with("set by uid 7 at "), "{place}");
    assert!(place.ends_with(" until reset"), "{place}");
}

#[test]
fn a_damaged_file_is_a_fault_and_the_daemon_runs() {
    let mut scene = Scene::new("");
    assert_eq!(scene.set("x.service", "bpf:p"), Ok(()));
    fs::write(scene.state().join("run-time.toml"), "[[").unwrap();
    let mut scene = scene.restarted();
    assert_eq!(scene.attached(), [""; 0]);
    let faults = scene.faults();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].0, "run-time settings");
    assert_eq!(scene.set("x.service", "bpf:p"), Ok(()));
    assert_eq!(scene.faults(), []);
}

#[test]
fn what_cannot_be_kept_is_not_done() {
    let mut scene = Scene::new("");
    assert_eq!(scene.set("a.slice", "bpf:p"), Ok(()));
    fs::remove_dir_all(scene.state()).unwrap();
    fs::write(scene.state(), "no directory").unwrap();
    let before = scene.shown();
    for result in [
        scene.set("x.service", "bpf:p"),
        scene.set("a.slice", "kernel"),
        scene.core.reset_policy("a.slice", 0),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, RequestError::NotKept { .. }), "{error}");
    }
    assert_eq!(scene.attached(), ["a.slice p"]);
    assert_eq!(scene.shown(), before);
}

#[test]
fn only_a_unit_that_runs_is_explained() {
    let mut scene = Scene::new("");
    unit_file(&mut scene, "[Service]\nManagedOOMPolicy=bpf:p\n");
    let statements = scene.core.explain("x.service").unwrap();
    let policy = statements.iter().find(|(key, _)| *key == Key::Policy);
    assert_eq!(
        policy.unwrap().1.place(),
        "/etc/systemd/system/x.service:2:18"
    );
    let known = vec![running("x.service", false)];
    let gone = Vec::new();
    scene.core.update(Update::Some { known, gone });
    for unit in ["x.service", "nowhere.service"] {
        let error = scene.core.explain(unit).unwrap_err();
        assert!(matches!(error, RequestError::NoSuchUnit { .. }), "{error}");
    }
}

#[test]
fn that_nobody_is_reachable_is_a_fault_while_there_is_a_bus() {
    let mut scene = Scene::new("");
    scene.core.is_reachable(Err("the name is taken".into()));
    let faults = scene.faults();
    assert_eq!(faults[0].0, "D-Bus");
    assert!(
        scene
            .core
            .status()
            .contains("1 fault: D-Bus: the name is taken")
    );
    scene.core.update(Update::Lost("gone".into()));
    scene.core.is_reachable(Err("the bus is gone".into()));
    assert_eq!(scene.faults(), []);
    scene.core.is_reachable(Ok(()));
    scene.start();
    assert_eq!(scene.faults(), []);
}

#[test]
fn what_is_shown_of_a_unit_is_what_the_kernel_has() {
    let mut scene = Scene::new("");
    assert_eq!(scene.set("a.slice", "bpf:p"), Ok(()));
    let unit = |scene: &mut Scene, name: &str| (*scene.shown().units[name]).clone();
    let inherited = unit(&mut scene, "x.service");
    assert_eq!(inherited.policy.to_string(), "bpf:p");
    assert!(inherited.policy_place.starts_with("set by uid 7 at "));
    assert_eq!(inherited.attached, None);
    assert_eq!(
        inherited.control_group.as_deref(),
        Some("/a.slice/x.service")
    );
    let slice = unit(&mut scene, "a.slice");
    assert_eq!(slice.attached, Some(slice.policy));
    // What is refused is not shown: the slice's program still decides.
    unit_file(
        &mut scene,
        "[Service]\nManagedOOMPolicy=bpf:q\nManagedOOMPolicyKill=process\n",
    );
    let refused = unit(&mut scene, "x.service");
    assert_eq!(refused.policy, inherited.policy);
    assert_eq!(refused.policy_place, inherited.policy_place);
    assert_eq!(refused.kill.to_string(), "process");
    scene.core.engine.refused = "";
    assert_eq!(scene.set("x.service", "bpf:q"), Ok(()));
    assert_eq!(unit(&mut scene, "x.service").policy.to_string(), "bpf:q");
    assert_eq!(scene.set("x.service", "kernel"), Ok(()));
    let kernel = unit(&mut scene, "x.service");
    assert_eq!((kernel.policy, kernel.attached), (Policy::Kernel, None));
    // One that does not run has what was said.
    let known = vec![running("x.service", false)];
    let gone = Vec::new();
    scene.core.update(Update::Some { known, gone });
    assert_eq!(scene.core.reset_policy("x.service", 0), Ok(()));
    let gone = vec!["x.service".to_owned()];
    let known = Vec::new();
    scene.core.update(Update::Some { known, gone });
    assert!(!scene.shown().units.contains_key("x.service"));
}

#[test]
fn what_has_not_changed_is_shared_with_what_was_shown_before() {
    let mut scene = Scene::new("");
    let before = scene.shown();
    assert!(Arc::ptr_eq(&before.units, &scene.shown().units));
    scene.core.reconcile();
    assert!(Arc::ptr_eq(&before.units, &scene.shown().units));
    assert_eq!(scene.set("x.service", "bpf:p"), Ok(()));
    let after = scene.shown();
    let same = |unit: &str| Arc::ptr_eq(&before.units[unit], &after.units[unit]);
    assert!(same("a.slice") && same("-.slice") && !same("x.service"));
    assert!(Arc::ptr_eq(&before.faults, &after.faults));
    assert_eq!(after.revision, before.revision + 1);
    let attachments = |shown: &Shown| shown.policies[1].attachments;
    assert_eq!((attachments(&before), attachments(&after)), (0, 1));
}

#[test]
fn whom_a_policy_would_choose_is_told_in_units() {
    let mut scene = Scene::new("");
    let simulation = scene.core.simulate("a.slice").unwrap();
    assert_eq!(
        (simulation.policy, simulation.candidates.len()),
        (Policy::Kernel, 0)
    );
    assert_eq!(scene.set("a.slice", "bpf:p"), Ok(()));
    // By what it inherits.
    let simulation = scene.core.simulate("x.service").unwrap();
    assert_eq!(simulation.policy.to_string(), "bpf:p");
    let [first, gone] = &simulation.candidates[..] else {
        panic!("{simulation:?}");
    };
    assert_eq!(first.unit.as_deref(), Some("x.service"));
    assert_eq!(first.control_group.as_deref(), Some("/a.slice/x.service"));
    assert_eq!((&gone.unit, &gone.control_group), (&None, &None));
    let error = scene.core.simulate("y.service").unwrap_err();
    assert_eq!(error.to_string(), "systemd has not loaded y.service");
    scene
        .core
        .cgroup_is_gone(scene.core.units.cgroup("x.service").unwrap());
    unit_file(&mut scene, "[Service]\nManagedOOMPolicy=bpf:p\n");
    let error = scene.core.simulate("x.service").unwrap_err();
    assert!(matches!(error, RequestError::NotPossible { .. }), "{error}");
}
