// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl` as it shows what is, what would be and what has been, to people and to programs; all of it as nobody.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bpf_oomd_tests::attachments::wait_attached;
use bpf_oomd_tests::cgroup::{MIB, id_of};
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::lines::lines;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{Value, bpf_oomctl_as_nobody as bpf_oomctl, json, of, parsed, text};
use bpf_oomd_tests::seed_units::{DISLIKED, LARGER, SLICE, SMALLER, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{PATIENCE, eventually, stop, systemctl, wait_for_property};

const POLICY: &str = "bpf:biggest-leaf";
const FILE_SAYS_SO: &str = "ManagedOOMPolicy=bpf:biggest-leaf";

/// A daemon that has reported nothing yet.
#[track_caller]
fn new_daemon() {
    stop(&[daemon::UNIT]);
    daemon::started();
}

/// A slice with a policy, that is in force.
#[track_caller]
fn tree_with_policy() -> SeedUnits {
    let tree = SeedUnits::start(&[FILE_SAYS_SO]);
    wait_attached(SLICE);
    // The services in it are followed a moment later.
    eventually("all services are listed", || {
        let listed = json(&["list"]);
        let names = listed.as_array().into_iter().flatten();
        let names: Vec<&Value> = names.map(|unit| &unit["name"]).collect();
        [DISLIKED, UNKILLABLE, LARGER, SMALLER]
            .iter()
            .all(|service| names.iter().any(|name| *name == service))
    });
    tree
}

#[test]
fn units_are_listed_with_policy_memory_and_where_it_is_said() {
    let _machine = TestMachine::enter();
    new_daemon();
    let tree = tree_with_policy();
    let units = json(&["list"]);
    let slice = of(&units, "name", SLICE);
    assert_eq!(slice["policy"], POLICY);
    assert_eq!(slice["attached"], true);
    let place = format!("{}:4:18", tree.slice_file.display());
    assert_eq!(slice["policy_place"], *place);
    assert_eq!(slice["control_group"], format!("/{SLICE}"));
    assert_eq!(slice["control_group_id"], id_of(&tree.slice_cgroup()));
    assert!(slice["memory"].as_u64() > Some(60 * MIB), "{slice}");
    assert!(
        slice["page_cache"].is_u64() && slice["pressure_some_avg10"].is_f64(),
        "{slice}"
    );
    let larger = of(&units, "name", LARGER);
    assert_eq!(larger["policy"], POLICY);
    assert_eq!(larger["attached"], false);
    assert_eq!(larger["policy_place"], *place);
    // For people, the same.
    let output = bpf_oomctl(&["list", SLICE, "nowhere.service"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("nowhere.service is not loaded"));
    let shown = text(&output.stdout);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    assert!(
        lines[1].starts_with(SLICE) && lines[1].ends_with(&place),
        "{shown}"
    );
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn who_would_die_is_who_dies() {
    let _machine = TestMachine::enter();
    new_daemon();
    let tree = tree_with_policy();
    let simulated = json(&["simulate", SLICE]);
    assert_eq!(simulated["policy"], POLICY);
    let candidates = simulated["candidates"].as_array().expect("candidates");
    let units: Vec<(&Value, &Value)> = candidates
        .iter()
        .map(|candidate| (&candidate["unit"], &candidate["excluded"]))
        .collect();
    assert_eq!(
        units,
        [
            (&LARGER.into(), &"".into()),
            (&SMALLER.into(), &"".into()),
            (&DISLIKED.into(), &"".into()),
            (&UNKILLABLE.into(), &"unkillable".into()),
        ]
    );
    let nodes = json(&["tree", SLICE]);
    assert_eq!(nodes[0]["control_group"], format!("/{SLICE}"));
    assert_eq!(nodes[0]["memory_max"], 80 * MIB);
    assert_eq!(of(&nodes, "unit", LARGER)["next_victim_of"][0], SLICE);
    assert_eq!(
        of(&nodes, "unit", SMALLER)["next_victim_of"][0],
        Value::Null
    );
    let shown = text(&bpf_oomctl(&["tree"]).stdout);
    let marked = shown.lines().find(|line| line.contains(LARGER));
    assert!(
        marked.is_some_and(|line| line.ends_with(&format!(" of {SLICE}"))),
        "{shown}"
    );
    assert!(json(&["kills"]).as_array().is_some_and(Vec::is_empty));

    assert_eq!(tree.run_out(), "oom_policy=biggest-leaf");
    wait_for_property(LARGER, "Result", "oom-kill");
    eventually("the kill is listed", || json(&["kills"])[0].is_object());
    let kills = json(&["kills"]);
    let kill = of(&kills, "unit", LARGER);
    assert_eq!(kill["id"], 1);
    assert_eq!(kill["killer"], "policy");
    assert_eq!(kill["policy"], "biggest-leaf");
    assert_eq!(kill["reason"], "limit");
    assert_eq!(kill["domain_unit"], SLICE);
    assert_eq!(kill["processes_total"], 1);
    assert!(kill["processes"][0]["pid"].is_u64(), "{kill}");
    assert_eq!(kill["stall_usec"], Value::Null);
    for (arguments, count) in [
        (&["kills", "--since=1h ago"][..], 1),
        (&["kills", "--unit", LARGER], 1),
        (&["kills", "--unit", SMALLER], 0),
        (&["kills", "--since=now"], 0),
    ] {
        let listed = json(arguments);
        assert_eq!(
            listed.as_array().map(Vec::len),
            Some(count),
            "{arguments:?}"
        );
    }
    let shown = text(&bpf_oomctl(&["kills"]).stdout);
    let line = shown.lines().nth(1).unwrap_or_default();
    assert!(
        line.contains(LARGER) && line.contains(POLICY) && line.ends_with(SLICE),
        "{shown}"
    );
    // It does not run any more, and is listed all the same.
    let units = json(&["list"]);
    let victim = of(&units, "name", LARGER);
    assert_eq!(
        (&victim["kills"], &victim["memory"]),
        (&1.into(), &Value::Null)
    );
    // And now it is the other one's turn.
    let nodes = json(&["tree", SLICE]);
    assert_eq!(of(&nodes, "unit", SMALLER)["next_victim_of"][0], SLICE);
    assert_eq!(json(&["status"])["counters"]["kills"], 1);
}

/// `bpf-oomctl kills --follow --json`.
struct Follower {
    program: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start() -> Self {
        let mut program = Command::new("bpf-oomctl")
            .args(["kills", "--follow", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run bpf-oomctl");
        let lines = lines(&mut program);
        Follower { program, lines }
    }

    /// The next kill.
    #[track_caller]
    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE);
        parsed(&line.expect("a kill"))
    }

    /// Nothing comes for a while.
    #[track_caller]
    fn is_silent(&self) {
        let line = self.lines.recv_timeout(Duration::from_secs(2));
        assert_eq!(line, Err(RecvTimeoutError::Timeout));
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn who_follows_kills_sees_each_of_them_once() {
    let _machine = TestMachine::enter();
    new_daemon();
    let tree = tree_with_policy();
    // It starts while the first one happens: whether it is listed or told, it is told once.
    let follower = Follower::start();
    tree.run_out_of_memory();
    wait_for_property(LARGER, "Result", "oom-kill");
    let first = follower.next();
    assert_eq!((&first["id"], &first["unit"]), (&1.into(), &LARGER.into()));
    follower.is_silent();
    // Another one gets what was before, and both what comes.
    let second = Follower::start();
    assert_eq!(second.next(), first);
    drop(tree);
    let tree = tree_with_policy();
    tree.run_out_of_memory();
    for follower in [&follower, &second] {
        let kill = follower.next();
        assert_eq!((&kill["id"], &kill["unit"]), (&2.into(), &LARGER.into()));
        follower.is_silent();
    }
    drop(tree);
    // The next daemon goes on, and one after the service was stopped counts from 1 again.
    for (again, id) in [(&["restart"][..], 3), (&["stop", "start"], 1)] {
        for verb in again {
            systemctl(&[verb, daemon::UNIT]);
        }
        let tree = tree_with_policy();
        tree.run_out_of_memory();
        for follower in [&follower, &second] {
            let kill = follower.next();
            assert_eq!((&kill["id"], &kill["unit"]), (&id.into(), &LARGER.into()));
            follower.is_silent();
        }
        assert_eq!(json(&["kills"]).as_array().map(Vec::len), Some(id));
    }
}

#[test]
fn top_draws_a_screen_and_puts_the_terminal_right_again() {
    let _machine = TestMachine::enter();
    new_daemon();
    let output = bpf_oomctl(&["top", "--json", "-n", "2", "--interval=200ms"]);
    assert!(output.status.success(), "{output:?}");
    let frames = text(&output.stdout);
    assert_eq!(frames.lines().count(), 2, "{frames}");
    let frame = parsed(frames.lines().next().unwrap_or_default());
    assert!(of(&frame["units"], "name", daemon::UNIT)["memory"].is_u64());
    assert!(frame["system"]["memory"].is_u64(), "{frame}");
    // A terminal of its own, on which somebody presses q.
    let output = Command::new("sh")
        .args([
            "-c",
            "printf q | timeout 60 script -qefc 'stty -a >/tmp/before; bpf-oomctl top; stty -a >/tmp/after' /dev/null && \
             cmp /tmp/before /tmp/after",
        ])
        .output()
        .expect("run script");
    assert!(output.status.success(), "{output:?}");
    let drawn = text(&output.stdout);
    let (_, drawn) = drawn.split_once("\x1b[?1049h").expect("another screen");
    let (drawn, _) = drawn.split_once("\x1b[?1049l").expect("its end");
    assert!(drawn.contains("NEXT VICTIM OF"), "{drawn}");
}

#[test]
fn a_daemon_that_does_not_run_is_told_with_what_to_do() {
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    for arguments in [
        &["status"][..],
        &["list"],
        &["tree"],
        &["simulate", "-.slice"],
        &["kills"],
        &["kills", "--follow"],
        &["policies"],
        &["pressure"],
        &["top"],
    ] {
        let output = bpf_oomctl(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {output:?}");
        let said = text(&output.stderr);
        assert_eq!(
            said,
            "bpf-oomctl: bpf-oomd does not run. To start it: systemctl start bpf-oomd\n"
        );
    }
    let output = bpf_oomctl(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(parsed(&text(&output.stdout))["running"], false);
    daemon::started();
    let status = json(&["status"]);
    assert_eq!(
        (&status["running"], &status["engine"]),
        (&true.into(), &"kernel".into())
    );
    let features = status["kernel_interface"].as_array().expect("features");
    assert!(
        features.iter().all(|feature| feature["present"] == true),
        "{status}"
    );
}

#[test]
fn shells_get_names_of_units_and_policies() {
    let _machine = TestMachine::enter();
    let units = text(&bpf_oomctl(&["complete-units"]).stdout);
    assert!(units.lines().any(|unit| unit == "-.slice"), "{units}");
    assert!(units.lines().any(|unit| unit == daemon::UNIT), "{units}");
    assert!(
        units.lines().all(|unit| !unit.ends_with(".target")),
        "{units}"
    );
    let policies = text(&bpf_oomctl(&["complete-policies"]).stdout);
    assert_eq!(policies, "bpf:biggest-leaf\nkernel\n");
}
