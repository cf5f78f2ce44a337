// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds a process in the middle of a system call, as if the kernel did not come to an end with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::killer::{Registers, begin_tracing, registers, resume, wait_for_stop};

/// BPF_PROG_LOAD of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const PROGRAM_LOAD: u64 = 5;

/// The thread that does it; tracing belongs to a thread.
pub struct Holder {
    thread: JoinHandle<()>,
    holds: Arc<AtomicBool>,
}

impl Holder {
    /// Holds the process as soon as it begins to load a BPF program, until somebody kills it.
    pub fn at_a_program_load(pid: u32) -> Self {
        let holds = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&holds);
        let traced = libc::pid_t::try_from(pid).expect("a process id");
        let traces = Arc::new(AtomicBool::new(false));
        let ready = Arc::clone(&traces);
        let thread = thread::spawn(move || {
            assert!(begin_tracing(traced), "{pid} is gone");
            ready.store(true, Ordering::Release);
            while let Some(stop) = wait_for_stop(traced) {
                if stop.is_call && registers(traced).is_some_and(is_program_load) {
                    seen.store(true, Ordering::Release);
                    // It stays where it is until it is no more.
                    while wait_for_stop(traced).is_some() {}
                    return;
                }
                if !resume(traced, &stop) {
                    return;
                }
            }
        });
        while !traces.load(Ordering::Acquire) && !thread.is_finished() {
            thread::yield_now();
        }
        Self { thread, holds }
    }

    /// Whether it has come that far and is held.
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }

    /// Waits until the process has been killed.
    #[track_caller]
    pub fn wait_killed(self) {
        self.thread.join().expect("the holding thread");
    }
}

fn is_program_load(registers: Registers) -> bool {
    i64::try_from(registers.orig_rax) == Ok(libc::SYS_bpf) && registers.rdi == PROGRAM_LOAD
}
