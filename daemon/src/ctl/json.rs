// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--json`: one document in one line, for `jq` and its like.

use serde::Serialize;
use std::io::{self, Write};

/// Writes a document.
pub(super) fn write<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}
