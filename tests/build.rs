// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles the tests' own BPF programs with the project's headers, and writes a Rust file that embeds them: one static per object,
//! `psi/slow.bpf.c` being `PSI_SLOW`. And one with the numbers of system calls, from the kernel's header.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Older ones miscompile kfuncs that return `bool`: they test the whole register.
const CLANG: &str = "clang-19";

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let programs = manifest.join("conformance/bpf");
    let headers = manifest.join("../bpf/include");
    // libbpf-sys publishes the headers of the libbpf that it builds.
    let libbpf =
        env::var("DEP_BPF_INCLUDE").context("libbpf-sys did not say where its headers are")?;
    println!("cargo::rerun-if-changed={}", programs.display());
    println!("cargo::rerun-if-changed={}", headers.display());

    let mut sources = Vec::new();
    find(&programs, &mut sources)?;
    sources.sort();

    let mut rust = String::from("#[repr(C, align(8))]\nstruct Aligned<T: ?Sized>(T);\n");
    for source in &sources {
        let relative = source.strip_prefix(&programs)?.display().to_string();
        let stem = relative.trim_end_matches(".bpf.c").replace(['/', '-'], "_");
        let object = out.join(format!("{stem}.bpf.o"));
        let compiled = Command::new(CLANG)
            .args(["-target", "bpf", "-mcpu=v3", "-g", "-O2", "-std=gnu11"])
            .args(["-Wall", "-Wextra", "-Werror"])
            // Callbacks get arguments that not every program looks at.
            .arg("-Wno-unused-parameter")
            .arg("-D__TARGET_ARCH_x86")
            .arg("-I")
            .arg(&headers)
            .arg("-I")
            .arg(&libbpf)
            .arg("-c")
            .arg(source)
            .arg("-o")
            .arg(&object)
            .status()
            .with_context(|| format!("run {CLANG} (Debian package {CLANG})"))?;
        ensure!(compiled.success(), "{CLANG} failed on {}", source.display());
        let name = stem.to_uppercase();
        writeln!(
            rust,
            "#[doc = \"{relative}\"]\npub static {name}: &[u8] = {{ static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!({object:?})); &OBJECT.0 }};"
        )?;
    }
    fs::write(out.join("programs.rs"), rust)?;
    fs::write(out.join("calls.rs"), calls()?)?;
    Ok(())
}

/// A table of system calls: names and numbers.
fn calls() -> Result<String> {
    let preprocessed = Command::new(CLANG)
        .args([
            "-E",
            "-dM",
            "-include",
            "asm/unistd.h",
            "-x",
            "c",
            "/dev/null",
        ])
        .output()
        .with_context(|| format!("run {CLANG}"))?;
    ensure!(
        preprocessed.status.success(),
        "{CLANG} failed on asm/unistd.h"
    );
    let mut rust = String::from("const SYSTEM_CALLS: &[(&str, usize)] = &[\n");
    for line in String::from_utf8(preprocessed.stdout)?.lines() {
        if let Some((name, number)) = line
            .strip_prefix("#define __NR_")
            .and_then(|definition| definition.split_once(' '))
        {
            writeln!(rust, "({name:?}, {number}),")?;
        }
    }
    rust.push_str("];\n");
    Ok(rust)
}

fn find(directory: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, sources)?;
        } else if path.to_string_lossy().ends_with(".bpf.c") {
            sources.push(path);
        }
    }
    Ok(())
}
