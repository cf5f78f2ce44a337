// SPDX-License-Identifier: MIT OR Apache-2.0
//! A configuration file that cannot be understood is told to whoever looks, and takes nothing away.

use bpf_oomd_tests::attachments::{attachments, wait_attached, wait_detached};
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::seed_units::{LARGER, SLICE, SMALLER, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{
    cgroup_of, daemon_reload, eventually, start, stop, systemctl, wait_for_property,
};
use bpf_oomd_tests::units::{Units, hog_service, slice};

const GOOD: &str = "[slice.\"seed.slice\"]\npolicy = \"bpf:biggest-leaf\"\n";
const BAD: &str = "[slice.\"seed.slice\"]\npolicy = \"bpf:bigest-leaf\"\n";

#[test]
fn a_file_that_becomes_faulty_is_told_and_its_last_good_content_stays_in_force() {
    let _machine = TestMachine::enter();
    daemon::started();
    let tree = SeedUnits::start(&[]);
    let mut configuration = Configuration::new();
    configuration.write("50-seed", GOOD);
    let slice = wait_attached(SLICE);
    let journal = Journal::from_now();
    let file = configuration.write("50-seed", BAD);

    let place = format!("{}:2:10", file.display());
    let entry = journal.wait_for_message(daemon::UNIT, &place);
    let message = field(&entry, "MESSAGE");
    assert!(
        message.contains("did you mean \"bpf:biggest-leaf\"?"),
        "{message}"
    );
    assert_eq!(field(&entry, "CONFIG_LINE"), "2");
    eventually("the fault is in the daemon's status", || {
        daemon::status_text().contains(&place)
    });
    assert!(attachments().contains(&slice));

    // Other files are applied all the same.
    configuration.write(
        "60-other",
        "[unit.\"seed-smaller.service\"]\npolicy = \"bpf:biggest-leaf\"\n",
    );
    wait_attached(SMALLER);
    tree.run_out_of_memory();
    wait_for_property(UNKILLABLE, "StatusText", "grown");
    wait_for_property(LARGER, "Result", "oom-kill");

    configuration.write("50-seed", GOOD);
    eventually("the fault is gone from the daemon's status", || {
        !daemon::status_text().contains("fault")
    });
    configuration.remove("50-seed");
    wait_detached(slice);
}

#[test]
fn a_file_that_is_faulty_at_start_is_left_out_and_the_others_are_not() {
    let _machine = TestMachine::enter();
    let _tree = SeedUnits::start(&[]);
    stop(&[daemon::UNIT]);
    let mut configuration = Configuration::new();
    let file = configuration.write("50-seed", BAD);
    configuration.write(
        "60-other",
        "[unit.\"seed-smaller.service\"]\npolicy = \"bpf:biggest-leaf\"\n",
    );
    daemon::started();
    let id = wait_attached(SMALLER);
    assert_eq!(attachments(), [id].into());
    assert!(daemon::status_text().contains(&format!("{}:2:10", file.display())));
}

#[test]
fn while_ooms_come_one_after_the_other_a_bad_file_changes_nothing() {
    const VICTIM: &str = "storm-victim.service";
    const GROWING: &str = "storm-growing.service";
    const ROUNDS: usize = 10;
    let _machine = TestMachine::enter();
    daemon::started();
    let mut units = Units::new();
    units.write("storm.slice", &slice(&["MemoryMax=60M"]));
    units.write(
        VICTIM,
        &hog_service("storm.slice", &[], "anon=30M notify=READY=1 pause"),
    );
    let kept = "storm-kept.service";
    units.write(
        kept,
        &hog_service(
            "storm.slice",
            &["OOMScoreAdjust=900"],
            "anon=5M notify=READY=1 pause",
        ),
    );
    units.write(
        GROWING,
        &hog_service(
            "storm.slice",
            &["OOMScoreAdjust=-1000"],
            "anon=4M notify=READY=1 usr1 anon=36M notify=STATUS=grown pause",
        ),
    );
    daemon_reload();
    let mut configuration = Configuration::new();
    let good = GOOD.replace("seed", "storm");
    let bad = BAD.replace("seed", "storm");
    configuration.write("50-storm", &good);
    start(&[kept]);
    let slice = wait_attached("storm.slice");
    let directory = cgroup_of("storm.slice");
    for round in 0..ROUNDS {
        start(&[VICTIM, GROWING]);
        let text = if round % 2 == 0 { &bad } else { &good };
        configuration.write("50-storm", text);
        let log = Kmsg::before_a_report();
        systemctl(&["kill", "--signal", "USR1", "--", GROWING]);
        wait_for_property(GROWING, "StatusText", "grown");
        wait_for_property(VICTIM, "Result", "oom-kill");
        assert_eq!(log.wait_for_report()[1], "oom_policy=biggest-leaf");
        assert!(attachments().contains(&slice));
        stop(&[GROWING]);
        systemctl(&["reset-failed", "--", VICTIM]);
    }
    let events = std::fs::read_to_string(directory.join("memory.events")).expect("memory.events");
    assert!(events.contains(&format!("oom_kill {ROUNDS}\n")), "{events}");
}
