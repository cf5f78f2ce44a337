// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl cat-config`: the files themselves, as `systemd-analyze cat-config` shows systemd's.

use super::{Outcome, Output, json};
use crate::config::{ConfigRoot, Content};
use serde::Serialize;
use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

/// A file as it is told to programs.
#[derive(Debug, Serialize)]
struct File<'a> {
    path: String,
    /// None if it is masked.
    text: Option<Cow<'a, str>>,
}

/// Shows all configuration files below `root`.
pub(super) fn cat_config(output: &Output, root: &Path) -> Outcome {
    let found = ConfigRoot::below(root).read();
    let mut files = Vec::new();
    let mut text = Vec::new();
    let mut separator = "";
    let mut good = true;
    for file in found.files.values() {
        let path = file.path.display();
        let content = match &file.content {
            Content::Text(content) => {
                writeln!(text, "{separator}# {path}")?;
                text.extend_from_slice(content);
                if !content.ends_with(b"\n") {
                    writeln!(text)?;
                }
                Some(String::from_utf8_lossy(content))
            }
            Content::Masked => {
                writeln!(text, "{separator}# {path} (masked)")?;
                None
            }
            Content::Fault(fault) => {
                good = false;
                eprintln!("{fault}");
                continue;
            }
        };
        files.push(File {
            path: path.to_string(),
            text: content,
        });
        separator = "\n";
    }
    for (_, fault) in &found.unreadable {
        good = false;
        eprintln!("{fault}");
    }
    if output.json {
        json::write(&files)?;
    } else {
        std::io::stdout().lock().write_all(&text)?;
    }
    Ok(good)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ctl) fn sample() -> impl Serialize {
        [File {
            path: "/x".into(),
            text: None,
        }]
    }
}
