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
