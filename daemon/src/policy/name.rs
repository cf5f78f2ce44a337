// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policy names as an administrator writes them.

use super::{closest, shown};
use std::fmt;
use std::sync::Arc;

/// A named way to choose victims.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Policy {
    /// `kernel`: leave it to the kernel's own killer.
    Kernel,
    /// `bpf:NAME`: the policy program NAME.
    Bpf(Arc<str>),
}

impl Policy {
    /// Its name as records have it: that of the program, without the prefix, or `kernel`.
    pub fn name(&self) -> &str {
        match self {
            Policy::Kernel => "kernel",
            Policy::Bpf(program) => program,
        }
    }

    /// Reads a policy as it is written in a file. `programs` are the names of the policy programs there are.
    ///
    /// Names are exact, letter case included, like everything else in a unit file.
    pub fn parse(text: &str, programs: &[&str]) -> Result<Self, PolicyNameError> {
        if text == "kernel" {
            return Ok(Policy::Kernel);
        }
        if let Some(name) = text.strip_prefix("bpf:")
            && programs.contains(&name)
        {
            return Ok(Policy::Bpf(name.into()));
        }
        let expected: Vec<String> = std::iter::once("kernel".to_owned())
            .chain(programs.iter().map(|name| format!("bpf:{name}")))
            .collect();
        // A forgotten "bpf:" is a near miss whatever its length.
        let suggestion = closest(text, expected.iter().map(String::as_str))
            .or_else(|| {
                let bare = closest(text, programs.iter().copied())?;
                let at = programs.iter().position(|name| *name == bare)?;
                Some(expected[at + 1].as_str())
            })
            .map(str::to_owned);
        Err(PolicyNameError {
            found: text.to_owned(),
            suggestion,
            expected,
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Kernel => f.write_str("kernel"),
            Policy::Bpf(name) => write!(f, "bpf:{name}"),
        }
    }
}

/// A policy name that means nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyNameError {
    /// What was written.
    pub found: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
    /// Everything that would have been understood.
    pub expected: Vec<String>,
}

impl fmt::Display for PolicyNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown policy {:?}, expected one of: {}",
            shown(&self.found),
            self.expected.join(", ")
        )?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean {suggestion:?}?")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAMS: [&str; 2] = ["biggest-leaf", "by-score"];

    fn suggestion(text: &str) -> Option<String> {
        Policy::parse(text, &PROGRAMS).unwrap_err().suggestion
    }

    #[test]
    fn known_names_are_read_and_written_back() {
        for text in ["kernel", "bpf:biggest-leaf", "bpf:by-score"] {
            assert_eq!(Policy::parse(text, &PROGRAMS).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_misspelt_name_says_what_was_found_expected_and_probably_meant() {
        assert_eq!(
            Policy::parse("bpf:bigest-leaf", &PROGRAMS)
                .unwrap_err()
                .to_string(),
            "unknown policy \"bpf:bigest-leaf\", expected one of: kernel, bpf:biggest-leaf, bpf:by-score; \
             did you mean \"bpf:biggest-leaf\"?"
        );
    }

    #[test]
    fn a_forgotten_prefix_is_a_near_miss() {
        assert_eq!(suggestion("by-score"), Some("bpf:by-score".into()));
        assert_eq!(suggestion("bigest-leaf"), Some("bpf:biggest-leaf".into()));
        assert_eq!(suggestion("Kernel"), Some("kernel".into()));
    }

    #[test]
    fn nonsense_gets_no_suggestion_and_a_short_message() {
        assert_eq!(suggestion("auto"), None);
        let long = Policy::parse(&"x".repeat(100_000), &PROGRAMS).unwrap_err();
        assert!(long.to_string().len() < 300);
    }

    #[test]
    fn quotes_and_control_characters_are_shown_escaped() {
        let error = Policy::parse("\"kernel\"\u{1b}", &PROGRAMS).unwrap_err();
        assert!(error.to_string().contains(r#""\"kernel\"\u{1b}""#));
    }
}
