// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user of a desktop is told which application died and why, and nobody else's.

use std::fs;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::wait_attached;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::Journal;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::Value;
use bpf_oomd_tests::session::{Notifications, Session};
use bpf_oomd_tests::systemctl::{daemon_reload, eventually, start, stop, systemctl};
use bpf_oomd_tests::units::{Units, hog_service};

const NOTIFY: &str = "bpf-oomd-notify.service";

/// A daemon with a policy for users, a user's session, and in that the service that notifies.
struct Scene {
    session: Session,
    _configuration: Configuration,
}

impl Scene {
    #[track_caller]
    fn new() -> Self {
        stop(&[daemon::UNIT]);
        daemon::started();
        let session = Session::start();
        let mut configuration = Configuration::new();
        configuration.write(
            "50-users",
            "[slice.\"user.slice\"]\npolicy = \"bpf:biggest-leaf\"\n",
        );
        wait_attached("user.slice");
        session.told("systemctl", &["--user", "start", NOTIFY]);
        Scene {
            session,
            _configuration: configuration,
        }
    }

    /// Waits until the service that notifies has said something.
    #[track_caller]
    fn said(journal: &Journal, part: &str) {
        eventually(part, || {
            let entries = journal.entries(&[&format!("_SYSTEMD_USER_UNIT={NOTIFY}")]);
            let mut messages = entries.iter().filter_map(|entry| entry.get("MESSAGE"));
            messages.any(|message| message.contains(part))
        });
    }
}

fn text<'a>(notification: &'a Value, key: &str) -> &'a str {
    notification[key].as_str().unwrap_or_default()
}

#[test]
fn the_user_whose_application_died_is_told_which_and_why() {
    let _machine = TestMachine::enter();
    let scene = Scene::new();
    let applications = scene.session.home(".local/share/applications");
    scene
        .session
        .told("mkdir", &["-p", applications.to_str().expect("a path")]);
    let file = applications.join("org.example.Editor.desktop");
    fs::write(
        &file,
        "[Desktop Entry]\nType=Application\nName=Cut & Paste\nIcon=org.example.Editor\n",
    )
    .expect("write a desktop file");
    let notifications = Notifications::start(&scene.session, &[]);
    // It is none of the user's business, and comes first.
    let mut units = Units::new();
    let service = hog_service(
        "system.slice",
        &["MemoryMax=24M"],
        "notify=READY=1 anon=64M pause",
    );
    units.write("not-the-users.service", &service);
    daemon_reload();
    let journal = Journal::from_now();
    start(&["not-the-users.service"]);
    journal.wait_for(&[
        &format!("MESSAGE_ID={KILL_MESSAGE_ID}"),
        "VICTIM_UNIT=not-the-users.service",
    ]);

    scene
        .session
        .run_out_of_memory("app-org.example.Editor@1.service");
    let told = notifications.next();
    let of_the_unit = "USER_UNIT=app-org.example.Editor@1.service";
    journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}"), of_the_unit]);
    assert_eq!(
        text(&told, "summary"),
        "Cut & Paste was killed because memory ran out"
    );
    assert_eq!(text(&told, "app_icon"), "org.example.Editor");
    assert_eq!(text(&told, "app_name"), "bpf-oomd");
    assert_eq!(told["urgency"], 2);
    assert_eq!(told["replaces_id"], 0);
    let body: Vec<&str> = text(&told, "body").lines().collect();
    assert!(
        body[0].starts_with("It (2") && body[0].ends_with("used all the memory that it may have."),
        "{body:?}"
    );
    assert!(
        body[1].starts_with("The policy bpf:biggest-leaf chose it, with 2"),
        "{body:?}"
    );
    assert_eq!(body[2], "Unit: app-org.example.Editor@1.service");
    // Who does not understand markup gets none. Somebody else shows it now, and another daemon tells of it.
    drop(notifications);
    systemctl(&["restart", daemon::UNIT]);
    wait_attached("user.slice");
    let notifications = Notifications::start(&scene.session, &["--plain"]);
    scene.session.run_out_of_memory("app-a\\x2db@2.service");
    let told = notifications.next();
    let all = format!("{} {}", text(&told, "summary"), text(&told, "body"));
    assert!(all.contains("a-b was killed"), "{told}");
    assert!(!all.contains("&amp;"), "{told}");
    let _ = fs::remove_file(file);
}

#[test]
fn a_storm_is_few_notifications_and_names_everybody() {
    const APPLICATIONS: usize = 5;
    let _machine = TestMachine::enter();
    let scene = Scene::new();
    let notifications = Notifications::start(&scene.session, &[]);
    for number in 0..APPLICATIONS {
        scene
            .session
            .run_out_of_memory(&format!("app-storm{number}@1.service"));
    }
    let mut named = std::collections::BTreeSet::new();
    let mut times: Vec<u64> = Vec::new();
    while named.len() < APPLICATIONS {
        let told = notifications.next();
        times.push(text(&told, "time_msec").parse().expect("a time"));
        let all = format!("{} {}", text(&told, "summary"), text(&told, "body"));
        named
            .extend((0..APPLICATIONS).filter(|number| all.contains(&format!("storm{number} was"))));
    }
    // Whatever the machine's pace: never two within five seconds, but for the accuracy of clocks.
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] > 4_500, "{times:?}");
    }
}

#[test]
fn what_nobody_can_show_is_shown_when_somebody_can() {
    let _machine = TestMachine::enter();
    let scene = Scene::new();
    let journal = Journal::from_now();
    scene.session.run_out_of_memory("app-early@1.service");
    Scene::said(&journal, "nobody shows notifications in this session");
    let notifications = Notifications::start(&scene.session, &[]);
    let told = notifications.next();
    assert!(
        text(&told, "summary").starts_with("early was killed"),
        "{told}"
    );
    // The session bus goes, and with it whoever showed notifications.
    scene
        .session
        .told("systemctl", &["--user", "restart", "dbus.service"]);
    notifications.wait();
    Scene::said(&journal, "the connection to the session bus was closed");
    let notifications = Notifications::start(&scene.session, &[]);
    scene.session.run_out_of_memory("app-late@1.service");
    loop {
        let told = notifications.next();
        if format!("{told}").contains("late was killed") {
            break;
        }
    }
}
