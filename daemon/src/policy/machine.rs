// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be said about the whole machine, in `[defaults]` alone: no unit can have another engine than its neighbour.

use super::Provenance;
use super::setting::{SettingError, name_of, one_of, shown, time_up_to};
use crate::systemd::value::{Size, TimeSpan, ValueError, parse_percent, parse_size};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// A setting of the machine. In the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MachineKey {
    /// How policies are enforced.
    Engine,
    /// Below how much available memory the system is out of it.
    MinAvailable,
    /// Below how much free swap it is.
    MinSwap,
    /// Whether the kernel's killer is told whom a policy would choose.
    Nominate,
    /// What is run before a kill.
    PreKill,
    /// How long a kill waits for that.
    PreKillTimeout,
}

impl MachineKey {
    /// All of them.
    pub const ALL: [MachineKey; 6] = [
        MachineKey::Engine,
        MachineKey::MinAvailable,
        MachineKey::MinSwap,
        MachineKey::Nominate,
        MachineKey::PreKill,
        MachineKey::PreKillTimeout,
    ];

    /// Whether it is written as one string.
    pub fn is_string(self) -> bool {
        !matches!(self, MachineKey::Nominate | MachineKey::PreKill)
    }

    /// Its name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            MachineKey::Engine => "engine",
            MachineKey::MinAvailable => "min-available",
            MachineKey::MinSwap => "min-swap",
            MachineKey::Nominate => "nominate",
            MachineKey::PreKill => "pre-kill",
            MachineKey::PreKillTimeout => "pre-kill-timeout",
        }
    }
}

/// Which engine enforces policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EngineChoice {
    /// The kernel where it can, else the daemon.
    #[default]
    Auto,
    /// The kernel or nobody.
    Kernel,
    /// The daemon, whatever the kernel can.
    Userspace,
}

impl EngineChoice {
    const NAMES: [(&'static str, EngineChoice); 3] = [
        ("auto", EngineChoice::Auto),
        ("kernel", EngineChoice::Kernel),
        ("userspace", EngineChoice::Userspace),
    ];
}

impl EngineChoice {
    /// Whether an engine of that name is not what is chosen.
    pub fn excludes(self, engine: &str) -> bool {
        self != EngineChoice::Auto && self.to_string() != engine
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(*self, &Self::NAMES))
    }
}

/// Some of what the machine has of memory or swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of a percent of all there is.
    Hundredths(u32),
}

impl Amount {
    /// How many bytes that is where there are `total`.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Amount::Bytes(bytes) => bytes,
            Amount::Hundredths(part) => {
                let bytes = u128::from(total) * u128::from(part) / 10_000;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }

    /// Reads `64M` or `5%`.
    ///
    /// # Errors
    ///
    /// If it is neither. A limit that is none (`infinity`) is none that could be fallen short of.
    pub fn parse(text: &str) -> Result<Self, SettingError> {
        let failed = |error| SettingError::Value {
            found: shown(text),
            error,
        };
        if text.trim_end().ends_with('%') {
            return parse_percent(text).map(Amount::Hundredths).map_err(failed);
        }
        let size = parse_size(text).map_err(failed)?;
        size.map(Amount::Bytes)
            .ok_or_else(|| failed(ValueError::Size))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Bytes(bytes) => Size(*bytes).fmt(f),
            Amount::Hundredths(part) if part % 100 == 0 => write!(f, "{}%", part / 100),
            Amount::Hundredths(part) => {
                let text = format!("{}.{:02}", part / 100, part % 100);
                write!(f, "{}%", text.trim_end_matches('0'))
            }
        }
    }
}

/// How many programs there can be that are run before a kill.
pub const MOST_PRE_KILL_PROGRAMS: usize = 8;

/// How long a kill waits for them where nobody says it.
pub const DEFAULT_PRE_KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest that it can wait.
pub const LONGEST_PRE_KILL_TIMEOUT: Duration = Duration::from_secs(60);

/// A setting of the machine with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineValue {
    /// `engine`
    Engine(EngineChoice),
    /// `min-available`
    MinAvailable(Amount),
    /// `min-swap`
    MinSwap(Amount),
    /// `nominate`
    Nominate(bool),
    /// `pre-kill`
    PreKill(Vec<PathBuf>),
    /// `pre-kill-timeout`
    PreKillTimeout(Duration),
}

impl MachineValue {
    /// Reads a value as it is written in a TOML string. The programs before a kill are written one by one, in an array.
    ///
    /// # Errors
    ///
    /// If it is none. The error says what was found and what was expected.
    pub fn parse(key: MachineKey, text: &str) -> Result<Self, SettingError> {
        Ok(match key {
            MachineKey::Engine => MachineValue::Engine(one_of(text, &EngineChoice::NAMES)?),
            MachineKey::MinAvailable => MachineValue::MinAvailable(Amount::parse(text)?),
            MachineKey::MinSwap => MachineValue::MinSwap(Amount::parse(text)?),
            MachineKey::Nominate => {
                MachineValue::Nominate(one_of(text, &[("true", true), ("false", false)])?)
            }
            MachineKey::PreKill => MachineValue::PreKill(vec![program(text)?]),
            MachineKey::PreKillTimeout => {
                MachineValue::PreKillTimeout(time_up_to(text, LONGEST_PRE_KILL_TIMEOUT)?)
            }
        })
    }
}

/// A program of the administrator. Whether it is there is seen when it is run: it may come later.
fn program(text: &str) -> Result<PathBuf, SettingError> {
    let path = Path::new(text);
    let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    match path.is_absolute() && path.components().all(is_plain) && !text.contains('\0') {
        true => Ok(path.to_owned()),
        false => Err(SettingError::Program { found: shown(text) }),
    }
}

/// As it is written in a file; [`MachineValue::parse`] reads it again.
impl fmt::Display for MachineValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MachineValue::Engine(engine) => engine.fmt(f),
            MachineValue::MinAvailable(amount) | MachineValue::MinSwap(amount) => amount.fmt(f),
            MachineValue::Nominate(on) => on.fmt(f),
            MachineValue::PreKill(programs) => {
                for (number, program) in programs.iter().enumerate() {
                    let before = if number == 0 { "" } else { " " };
                    write!(f, "{before}{}", program.display())?;
                }
                Ok(())
            }
            MachineValue::PreKillTimeout(time) => TimeSpan(*time).fmt(f),
        }
    }
}

/// What one file says about the machine. None takes back what earlier files said.
pub type MachineSection = BTreeMap<MachineKey, (Option<MachineValue>, Provenance)>;

/// What holds for the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// How policies are enforced. Read when the daemon starts.
    pub engine: EngineChoice,
    /// Below how much available memory the system is out of it; never, if that is None.
    pub min_available: Option<Amount>,
    /// Below how much free swap it is; where both are said, both have to be short.
    pub min_swap: Option<Amount>,
    /// Whether the process that a policy would choose has a raised oom_score_adj while memory is short.
    pub nominate: bool,
    /// Programs that are run before a kill.
    pub pre_kill: Vec<PathBuf>,
    /// How long a kill waits for them.
    pub pre_kill_timeout: Duration,
}

impl Default for Machine {
    fn default() -> Self {
        Machine {
            engine: EngineChoice::default(),
            min_available: None,
            min_swap: None,
            nominate: false,
            pre_kill: Vec::new(),
            pre_kill_timeout: DEFAULT_PRE_KILL_TIMEOUT,
        }
    }
}

impl Machine {
    /// Takes what a file says, after all files before it.
    pub fn extend(&mut self, section: &MachineSection) {
        let built_in = Machine::default();
        for (key, (value, _)) in section {
            match value {
                Some(MachineValue::Engine(engine)) => self.engine = *engine,
                Some(MachineValue::MinAvailable(amount)) => self.min_available = Some(*amount),
                Some(MachineValue::MinSwap(amount)) => self.min_swap = Some(*amount),
                Some(MachineValue::Nominate(on)) => self.nominate = *on,
                Some(MachineValue::PreKill(programs)) => self.pre_kill.clone_from(programs),
                Some(MachineValue::PreKillTimeout(time)) => self.pre_kill_timeout = *time,
                None => self.take_back(*key, &built_in),
            }
        }
    }

    fn take_back(&mut self, key: MachineKey, built_in: &Machine) {
        match key {
            MachineKey::Engine => self.engine = built_in.engine,
            MachineKey::MinAvailable => self.min_available = built_in.min_available,
            MachineKey::MinSwap => self.min_swap = built_in.min_swap,
            MachineKey::Nominate => self.nominate = built_in.nominate,
            MachineKey::PreKill => self.pre_kill.clone_from(&built_in.pre_kill),
            MachineKey::PreKillTimeout => self.pre_kill_timeout = built_in.pre_kill_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: MachineKey, text: &str) -> Result<MachineValue, String> {
        MachineValue::parse(key, text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_amount_is_bytes_or_a_part_and_is_written_as_it_was() {
        for text in ["64M", "0", "5%", "2.5%", "0.25%", "100%"] {
            assert_eq!(Amount::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Amount::parse("64M").unwrap().of(1), 64 << 20);
        assert_eq!(Amount::parse("2.5%").unwrap().of(8 << 30), (8 << 30) / 40);
        assert_eq!(Amount::parse("100%").unwrap().of(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_wrong_says_what_was_expected() {
        assert_eq!(
            parse(MachineKey::Engine, "kernl").unwrap_err(),
            "unknown value \"kernl\", expected one of: auto, kernel, userspace; did you mean \"kernel\"?"
        );
        assert_eq!(
            parse(MachineKey::MinSwap, "101%").unwrap_err(),
            "found \"101%\", expected a percentage such as \"40%\" or \"2.5%\""
        );
        for text in ["much", "infinity"] {
            assert_eq!(
                parse(MachineKey::MinAvailable, text).unwrap_err(),
                format!(
                    "found {text:?}, expected a size such as \"4096\", \"64M\" or \"1.5G\" (base 1024)"
                )
            );
        }
    }

    #[test]
    fn a_program_has_a_whole_path() {
        let path = "/usr/local/sbin/before kill";
        let value = parse(MachineKey::PreKill, path).unwrap();
        assert_eq!(value.to_string(), path);
        for text in ["dump", "./dump", "/a/../b", "", "/a\0"] {
            let error = parse(MachineKey::PreKill, text).unwrap_err();
            let expected =
                format!("found {text:?}, expected the absolute path of a program, without \"..\"");
            assert_eq!(error, expected);
        }
        assert_eq!(
            parse(MachineKey::PreKillTimeout, "1h").unwrap_err(),
            "found \"1h\", expected a time span from 0 to 1min"
        );
    }

    #[test]
    fn later_files_win_and_take_back() {
        let said = |key, text: Option<&str>| {
            let value = text.map(|text| MachineValue::parse(key, text).unwrap());
            let at = Provenance {
                file: "f".into(),
                line: 1,
                column: 1,
            };
            MachineSection::from([(key, (value, at))])
        };
        let mut machine = Machine::default();
        machine.extend(&said(MachineKey::Engine, Some("kernel")));
        machine.extend(&said(MachineKey::MinAvailable, Some("5%")));
        machine.extend(&said(MachineKey::MinAvailable, Some("64M")));
        assert_eq!(
            machine,
            Machine {
                engine: EngineChoice::Kernel,
                min_available: Some(Amount::Bytes(64 << 20)),
                min_swap: None,
                ..Machine::default()
            }
        );
        machine.extend(&said(MachineKey::Engine, None));
        machine.extend(&said(MachineKey::MinAvailable, None));
        assert_eq!(machine, Machine::default());
    }
}
