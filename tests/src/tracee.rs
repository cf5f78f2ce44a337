// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process that dies slowly, on purpose: stopped by ptrace on its way out, after it was killed and before it gives its memory back.
//! That makes "a victim is still exiting" a state that a test can look at, instead of a race.

use std::io;
use std::marker::PhantomData;
use std::ptr;

use crate::wait::{SOON, eventually_within};

/// Stops a process when it exits (PTRACE_EVENT_EXIT), until it is dropped or [`Tracee::let_go`] is called.
///
/// Tracing belongs to a thread, so this cannot be sent to another one.
pub struct Tracee {
    pid: libc::pid_t,
    stopped: bool,
    _this_thread_only: PhantomData<*const ()>,
}

impl Tracee {
    /// From now on process `pid` stops when it exits.
    pub fn stop_at_exit(pid: u32) -> Self {
        let pid = libc::pid_t::try_from(pid).expect("a process id");
        // SAFETY: PTRACE_SEIZE reads no memory of ours; the options are passed in the data argument.
        let result = unsafe {
            libc::ptrace(
                libc::PTRACE_SEIZE,
                pid,
                ptr::null_mut::<libc::c_void>(),
                ptr::without_provenance_mut::<libc::c_void>(libc::PTRACE_O_TRACEEXIT as usize),
            )
        };
        assert_eq!(result, 0, "trace {pid}: {}", io::Error::last_os_error());
        Self {
            pid,
            stopped: false,
            _this_thread_only: PhantomData,
        }
    }

    /// Waits until it has been killed and stands still on its way out, with all of its memory.
    #[track_caller]
    pub fn wait_exiting(&mut self) {
        eventually_within(SOON, || {
            let mut status = 0;
            // SAFETY: `status` is valid to write to. __WALL: the tracer may be another thread than the one that forked.
            let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG | libc::__WALL) };
            if pid == self.pid
                && libc::WIFSTOPPED(status)
                && status >> 16 == libc::PTRACE_EVENT_EXIT
            {
                self.stopped = true;
                return Ok(());
            }
            Err(format!("{} has not been killed", self.pid))
        });
    }

    /// Lets it exit.
    pub fn let_go(mut self) {
        self.detach();
    }

    fn detach(&mut self) {
        if self.stopped {
            self.stopped = false;
            // SAFETY: no memory of ours is involved. It fails only when the process is gone.
            unsafe {
                libc::ptrace(
                    libc::PTRACE_DETACH,
                    self.pid,
                    ptr::null_mut::<libc::c_void>(),
                    ptr::null_mut::<libc::c_void>(),
                );
            }
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        self.detach();
    }
}
