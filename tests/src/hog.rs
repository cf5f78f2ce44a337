// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that use memory: `bpf-oomd-hog` (see its source for the steps) inside a cgroup, and what becomes of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::cgroup::Cgroup;
use crate::wait::{SOON, eventually_within};

/// A running hog. Dropping it kills it.
pub struct Hog {
    child: Child,
    steps: String,
    output: String,
}

/// The path of `bpf-oomd-hog`. It is installed beside the test binary; cargo puts it one directory above.
pub fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("path of the test binary");
    let beside = tests.with_file_name("bpf-oomd-hog");
    if beside.exists() {
        return beside;
    }
    let above = tests
        .parent()
        .and_then(|directory| directory.parent())
        .map(|directory| directory.join("bpf-oomd-hog"));
    match above {
        Some(above) if above.exists() => above,
        _ => panic!("no bpf-oomd-hog beside {}", tests.display()),
    }
}

impl Hog {
    /// Starts a hog inside `cgroup`, with steps separated by spaces. Without an `adj=` step its oom_score_adj is 0.
    pub fn start(cgroup: &Cgroup, steps: &str) -> Self {
        Self::start_in(cgroup.path(), steps)
    }

    /// The same inside the cgroup with this directory, which may be a unit's.
    pub fn start_in(cgroup: &Path, steps: &str) -> Self {
        let procs = OpenOptions::new()
            .write(true)
            .open(cgroup.join("cgroup.procs"))
            .unwrap_or_else(|error| panic!("open cgroup.procs of {}: {error}", cgroup.display()));
        let mut command = Command::new(program());
        command
            .args(steps.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let enter = move || {
            // 0 means the writing process. It enters before exec, so that all of the hog's memory is charged to the cgroup.
            (&procs).write_all(b"0")?;
            // The test itself is unkillable, which children inherit.
            OpenOptions::new()
                .write(true)
                .open("/proc/self/oom_score_adj")?
                .write_all(b"0")
        };
        // SAFETY: the closure makes system calls only and allocates nothing (short paths are copied to the stack).
        unsafe { command.pre_exec(enter) };
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start a hog with {steps:?}: {error}"));
        let hog = Self {
            child,
            steps: steps.to_owned(),
            output: String::new(),
        };
        set_nonblocking(hog.child.stdout.as_ref().expect("the hog's output"));
        hog
    }

    /// Starts a hog and waits until it is ready (its steps contain `ready`).
    #[track_caller]
    pub fn ready(cgroup: &Cgroup, steps: &str) -> Self {
        let mut hog = Self::start(cgroup, steps);
        hog.wait_ready();
        hog
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says `ready`, once more than before.
    #[track_caller]
    pub fn wait_ready(&mut self) -> u32 {
        self.wait_ready_within(SOON)
    }

    /// The same with another deadline.
    #[track_caller]
    pub fn wait_ready_within(&mut self, deadline: Duration) -> u32 {
        eventually_within(deadline, || {
            self.read_output();
            if let Some((line, rest)) = self.output.split_once('\n') {
                let pid = line
                    .strip_prefix("ready ")
                    .and_then(|pid| pid.parse().ok())
                    .unwrap_or_else(|| panic!("a hog said {line:?}"));
                self.output = rest.to_owned();
                return Ok(pid);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("hog {:?} ended before it was ready: {status}", self.steps);
            }
            Err(format!("hog {:?} is not ready", self.steps))
        })
    }

    fn read_output(&mut self) {
        let mut buffer = [0u8; 256];
        let stdout = self.child.stdout.as_mut().expect("the hog's output");
        match stdout.read(&mut buffer) {
            Ok(length) => self
                .output
                .push_str(&String::from_utf8_lossy(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("read from a hog: {error}"),
        }
    }

    /// Lets it go on after a `wait`.
    #[track_caller]
    pub fn go(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("the hog's input");
        stdin.write_all(b"\n").expect("write to a hog");
    }

    /// Whether the process is there and has not been killed.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended and says whether SIGKILL did that.
    #[track_caller]
    pub fn wait_killed(&mut self) -> bool {
        self.wait_killed_within(SOON)
    }

    /// The same with another deadline.
    #[track_caller]
    pub fn wait_killed_within(&mut self, deadline: Duration) -> bool {
        eventually_within(deadline, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status.signal() == Some(libc::SIGKILL)),
            Ok(None) => Err(format!("hog {:?} has not ended", self.steps)),
            Err(error) => panic!("wait for a hog: {error}"),
        })
    }

    /// Waits until it is a zombie: ended, but nobody has asked for its status yet.
    #[track_caller]
    pub fn wait_zombie(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        eventually_within(SOON, || {
            let text = fs::read_to_string(&stat).map_err(|error| format!("{stat}: {error}"))?;
            // The state follows the name, which is in parentheses and may contain anything.
            match text.rsplit_once(") ") {
                Some((_, rest)) if rest.starts_with('Z') => Ok(()),
                _ => Err(format!("not a zombie: {text}")),
            }
        });
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_nonblocking(stdout: &ChildStdout) {
    // SAFETY: fcntl on an open file descriptor.
    let result = unsafe { libc::fcntl(stdout.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(result, 0, "fcntl: {}", io::Error::last_os_error());
}
