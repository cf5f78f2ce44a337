// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whoever asks a person for a password when polkit wants one. On a desktop there is one; at a console there is none, unless it is
//! started: as systemctl does.

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::io::{IsTerminal, stderr, stdin};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// polkit's own, for text.
const PROGRAM: &str = "/usr/bin/pkttyagent";

/// An agent that serves this process, until it is dropped.
#[derive(Debug)]
pub(super) struct Agent(Option<Child>);

impl Agent {
    /// Starts one where there is somebody to be asked, and returns when it is ready. Where there is none, polkit refuses what needs a
    /// password, and says so.
    pub(super) fn start() -> Self {
        let somebody = stdin().is_terminal() && stderr().is_terminal();
        let needed = somebody && !geteuid().is_root() && Path::new(PROGRAM).exists();
        Agent(needed.then(spawn).flatten())
    }
}

fn spawn() -> Option<Child> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).ok()?;
    // This end alone goes to the agent. No other thread of this program could start something meanwhile that would get it too.
    fcntl_setfd(&writer, FdFlags::empty()).ok()?;
    let agent = Command::new(PROGRAM)
        // An agent of the person's session is asked first.
        .args(["--fallback", "--notify-fd"])
        .arg(writer.as_fd().as_raw_fd().to_string())
        .stdin(Stdio::inherit())
        .spawn()
        .ok()?;
    drop(writer);
    // It closes its end when it is known to polkit, or is gone.
    let _ = rustix::io::read(&reader, &mut [0; 1]);
    Some(agent)
}

impl Drop for Agent {
    fn drop(&mut self) {
        let Some(agent) = &mut self.0 else {
            return;
        };
        // Not by force: if it asks for a password, the terminal shows nothing of what is typed, and it puts that right.
        let pid = i32::try_from(agent.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = agent.wait();
    }
}
