// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is kept for the next daemon is called so that it knows what it is. Pure.
//!
//! | name | what |
//! |---|---|
//! | `1ID` | a policy's link to the cgroup with that id, in base 36; `10` is the system's |
//! | `1.maps.VERSION.PART` | a map that all programs share |
//! | `1.policy.VERSION.PART.NAME` | a part of the program of policy NAME |
//! | `1.pressure.VERSION.PART` | a part of the pressure program |
//! | `1.link.VERSION.PART` | a link of that part |
//! | `1.attaching.VERSION.PART` | such a link is being made |
//! | `1.kills.VERSION.PART` | a link that records the kernel's own kills |
//!
//! The `1` in front is the version of this table. VERSION, in hexadecimal, is the fingerprint of what was loaded. Names of links are short,
//! because all names together have to fit into one environment variable, which the kernel limits to 128 KiB.

use crate::policy::CgroupId;
use std::fmt;

/// A name of this version of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Attachment(CgroupId),
    Part(Part),
}

/// A part of something that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) of: Loaded,
    pub(super) version: u64,
    pub(super) part: String,
}

/// Something that was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Loaded {
    Maps,
    Policy(String),
    Pressure,
    PressureLink,
    Attaching,
    Kills,
}

impl Name {
    /// None if it is not of this version.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix('1')?;
        let found = match rest.strip_prefix('.') {
            None => Name::Attachment(CgroupId(u64::from_str_radix(rest, 36).ok()?)),
            Some(rest) => Name::Part(Part::parse(rest)?),
        };
        // Whatever would be written otherwise was not written here.
        (found.to_string() == name).then_some(found)
    }
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let (of, rest) = text.split_once('.')?;
        let (version, rest) = rest.split_once('.')?;
        let (of, part) = match of {
            "maps" => (Loaded::Maps, rest),
            "policy" => {
                let (part, name) = rest.split_once('.')?;
                (Loaded::Policy(name.to_owned()), part)
            }
            "pressure" => (Loaded::Pressure, rest),
            "link" => (Loaded::PressureLink, rest),
            "attaching" => (Loaded::Attaching, rest),
            "kills" => (Loaded::Kills, rest),
            _ => return None,
        };
        Some(Part {
            of,
            version: u64::from_str_radix(version, 16).ok()?,
            part: part.to_owned(),
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Attachment(CgroupId(id)) => write!(f, "1{}", base36(*id)),
            Name::Part(part) => part.fmt(f),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, part) = (self.version, &self.part);
        match &self.of {
            Loaded::Maps => write!(f, "1.maps.{version:016x}.{part}"),
            Loaded::Policy(name) => write!(f, "1.policy.{version:016x}.{part}.{name}"),
            Loaded::Pressure => write!(f, "1.pressure.{version:016x}.{part}"),
            Loaded::PressureLink => write!(f, "1.link.{version:016x}.{part}"),
            Loaded::Attaching => write!(f, "1.attaching.{version:016x}.{part}"),
            Loaded::Kills => write!(f, "1.kills.{version:016x}.{part}"),
        }
    }
}

fn base36(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = Vec::new();
    loop {
        text.push(char::from(DIGITS[(number % 36) as usize]));
        number /= 36;
        if number == 0 {
            return text.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(of: Loaded, version: u64, part: &str) -> Name {
        Name::Part(Part {
            of,
            version,
            part: part.into(),
        })
    }

    #[test]
    fn names_are_as_the_table_says() {
        let names = [
            (Name::Attachment(CgroupId(0)), "10"),
            (Name::Attachment(CgroupId(36 * 36 + 35)), "110z"),
            (
                part(Loaded::Maps, 0xab, "oomd_events"),
                "1.maps.00000000000000ab.oomd_events",
            ),
            (
                part(Loaded::Policy("biggest-leaf".into()), 1, "rank"),
                "1.policy.0000000000000001.rank.biggest-leaf",
            ),
            (
                part(Loaded::Pressure, u64::MAX, "births"),
                "1.pressure.ffffffffffffffff.births",
            ),
            (
                part(Loaded::PressureLink, 2, "births"),
                "1.link.0000000000000002.births",
            ),
            (
                part(Loaded::Attaching, 2, "births"),
                "1.attaching.0000000000000002.births",
            ),
            (
                part(Loaded::Kills, 3, "oomd_mark"),
                "1.kills.0000000000000003.oomd_mark",
            ),
        ];
        for (name, text) in names {
            assert_eq!(name.to_string(), text);
            assert_eq!(Name::parse(text), Some(name));
        }
    }

    #[test]
    fn what_is_of_another_version_or_none_is_not_known() {
        for name in [
            "",
            "1",
            "2",
            "20",
            "stored",
            "2.maps.00000000000000ab.oomd_events",
            "1.",
            "1.maps",
            "1.maps.ab.oomd_events",
            "1.maps.00000000000000ab",
            "1.other.00000000000000ab.x",
            "1.policy.00000000000000ab.rank",
            "1-5",
            "1+5",
            "1A",
            "100",
            "1zzzzzzzzzzzzzzzz",
            "1.maps.+0000000000000ab.x",
        ] {
            assert_eq!(Name::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn as_many_names_as_the_service_keeps_fit_into_the_environment() {
        let unit = include_str!("../../../../units/usr/lib/systemd/system/bpf-oomd.service");
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix("FileDescriptorStoreMax="));
        let most: usize = line.unwrap().parse().unwrap();
        // A machine that makes a cgroup each second for 60 years gets there.
        let longest = Name::Attachment(CgroupId(36u64.pow(6) - 1)).to_string();
        let all = most * (longest.len() + ":".len());
        assert!(all < 128 * 1024 - 4096, "{all}");
    }

    proptest! {
        #[test]
        fn the_name_of_a_link_comes_back(id in any::<u64>()) {
            let name = Name::Attachment(CgroupId(id));
            prop_assert_eq!(Name::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn nothing_is_known_by_two_names(text in "1[0-9a-z.:+-]{0,12}") {
            if let Some(name) = Name::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
