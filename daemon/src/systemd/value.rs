// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes, times and percentages as systemd's files write them: systemd.syntax(7), systemd.time(7), and the parsers in
//! systemd's src/basic/parse-util.c and time-util.c.

use std::fmt;
use std::time::Duration;

/// Why a value is not understood. The text says what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// No time span.
    #[error("expected a time span such as \"400ms\", \"10s\" or \"1min 30s\"")]
    Time,
    /// No size.
    #[error("expected a size such as \"4096\", \"64M\" or \"1.5G\" (base 1024)")]
    Size,
    /// No percentage.
    #[error("expected a percentage such as \"40%\" or \"2.5%\"")]
    Percent,
    /// A number that does not fit.
    #[error("the value is too large")]
    TooLarge,
}

/// `infinity`, as systemd writes a limit that is none.
pub const INFINITY: &str = "infinity";

/// Names of units of time, and what they are in microseconds. Of names that begin alike the longer one comes first.
const TIME_UNITS: [(&str, u64); 31] = [
    ("seconds", 1_000_000),
    ("second", 1_000_000),
    ("sec", 1_000_000),
    ("s", 1_000_000),
    ("minutes", 60_000_000),
    ("minute", 60_000_000),
    ("min", 60_000_000),
    ("months", 2_629_800_000_000),
    ("month", 2_629_800_000_000),
    ("M", 2_629_800_000_000),
    ("msec", 1_000),
    ("ms", 1_000),
    ("m", 60_000_000),
    ("hours", 3_600_000_000),
    ("hour", 3_600_000_000),
    ("hr", 3_600_000_000),
    ("h", 3_600_000_000),
    ("days", 86_400_000_000),
    ("day", 86_400_000_000),
    ("d", 86_400_000_000),
    ("weeks", 604_800_000_000),
    ("week", 604_800_000_000),
    ("w", 604_800_000_000),
    ("years", 31_557_600_000_000),
    ("year", 31_557_600_000_000),
    ("y", 31_557_600_000_000),
    ("usec", 1),
    ("us", 1),
    // The Greek letter and the micro sign.
    ("\u{3bc}s", 1),
    ("\u{b5}s", 1),
    // A number alone is in seconds. Only the last one of a span may be without a unit.
    ("", 1_000_000),
];

/// Suffixes of sizes, from the largest down.
const SIZE_UNITS: [(&str, u64); 8] = [
    ("E", 1 << 60),
    ("P", 1 << 50),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
    ("", 1),
];

/// A time span, `None` for `infinity`. Resolution is a microsecond; what is below it is cut off.
///
/// # Errors
///
/// If the text is no time span, or one of more than 584,000 years.
pub fn parse_time(text: &str) -> Result<Option<Duration>, ValueError> {
    if text.trim_matches(SPACES) == INFINITY {
        return Ok(None);
    }
    let mut total = 0_u64;
    let mut rest = text.trim_matches(SPACES);
    if rest.is_empty() {
        return Err(ValueError::Time);
    }
    while !rest.is_empty() {
        let (number, after) = Number::take(rest).ok_or(ValueError::Time)?;
        let after = after.trim_start_matches(SPACES);
        let (name, unit) = TIME_UNITS
            .into_iter()
            .find(|(name, _)| after.starts_with(name))
            .ok_or(ValueError::Time)?;
        if name.is_empty() && !after.is_empty() {
            return Err(ValueError::Time);
        }
        total = number
            .times(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or(ValueError::TooLarge)?;
        rest = after[name.len()..].trim_start_matches(SPACES);
    }
    Ok(Some(Duration::from_micros(total)))
}

/// A size in bytes, `None` for `infinity`. Base 1024; several parts are added up, the larger unit first: `1G 512M`.
///
/// # Errors
///
/// If the text is no size, or one that does not fit into 64 bits.
pub fn parse_size(text: &str) -> Result<Option<u64>, ValueError> {
    let mut rest = text.trim_matches(SPACES);
    if rest == INFINITY {
        return Ok(None);
    }
    if rest.is_empty() {
        return Err(ValueError::Size);
    }
    let mut units = &SIZE_UNITS[..];
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = Number::take(rest).ok_or(ValueError::Size)?;
        let after = after.trim_start_matches(SPACES);
        let at = units
            .iter()
            .position(|(suffix, _)| after.starts_with(suffix))
            .ok_or(ValueError::Size)?;
        let (suffix, unit) = units[at];
        if suffix.is_empty() && !after.is_empty() {
            return Err(ValueError::Size);
        }
        total = number
            .times(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or(ValueError::TooLarge)?;
        rest = after[suffix.len()..].trim_start_matches(SPACES);
        units = &units[at + 1..];
    }
    Ok(Some(total))
}

/// A size in bytes as [`parse_size`] reads it: in the largest unit that leaves no rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, unit): &&(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        match SIZE_UNITS.iter().find(whole) {
            Some((suffix, unit)) if *unit > 1 => write!(f, "{}{suffix}", self.0 / unit),
            _ => self.0.fmt(f),
        }
    }
}

/// A percentage with up to two digits after the point, in hundredths of a percent.
///
/// # Errors
///
/// If the text is no percentage from 0% to 100%.
pub fn parse_percent(text: &str) -> Result<u32, ValueError> {
    let number = text
        .trim_matches(SPACES)
        .strip_suffix('%')
        .ok_or(ValueError::Percent)?;
    let (number, after) = Number::take(number).ok_or(ValueError::Percent)?;
    if !after.is_empty() || number.fraction.len() > 2 {
        return Err(ValueError::Percent);
    }
    number
        .times(100)
        .and_then(|hundredths| u32::try_from(hundredths).ok())
        .filter(|hundredths| *hundredths <= 10_000)
        .ok_or(ValueError::Percent)
}

/// A time span as systemd writes it: `1min 30s`. Read again, it is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan(pub Duration);

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u128); 6] = [
            ("d", 86_400_000_000),
            ("h", 3_600_000_000),
            ("min", 60_000_000),
            ("s", 1_000_000),
            ("ms", 1_000),
            ("us", 1),
        ];
        let mut rest = self.0.as_micros();
        if rest == 0 {
            return f.write_str("0");
        }
        let mut separator = "";
        for (name, unit) in UNITS {
            if rest >= unit {
                write!(f, "{separator}{}{name}", rest / unit)?;
                rest %= unit;
                separator = " ";
            }
        }
        Ok(())
    }
}

/// White space to systemd.
const SPACES: [char; 4] = [' ', '\t', '\n', '\r'];

/// A decimal number, perhaps with digits after a point.
struct Number<'a> {
    whole: u64,
    fraction: &'a str,
}

impl<'a> Number<'a> {
    /// The number that a text begins with, and what comes after. `None` also for one that does not fit: whatever it counts,
    /// that many cannot be meant.
    fn take(text: &'a str) -> Option<(Self, &'a str)> {
        let digits = |text: &str| {
            text.bytes()
                .position(|byte| !byte.is_ascii_digit())
                .unwrap_or(text.len())
        };
        let length = digits(text);
        let (whole, rest) = text.split_at(length);
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", rest),
        };
        // ".5s" is fine, "." is not.
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        Some((Number { whole, fraction }, rest))
    }

    /// The number times a unit, rounded down. `None` if it does not fit.
    fn times(&self, unit: u64) -> Option<u64> {
        let mut part = 0_u128;
        let mut scale = u128::from(unit) * SCALE;
        for digit in self.fraction.bytes() {
            scale /= 10;
            part += u128::from(digit - b'0') * scale;
        }
        self.whole
            .checked_mul(unit)?
            .checked_add(u64::try_from(part / SCALE).ok()?)
    }
}

/// Fractions are counted in units divided by this: enough that no digit that matters is lost, and that the largest unit fits.
const SCALE: u128 = 1_000_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(text: &str) -> u128 {
        parse_time(text).unwrap().unwrap().as_micros()
    }

    #[test]
    fn times_are_systemds() {
        for (text, expected) in [
            ("5", 5_000_000),
            ("400ms", 400_000),
            ("1min 30s", 90_000_000),
            ("1min30s", 90_000_000),
            (" 2 h ", 7_200_000_000),
            ("1.5s", 1_500_000),
            (".5s", 500_000),
            ("0.0000019s", 1),
            ("1d 2h 3min 4s 5ms 6us", 93_784_005_006),
            ("3\u{3bc}s", 3),
            ("3\u{b5}s", 3),
            ("1y", 31_557_600_000_000),
            ("1M", 2_629_800_000_000),
            ("1m", 60_000_000),
            ("0", 0),
            ("10s 5", 15_000_000),
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
        assert_eq!(parse_time("infinity"), Ok(None));
        assert_eq!(parse_time(" infinity "), Ok(None));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            " ",
            "s",
            "-1s",
            "+1s",
            "5 3",
            "5 3s",
            "1,5s",
            ".",
            "1..5s",
            "1.2.3",
            "5 S",
            "5sx",
            "infinity 5s",
            "INFINITY",
            "\u{661}s",
            "0x10",
            "1e3s",
        ] {
            assert_eq!(parse_time(text), Err(ValueError::Time), "{text:?}");
        }
        for text in ["18446744073709551615s", "300000y 300000y"] {
            assert_eq!(parse_time(text), Err(ValueError::TooLarge), "{text}");
        }
    }

    #[test]
    fn sizes_are_base_1024() {
        for (text, expected) in [
            ("4096", 4096),
            ("4096B", 4096),
            ("64M", 64 << 20),
            ("1.5G", 3 << 29),
            ("1G 512M", 3 << 29),
            ("1G512M", 3 << 29),
            (" 2 K ", 2048),
            ("0", 0),
            ("15E", 15 << 60),
        ] {
            assert_eq!(parse_size(text), Ok(Some(expected)), "{text}");
        }
        assert_eq!(parse_size("infinity"), Ok(None));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "", "M", "-1M", "1k", "1MB", "1 M M", "1M 1G", "1M 1M", "10%", "1,5G", "1Mi",
        ] {
            assert_eq!(parse_size(text), Err(ValueError::Size), "{text:?}");
        }
        assert_eq!(parse_size("16E"), Err(ValueError::TooLarge));
        assert_eq!(
            parse_size("15.9E 0.2P"),
            Ok(Some(18_331_677_103_230_235_442))
        );
    }

    #[test]
    fn percentages_have_two_digits_after_the_point() {
        for (text, expected) in [("40%", 4000), ("2.5%", 250), ("0.01%", 1), ("100%", 10_000)] {
            assert_eq!(parse_percent(text), Ok(expected), "{text}");
        }
        for text in [
            "40", "%", "100.01%", "0.001%", "-1%", "4 0%", "40 %%", "1e1%",
        ] {
            assert_eq!(parse_percent(text), Err(ValueError::Percent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_that_was_written_is_read_again(micros in any::<u64>()) {
            let span = Duration::from_micros(micros);
            prop_assert_eq!(parse_time(&TimeSpan(span).to_string()), Ok(Some(span)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[ 0-9.a-zA-Z%\u{b5}]{0,40}") {
            let _ = parse_time(&text);
            let _ = parse_size(&text);
            let _ = parse_percent(&text);
        }
    }
}
