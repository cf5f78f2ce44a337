// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moments, as people say them (`--since=`) and as they are shown: in local time.

use crate::systemd::value::parse_time;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why a text is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a time such as \"2026-11-25 14:12:00\", \"14:12\", \"yesterday\", \"1h ago\", \"-10min\" or \"@1764079920\""
)]
pub(super) struct NoMoment;

/// A moment, in microseconds of CLOCK_REALTIME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    /// This one.
    pub(super) fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Moment(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Reads what somebody says now.
    ///
    /// # Errors
    ///
    /// If it is no moment, or one before 1970.
    pub(super) fn parse(text: &str) -> Result<Self, NoMoment> {
        parse_at(text, Moment::now())
    }

    /// `2026-11-25 14:12:00`.
    pub(super) fn shown(self) -> String {
        let Some(at) = Local::of(self.0 / 1_000_000) else {
            return format!("@{}", self.0 / 1_000_000);
        };
        let (year, month, day) = at.date();
        let (hour, minute, second) = at.time();
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

/// What systemd.time(7) calls a timestamp, as far as it is said with digits or with a word.
fn parse_at(text: &str, now: Moment) -> Result<Moment, NoMoment> {
    let text = text.trim();
    let span = |text: &str| {
        let span = parse_time(text).ok().flatten().ok_or(NoMoment)?;
        let micros = u64::try_from(span.as_micros()).map_err(|_| NoMoment)?;
        Ok(Moment(now.0.saturating_sub(micros)))
    };
    if text == "now" {
        return Ok(now);
    }
    if let Some(length) = text.strip_suffix(" ago") {
        return span(length);
    }
    if let Some(length) = text.strip_prefix('-') {
        return span(length);
    }
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds: u64 = number(seconds).ok_or(NoMoment)?;
        return seconds.checked_mul(1_000_000).map(Moment).ok_or(NoMoment);
    }
    let today = Local::of(now.0 / 1_000_000).ok_or(NoMoment)?.date();
    let midnight = (0, 0, 0);
    let (day, time) = match text {
        "today" => (today, midnight),
        // What is before the first of a month, mktime(3) knows.
        "yesterday" => ((today.0, today.1, today.2 - 1), midnight),
        text => match text.split_once(' ') {
            Some((day, time)) => (date(day)?, clock(time.trim_start())?),
            None if text.contains(':') => (today, clock(text)?),
            None => (date(text)?, midnight),
        },
    };
    Local::at(day, time)
        .and_then(|seconds| seconds.checked_mul(1_000_000))
        .map(Moment)
        .ok_or(NoMoment)
}

/// `2026-11-25`
fn date(text: &str) -> Result<(i32, i32, i32), NoMoment> {
    let mut parts = text.split('-').map(number);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (
            Some(Some(year @ 1970..=9999)),
            Some(Some(month @ 1..=12)),
            Some(Some(day @ 1..=31)),
            None,
        ) => Ok((year, month, day)),
        _ => Err(NoMoment),
    }
}

/// `14:12` or `14:12:30`
fn clock(text: &str) -> Result<(i32, i32, i32), NoMoment> {
    let mut parts = text.split(':').map(number);
    let hour_and_minute = (parts.next(), parts.next());
    let second = parts.next().unwrap_or(Some(0));
    match (hour_and_minute, second, parts.next()) {
        ((Some(Some(hour @ 0..=23)), Some(Some(minute @ 0..=59))), Some(second @ 0..=59), None) => {
            Ok((hour, minute, second))
        }
        _ => Err(NoMoment),
    }
}

/// Digits alone: `parse` takes signs too.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// A moment as the clock on the wall shows it.
struct Local(libc::tm);

impl Local {
    /// That many seconds after 1970 began.
    fn of(seconds: u64) -> Option<Self> {
        let seconds = libc::time_t::try_from(seconds).ok()?;
        let mut tm = MaybeUninit::uninit();
        // SAFETY: both pointers are to what lives across the call. The function fills in `tm` unless it returns null.
        let filled = unsafe { libc::localtime_r(&raw const seconds, tm.as_mut_ptr()) };
        // SAFETY: it has not returned null.
        (!filled.is_null()).then(|| Local(unsafe { tm.assume_init() }))
    }

    /// How many seconds after 1970 began a day and time are. What the clock showed twice is one of the two.
    fn at(day: (i32, i32, i32), time: (i32, i32, i32)) -> Option<u64> {
        // SAFETY: `tm` is made of integers and a pointer to const, for all of which zero is a value.
        let mut tm: libc::tm = unsafe { MaybeUninit::zeroed().assume_init() };
        (tm.tm_year, tm.tm_mon, tm.tm_mday) = (day.0 - 1900, day.1 - 1, day.2);
        (tm.tm_hour, tm.tm_min, tm.tm_sec) = time;
        // Whether it is summer time, the C library is to find out.
        tm.tm_isdst = -1;
        // SAFETY: the pointer is to a whole `tm` that lives across the call.
        let seconds = unsafe { libc::mktime(&raw mut tm) };
        u64::try_from(seconds).ok()
    }

    fn date(&self) -> (i32, i32, i32) {
        (self.0.tm_year + 1900, self.0.tm_mon + 1, self.0.tm_mday)
    }

    fn time(&self) -> (i32, i32, i32) {
        (self.0.tm_hour, self.0.tm_min, self.0.tm_sec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_764_079_920_123_456);

    fn said(text: &str) -> u64 {
        parse_at(text, NOW).unwrap().0
    }

    #[test]
    fn what_is_relative_is_before_now() {
        assert_eq!(said("now"), NOW.0);
        assert_eq!(said("1h 30min ago"), NOW.0 - 5_400_000_000);
        assert_eq!(said("-10min"), NOW.0 - 600_000_000);
        assert_eq!(said("@12"), 12_000_000);
        assert_eq!(said("100y ago"), 0);
    }

    #[test]
    fn what_was_shown_is_read_again() {
        let shown = NOW.shown();
        assert_eq!(said(&shown), NOW.0 / 1_000_000 * 1_000_000, "{shown}");
        let (day, time) = shown.split_once(' ').unwrap();
        assert_eq!(said(time), said(&shown));
        assert_eq!(said(&time[..5]), said(&format!("{day} {}:00", &time[..5])));
        assert_eq!(said("today"), said(day));
        assert_eq!(Moment(said("today")).shown(), format!("{day} 00:00:00"));
    }

    #[test]
    fn yesterday_was_the_day_before() {
        let today = said("today");
        // A day is as long as the clock was not put back or forward.
        let length = today - said("yesterday");
        assert!((82_800_000_000..=90_000_000_000).contains(&length));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "soon",
            "tomorrow",
            "1h",
            "ago",
            "-",
            "@",
            "@-1",
            "@+1",
            "2026-13-01",
            "2026-00-10",
            "2026-11-25 24:00",
            "2026-11-25 14",
            "14:60",
            "14:12:30:1",
            "+1:12",
            "infinity ago",
            "@18446744073709551615",
        ] {
            assert_eq!(parse_at(text, NOW), Err(NoMoment), "{text:?}");
        }
    }
}
