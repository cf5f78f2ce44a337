// SPDX-License-Identifier: MIT OR Apache-2.0
//! A user's service manager and session bus, with programs that run in it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::Receiver;

use crate::hog;
use crate::lines::lines;
use crate::oomctl::{Value, parsed, text};
use crate::systemctl::{PATIENCE, eventually, start, systemctl, systemctl_if_possible};

/// The user that the image has for this.
pub const UID: u32 = 1000;

/// The service that runs the user's manager.
pub const MANAGER: &str = "user@1000.service";

/// The session of a user. Dropping it ends everything in it.
pub struct Session(());

impl Session {
    /// Starts the user's manager, and with it the session bus.
    #[track_caller]
    pub fn start() -> Self {
        // It does not come back by itself when the bus was away, which it is in other tests, and a session waits for it.
        systemctl(&["restart", "systemd-logind.service"]);
        start(&[MANAGER]);
        let session = Self(());
        eventually("the session bus answers", || {
            session
                .run("busctl", &["--user", "status"])
                .status
                .success()
        });
        session
    }

    /// A file in the user's home directory.
    pub fn home(&self, name: &str) -> PathBuf {
        PathBuf::from("/home/tester").join(name)
    }

    /// A program as that user, with the session's environment.
    pub fn command(&self, program: &str) -> Command {
        let user = UID.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--init-groups", "--"]);
        command.arg(program);
        command
            .current_dir("/")
            .env("HOME", self.home(""))
            .env("XDG_RUNTIME_DIR", format!("/run/user/{UID}"))
            .env(
                "DBUS_SESSION_BUS_ADDRESS",
                format!("unix:path=/run/user/{UID}/bus"),
            );
        command
    }

    /// Runs a program as that user.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = self.command(program).args(arguments).output();
        output.unwrap_or_else(|error| panic!("run {program}: {error}"))
    }

    /// The same for what has to succeed; returns what it prints.
    #[track_caller]
    pub fn told(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        text(&output.stdout)
    }

    /// Starts a service of the user's manager that uses more memory than it may have.
    #[track_caller]
    pub fn run_out_of_memory(&self, unit: &str) {
        let unit = format!("--unit={unit}");
        let hog = hog::program();
        let hog = hog.to_str().expect("a path");
        let limits = ["--property=MemoryMax=24M", "--property=MemorySwapMax=0"];
        let run = ["--user", "--collect", "--no-block", "--quiet", &unit];
        self.told(
            "systemd-run",
            &[&run[..], &limits, &["--", hog, "anon=64M", "pause"]].concat(),
        );
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        systemctl_if_possible(&["stop", MANAGER]);
    }
}

/// Somebody who shows notifications in a session: `bpf-oomd-notifications`.
pub struct Notifications {
    program: Child,
    lines: Receiver<String>,
}

impl Notifications {
    /// Starts showing them.
    #[track_caller]
    pub fn start(session: &Session, arguments: &[&str]) -> Self {
        let program = hog::program().with_file_name("bpf-oomd-notifications");
        let mut program = session
            .command(program.to_str().expect("a path"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("run bpf-oomd-notifications");
        let lines = lines(&mut program);
        let notifications = Self { program, lines };
        assert_eq!(notifications.line(), "ready");
        notifications
    }

    /// The next one.
    #[track_caller]
    pub fn next(&self) -> Value {
        parsed(&self.line())
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a notification")
    }

    /// Waits until the program has ended by itself.
    pub fn wait(mut self) {
        self.program.wait().expect("its end");
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
