// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong and has to be put right by an administrator.

use crate::systemd::syntax::Position;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong. Faults are kept as long as they last, and told once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file it is in, if it is in a file.
    pub file: Option<PathBuf>,
    /// Where in the file, if it is at a place.
    pub position: Option<Position>,
    /// What was found and what was expected.
    pub message: String,
}

impl Fault {
    /// A fault at a place in a file.
    pub fn at(file: impl Into<PathBuf>, position: Position, message: impl ToString) -> Self {
        Fault {
            file: Some(file.into()),
            position: Some(position),
            message: message.to_string(),
        }
    }

    /// A fault of a whole file.
    pub fn of_file(file: impl Into<PathBuf>, message: impl ToString) -> Self {
        Fault {
            file: Some(file.into()),
            position: None,
            message: message.to_string(),
        }
    }

    /// A fault that is in no file.
    pub fn new(message: impl ToString) -> Self {
        Fault {
            file: None,
            position: None,
            message: message.to_string(),
        }
    }
}

/// `FILE:LINE:COLUMN: MESSAGE`, as far as there are a file and a place.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(Position { line, column }) = self.position {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

/// How many faults of one file are told. Nobody puts right more than that at once, and a file full of rubbish must not fill the journal.
pub const MOST_TOLD: usize = 20;

/// The faults of one file as they are told: the first ones, and how many more there are, at the place of the first of those.
pub fn told(mut faults: Vec<Fault>) -> Vec<Fault> {
    let more = faults.len().saturating_sub(MOST_TOLD);
    faults.truncate(MOST_TOLD + 1);
    if let Some(next) = faults.get_mut(MOST_TOLD) {
        next.message = format!("and {more} more from here on");
    }
    faults
}

/// An error with everything that caused it, in one line: `WHAT: WHY: WHY`. A cause that the error's own text ends with is
/// not repeated.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let why = cause.to_string();
        if !text.ends_with(&why) {
            text.push_str(": ");
            text.push_str(&why);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_faults_in_a_file_the_first_are_told_and_how_many_more_there_are() {
        let file = |count: u32| -> Vec<Fault> {
            (1..=count)
                .map(|line| Fault::at("/f", Position { line, column: 2 }, "wrong"))
                .collect()
        };
        assert_eq!(told(file(0)), []);
        assert_eq!(told(file(20)), file(20));
        for (count, last) in [
            (21, "/f:21:2: and 1 more from here on"),
            (1020, "/f:21:2: and 1000 more from here on"),
        ] {
            let told = told(file(count));
            assert_eq!(told[..20], file(20));
            assert_eq!(told[20..].len(), 1);
            assert_eq!(told[20].to_string(), last);
        }
    }
}
