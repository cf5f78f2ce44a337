// SPDX-License-Identifier: MIT OR Apache-2.0
//! A user who means harm, in a session of their own: what is tried against others, what against the daemon, and what comes of it. SECURITY
//! in bpf-oomd(8) says the same. What can be tried over D-Bus is in `bus_abuse.rs`, and who may set policies in `runtime.rs`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{links, settings, wait_attached, watched};
use bpf_oomd_tests::cgroup::MIB;
use bpf_oomd_tests::configuration::Configuration;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::deep::{by_descriptor, remove_below};
use bpf_oomd_tests::hog;
use bpf_oomd_tests::journal::{Entry, Journal, field, number};
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::oomctl::{json, told};
use bpf_oomd_tests::psimon;
use bpf_oomd_tests::session::{MANAGER, Session, UID};
use bpf_oomd_tests::systemctl::{
    PATIENCE, cgroup_of, daemon_reload, eventually, show, show_number, start, stop,
};
use bpf_oomd_tests::units::{Units, hog_service};
use bpf_oomd_tests::user::{as_user, set_attribute};

/// Where all users are, and somebody else.
const SLICE: &str = "user.slice";
/// Where the user is.
const OWN_SLICE: &str = "user-1000.slice";
/// Somebody else: root's, with less memory than the user will have.
const BYSTANDER: &str = "bystander.service";
/// The user's.
const HARMFUL: &str = "harmful.service";

const POLICY: &str = "ManagedOOMPolicy=bpf:biggest-leaf";
const OMIT: &str = "user.oomd_omit";
const AVOID: &str = "user.oomd_avoid";

/// A session, and somebody else in the slice of all users, which has a policy.
struct Scene {
    session: Session,
    units: Units,
    bystander: u64,
    /// The cgroup of the user's manager, where it is also when the manager is gone.
    manager: PathBuf,
}

impl Scene {
    /// With a limit for the slice of that name.
    #[track_caller]
    fn new(limited: &str) -> Self {
        daemon::started();
        let mut units = Units::new();
        units.write_drop_in(SLICE, "50-policy", &format!("[Slice]\n{POLICY}\n"));
        units.write_drop_in(
            limited,
            "50-limit",
            "[Slice]\nMemoryMax=120M\nMemorySwapMax=0\n",
        );
        units.write(
            BYSTANDER,
            &hog_service(SLICE, &[], "anon=20M notify=READY=1 pause"),
        );
        daemon_reload();
        start(&[BYSTANDER]);
        wait_attached(SLICE);
        let session = Session::start();
        eventually("the limit is in force", || {
            let file = cgroup_of(limited).join("memory.max");
            fs::read_to_string(file).is_ok_and(|text| text.trim() == (120 * MIB).to_string())
        });
        Self {
            session,
            units,
            bystander: show_number(BYSTANDER, "MainPID"),
            manager: cgroup_of(MANAGER),
        }
    }

    /// Starts the user's service, which may do what it likes with its cgroup.
    #[track_caller]
    fn start(&self, settings: &str, steps: &str) {
        let directory = self.session.home(".config/systemd/user");
        let text = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nDelegate=yes\nMemoryAccounting=yes\n{settings}\n\
             ExecStart={} {steps}\n",
            hog::program().display()
        );
        as_user(UID, || {
            fs::create_dir_all(&directory).expect("a directory for unit files");
            fs::write(directory.join(HARMFUL), text).expect("a unit file");
        });
        self.session.told("systemctl", &["--user", "daemon-reload"]);
        self.session
            .told("systemctl", &["--user", "start", HARMFUL]);
    }

    /// The cgroup of the user's service.
    fn own(&self) -> PathBuf {
        self.manager.join("app.slice").join(HARMFUL)
    }

    /// The processes directly in one of the user's cgroups.
    fn processes(cgroup: &Path) -> Vec<String> {
        let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The process of the user's service.
    #[track_caller]
    fn process(&self) -> libc::pid_t {
        let show = ["--user", "show", "--value", "--property=MainPID", HARMFUL];
        let pid = self.session.told("systemctl", &show);
        pid.trim().parse().expect("a process id")
    }

    /// Lets it go on.
    #[track_caller]
    fn go_on(&self) {
        let process = self.process();
        // SAFETY: takes two numbers.
        let result = as_user(UID, || unsafe { libc::kill(process, libc::SIGUSR1) });
        assert_eq!(result, 0, "nobody is there any more");
    }

    /// The first kill, which is one of the user's.
    #[track_caller]
    fn own_victim(&self, journal: &Journal) -> Entry {
        let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
        assert_eq!(field(&entry, "VICTIM_UNIT"), MANAGER);
        assert_eq!(field(&entry, "OOM_POLICY"), "biggest-leaf");
        self.assert_nobody_else_died();
        entry
    }

    #[track_caller]
    fn assert_nobody_else_died(&self) {
        assert_eq!(show_number(BYSTANDER, "MainPID"), self.bystander);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let own = self.own();
        let _ = self.session.run("systemctl", &["--user", "stop", HARMFUL]);
        // What is at paths that are too long systemd leaves where it is.
        if let Ok(directory) = File::open(&own) {
            let _ = fs::write(own.join("cgroup.kill"), "1");
            let is_removed = || remove_below(&directory).is_ok();
            if !thread::panicking() {
                eventually("nothing is left of the user's service", is_removed);
            }
            let _ = fs::remove_dir(&own);
        }
        let file = self.session.home(".config/systemd/user").join(HARMFUL);
        let _ = fs::remove_file(file);
    }
}

#[track_caller]
fn assert_refused<T>(what: &str, result: io::Result<T>) {
    let Err(error) = result else {
        panic!("{what} was not refused");
    };
    let refused = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
    assert!(refused, "{what}: {error}");
}

#[test]
fn what_users_say_of_themselves_lets_nobody_die_in_their_stead() {
    let _machine = TestMachine::enter();
    let scene = Scene::new(SLICE);
    let before = links();
    scene.start(
        "ManagedOOMPolicy=kernel\nManagedOOMPolicyPressure=none\nManagedOOMPreference=omit\nOOMScoreAdjust=-1000\n",
        "anon=30M notify=READY=1 usr1 anon=200M pause",
    );
    // Nobody reads the unit files of a user.
    assert_eq!(links(), before);
    let faults = json(&["status"])["faults"].clone();
    assert!(faults.as_array().is_some_and(Vec::is_empty), "{faults}");
    let process = Scene::processes(&scene.own()).remove(0);
    let adjust = format!("/proc/{process}/oom_score_adj");
    let number_of = || fs::read_to_string(&adjust).map(|text| text.trim().parse::<i32>());
    assert!(matches!(number_of(), Ok(Ok(0..))), "{:?}", number_of());
    assert_refused(
        "to be unkillable",
        as_user(UID, || fs::write(&adjust, "-1000")),
    );
    // All of what is the user's says it in any way there is, and says it right in the end.
    let long = vec![b'1'; 65536];
    let values: [&[u8]; 9] = [
        b"",
        b"0",
        b"-1",
        b"true\0",
        b"yes\n",
        b"\xff\xfe",
        b"11111111",
        &long,
        b"1",
    ];
    let manager = cgroup_of(MANAGER);
    as_user(UID, || {
        for path in [&*scene.own(), &manager.join("app.slice"), &manager] {
            for name in [AVOID, OMIT] {
                for value in values {
                    // A cgroup takes 128 KiB of them.
                    let _ = set_attribute(path, name, value);
                }
                set_attribute(path, name, b"1").expect("an attribute of the user's own");
            }
            let more = (0..200).filter(|n| {
                let name = format!("user.oomd_omit{n}");
                set_attribute(path, &name, b"1").is_ok()
            });
            assert!(more.count() < 200, "the kernel takes any number");
        }
    });
    assert!(!told(&["explain", MANAGER]).contains("preference: omit"));
    let journal = Journal::from_now();
    scene.go_on();
    let entry = scene.own_victim(&journal);
    assert_eq!(field(&entry, "VICTIM_USER_UNIT"), HARMFUL);
    assert_eq!(field(&entry, "VICTIM_PREFERENCE"), "none");
    assert_eq!(field(&entry, "OOM_ATTACHMENT_UNIT"), SLICE);
}

#[test]
fn users_change_nothing_that_is_not_theirs() {
    let _machine = TestMachine::enter();
    let mut configuration = Configuration::new();
    configuration.write(
        "50-own",
        "[unit.\"bystander.service\"]\npreference = \"avoid\"\n",
    );
    let scene = Scene::new(SLICE);
    scene.start("", "anon=1M notify=READY=1 pause");
    told(&["set-policy", BYSTANDER, "kernel"]);
    let (links_before, settings_before) = (links(), settings());
    let daemon = daemon::pid();
    let others = [
        PathBuf::from("/sys/fs/cgroup"),
        cgroup_of(SLICE),
        cgroup_of(OWN_SLICE),
        cgroup_of(BYSTANDER),
        cgroup_of(daemon::UNIT),
    ];
    let own = scene.own();
    let process = Scene::processes(&own).remove(0);
    let bystander = scene.bystander.to_string();
    as_user(UID, || {
        for path in &others {
            for name in [OMIT, AVOID, "trusted.oomd_omit", "trusted.oomd_avoid"] {
                let what = format!("{name} of {}", path.display());
                assert_refused(&what, set_attribute(path, name, b"1"));
            }
            // Who hides among others has their preference, and dies with them.
            let join = fs::write(path.join("cgroup.procs"), &process);
            assert_refused(&format!("to join {}", path.display()), join);
            let make = fs::create_dir(path.join("mine"));
            assert_refused(&format!("a cgroup in {}", path.display()), make);
        }
        let trusted = set_attribute(&own, "trusted.oomd_omit", b"1");
        assert_refused("systemd's other attribute", trusted);
        let capture = fs::write(own.join("cgroup.procs"), &bystander);
        assert_refused("somebody else's process", capture);
        for (path, value) in [
            (cgroup_of(OWN_SLICE).join("memory.max"), "max"),
            (cgroup_of(MANAGER).join("memory.max"), "max"),
            (cgroup_of(BYSTANDER).join("memory.high"), "0"),
            (cgroup_of(BYSTANDER).join("cgroup.kill"), "1"),
            (PathBuf::from(format!("/proc/{daemon}/oom_score_adj")), "0"),
            (PathBuf::from(format!("/proc/{daemon}/mem")), ""),
            (PathBuf::from("/etc/bpf-oomd/conf.d/50-mine.toml"), ""),
            (PathBuf::from("/run/bpf-oomd/conf.d/50-mine.toml"), ""),
            (PathBuf::from("/run/bpf-oomd/state/run-time.toml"), ""),
        ] {
            assert_refused(&path.display().to_string(), fs::write(&path, value));
        }
        let state = fs::read("/run/bpf-oomd/state/run-time.toml");
        assert_refused("what is set at run time", state);
        for id in links_before.keys() {
            // SAFETY: takes a number.
            let result = unsafe { libbpf_sys::bpf_link_get_fd_by_id(*id) };
            assert_eq!(result, -libc::EPERM, "link {id}");
        }
        let daemon = libc::pid_t::try_from(daemon).expect("a process id");
        for signal in [libc::SIGSTOP, libc::SIGHUP, libc::SIGKILL] {
            // SAFETY: takes two numbers.
            let result = unsafe { libc::kill(daemon, signal) };
            let error = io::Error::last_os_error();
            let result = if result == 0 { Ok(()) } else { Err(error) };
            assert_refused("a signal to the daemon", result);
        }
    });
    let journal = Journal::from_now();
    let forged = format!(
        "MESSAGE_ID={KILL_MESSAGE_ID}\n_SYSTEMD_UNIT={}\nMESSAGE=forged\n",
        daemon::UNIT
    );
    as_user(UID, || {
        let socket = UnixDatagram::unbound().expect("a socket");
        let sent = socket.send_to(forged.as_bytes(), "/run/systemd/journal/socket");
        sent.expect("the journal listens to everybody");
    });
    let entry = journal.wait_for(&["MESSAGE=forged"]);
    assert_eq!(field(&entry, "_UID"), UID.to_string());
    assert_ne!(field(&entry, "_SYSTEMD_UNIT"), daemon::UNIT);
    assert_eq!(links(), links_before);
    assert_eq!(settings(), settings_before);
    assert_eq!(daemon::pid(), daemon);
    scene.assert_nobody_else_died();
    told(&["reset-policy", BYSTANDER]);
}

/// Whether a text would do something to a terminal, or to who reads it line by line.
fn does_something(text: &str) -> bool {
    text.chars().any(|char| char.is_control() && char != '\n')
}

#[test]
fn names_that_would_write_to_a_terminal_or_make_lines_are_shown_as_names() {
    let _machine = TestMachine::enter();
    let scene = Scene::new(SLICE);
    scene.start(
        "",
        "\"name=x\\n7 7 y\\x1b[2J\" notify=READY=1 usr1 anon=60M usr1 anon=200M pause",
    );
    // As long as names may be.
    let mut name = b"\x1b[2J\x07\x08\r\t \xff\xfe\xc2\x9b\\n%s".to_vec();
    name.resize(255 - b".service".len(), b'x');
    name.extend_from_slice(b".service");
    let odd = scene.own().join(OsStr::from_bytes(&name));
    let process = Scene::processes(&scene.own()).remove(0);
    as_user(UID, || {
        fs::create_dir(&odd).expect("a cgroup of the user's own");
        fs::write(odd.join("cgroup.procs"), &process).expect("a process of the user's own");
        fs::write(scene.own().join("cgroup.subtree_control"), "+memory").expect("a controller");
    });
    scene.go_on();
    eventually("it has grown", || {
        let file = odd.join("memory.current");
        let usage = fs::read_to_string(file).unwrap_or_default();
        usage
            .trim()
            .parse::<u64>()
            .is_ok_and(|bytes| bytes > 60 * MIB)
    });
    for arguments in [&["tree"][..], &["simulate", SLICE], &["list"], &["status"]] {
        let shown = told(arguments);
        assert!(!does_something(&shown), "{arguments:?}: {shown:?}");
    }
    let simulated = told(&["simulate", SLICE]);
    assert!(simulated.contains(HARMFUL), "{simulated}");
    let journal = Journal::from_now();
    scene.go_on();
    let entry = scene.own_victim(&journal);
    for name in ["MESSAGE", "VICTIM_CGROUP", "VICTIM_PROCESSES"] {
        let text = field(&entry, name);
        assert!(!does_something(text), "{name} is {text:?}");
    }
    assert_eq!(field(&entry, "VICTIM_USER_UNIT"), HARMFUL);
    let processes = field(&entry, "VICTIM_PROCESSES");
    assert_eq!(processes.lines().count(), 1, "{processes}");
    assert!(processes.ends_with(r"x\n7 7 y\u{1b}[2J"), "{processes}");
    assert_eq!(number(&entry, "VICTIM_PROCESSES_TOTAL"), 1);
    let kills = told(&["kills"]);
    assert!(!does_something(&kills), "{kills:?}");
    // Below the heading, each line begins with a time.
    let mut lines = kills.lines().skip(1);
    assert!(lines.all(|line| line.starts_with("20")), "{kills}");
}

#[test]
fn a_thousand_cgroups_are_nothing_to_the_daemon_and_a_thousand_levels_no_place_to_hide() {
    const NUMBER: usize = 1000;
    const OTHER: &str = "bystander-later.service";
    let _machine = TestMachine::enter();
    let mut configuration = Configuration::new();
    // Each trigger is a thread of the kernel's, and memory that cannot be reclaimed.
    configuration.write(
        "50-pressure",
        "[slice.\"user.slice\".pressure]\nstall = \"900ms\"\nfor = \"1h\"\napplies-to = \"each-unit\"\n",
    );
    let mut scene = Scene::new(SLICE);
    scene.start("", "notify=READY=1 usr1 anon=60M usr1 anon=200M pause");
    scene.units.write(
        OTHER,
        &hog_service(SLICE, &[POLICY], "anon=1M notify=READY=1 pause"),
    );
    daemon_reload();
    start(&[OTHER]);
    wait_attached(OTHER);
    stop(&[OTHER]);
    let own = scene.own();
    eventually("each unit is watched, and that is all", || {
        watched().len() == 2
    });
    let (watched_before, threads) = (watched(), psimon::count());
    let (descriptors, resident) = (daemon::descriptors(), daemon::resident());
    let pid = daemon::pid();
    let flat = own.join("flat.slice");
    let switches = daemon::switches();
    let deepest = as_user(UID, || {
        let leaf = own.join("leaf");
        fs::create_dir(&leaf).expect("a cgroup");
        let process = Scene::processes(&own).remove(0);
        fs::write(leaf.join("cgroup.procs"), &process).expect("a process of the user's own");
        fs::write(own.join("cgroup.subtree_control"), "+memory").expect("a controller");
        fs::create_dir(&flat).expect("a cgroup");
        for n in 0..NUMBER {
            fs::create_dir(flat.join(format!("{n}.service"))).expect("a cgroup");
        }
        // Deeper than anything that looks upwards goes, at a path that is too long for any call.
        let mut deepest = File::open(&own).expect("a cgroup");
        for _ in 0..100 {
            let next = by_descriptor(&deepest).join("d".repeat(100));
            fs::create_dir(&next).expect("a cgroup");
            // Not where processes are.
            let control = by_descriptor(&deepest).join("cgroup.subtree_control");
            fs::write(control, "+memory").expect("a controller");
            deepest = File::open(&next).expect("a cgroup");
        }
        let procs = by_descriptor(&deepest).join("cgroup.procs");
        fs::write(procs, &process).expect("a process of the user's own");
        for n in 0..NUMBER {
            fs::remove_dir(flat.join(format!("{n}.service"))).expect("remove a cgroup");
        }
        for n in 0..NUMBER / 2 {
            fs::create_dir(flat.join(format!("{n}.service"))).expect("a cgroup");
        }
        deepest
    });
    println!(
        "the daemon was given a processor {} times meanwhile",
        daemon::switches() - switches
    );
    assert_eq!(watched(), watched_before);
    assert_eq!(psimon::count(), threads);
    // Others are served.
    start(&[OTHER]);
    wait_attached(OTHER);
    stop(&[OTHER]);
    eventually("descriptors are closed again", || {
        daemon::descriptors() <= descriptors
    });
    let grown = daemon::resident().saturating_sub(resident);
    assert!(grown < 4 * MIB, "{grown} bytes");
    scene.go_on();
    eventually("it has grown", || {
        let file = by_descriptor(&deepest).join("memory.current");
        let usage = fs::read_to_string(file).unwrap_or_default();
        usage
            .trim()
            .parse::<u64>()
            .is_ok_and(|bytes| bytes > 60 * MIB)
    });
    let journal = Journal::from_now();
    scene.go_on();
    let entry = scene.own_victim(&journal);
    assert_eq!(field(&entry, "VICTIM_USER_UNIT"), HARMFUL);
    println!(
        "{} us to choose among {} leaves with processes",
        field(&entry, "OOM_HANDLER_USEC"),
        field(&entry, "OOM_CANDIDATES")
    );
    assert!(!daemon::status_text().contains("lost"));
    assert_eq!(daemon::pid(), pid);
}

#[test]
fn whoever_moves_memory_about_while_it_runs_out_loses_their_own_in_a_limit_of_their_own() {
    const KILLS: usize = 3;
    let _machine = TestMachine::enter();
    let scene = Scene::new(OWN_SLICE);
    let journal = Journal::from_now();
    scene.start(
        "Restart=always\nRestartSec=0\nOOMPolicy=continue",
        "notify=READY=1 anon=20M anon=20M anon=20M anon=20M anon=20M anon=20M anon=20M pause",
    );
    let over = AtomicBool::new(false);
    let kills = || journal.entries(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    thread::scope(|scope| {
        // What a process has used stays with the cgroup that it leaves.
        scope.spawn(|| {
            as_user(UID, || {
                let mut n = 0;
                while !over.load(Ordering::Relaxed) {
                    let own = scene.own();
                    let leaf = |n: usize| own.join(format!("leaf{}", n % 4));
                    // All of it may fail: the service is being restarted.
                    let _ = fs::create_dir(leaf(n));
                    let places = (0..4).map(leaf).chain([own.clone()]);
                    for process in places.flat_map(|place| Scene::processes(&place)) {
                        let _ = fs::write(leaf(n).join("cgroup.procs"), process);
                    }
                    let _ = fs::write(own.join("cgroup.subtree_control"), "+memory");
                    let _ = fs::remove_dir(leaf(n + 1));
                    n += 1;
                }
            });
        });
        // Between two cgroups a process is in none, and then the victim may be the user's own manager: that is the end of it.
        let is_over = || kills().len() >= KILLS || show(MANAGER, "ActiveState") != "active";
        let start = Instant::now();
        while !is_over() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
    });
    let kills = kills();
    assert!(!kills.is_empty());
    for kill in kills {
        assert_eq!(field(&kill, "VICTIM_UNIT"), MANAGER, "{kill:#?}");
        assert_eq!(field(&kill, "OOM_DOMAIN_UNIT"), OWN_SLICE, "{kill:#?}");
    }
    scene.assert_nobody_else_died();
}
