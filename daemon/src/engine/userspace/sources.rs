// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the enforcing thread waits for.
//!
//! It waits by itself and not through the core's loop. One reason is that the core may be waiting for something else, the kernel's
//! verifier or a disk. The other one is in the kernel: looking whether a pressure trigger has fired takes the event away
//! (`psi_trigger_poll()`), and an epoll in an epoll looks twice.

use crate::policy::{Level, Resource, Trigger};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::place::Place;

/// What happened to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Happened {
    /// What the source was added with.
    pub(super) token: u64,
    /// It has something to tell.
    pub(super) fired: bool,
    /// It will have nothing to tell any more. Some files say that of themselves whenever they fire.
    pub(super) failed: bool,
}

/// Sources, and a timer and a bell of their own.
#[derive(Debug)]
pub(super) struct Sources {
    epoll: OwnedFd,
    timer: OwnedFd,
    bell: OwnedFd,
}

/// How much can be told at a time.
pub(super) const AT_A_TIME: usize = 64;

/// The tokens of the timer and the bell.
pub(super) const TIMER: u64 = 0;
pub(super) const BELL: u64 = 1;
/// The first one that is free.
pub(super) const FIRST_TOKEN: u64 = 2;

impl Sources {
    /// Nothing but the timer, which is not set, and the bell.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Sources { epoll, timer, bell })
    }

    /// Tells from now on when the kernel says that a file has something new. It ends when the file is closed.
    pub(super) fn add(&self, file: impl AsFd, token: u64) -> io::Result<()> {
        epoll::add(
            &self.epoll,
            file,
            EventData::new_u64(token),
            EventFlags::PRI,
        )?;
        Ok(())
    }

    /// Tells once of each change of a file that need not be read, and perhaps once when it is added.
    pub(super) fn add_changes(&self, file: impl AsFd, token: u64) -> io::Result<()> {
        let changes = EventFlags::PRI | EventFlags::IN | EventFlags::ET;
        epoll::add(&self.epoll, file, EventData::new_u64(token), changes)?;
        Ok(())
    }

    /// Does not tell any more, though the file stays open.
    pub(super) fn remove(&self, file: impl AsFd) {
        // One that is not there need not be removed.
        let _ = epoll::delete(&self.epoll, file);
    }

    /// Wakes up whoever waits.
    pub(super) fn ring(&self) {
        // It fails only where it has been rung very often already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Sets the timer to a time of CLOCK_MONOTONIC, or to never.
    pub(super) fn set_timer(&self, at: Option<Duration>) -> io::Result<()> {
        let span = |time: Duration| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let timer = Itimerspec {
            it_interval: span(Duration::ZERO),
            // Zero turns it off.
            it_value: span(at.map_or(Duration::ZERO, |at| at.max(Duration::from_nanos(1)))),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer)?;
        Ok(())
    }

    /// Waits until something happens, and says what in place of what is in `happened`. If there is room in it, no memory is asked for.
    pub(super) fn wait(&self, happened: &mut Vec<Happened>) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); AT_A_TIME];
        let events = loop {
            match epoll::wait(&self.epoll, &mut room, None) {
                Ok((events, _)) => break events,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        happened.clear();
        happened.extend(events.iter().map(|event| {
            let (token, flags) = (event.data.u64(), event.flags);
            Happened {
                token,
                fired: flags.intersects(EventFlags::PRI | EventFlags::IN),
                failed: flags.intersects(EventFlags::ERR | EventFlags::HUP),
            }
        }));
        for (token, file) in [(TIMER, &self.timer), (BELL, &self.bell)] {
            if happened.iter().any(|it| it.token == token) {
                // Nothing is read if it was set anew meanwhile.
                let _ = rustix::io::read(file, &mut [0; 8]);
            }
        }
        Ok(())
    }
}

/// Opens a cgroup's pressure file with a trigger, which is there as long as the file is open.
pub(super) fn trigger(place: &Place, trigger: &Trigger) -> io::Result<OwnedFd> {
    let name = pressure_file(trigger.resource);
    let file = place.file(name, OFlags::RDWR | OFlags::NONBLOCK)?;
    rustix::io::write(&file, trigger_text(trigger).as_bytes())?;
    Ok(file)
}

/// The file of a cgroup that tells of a resource.
pub(super) fn pressure_file(resource: Resource) -> &'static str {
    match resource {
        Resource::Memory => "memory.pressure",
        Resource::Io => "io.pressure",
        Resource::Cpu => "cpu.pressure",
    }
}

/// As the kernel's Documentation/accounting/psi.rst says it is written.
fn trigger_text(trigger: &Trigger) -> String {
    let level = match trigger.level {
        Level::Some => "some",
        Level::Full => "full",
    };
    format!(
        "{level} {} {}",
        trigger.stall.as_micros(),
        trigger.window.as_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Pressure;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::time::Instant;

    fn wait(sources: &Sources) -> Vec<Happened> {
        let mut happened = Vec::new();
        sources.wait(&mut happened).unwrap();
        happened
    }

    fn tokens(sources: &Sources) -> Vec<u64> {
        wait(sources).iter().map(|it| it.token).collect()
    }

    #[test]
    fn a_trigger_is_written_in_microseconds() {
        let text = |pressure: &str| trigger_text(&Pressure::parse(pressure).unwrap().trigger);
        assert_eq!(text("memory full 400ms/1s"), "full 400000 1000000");
        assert_eq!(text("io some 10%/2s"), "some 200000 2000000");
    }

    #[test]
    fn the_bell_and_the_timer_ring_once() {
        let sources = Sources::new().unwrap();
        sources.ring();
        sources.ring();
        assert_eq!(tokens(&sources), [BELL]);
        let soon = super::super::now() + Duration::from_millis(20);
        sources.set_timer(Some(soon)).unwrap();
        assert_eq!(tokens(&sources), [TIMER]);
        assert!(super::super::now() >= soon);
    }

    #[test]
    fn of_what_is_not_read_each_change_is_told_once() {
        let sources = Sources::new().unwrap();
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        sources.add_changes(&reader, FIRST_TOKEN).unwrap();
        for _ in 0..2 {
            rustix::io::write(&writer, b"x").unwrap();
            assert_eq!(tokens(&sources), [FIRST_TOKEN]);
        }
        sources.ring();
        assert_eq!(tokens(&sources), [BELL]);
    }

    #[test]
    fn what_was_removed_is_not_heard_and_what_is_closed_is_gone() {
        let sources = Sources::new().unwrap();
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        sources.add(&reader, FIRST_TOKEN).unwrap();
        drop(writer);
        let happened = wait(&sources);
        let expected = Happened {
            token: FIRST_TOKEN,
            fired: false,
            failed: true,
        };
        assert_eq!(happened, [expected]);
        sources.remove(&reader);
        sources.ring();
        let before = Instant::now();
        assert_eq!(tokens(&sources), [BELL], "after {:?}", before.elapsed());
    }
}
