// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles every `policies/*.bpf.c`, `pressure.bpf.c` and `kernel_kills.bpf.c`
//! to a BPF object, and makes Rust types of `include/intf.h`.
//!
//! `BPF_OOMD_CLANG` names the compiler (default `clang-19`; clang 14 is known
//! to miscompile `bool` kfunc results). The BPF helper headers are those of the
//! libbpf that is linked, so that both are of one version.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

const DEFAULT_CLANG: &str = "clang-19";
/// The objects that are no policies.
const OTHERS: [&str; 2] = ["kernel_kills", "pressure"];

fn main() -> Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);
    let libbpf = PathBuf::from(
        env::var_os("DEP_BPF_INCLUDE").context("libbpf-sys names no include directory")?,
    );
    let include = root.join("include");

    println!("cargo::rerun-if-env-changed=BPF_OOMD_CLANG");
    println!("cargo::rerun-if-changed=include");
    println!("cargo::rerun-if-changed=policies");
    for other in OTHERS {
        println!("cargo::rerun-if-changed={other}.bpf.c");
    }
    println!("cargo::metadata=include={}", include.display());
    println!("cargo::metadata=libbpf_include={}", libbpf.display());
    // For the tests of this crate, which compile what the manual shows.
    println!(
        "cargo::rustc-env=BPF_OOMD_LIBBPF_INCLUDE={}",
        libbpf.display()
    );

    generate_interface(&include, &out)?;

    let policies = policies(&root.join("policies"))?;
    for (name, source) in &policies {
        let object = out.join("policies").join(format!("{name}.bpf.o"));
        compile(source, &object, &include, &libbpf)?;
    }
    for other in OTHERS {
        let source = root.join(format!("{other}.bpf.c"));
        let object = out.join(format!("{other}.bpf.o"));
        compile(&source, &object, &include, &libbpf)?;
    }
    fs::write(out.join("objects.rs"), embed(&policies)?).context("writing objects.rs")
}

/// Policy names and their sources, sorted by name.
fn policies(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        let file = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if let Some(name) = file.strip_suffix(".bpf.c") {
            found.push((name.to_owned(), path));
        }
    }
    ensure!(!found.is_empty(), "no policy in {}", dir.display());
    found.sort();
    Ok(found)
}

fn compile(source: &Path, object: &Path, include: &Path, libbpf: &Path) -> Result<()> {
    if let Some(parent) = object.parent() {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    let clang =
        PathBuf::from(env::var_os("BPF_OOMD_CLANG").unwrap_or_else(|| DEFAULT_CLANG.into()));
    let status = Command::new(&clang)
        // -g: BTF and CO-RE relocations are debug information to clang.
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g"])
        // BPF_PROG() leaves the raw context of every program unused.
        .args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"])
        .arg("-I")
        .arg(include)
        .arg("-isystem")
        .arg(libbpf)
        // Where the source lies is nobody's business at run time.
        .arg("-fdebug-compilation-dir=.")
        .arg(format!(
            "-ffile-prefix-map={}=bpf",
            include.parent().unwrap_or(include).display()
        ))
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(object)
        .status()
        .with_context(|| {
            format!(
                "running {} (Debian package clang-19; BPF_OOMD_CLANG names another)",
                clang.display()
            )
        })?;
    if !status.success() {
        bail!("{} failed on {}", clang.display(), source.display());
    }
    Ok(())
}

fn generate_interface(include: &Path, out: &Path) -> Result<()> {
    let header = include.join("intf.h");
    bindgen::Builder::default()
        .header(header.display().to_string())
        .allowlist_file(".*/intf\\.h")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(false)
        .layout_tests(false)
        .generate()
        .with_context(|| format!("reading {} (needs libclang)", header.display()))?
        .write_to_file(out.join("intf.rs"))
        .context("writing intf.rs")
}

fn embed(policies: &[(String, PathBuf)]) -> Result<String> {
    let include = |object: &str| {
        format!("&Aligned(*include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{object}.bpf.o\")))")
    };
    let mut code = String::new();
    writeln!(code, "pub(crate) static POLICIES: &[(&str, Bytes)] = &[")?;
    for (name, _) in policies {
        writeln!(
            code,
            "({name:?}, {}),",
            include(&format!("policies/{name}"))
        )?;
    }
    writeln!(code, "];")?;
    let names: Vec<&str> = policies.iter().map(|(name, _)| name.as_str()).collect();
    writeln!(code, "pub(crate) static NAMES: &[&str] = &{names:?};")?;
    for other in OTHERS {
        writeln!(
            code,
            "pub(crate) static {}: Bytes = {};",
            other.to_uppercase(),
            include(other)
        )?;
    }
    Ok(code)
}
