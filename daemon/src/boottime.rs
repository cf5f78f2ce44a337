// SPDX-License-Identifier: MIT OR Apache-2.0
//! CLOCK_BOOTTIME: it goes on while the machine sleeps, and nobody can set it. What is said for an hour is over after an hour.

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Microseconds since the machine was booted.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let number = |part: i64| u64::try_from(part).unwrap_or_default();
    number(now.tv_sec) * 1_000_000 + number(now.tv_nsec) / 1_000
}

/// A time of this clock in microseconds since 1970, by what the machine takes for the time of day now.
pub fn to_realtime(time: u64) -> u64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now_1970 = u64::try_from(since_1970.as_micros()).unwrap_or_default();
    now_1970.saturating_sub(now().saturating_sub(time))
}

/// Rings at a time of this clock.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    at: Option<u64>,
}

impl Alarm {
    /// One that does not ring.
    ///
    /// # Errors
    ///
    /// If the kernel has no timer to give.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        // SAFETY: nobody else has this descriptor; the AsyncFd owns it and is the only one to close it.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Alarm { timer, at: None })
    }

    /// Sets it to ring at a time, at once if that is over, or never.
    ///
    /// # Errors
    ///
    /// If the kernel refuses that.
    pub fn set(&mut self, at: Option<u64>) -> io::Result<()> {
        if at == self.at {
            return Ok(());
        }
        let span = |micros: u64| Timespec {
            tv_sec: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: (micros % 1_000_000 * 1_000) as _,
        };
        let timer = Itimerspec {
            it_interval: span(0),
            // Zero turns it off.
            it_value: span(at.map_or(0, |at| at.max(1))),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer)?;
        self.at = at;
        Ok(())
    }

    /// Returns when it rings. Dropped before, it goes on where it was when it is called again.
    ///
    /// # Errors
    ///
    /// If the timer cannot be read.
    pub async fn rings(&mut self) -> io::Result<()> {
        if self.at.is_none() {
            return pending().await;
        }
        loop {
            let mut ready = self.timer.readable().await?;
            match rustix::io::read(&self.timer, &mut [0; 8]) {
                Ok(_) => {
                    self.at = None;
                    return Ok(());
                }
                // It was set anew meanwhile.
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn it_rings_when_the_time_has_come_and_once() {
        run(async {
            let mut alarm = Alarm::new().unwrap();
            let at = now() + 50_000;
            alarm.set(Some(at)).unwrap();
            alarm.rings().await.unwrap();
            assert!(now() >= at);
            let again = timeout(Duration::from_millis(50), alarm.rings()).await;
            assert!(again.is_err());
            // The same time is not forgotten because it has rung already.
            alarm.set(Some(at)).unwrap();
            alarm.rings().await.unwrap();
        });
    }

    #[test]
    fn what_is_over_rings_at_once_and_what_is_far_away_does_not() {
        run(async {
            let mut alarm = Alarm::new().unwrap();
            for at in [0, 1, now()] {
                alarm.set(Some(at)).unwrap();
                alarm.rings().await.unwrap();
            }
            alarm.set(Some(i64::MAX as u64)).unwrap();
            let rings = timeout(Duration::from_millis(50), alarm.rings()).await;
            assert!(rings.is_err());
            alarm.set(Some(now())).unwrap();
            alarm.rings().await.unwrap();
        });
    }

    #[test]
    fn it_can_be_put_off_after_it_became_ready() {
        run(async {
            let mut alarm = Alarm::new().unwrap();
            alarm.set(Some(1)).unwrap();
            drop(alarm.timer.readable().await.unwrap());
            alarm.set(Some(now() + 50_000)).unwrap();
            let early = timeout(Duration::from_millis(5), alarm.rings()).await;
            assert!(early.is_err());
            alarm.set(None).unwrap();
            let off = timeout(Duration::from_millis(100), alarm.rings()).await;
            assert!(off.is_err());
        });
    }
}
