// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl cat-config`: the files themselves, as `systemd-analyze cat-config` shows systemd's.

use super::Outcome;
use crate::config::{ConfigRoot, Content};
use std::io::Write;
use std::path::Path;

/// Shows all configuration files below `root`.
pub(super) fn cat_config(root: &Path) -> Outcome {
    let found = ConfigRoot::below(root).read();
    let mut out = std::io::stdout().lock();
    let mut separator = "";
    let mut good = true;
    for file in found.files.values() {
        let path = file.path.display();
        match &file.content {
            Content::Text(text) => {
                writeln!(out, "{separator}# {path}")?;
                out.write_all(text)?;
                if !text.ends_with(b"\n") {
                    writeln!(out)?;
                }
            }
            Content::Masked => writeln!(out, "{separator}# {path} (masked)")?,
            Content::Fault(fault) => {
                good = false;
                eprintln!("{fault}");
                continue;
            }
        }
        separator = "\n";
    }
    for (_, fault) in &found.unreadable {
        good = false;
        eprintln!("{fault}");
    }
    Ok(good)
}
