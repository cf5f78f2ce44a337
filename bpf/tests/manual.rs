// SPDX-License-Identifier: MIT OR Apache-2.0
//! bpf-oomd-policies(7) tells of the policies that there are, and what it shows compiles.

use std::fs;
use std::path::Path;
use std::process::Command;

use bpf_oomd_bpf::{ParameterKind, policy_names, policy_parameters};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../units/usr/share/man/man7/bpf-oomd-policies.7");
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .replace("\\-", "-")
}

#[test]
fn every_policy_is_described_with_its_parameters() {
    let page = page();
    let (_, policies) = page.split_once(".SH POLICIES\n").unwrap();
    let (policies, _) = policies.split_once(".SH WRITING ONE\n").unwrap();
    let mut expected = vec!["kernel".to_owned()];
    for name in policy_names() {
        expected.push(format!("bpf:{name}"));
        for parameter in policy_parameters(name) {
            let kind = match parameter.kind {
                ParameterKind::Bytes => "size",
                ParameterKind::Usec => "time span",
                ParameterKind::Number => "number",
                ParameterKind::Bool => "true or false",
            };
            let default = parameter.default;
            expected.push(format!("{} {kind} {default}", parameter.name));
        }
    }
    let mut described = Vec::new();
    let mut lines = policies.lines();
    while let Some(line) = lines.next() {
        if let Some(policy) = line.strip_prefix(".B ") {
            described.push(policy.to_owned());
        } else if let Some(parameter) = line.strip_prefix(".BR ")
            && let Some((name, kind)) = parameter.split_once(" \" (")
        {
            let kind = kind.trim_end_matches(")\"");
            let text = lines.next().unwrap();
            let default = text.strip_prefix("Default: ").unwrap();
            let (default, _) = default.split_once('.').unwrap();
            described.push(format!("{name} {kind} {default}"));
        }
    }
    assert_eq!(described, expected);
}

#[test]
fn the_example_compiles() {
    let page = page();
    let (_, rest) = page
        .split_once("// SPDX-License-Identifier: GPL-2.0-only\n")
        .unwrap();
    let (example, _) = rest.split_once(".fi\n").unwrap();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = directory.join("most-anonymous.bpf.c");
    fs::write(&source, example).unwrap();
    let clang = option_env!("BPF_OOMD_CLANG").unwrap_or("clang-19");
    let output = Command::new(clang)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g"])
        .args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"])
        .arg("-I")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg("-isystem")
        .arg(env!("BPF_OOMD_LIBBPF_INCLUDE"))
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(directory.join("most-anonymous.bpf.o"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
