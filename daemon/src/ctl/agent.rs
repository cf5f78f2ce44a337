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
        Agent(needed.then(|| spawn(PROGRAM)).flatten())
    }
}

fn spawn(program: &str) -> Option<Child> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).ok()?;
    // This end alone goes to the agent. No other thread of this program could start something meanwhile that would get it too.
    fcntl_setfd(&writer, FdFlags::empty()).ok()?;
    let agent = Command::new(program)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_agent_is_waited_for_and_ended_when_it_is_not_needed_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let program = directory.path().join("agent");
        let script = format!(
            "#!/bin/bash\nexec 2>/dev/null\nlog={}\ntrap 'echo ended >>$log; exit' TERM\n\
             sleep 0.2\necho \"ready $1 $2\" >$log\neval \"exec $3>&-\"\n\
             while :; do sleep 0.05; done\n",
            log.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let agent = Agent(spawn(program.to_str().unwrap()));
        assert!(agent.0.is_some());
        let said = fs::read_to_string(&log).unwrap();
        assert_eq!(said, "ready --fallback --notify-fd\n");
        drop(agent);
        let said = fs::read_to_string(&log).unwrap();
        assert!(said.ends_with("ended\n"), "{said}");
    }

    #[test]
    fn where_there_is_none_there_is_none() {
        assert!(spawn("/nowhere/agent").is_none());
    }
}
