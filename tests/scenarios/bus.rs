// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon on the bus: what it shows is so, and nobody disturbs it.

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bpf_oomd::bus::KILL_KEYS;
use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, is_attached, settings, wait_attached};
use bpf_oomd_tests::bus::{
    self, MANAGER, MANAGER_PATH, UNIT, connect, kills, object, run, said, signals, simulate,
};
use bpf_oomd_tests::cgroup::{MIB, id_of};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{property, reset_policy, set_policy, text};
use bpf_oomd_tests::seed_units::{LARGER, SLICE, SMALLER, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{
    PATIENCE, cgroup_of, daemon_reload, eventually, start, stop, systemctl, systemctl_if_possible,
    wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service};

const POLICY: &str = "bpf:biggest-leaf";
const FILE_SAYS_SO: &str = "ManagedOOMPolicy=bpf:biggest-leaf";
const SLICE_OBJECT: &str = "/org/bpfoomd1/unit/seed_2eslice";
const LOG_CONTROL: [&str; 3] = [
    "org.bpfoomd1",
    "/org/freedesktop/LogControl1",
    "org.freedesktop.LogControl1",
];

/// What finds kills in the journal.
fn kill() -> String {
    format!("MESSAGE_ID={KILL_MESSAGE_ID}")
}

/// A daemon that was started anew: nothing is set, and no kill is known.
#[track_caller]
fn fresh_daemon() {
    systemctl_if_possible(&["stop", daemon::UNIT]);
    daemon::started();
}

/// Runs busctl as root, or as somebody who may do nothing.
fn busctl(root: bool, arguments: &[&str]) -> Output {
    let mut command = match root {
        true => Command::new("busctl"),
        false => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
            command.arg("busctl");
            command
        }
    };
    command.args(arguments).output().expect("run busctl")
}

/// The same for what has to succeed; returns what it prints.
#[track_caller]
fn busctl_says(root: bool, arguments: &[&str]) -> String {
    let output = busctl(root, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    text(&output.stdout).trim().to_owned()
}

#[test]
fn everybody_may_look_at_everything_and_change_nothing() {
    let _machine = TestMachine::enter();
    fresh_daemon();
    let tree = SeedUnits::start(&[FILE_SAYS_SO]);
    let id = wait_attached(SLICE);
    let says = |arguments: &[&str]| busctl_says(false, arguments);
    let manager = |member: &str, arguments: &[&str]| {
        let call = ["call", "--", "org.bpfoomd1", MANAGER_PATH, MANAGER, member];
        says(&[&call, arguments].concat())
    };
    let slice = format!("\"{SLICE}\" \"{SLICE_OBJECT}\" \"{POLICY}\" ");
    let place = format!(
        "\"{}:4:18\" \"/seed.slice\" true {id} 0",
        tree.slice_file.display()
    );
    let listed = manager("ListUnits", &[]);
    assert!(listed.contains(&format!("{slice}{place}")), "{listed}");
    let object = format!("o \"{SLICE_OBJECT}\"");
    assert_eq!(manager("GetUnit", &["s", SLICE]), object);
    assert_eq!(
        manager("GetUnitByControlGroup", &["s", "/seed.slice/no/such"]),
        object
    );
    let simulated = manager("Simulate", &["s", SLICE]);
    assert!(
        simulated.starts_with(&format!("sa(sstttsus) \"{POLICY}\" 4 \"{LARGER}\" ")),
        "{simulated}"
    );
    assert_eq!(
        manager("Simulate", &["s", "-.slice"]),
        "sa(sstttsus) \"kernel\" 0"
    );
    assert_eq!(manager("ListKills", &["tu", "0", "0"]), "aa{sv} 0");
    assert_eq!(property("Engine"), "s \"kernel\"");
    let interface = property("KernelInterface");
    assert_eq!(interface.matches(" true ").count(), 5, "{interface}");
    assert!(property("Counters").contains("\"attachments\" 1"));

    let get = |path: &str, interface: &str, name: &str| {
        says(&["get-property", "org.bpfoomd1", path, interface, name])
    };
    assert_eq!(get(SLICE_OBJECT, UNIT, "Policy"), format!("s \"{POLICY}\""));
    assert_eq!(get(SLICE_OBJECT, UNIT, "CooldownUSec"), "t 10000000");
    let policy = "/org/bpfoomd1/policy/bpf_3abiggest_2dleaf";
    assert_eq!(get(policy, "org.bpfoomd1.Policy", "Attachments"), "u 1");
    assert_eq!(
        get(policy, "org.bpfoomd1.Policy", "Parameters"),
        "a(ssss) 1 \"min-size\" \"bytes\" \"0\" \"0\""
    );
    let shown = says(&["introspect", "org.bpfoomd1", MANAGER_PATH]);
    for member in [
        ".ListKills",
        ".Killed",
        ".KernelInterface",
        ".GetManagedObjects",
    ] {
        assert!(shown.contains(member), "{shown}");
    }
    let tree_shown = says(&["tree", "--list", "org.bpfoomd1"]);
    assert!(tree_shown.contains(SLICE_OBJECT), "{tree_shown}");
    says(&[
        "call",
        "org.bpfoomd1",
        MANAGER_PATH,
        "org.freedesktop.DBus.ObjectManager",
        "GetManagedObjects",
    ]);

    let level = [
        &["set-property"][..],
        &LOG_CONTROL,
        &["LogLevel", "s", "debug"],
    ]
    .concat();
    for denied in [
        &[
            "call",
            "org.bpfoomd1",
            SLICE_OBJECT,
            UNIT,
            "SetPolicy",
            "st",
            "kernel",
            "0",
        ][..],
        &["call", "org.bpfoomd1", SLICE_OBJECT, UNIT, "ResetPolicy"],
        &["call", "org.bpfoomd1", MANAGER_PATH, MANAGER, "Reload"],
        &level,
    ] {
        let output = busctl(false, denied);
        assert!(!output.status.success(), "{output:?}");
        let said = text(&output.stderr).to_lowercase();
        let words = ["access denied", "authentication required", "org.bpfoomd1."];
        assert!(words.iter().any(|word| said.contains(word)), "{said}");
    }
    assert_eq!(get(SLICE_OBJECT, UNIT, "Attached"), "b true");
    assert_eq!(property("RuntimeSettings"), "a(sst) 0");
    let level = |name: &str| {
        systemctl(&["service-log-level", daemon::UNIT, name]);
        systemctl(&["service-log-level", daemon::UNIT])
            .trim()
            .to_owned()
    };
    assert_eq!([level("debug"), level("info")], ["debug", "info"]);
    assert_eq!(
        systemctl(&["service-log-target", daemon::UNIT]).trim(),
        "journal"
    );
}

#[test]
fn what_makes_no_sense_is_refused_and_disturbs_nobody() {
    let _machine = TestMachine::enter();
    fresh_daemon();
    let pid = daemon::pid();
    let long = format!("{}.service", "x".repeat(100_000));
    let units = "/org/bpfoomd1/unit";
    for (path, interface, call) in [
        (MANAGER_PATH, MANAGER, &["NoSuchMethod"][..]),
        (MANAGER_PATH, MANAGER, &["SetPolicy"]),
        (MANAGER_PATH, MANAGER, &["SetPolicy", "s", SLICE]),
        (
            MANAGER_PATH,
            MANAGER,
            &["SetPolicy", "sst", &long, "kernel", "0"],
        ),
        (
            MANAGER_PATH,
            MANAGER,
            &["SetPolicy", "sst", SLICE, &long, "0"],
        ),
        (MANAGER_PATH, MANAGER, &["GetUnit", "s", ""]),
        (MANAGER_PATH, MANAGER, &["GetUnit", "s", "no-such.service"]),
        (MANAGER_PATH, MANAGER, &["GetUnit", "s", &long]),
        (
            MANAGER_PATH,
            MANAGER,
            &["GetUnitByControlGroup", "s", "../../etc"],
        ),
        (
            MANAGER_PATH,
            MANAGER,
            &["GetUnitByControlGroup", "s", "/../etc"],
        ),
        (MANAGER_PATH, MANAGER, &["Simulate", "s", "no-such.service"]),
        (MANAGER_PATH, MANAGER, &["Simulate", "s", "a\nb.service"]),
        (MANAGER_PATH, MANAGER, &["ListKills", "tt", "0", "0"]),
        (MANAGER_PATH, UNIT, &["Explain"]),
        (units, UNIT, &["Explain"]),
        ("/org/bpfoomd1/unit/_zz", UNIT, &["Explain"]),
        ("/org/bpfoomd1/unit/_2d_2eslice/x", UNIT, &["Explain"]),
        (
            "/org/bpfoomd1/policy/_",
            "org.bpfoomd1.Policy",
            &["Explain"],
        ),
        ("/org/freedesktop/LogControl1", UNIT, &["Explain"]),
    ] {
        let arguments = [&["call", "--", "org.bpfoomd1", path, interface], call].concat();
        let output = busctl(true, &arguments);
        assert!(!output.status.success(), "{call:?}: {output:?}");
        assert!(output.stderr.len() < 4096, "{}", output.stderr.len());
    }
    let set = |name: &str, value: &[&str]| {
        let arguments = [&["set-property"][..], &LOG_CONTROL, &[name], value].concat();
        busctl(true, &arguments).status.success()
    };
    assert!(!set("LogLevel", &["s", "loud"]));
    assert!(!set("LogLevel", &["u", "7"]));
    assert!(!set("LogTarget", &["s", "null"]));
    assert_eq!(daemon::pid(), pid);
    assert_eq!(property("RuntimeSettings"), "a(sst) 0");
}

/// Lets the tree run out of memory, and returns the unit that the policy killed.
#[track_caller]
fn victim_of(tree: &SeedUnits) -> String {
    let journal = Journal::from_now();
    tree.run_out_of_memory();
    wait_for_property(UNKILLABLE, "StatusText", "grown");
    let entry = journal.wait_for(&[&kill()]);
    field(&entry, "VICTIM_UNIT").to_owned()
}

#[test]
fn what_is_simulated_is_what_happens() {
    let _machine = TestMachine::enter();
    fresh_daemon();
    for preference in ["none", "avoid", "omit"] {
        let tree = SeedUnits::start(&[FILE_SAYS_SO]);
        let mut configuration = Configuration::new();
        let text = format!("[unit.\"{LARGER}\"]\npreference = \"{preference}\"\n");
        configuration.write("50-preference", &text);
        wait_attached(SLICE);
        let id = id_of(&cgroup_of(LARGER));
        eventually("the preference is told", || settings().contains(&id));
        let (policy, candidates) = run(async { simulate(&connect().await, SLICE).await });
        assert_eq!(policy, POLICY);
        assert_eq!(candidates.len(), 4);
        let of = |unit: &str| candidates.iter().find(|candidate| candidate.0 == unit);
        assert_eq!(of(UNKILLABLE).expect("it is listed").7, "unkillable");
        let larger = of(LARGER).expect("it is listed");
        assert_eq!((larger.2, &*larger.5), (id, preference));
        assert!((30 * MIB..34 * MIB).contains(&larger.4), "{larger:?}");
        assert_eq!(larger.7, if preference == "omit" { "omitted" } else { "" });
        let first = &candidates[0];
        assert_eq!(first.7, "");
        let expected = if preference == "none" {
            LARGER
        } else {
            SMALLER
        };
        assert_eq!(first.0, expected);
        assert_eq!(victim_of(&tree), first.0, "{preference}");
    }
}

#[test]
fn a_kill_is_told_alike_by_the_journal_the_signal_and_the_history() {
    let _machine = TestMachine::enter();
    fresh_daemon();
    let tree = SeedUnits::start(&[FILE_SAYS_SO]);
    wait_attached(SLICE);
    let journal = Journal::from_now();
    run(async {
        let bus = connect().await;
        let mut killed = signals(&bus, "Killed").await;
        tree.run_out_of_memory();
        let told: bus::Dictionary = bus::next(&mut killed)
            .await
            .body()
            .deserialize()
            .expect("a record");
        let entry = journal.wait_for(&[&kill()]);
        for (key, field_name) in [
            ("unit", "VICTIM_UNIT"),
            ("cgroup", "VICTIM_CGROUP"),
            ("cgroup_id", "VICTIM_CGROUP_ID"),
            ("bytes", "VICTIM_BYTES"),
            ("score", "VICTIM_SCORE"),
            ("preference", "VICTIM_PREFERENCE"),
            ("kill", "OOM_KILL"),
            ("processes_total", "VICTIM_PROCESSES_TOTAL"),
            ("candidates", "OOM_CANDIDATES"),
            ("handler_usec", "OOM_HANDLER_USEC"),
            ("domain", "OOM_DOMAIN"),
            ("domain_id", "OOM_DOMAIN_ID"),
            ("domain_unit", "OOM_DOMAIN_UNIT"),
            ("domain_bytes", "OOM_DOMAIN_BYTES"),
            ("attachment_unit", "OOM_ATTACHMENT_UNIT"),
            ("policy", "OOM_POLICY"),
            ("reason", "OOM_REASON"),
            ("boottime_usec", "OOM_BOOTTIME_USEC"),
            ("message", "MESSAGE"),
        ] {
            assert_eq!(said(&told, key), field(&entry, field_name), "{key}");
        }
        assert_eq!(
            (&*said(&told, "id"), &*said(&told, "killer")),
            ("1", "policy")
        );
        for key in told.keys() {
            assert!(KILL_KEYS.iter().any(|(known, ..)| known == key), "{key}");
        }
        let time: u64 = said(&told, "time_usec").parse().expect("a time");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time");
        let now = u64::try_from(now.as_micros()).expect("a time");
        assert!(time <= now && now - time < 120_000_000, "{time} {now}");
        assert_eq!(kills(&bus).await, [told]);
        let shown = bus::properties(&bus, LARGER).await;
        assert_eq!(said(&shown, "Kills"), "1");
    });
    assert!(property("Counters").contains("\"kills\" 1"));
}

#[test]
fn what_a_unit_shows_is_in_force_when_it_is_announced() {
    const ROUNDS: usize = 10;
    let _machine = TestMachine::enter();
    fresh_daemon();
    let tree = SeedUnits::start(&[]);
    let id = id_of(&tree.slice_cgroup());
    run(async {
        let bus = connect().await;
        let path = object(&bus, SLICE).await;
        let mut changed = signals(&bus, "PropertiesChanged").await;
        let mut attached = signals(&bus, "Attached").await;
        let (looked, was_looked_at) = mpsc::channel();
        let toggle = thread::spawn(move || {
            for _ in 0..ROUNDS {
                // Not before somebody has looked, who otherwise may see the next state.
                let wait = || {
                    was_looked_at
                        .recv_timeout(PATIENCE)
                        .expect("it is announced")
                };
                set_policy(SLICE, POLICY);
                wait();
                reset_policy(SLICE);
                wait();
            }
        });
        let mut seen = 0;
        while seen < 2 * ROUNDS {
            let message = bus::next(&mut changed).await;
            if message.header().path() != Some(&path) {
                continue;
            }
            let there = attachments().contains(&id);
            let (_, changed, _): (String, bus::Dictionary, Vec<String>) =
                message.body().deserialize().expect("properties");
            // That the slice runs by now may be told after its object is there.
            if !changed.contains_key("Attached") {
                continue;
            }
            // Fails when the other side has given up, which it says itself.
            let _ = looked.send(());
            assert_eq!(
                said(&changed, "Attached"),
                there.to_string(),
                "{seen}: {changed:?}"
            );
            let policy = if there { POLICY } else { "kernel" };
            assert_eq!(said(&changed, "Policy"), policy);
            let mut names: Vec<&String> = changed.keys().collect();
            names.sort();
            assert_eq!(names, ["Attached", "Policy", "PolicyPlace"]);
            seen += 1;
        }
        toggle.join().expect("it can be set and reset");
        for _ in 0..ROUNDS {
            let message = bus::next(&mut attached).await;
            let told: (String, String) = message.body().deserialize().expect("two strings");
            assert_eq!(told, (SLICE.to_owned(), POLICY.to_owned()));
        }
    });
}

/// Somebody who asked for the daemon's signals and does not read them.
struct Deaf(Child);

impl Deaf {
    fn start() -> Self {
        let child = Command::new("busctl")
            .args(["monitor", "org.bpfoomd1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run busctl");
        // Long enough to have asked.
        thread::sleep(Duration::from_secs(2));
        let deaf = Deaf(child);
        deaf.signal("STOP");
        deaf
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.expect("run kill").success());
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ten_thousand_calls_at_once_and_a_deaf_listener_hold_up_no_kill_and_leave_nothing() {
    const CALLS: usize = 10_000;
    let _machine = TestMachine::enter();
    fresh_daemon();
    let tree = SeedUnits::start(&[FILE_SAYS_SO]);
    wait_attached(SLICE);
    // What is allocated once is there.
    run(async { simulate(&connect().await, SLICE).await });
    let pid = daemon::pid();
    let before = (daemon::descriptors(), daemon::resident());
    let deaf = Deaf::start();
    let journal = Journal::from_now();
    let burst = thread::spawn(|| {
        run(async {
            let bus = connect().await;
            let mut calls = Vec::with_capacity(CALLS);
            for number in 0..CALLS {
                let bus = bus.clone();
                calls.push(tokio::spawn(async move {
                    let all = (MANAGER_PATH, "org.freedesktop.DBus.Properties");
                    let answered = match number % 4 {
                        0 => bus::call(&bus, MANAGER_PATH, (MANAGER, "Simulate"), &(SLICE,)).await,
                        1 => bus::call(&bus, MANAGER_PATH, (MANAGER, "ListUnits"), &()).await,
                        2 => bus::call(&bus, all.0, (all.1, "GetAll"), &(MANAGER,)).await,
                        _ => bus::call(&bus, MANAGER_PATH, (MANAGER, "Explain"), &("x",)).await,
                    };
                    answered.is_ok()
                }));
            }
            let mut answered = 0;
            for call in calls {
                answered += usize::from(call.await.expect("a call ends"));
            }
            answered
        })
    });
    thread::sleep(Duration::from_secs(1));
    tree.run_out_of_memory();
    let entry = journal.wait_for(&[&kill()]);
    let busy = !burst.is_finished();
    let number = |name: &str| -> u64 { field(&entry, name).parse().expect("a number") };
    // What the journal was told, and when that was received, by the same clock but for the time spent asleep.
    let late = number("__MONOTONIC_TIMESTAMP").saturating_sub(number("OOM_BOOTTIME_USEC"));
    let answered = burst.join().expect("calls are answered");
    println!("{answered} calls answered; the kill was told after {late} us, busy: {busy}");
    assert!(busy, "it was over before the kill");
    assert!(late < 2_000_000, "the kill was told after {late} us");
    // The bus may refuse to queue so many for one.
    assert!(answered > 0);
    drop(deaf);
    assert_eq!(daemon::pid(), pid);
    eventually("descriptors are closed again", || {
        daemon::descriptors() <= before.0
    });
    let grown = daemon::resident().saturating_sub(before.1);
    println!("{grown} bytes more are resident");
    assert!(grown < 24 * MIB, "{grown} bytes");
    run(async { assert_eq!(kills(&connect().await).await.len(), 1) });
}

#[test]
fn policies_for_units_that_vanish_meanwhile_leave_nothing() {
    const UNIT: &str = "vanishing.service";
    const ROUNDS: usize = 15;
    let _machine = TestMachine::enter();
    fresh_daemon();
    let mut units = Units::new();
    let text = hog_service("system.slice", &[], "notify=READY=1 pause");
    units.write(UNIT, &text);
    daemon_reload();
    let pid = daemon::pid();
    let round = || {
        start(&[UNIT]);
        let set = thread::spawn(|| set_policy(UNIT, POLICY));
        systemctl(&["kill", "--signal=KILL", UNIT]);
        set.join()
            .expect("it is set, for the next start if not for this one");
        systemctl_if_possible(&["stop", UNIT]);
        systemctl_if_possible(&["reset-failed", UNIT]);
        reset_policy(UNIT);
    };
    // What is loaded once is loaded.
    set_policy("-.slice", POLICY);
    reset_policy("-.slice");
    round();
    let before = (daemon::descriptors(), daemon::resident());
    for _ in 0..ROUNDS {
        round();
    }
    eventually("nothing is attached", || attachments().is_empty());
    eventually("descriptors are closed again", || {
        daemon::descriptors() <= before.0
    });
    let grown = daemon::resident().saturating_sub(before.1);
    assert!(grown < 8 * MIB, "{grown} bytes");
    assert_eq!(property("RuntimeSettings"), "a(sst) 0");
    assert_eq!(daemon::pid(), pid);
    // It is not in the way of the others.
    let _tree = SeedUnits::start(&[]);
    set_policy(SLICE, POLICY);
    assert!(is_attached(&cgroup_of(SLICE)));
    reset_policy(SLICE);
    stop(&[SLICE]);
}
