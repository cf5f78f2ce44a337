// SPDX-License-Identifier: MIT OR Apache-2.0
//! How what is meant for a person is written.

/// A size as systemd writes it: base 1024, one digit after the point. `bytes` are bytes.
pub fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let (unit, letter) = match bytes {
        GIB.. => (GIB, 'G'),
        MIB.. => (MIB, 'M'),
        KIB.. => (KIB, 'K'),
        _ => return format!("{bytes}B"),
    };
    let tenths = u128::from(bytes % unit) * 10 / u128::from(unit);
    format!("{}.{tenths}{letter}", bytes / unit)
}

/// Breaks text into lines of at most `width` characters, at spaces and commas. A word that is longer gets a line of its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive([' ', ',']) {
        let last = lines.last_mut().expect("there is always a line");
        if !last.is_empty() && last.chars().count() + word.trim_end().chars().count() > width {
            lines.push(word.to_owned());
        } else {
            last.push_str(word);
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{size, wrap};

    #[test]
    fn sizes_are_base_1024() {
        let all = [0, 1023, 1024, 30 << 20, (30 << 20) + (512 << 10), 3 << 30];
        assert_eq!(
            all.map(size),
            ["0B", "1023B", "1.0K", "30.0M", "30.5M", "3.0G"]
        );
    }

    #[test]
    fn lines_are_broken_at_spaces_and_commas() {
        assert_eq!(
            wrap("aa bb,cc dddddddd e", 6),
            ["aa bb,", "cc", "dddddddd", "e"]
        );
        assert_eq!(wrap("aa bb", 5), ["aa bb"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
