// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policies that are set at run time: before everything that files say, until they are reset.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, is_attached, wait_attached, wait_detached};
use bpf_oomd_tests::cgroup::id_of;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{
    bpf_oomctl, bpf_oomctl_as_nobody, call, call_as_nobody, property, refused, reset_policy,
    set_policy, text, told,
};
use bpf_oomd_tests::seed_units::{DISLIKED, LARGER, SLICE, SMALLER, SeedUnits};
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, show, signal, start, stop, systemctl,
    systemctl_if_possible, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};
use bpf_oomd_tests::wait::all_the_time;

const POLICY: &str = "bpf:biggest-leaf";
const FILE_SAYS_SO: &str = "ManagedOOMPolicy=bpf:biggest-leaf";
const STATE: &str = "/run/bpf-oomd/state/run-time.toml";
const NOTHING: &str = "a(sst) 0";

/// A running daemon with nothing set at run time, also if a test that failed left something.
#[track_caller]
fn daemon_with_nothing_set() {
    systemctl_if_possible(&["stop", daemon::UNIT]);
    daemon::started();
    assert_eq!(property("RuntimeSettings"), NOTHING);
}

#[test]
fn a_policy_decides_the_next_oom_as_soon_as_it_is_set() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let tree = SeedUnits::start(&[]);
    let slice = id_of(&tree.slice_cgroup());
    let journal = Journal::from_now();
    set_policy(SLICE, POLICY);
    // No waiting: it returns when the policy is in force.
    assert_eq!(attachments(), [slice].into());
    assert_eq!(
        property("RuntimeSettings"),
        format!("a(sst) 1 \"{SLICE}\" \"{POLICY}\" 0")
    );
    let said = journal.wait_for_message(daemon::UNIT, "set by uid 0");
    assert_eq!(field(&said, "UNIT"), SLICE);
    assert_eq!(tree.run_out(), "oom_policy=biggest-leaf");
    wait_for_property(LARGER, "Result", "oom-kill");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), LARGER);
    reset_policy(SLICE);
    assert!(attachments().is_empty());
    assert_eq!(property("RuntimeSettings"), NOTHING);
    // There is nothing to reset any more, and that is fine.
    reset_policy(SLICE);
    // The system has no cgroup: its attachment is on none.
    set_policy("-.slice", POLICY);
    assert_eq!(attachments(), [0].into());
    reset_policy("-.slice");
    assert!(attachments().is_empty());
}

#[test]
fn what_is_set_comes_before_what_files_say_and_files_count_again_after_it() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let tree = SeedUnits::start(&[FILE_SAYS_SO]);
    let slice = wait_attached(SLICE);
    let output = call("SetPolicy", &["sst", SLICE, "kernel", "0"]);
    assert!(output.status.success(), "{output:?}");
    assert!(attachments().is_empty());
    // Files that are read again do not change that.
    daemon_reload();
    systemctl(&["reload", daemon::UNIT]);
    assert!(attachments().is_empty());
    assert_eq!(tree.run_out(), "oom_policy=default");
    wait_for_property(DISLIKED, "Result", "oom-kill");
    let output = call("ResetPolicy", &["s", SLICE]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(attachments(), [slice].into());
}

#[test]
fn what_is_set_for_a_time_ends_by_itself() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let tree = SeedUnits::start(&[]);
    let slice = id_of(&tree.slice_cgroup());
    told(&["set-policy", "--for=1h", SMALLER, POLICY]);
    told(&["set-policy", "--for=2s", SLICE, POLICY]);
    wait_detached(slice);
    eventually("only the other one is set", || {
        property("RuntimeSettings").starts_with(&format!("a(sst) 1 \"{SMALLER}\""))
    });
    assert!(is_attached(&cgroup_of(SMALLER)));
    assert!(
        !fs::read_to_string(STATE)
            .expect("the state")
            .contains(SLICE)
    );
    // The end of the first one is not the end of a second one.
    told(&["set-policy", "--for=2s", SLICE, POLICY]);
    set_policy(SLICE, POLICY);
    all_the_time(Duration::from_secs(4), "the policy is there", || {
        attachments().contains(&slice)
    });
    reset_policy(SLICE);
    reset_policy(SMALLER);
}

#[test]
fn a_unit_that_was_started_a_moment_ago_has_it_when_the_call_returns() {
    const UNIT: &str = "moment.service";
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let mut units = Units::new();
    units.write(
        UNIT,
        &hog_service("system.slice", &[], "notify=READY=1 pause"),
    );
    daemon_reload();
    for _ in 0..4 {
        start(&[UNIT]);
        set_policy(UNIT, POLICY);
        assert!(is_attached(&cgroup_of(UNIT)));
        reset_policy(UNIT);
        assert!(!is_attached(&cgroup_of(UNIT)));
        stop(&[UNIT]);
        systemctl_if_possible(&["reset-failed", UNIT]);
    }
    // And one that does not run has it when it starts.
    set_policy(UNIT, POLICY);
    assert!(attachments().is_empty());
    let output = bpf_oomctl_as_nobody(&["explain", UNIT]);
    assert!(text(&output.stderr).contains("does not run"), "{output:?}");
    assert!(
        text(&output.stdout).contains("    * bpf:biggest-leaf: run time, until reset: decides\n"),
        "{output:?}"
    );
    start(&[UNIT]);
    wait_attached(UNIT);
    reset_policy(UNIT);
}

/// As if polkit were not installed.
struct WithoutPolkit;

impl WithoutPolkit {
    fn mask() -> Self {
        systemctl(&["mask", "--runtime", "--now", "polkit.service"]);
        WithoutPolkit
    }
}

impl Drop for WithoutPolkit {
    fn drop(&mut self) {
        systemctl_if_possible(&["unmask", "--runtime", "polkit.service"]);
    }
}

#[test]
fn nobody_may_look_and_change_nothing() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let tree = SeedUnits::start(&[FILE_SAYS_SO]);
    wait_attached(SLICE);
    let pid = daemon::pid();
    let denied = |output: &std::process::Output| {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = text(&output.stderr).to_lowercase();
        // busctl has words of its own for these errors.
        let words = ["org.bpfoomd1.", "access denied", "authentication required"];
        assert!(words.iter().any(|word| said.contains(word)), "{said}");
        assert_eq!(property("RuntimeSettings"), NOTHING);
        assert!(is_attached(&tree.slice_cgroup()));
    };
    for polkit in [true, false] {
        let _masked = (!polkit).then(WithoutPolkit::mask);
        let set = ["set-policy", SLICE, "kernel"];
        let said = refused(&bpf_oomctl_as_nobody(&set));
        assert!(said.contains("org.bpfoomd1.set-policy"), "{said}");
        denied(&bpf_oomctl_as_nobody(&set));
        denied(&bpf_oomctl_as_nobody(&["reset-policy", SLICE]));
        denied(&bpf_oomctl_as_nobody(&["reload"]));
        denied(&call_as_nobody("SetPolicy", &["sst", SLICE, "kernel", "0"]));
        // Root need not ask.
        set_policy(SMALLER, POLICY);
        reset_policy(SMALLER);
    }
    let output = bpf_oomctl_as_nobody(&["explain", SLICE]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        property("Version"),
        concat!("s \"", env!("CARGO_PKG_VERSION"), "\"")
    );
    assert_eq!(daemon::pid(), pid);
}

#[test]
fn whoever_polkit_allows_may_set_policies_and_no_more_than_that() {
    const RULES: &str = "/etc/polkit-1/rules.d/10-bpf-oomd-tests.rules";
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let _tree = SeedUnits::start(&[]);
    let rule = "polkit.addRule(function(action, subject) {\n\
        if (action.id == 'org.bpfoomd1.set-policy' && subject.user == 'nobody' &&\n\
            action.lookup('unit') == 'seed.slice')\n\
            return polkit.Result.YES;\n});\n";
    fs::write(RULES, rule).expect("write a rule");
    systemctl(&["restart", "polkit.service"]);
    let output = bpf_oomctl_as_nobody(&["set-policy", SLICE, POLICY]);
    let others = [
        bpf_oomctl_as_nobody(&["set-policy", SMALLER, POLICY]),
        bpf_oomctl_as_nobody(&["reload"]),
    ];
    fs::remove_file(RULES).expect("remove the rule");
    systemctl(&["restart", "polkit.service"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(attachments(), [id_of(&cgroup_of(SLICE))].into());
    assert!(told(&["explain", SLICE]).contains("run time, set by uid 65534 at "));
    for other in others {
        refused(&other);
    }
    refused(&bpf_oomctl_as_nobody(&["reset-policy", SLICE]));
    reset_policy(SLICE);
}

#[test]
fn what_does_not_exist_is_refused_with_a_suggestion() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let tree = SeedUnits::start(&[]);
    let said = refused(&bpf_oomctl(&["set-policy", SLICE, "bpf:bigest-leaf"]));
    assert!(
        said.contains("did you mean \"bpf:biggest-leaf\"?"),
        "{said}"
    );
    let said = refused(&bpf_oomctl(&["set-policy", "seed", POLICY]));
    assert!(said.contains("did you mean \"seed.service\"?"), "{said}");
    let said = refused(&bpf_oomctl(&["reset-policy", "seed@.service"]));
    assert!(said.contains("is a template"), "{said}");
    assert_eq!(
        bpf_oomctl(&["set-policy", "--for=soon", SLICE, POLICY])
            .status
            .code(),
        Some(2)
    );
    let mut configuration = Configuration::new();
    let file = configuration.write("50-off", "[slice.\"seed.slice\"]\nenabled = false\n");
    let place = format!("{}:2:11", file.display());
    eventually("the configuration is in force", || {
        told(&["explain", SMALLER]).contains(&place)
    });
    let said = refused(&bpf_oomctl(&["set-policy", SMALLER, POLICY]));
    assert!(said.contains(&place), "{said}");
    assert!(attachments().is_empty());
    assert_eq!(property("RuntimeSettings"), NOTHING);
    assert!(!Path::new(STATE).exists());
    drop(tree);
}

#[test]
fn it_is_there_after_a_restart_and_gone_after_a_stop() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let mut configuration = Configuration::new();
    let file = configuration.write("50-other", "# nothing\n");
    let _tree = SeedUnits::start(&[]);
    set_policy(SLICE, POLICY);
    told(&["set-policy", "--for=2h", SMALLER, "kernel"]);
    let before = property("RuntimeSettings");
    let slice = id_of(&cgroup_of(SLICE));
    systemctl(&["restart", daemon::UNIT]);
    assert_eq!(attachments(), [slice].into());
    assert_eq!(property("RuntimeSettings"), before);

    // Also if it was not asked to end.
    let pid = daemon::pid();
    systemctl(&["kill", "--signal=KILL", daemon::UNIT]);
    eventually("another daemon runs", || {
        let now = show(daemon::UNIT, "MainPID");
        now != "0" && now != pid.to_string()
    });
    wait_for_property(daemon::UNIT, "ActiveState", "active");
    assert_eq!(wait_attached(SLICE), slice);
    assert_eq!(property("RuntimeSettings"), before);

    stop(&[daemon::UNIT]);
    assert!(attachments().is_empty());
    daemon::started();
    assert!(attachments().is_empty());
    assert_eq!(property("RuntimeSettings"), NOTHING);
    // What an administrator put beside it is still there.
    assert!(file.exists());
}

#[test]
fn a_damaged_state_is_a_fault_and_no_failure() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let _tree = SeedUnits::start(&[]);
    set_policy(SLICE, POLICY);
    fs::write(STATE, "[[setting]]\nunit = \"seed.slice\"\npoli").expect("damage the state");
    systemctl(&["restart", daemon::UNIT]);
    assert!(attachments().is_empty());
    let place = format!("run-time settings: {STATE}:3:5: ");
    assert!(
        daemon::status_text().contains(&place),
        "{}",
        daemon::status_text()
    );
    let faults = property("ConfigurationFaults");
    assert!(
        faults.starts_with(&format!(
            "a(ssuus) 1 \"run-time settings\" \"{STATE}\" 3 5 \""
        )),
        "{faults}"
    );
    set_policy(SLICE, POLICY);
    eventually("the fault is gone", || {
        !daemon::status_text().contains("fault")
    });
    assert_eq!(property("ConfigurationFaults"), "a(ssuus) 0");
    reset_policy(SLICE);
}

#[test]
fn explain_shows_who_said_it_when_and_what_it_overrules() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let tree = SeedUnits::start(&[FILE_SAYS_SO]);
    wait_attached(SLICE);
    told(&["set-policy", "--for=10min", SLICE, "kernel"]);
    let said = told(&["explain", SMALLER]);
    let lines: Vec<&str> = said.lines().collect();
    let at = lines.iter().position(|line| *line == "  policy: kernel");
    let at = at.unwrap_or_else(|| panic!("no policy in {said}"));
    let set = lines[at + 1];
    assert!(
        set.starts_with("    * kernel: run time of seed.slice, set by uid 0 at 20"),
        "{said}"
    );
    assert!(set.ends_with(" UTC for 10min: decides"), "{said}");
    assert_eq!(
        lines[at + 2],
        format!(
            "    - bpf:biggest-leaf: unit files of seed.slice, {}:4:18: overruled by what comes before it",
            tree.slice_file.display()
        )
    );
    let output = call("Explain", &["s", "nowhere.service"]);
    assert!(!output.status.success());
    // Without the daemon it is said that files were read, and nothing is set any more.
    stop(&[daemon::UNIT]);
    let output = bpf_oomctl_as_nobody(&["explain", SMALLER]);
    assert!(
        text(&output.stderr).contains("bpf-oomd does not run"),
        "{output:?}"
    );
    assert!(
        text(&output.stdout).contains("  policy: bpf:biggest-leaf\n"),
        "{output:?}"
    );
    assert_eq!(
        bpf_oomctl(&["set-policy", SLICE, POLICY]).status.code(),
        Some(3)
    );
    // Whoever looked has not started it.
    assert_eq!(show(daemon::UNIT, "ActiveState"), "inactive");
    daemon::started();
}

#[test]
fn a_reload_over_the_bus_is_over_when_files_are_in_force() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let mut tree = SeedUnits::start(&[]);
    let slice = id_of(&tree.slice_cgroup());
    let changed = fs::read_to_string(&tree.slice_file).expect("the slice's file");
    let good = changed.replace("MemoryMax=80M", &format!("MemoryMax=80M\n{FILE_SAYS_SO}"));
    tree.units.write(SLICE, &good);
    assert!(attachments().is_empty());
    told(&["reload"]);
    assert_eq!(attachments(), [slice].into());
    let bad = good.replace("biggest", "bigest");
    let file = tree.units.write(SLICE, &bad);
    told(&["reload"]);
    let faults = property("ConfigurationFaults");
    let expected = format!(
        "a(ssuus) 1 \"{SLICE}\" \"{}\" 4 18 \"unknown policy",
        file.display()
    );
    assert!(faults.starts_with(&expected), "{faults}");
    assert_eq!(attachments(), [slice].into());
}

/// Signals of the daemon, from when it was made on.
struct Signals {
    monitor: Child,
}

impl Signals {
    const FILE: &str = "/run/bpf-oomd-signals";

    fn watch() -> Self {
        let file = || {
            let mut options = fs::OpenOptions::new();
            options.append(true).create(true);
            options.open(Self::FILE).expect("open a file for signals")
        };
        let _ = fs::remove_file(Self::FILE);
        let monitor = Command::new("busctl")
            .args(["monitor", "--match"])
            .arg("type='signal',path='/org/bpfoomd1',member='PropertiesChanged'")
            .stdout(Stdio::from(file()))
            .stderr(Stdio::from(file()))
            .spawn()
            .expect("run busctl");
        let signals = Signals { monitor };
        eventually("signals are watched", || {
            signals.text().contains("Monitoring")
        });
        signals
    }

    fn text(&self) -> String {
        fs::read_to_string(Self::FILE).expect("read signals")
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

#[test]
fn changes_of_properties_are_announced() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let _tree = SeedUnits::start(&[]);
    let signals = Signals::watch();
    set_policy(SLICE, POLICY);
    eventually("the setting is announced", || {
        let text = signals.text();
        text.contains("RuntimeSettings") && text.contains(SLICE)
    });
    assert!(!signals.text().contains("ConfigurationFaults"));
    let mut configuration = Configuration::new();
    configuration.write("50-bad", "[slice.\"seed.slice\"]\nkil = 1\n");
    eventually("the fault is announced", || {
        signals.text().contains("ConfigurationFaults")
    });
    reset_policy(SLICE);
}

#[test]
fn without_its_name_the_daemon_works_and_says_so_and_gets_the_name_when_it_may() {
    const FILE: &str = "/usr/share/dbus-1/system.d/org.bpfoomd1.conf";
    const HIDDEN: &str = "/run/org.bpfoomd1.conf.hidden";
    let reload_bus = || systemctl(&["reload", "dbus.service"]);
    let _machine = TestMachine::enter();
    stop(&[daemon::UNIT]);
    let _tree = SeedUnits::start(&[FILE_SAYS_SO]);
    fs::copy(FILE, HIDDEN).expect("keep the bus's policy");
    fs::remove_file(FILE).expect("remove the bus's policy");
    reload_bus();
    let journal = Journal::from_now();
    daemon::started();
    let status = daemon::status_text();
    let attached = is_attached(&cgroup_of(SLICE));
    fs::copy(HIDDEN, FILE).expect("put the bus's policy back");
    reload_bus();
    assert!(
        status.contains("1 fault: D-Bus: the name org.bpfoomd1 cannot be had"),
        "{status}"
    );
    assert!(attached);
    journal.wait_for_message(daemon::UNIT, "D-Bus: the name org.bpfoomd1 cannot be had");
    eventually("the fault is gone", || {
        !daemon::status_text().contains("fault")
    });
    set_policy(SLICE, "kernel");
    reset_policy(SLICE);
}

#[test]
fn it_is_reachable_again_after_the_bus_was_away() {
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let _tree = SeedUnits::start(&[]);
    set_policy(SLICE, POLICY);
    let pid = daemon::pid();
    stop(&["dbus.socket", "dbus.service"]);
    eventually("the daemon says that it follows no units", || {
        daemon::status_text().contains("not followed")
    });
    assert!(is_attached(&cgroup_of(SLICE)));
    start(&["dbus.socket", "dbus.service"]);
    eventually("the daemon is reachable", || {
        bpf_oomctl(&["reset-policy", SLICE]).status.success()
    });
    assert!(attachments().is_empty());
    eventually("nothing is wrong", || {
        let status = daemon::status_text();
        !status.contains("fault") && !status.contains("not followed")
    });
    assert_eq!(daemon::pid(), pid, "the daemon was restarted");
}

#[test]
fn the_bus_starts_a_daemon_that_is_enabled_and_no_other() {
    let _machine = TestMachine::enter();
    systemctl_if_possible(&["disable", daemon::UNIT]);
    stop(&[daemon::UNIT]);
    let output = call("SetPolicy", &["sst", SLICE, "kernel", "0"]);
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(show(daemon::UNIT, "ActiveState"), "inactive");
    systemctl(&["enable", daemon::UNIT]);
    let version = property("Version");
    assert!(version.starts_with("s \""), "{version}");
    wait_for_property(daemon::UNIT, "ActiveState", "active");
    systemctl(&["disable", daemon::UNIT]);
}

/// A slice with too little memory for what is in it, so that one of two units has to die: the kernel takes the one and the policy the
/// other, and either is enough.
struct Domain {
    slice: String,
    large: String,
    disliked: String,
    growing: String,
}

impl Domain {
    fn new(name: &str, units: &mut Units) -> Self {
        let domain = Domain {
            slice: format!("storm{name}.slice"),
            large: format!("storm{name}-large.service"),
            disliked: format!("storm{name}-disliked.service"),
            growing: format!("storm{name}-growing.service"),
        };
        units.write(&domain.slice, &slice(&["MemoryMax=84M"]));
        let mut write = |name: &str, adjust: &str, steps: &str| {
            let adjust = format!("OOMScoreAdjust={adjust}");
            units.write(name, &hog_service(&domain.slice, &[&adjust], steps));
        };
        write(&domain.large, "0", "anon=30M notify=READY=1 pause");
        write(&domain.disliked, "900", "anon=20M notify=READY=1 pause");
        write(
            &domain.growing,
            "-1000",
            "anon=4M notify=READY=1 usr1 anon=36M notify=STATUS=grown pause",
        );
        domain
    }

    fn units(&self) -> [&str; 3] {
        [&self.large, &self.disliked, &self.growing]
    }

    fn begin(&self) {
        start(&self.units());
        signal(&self.growing, "USR1");
    }

    /// Waits until the OOM is over, and returns whether the large unit was the victim. There is one victim.
    #[track_caller]
    fn end(&self) -> bool {
        wait_for_property(&self.growing, "StatusText", "grown");
        let died = |unit: &str| show(unit, "Result") == "oom-kill";
        eventually("one of the units is dead", || {
            died(&self.large) || died(&self.disliked)
        });
        let large = died(&self.large);
        let other = if large { &self.disliked } else { &self.large };
        assert_eq!(show(other, "ActiveState"), "active", "{other} died too");
        stop(&self.units());
        // Starts in a row are counted, and these are meant.
        systemctl_if_possible(&[&["reset-failed", "--"][..], &self.units()].concat());
        large
    }

    #[track_caller]
    fn run_out(&self) -> bool {
        self.begin();
        self.end()
    }
}

/// Becomes true when this is dropped.
struct SetAtTheEnd<'a>(&'a AtomicBool);

impl Drop for SetAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn while_ooms_come_one_after_the_other_policies_can_be_set_and_reset() {
    const ROUNDS: usize = 5;
    let _machine = TestMachine::enter();
    daemon_with_nothing_set();
    let mut units = Units::new();
    let domains = ["a", "b"].map(|name| Domain::new(name, &mut units));
    // Runs all the time, so that each slice is the same from beginning to end.
    for domain in &domains {
        let name = domain.slice.replace(".slice", "-stays.service");
        let text = hog_service(
            &domain.slice,
            &["OOMScoreAdjust=-1000"],
            "notify=READY=1 pause",
        );
        units.write(&name, &text);
    }
    daemon_reload();
    start(&["storma-stays.service", "stormb-stays.service"]);
    // Where nobody is attached at all the kernel does not wait for a victim that exits, and takes a second one now and then.
    set_policy("-.slice", POLICY);
    let journal = Journal::from_now();
    let over = AtomicBool::new(false);
    let changes = AtomicUsize::new(0);
    let mut by_policy = [0; 2];
    thread::scope(|scope| {
        let toggle = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (method, arguments) in [
                    ("SetPolicy", &["sst", "storma.slice", POLICY, "0"][..]),
                    ("SetPolicy", &["sst", "stormb.slice", POLICY, "700000"]),
                    ("ResetPolicy", &["s", "storma.slice"]),
                    ("SetPolicy", &["sst", "stormb.slice", "kernel", "0"]),
                    ("SetPolicy", &["sst", "storma.slice", "kernel", "0"]),
                    ("ResetPolicy", &["s", "stormb.slice"]),
                    ("SetPolicy", &["sst", "stormb.slice", POLICY, "0"]),
                ] {
                    let output = call(method, arguments);
                    assert!(
                        output.status.success(),
                        "{method} {arguments:?}: {output:?}"
                    );
                    changes.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // Also when something goes wrong here: the scope waits for the thread.
        let end = SetAtTheEnd(&over);
        for _ in 0..ROUNDS {
            for domain in &domains {
                domain.begin();
            }
            for (domain, by_policy) in domains.iter().zip(&mut by_policy) {
                *by_policy += usize::from(domain.end());
            }
            if toggle.is_finished() {
                break;
            }
        }
        drop(end);
        if let Err(panic) = toggle.join() {
            std::panic::resume_unwind(panic);
        }
    });
    let changes = changes.into_inner();
    println!("{changes} changes, {by_policy:?} of {ROUNDS} OOMs decided by the policy");
    assert!(changes >= 2 * ROUNDS, "only {changes} changes");

    // The last of each was: reset, set and kernel.
    let [a, b] = domains
        .each_ref()
        .map(|domain| id_of(&cgroup_of(&domain.slice)));
    assert_eq!(
        property("RuntimeSettings"),
        format!(
            "a(sst) 3 \"-.slice\" \"{POLICY}\" 0 \"storma.slice\" \"kernel\" 0 \"stormb.slice\" \"{POLICY}\" 0"
        )
    );
    assert_eq!(attachments(), [0, b].into());
    assert_eq!([false, true], domains.each_ref().map(Domain::run_out));
    by_policy[1] += 1;
    set_policy("storma.slice", POLICY);
    set_policy("stormb.slice", "kernel");
    assert_eq!(attachments(), [0, a].into());
    assert_eq!([true, false], domains.each_ref().map(Domain::run_out));
    by_policy[0] += 1;
    for slice in ["storma.slice", "stormb.slice", "-.slice"] {
        reset_policy(slice);
    }
    assert!(attachments().is_empty());

    // Each kill by the policy is in the journal with its victim, and there is no other.
    let kill = format!("MESSAGE_ID={KILL_MESSAGE_ID}");
    let policys = "OOM_POLICY=biggest-leaf";
    let kills = || journal.entries(&[&kill, policys]);
    eventually("all kills are told", || {
        kills().len() >= by_policy.iter().sum()
    });
    for (domain, by_policy) in domains.iter().zip(by_policy) {
        let all = kills();
        let of_domain = |entry: &&_| field(entry, "OOM_DOMAIN_UNIT") == domain.slice;
        let mine: Vec<_> = all.iter().filter(of_domain).collect();
        assert_eq!(mine.len(), by_policy, "{mine:#?}");
        for entry in mine {
            // Also if it died before systemd had said anything about it.
            assert_eq!(field(entry, "VICTIM_UNIT"), domain.large);
        }
    }
    assert!(
        !daemon::status_text().contains("fault"),
        "{}",
        daemon::status_text()
    );
    assert_eq!(property("ConfigurationFaults"), "a(ssuus) 0");
    assert_eq!(property("RuntimeSettings"), NOTHING);
}
