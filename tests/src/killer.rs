// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills a process at its n-th system call, so that every moment between two of them has its turn.

use std::fs;
use std::io;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What changes something outside the process: what is in the kernel, what systemd keeps, what is in files and in the journal.
const COUNTED: [libc::c_long; 4] = [
    libc::SYS_bpf,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_rename,
];

/// How long it may take to get there. A process that has nothing more to do is killed then.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a process may be idle after everything has been done that it could have to do with.
const IDLE: Duration = Duration::from_secs(1);

/// The thread that does it; tracing belongs to a thread.
pub struct Killer {
    thread: JoinHandle<Killed>,
    done: Arc<AtomicBool>,
}

/// What it has done.
#[derive(Debug)]
pub struct Killed {
    /// The process that was killed.
    pub pid: u32,
    /// How many system calls it had begun or ended.
    pub count: usize,
}

impl Killer {
    /// Kills the first process of this name that is in the cgroup with this directory and is not `before`, when it begins or ends the `n`th
    /// system call that changes something.
    pub fn of_process_in(cgroup: &Path, name: &str, before: Option<u32>, n: usize) -> Self {
        let processes = cgroup.join("cgroup.procs");
        let name = format!("{name}\n");
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let thread = thread::spawn(move || kill(&processes, &name, before, n, &seen));
        Self { thread, done }
    }

    /// Waits until it has been done. The process has no more reason to call anything than it has now: it is killed in a moment, wherever
    /// it is.
    #[track_caller]
    pub fn wait_a_moment(self) -> Killed {
        self.done.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until it has been done.
    #[track_caller]
    pub fn wait(self) -> Killed {
        self.thread.join().expect("the killing thread")
    }
}

fn kill(
    processes: &Path,
    name: &str,
    before: Option<u32>,
    n: usize,
    done: &Arc<AtomicBool>,
) -> Killed {
    let end = Instant::now() + LONGEST;
    let is_it = |pid: &u32| {
        let found = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(*pid) != before && found == name
    };
    let pid = loop {
        let found = fs::read_to_string(processes).unwrap_or_default();
        let mut found = found.lines().filter_map(|line| line.parse::<u32>().ok());
        if let Some(pid) = found.find(is_it) {
            break pid;
        }
        assert!(Instant::now() < end, "nobody is in {}", processes.display());
        thread::yield_now();
    };
    let traced = libc::pid_t::try_from(pid).expect("a process id");
    let kill_it = move || {
        // SAFETY: takes numbers. A tracee's id is its own until the tracing thread has been told of its end.
        unsafe { libc::kill(traced, libc::SIGKILL) };
    };
    let over = Arc::new(AtomicBool::new(false));
    let (done, seen) = (Arc::clone(done), Arc::clone(&over));
    let clock = thread::spawn(move || {
        let mut end = end;
        let mut is_done = false;
        while !seen.load(Ordering::Relaxed) {
            if !is_done && done.load(Ordering::Relaxed) {
                is_done = true;
                end = Instant::now() + IDLE;
            }
            if Instant::now() >= end {
                return kill_it();
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut count = 0;
    // It may be gone already: then somebody else was faster.
    if begin_tracing(traced) {
        count = follow(traced, n);
    }
    over.store(true, Ordering::Relaxed);
    clock.join().expect("the clock");
    // Otherwise it is gone, and its id may soon be another's.
    if count >= n {
        kill_it();
    }
    Killed { pid, count }
}

/// Lets it run until it has begun or ended the `n`th call, or is gone, and returns how far it got.
fn follow(pid: libc::pid_t, n: usize) -> usize {
    let mut count = 0;
    while let Some(stop) = wait_for_stop(pid) {
        if stop.is_call && COUNTED.contains(&system_call(pid)) {
            count += 1;
            if count >= n {
                break;
            }
        }
        if !resume(pid, &stop) {
            break;
        }
    }
    count
}

/// Stops a process at its system calls from now on. False if it is gone.
pub(crate) fn begin_tracing(pid: libc::pid_t) -> bool {
    let options = usize::try_from(libc::PTRACE_O_TRACESYSGOOD).expect("a flag");
    request(libc::PTRACE_SEIZE, pid, options) && request(libc::PTRACE_INTERRUPT, pid, 0)
}

/// Why a process stands still.
pub(crate) struct Stop {
    /// Because it begins or ends a system call.
    pub(crate) is_call: bool,
    /// What it is to be told when it goes on, or 0.
    signal: libc::c_int,
}

/// Waits until a process that is traced stands still. None if it is gone.
pub(crate) fn wait_for_stop(pid: libc::pid_t) -> Option<Stop> {
    let mut status = 0;
    // SAFETY: `status` is valid to write to.
    let waited = unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
    if waited != pid || !libc::WIFSTOPPED(status) {
        return None;
    }
    let stop = libc::WSTOPSIG(status);
    let is_call = stop == libc::SIGTRAP | 0x80;
    // A signal that came is passed on; what is a stop of the tracing's own is none.
    let signal = if is_call || status >> 16 != 0 {
        0
    } else {
        stop
    };
    Some(Stop { is_call, signal })
}

/// Lets it go on to the next. False if it is gone.
pub(crate) fn resume(pid: libc::pid_t, stop: &Stop) -> bool {
    let signal = usize::try_from(stop.signal).expect("a signal");
    request(libc::PTRACE_SYSCALL, pid, signal)
}

fn system_call(pid: libc::pid_t) -> libc::c_long {
    let number = registers(pid).map(|registers| libc::c_long::try_from(registers.orig_rax));
    number.and_then(Result::ok).unwrap_or(-1)
}

/// Registers, as the kernel shows them.
pub(crate) type Registers = libc::user_regs_struct;

/// Those of a process that stands still. None if it is gone.
pub(crate) fn registers(pid: libc::pid_t) -> Option<Registers> {
    // SAFETY: all zeroes is a valid value of these registers.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes as much as the type says.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGS,
            pid,
            ptr::null_mut::<libc::c_void>(),
            &raw mut registers,
        )
    };
    (result == 0).then_some(registers)
}

/// Whether the request was granted; it is not if the process is gone.
fn request(request: libc::c_uint, pid: libc::pid_t, data: usize) -> bool {
    // SAFETY: none of the requests made here has memory of ours written or read.
    let result = unsafe {
        libc::ptrace(
            request,
            pid,
            ptr::null_mut::<libc::c_void>(),
            ptr::without_provenance_mut::<libc::c_void>(data),
        )
    };
    let gone = io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    assert!(
        result == 0 || gone,
        "ptrace {request}: {}",
        io::Error::last_os_error()
    );
    result == 0
}
