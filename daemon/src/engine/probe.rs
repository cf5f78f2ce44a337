// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this kernel can do, read from its own type information (BTF). Facts only; what follows from them is the caller's
//! business. Version numbers are not looked at: the interface is in no released kernel, and distributions backport.

use super::InterfacePart;
use libbpf_rs::btf::{Btf, types};
use std::path::{Path, PathBuf};

/// Where the kernel shows its types.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why nothing can be said about this kernel.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No BTF: the kernel was built without CONFIG_DEBUG_INFO_BTF, or it cannot be read.
    #[error("cannot read the kernel's types from {}: {source}", path.display())]
    Btf {
        /// Where they should be.
        path: PathBuf,
        /// Why not.
        source: libbpf_rs::Error,
    },
}

/// What this kernel can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFacts {
    /// `struct bpf_oom_ops`: BPF programs can handle an OOM.
    pub oom_handlers: bool,
    /// `bpf_oom_kill_process()`: they can kill.
    pub oom_kill: bool,
    /// Links of struct_ops remember a cgroup: they can be attached to one.
    pub cgroup_links: bool,
    /// `bpf_get_mem_cgroup()` and its like: they can read memory statistics.
    pub memcg_statistics: bool,
    /// `struct bpf_psi_ops` and `bpf_psi_create_trigger()`: they can handle pressure.
    pub pressure_handlers: bool,
}

impl KernelFacts {
    /// What is missing for the kernel engine, in words. Empty if nothing is.
    pub fn missing_for_policies(&self) -> Vec<&'static str> {
        [
            (self.oom_handlers, "OOM handlers (struct bpf_oom_ops)"),
            (self.oom_kill, "bpf_oom_kill_process()"),
            (self.cgroup_links, "struct_ops links to cgroups"),
            (self.memcg_statistics, "memory cgroup statistics for BPF"),
        ]
        .into_iter()
        .filter_map(|(there, what)| (!there).then_some(what))
        .collect()
    }

    /// All parts, and what follows where one is missing.
    pub fn parts(&self) -> [InterfacePart; 5] {
        let part = |name, present, missing| InterfacePart {
            name,
            present,
            missing,
        };
        [
            part(
                "oom-handlers",
                self.oom_handlers,
                "No policy program can be asked when memory runs out.",
            ),
            part(
                "oom-kill",
                self.oom_kill,
                "A policy program cannot kill whom it chooses.",
            ),
            part(
                "cgroup-links",
                self.cgroup_links,
                "A policy program cannot be attached to one unit.",
            ),
            part(
                "memcg-statistics",
                self.memcg_statistics,
                "A policy program cannot see how much memory a unit uses.",
            ),
            part(
                "pressure-handlers",
                self.pressure_handlers,
                "No unit can be watched for pressure.",
            ),
        ]
    }
}

/// Reads what the kernel whose BTF is in the file `btf` can do.
pub fn probe(btf: &Path) -> Result<KernelFacts, ProbeError> {
    let types = Btf::from_path(btf).map_err(|source| ProbeError::Btf {
        path: btf.to_owned(),
        source,
    })?;
    let function = |name: &str| types.type_by_name::<types::Func<'_>>(name).is_some();
    Ok(KernelFacts {
        oom_handlers: has_member(&types, "bpf_oom_ops", "handle_out_of_memory"),
        oom_kill: function("bpf_oom_kill_process"),
        cgroup_links: has_member(&types, "bpf_struct_ops_link", "cgroup_id"),
        memcg_statistics: function("bpf_get_mem_cgroup") && function("bpf_mem_cgroup_usage"),
        pressure_handlers: has_member(&types, "bpf_psi_ops", "handle_psi_event")
            && function("bpf_psi_create_trigger"),
    })
}

fn has_member(btf: &Btf<'_>, structure: &str, member: &str) -> bool {
    btf.type_by_name::<types::Struct<'_>>(structure)
        .is_some_and(|found| {
            found
                .iter()
                .any(|m| m.name.is_some_and(|name| name == member))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The BTF of a kernel with these structures, each with one member, and these functions, in the format that is described in
    /// the kernel's Documentation/bpf/btf.rst.
    fn kernel(structures: &[(&str, &str)], functions: &[&str]) -> tempfile::NamedTempFile {
        const INT: u32 = 1;
        const STRUCT: u32 = 4;
        const FUNC: u32 = 12;
        const FUNC_PROTO: u32 = 13;
        let mut strings = vec![0];
        let mut name = |text: &str| {
            let offset = u32::try_from(strings.len()).unwrap();
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            offset
        };
        // Ids count from 1: the integer, the prototype, and the rest.
        let mut types = vec![name("int"), INT << 24, 4, 32, 0, FUNC_PROTO << 24, 0];
        for (structure, member) in structures {
            types.extend([name(structure), STRUCT << 24 | 1, 4, name(member), 1, 0]);
        }
        for function in functions {
            types.extend([name(function), FUNC << 24, 2]);
        }
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_ne_bytes();
        let mut btf = Vec::new();
        btf.extend(0xeb9f_u16.to_ne_bytes());
        btf.extend([1, 0]);
        btf.extend(24_u32.to_ne_bytes());
        btf.extend(0_u32.to_ne_bytes());
        btf.extend(length(&types));
        btf.extend(length(&types));
        btf.extend(length(&strings));
        btf.extend(&types);
        btf.extend(&strings);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), btf).unwrap();
        file
    }

    const STRUCTURES: [(&str, &str); 3] = [
        ("bpf_oom_ops", "handle_out_of_memory"),
        ("bpf_struct_ops_link", "cgroup_id"),
        ("bpf_psi_ops", "handle_psi_event"),
    ];
    const FUNCTIONS: [&str; 4] = [
        "bpf_oom_kill_process",
        "bpf_get_mem_cgroup",
        "bpf_mem_cgroup_usage",
        "bpf_psi_create_trigger",
    ];

    #[test]
    fn a_kernel_with_the_whole_interface_lacks_nothing() {
        let facts = probe(kernel(&STRUCTURES, &FUNCTIONS).path()).unwrap();
        assert_eq!(facts.missing_for_policies(), [""; 0]);
        assert!(facts.pressure_handlers);
    }

    #[test]
    fn a_kernel_without_any_of_it_lacks_everything() {
        let facts = probe(kernel(&[("bpf_struct_ops_link", "map")], &["schedule"]).path()).unwrap();
        assert_eq!(facts.missing_for_policies().len(), 4);
        assert!(!facts.pressure_handlers);
    }

    #[test]
    fn each_part_is_missed_by_itself() {
        for needed in &STRUCTURES[..2] {
            let mut structures = STRUCTURES.to_vec();
            structures.retain(|structure| structure != needed);
            let facts = probe(kernel(&structures, &FUNCTIONS).path()).unwrap();
            assert_eq!(facts.missing_for_policies().len(), 1, "{needed:?}");
        }
        for needed in &FUNCTIONS[..3] {
            let mut functions = FUNCTIONS.to_vec();
            functions.retain(|function| function != needed);
            let facts = probe(kernel(&STRUCTURES, &functions).path()).unwrap();
            assert_eq!(facts.missing_for_policies().len(), 1, "{needed}");
        }
    }

    #[test]
    fn every_part_is_told_by_a_name_of_its_own_and_with_a_sentence() {
        let facts = probe(kernel(&STRUCTURES[..2], &FUNCTIONS[..2]).path()).unwrap();
        let parts = facts.parts();
        let present: Vec<_> = parts.iter().filter(|part| part.present).collect();
        let names: Vec<_> = present.iter().map(|part| part.name).collect();
        assert_eq!(names, ["oom-handlers", "oom-kill", "cgroup-links"]);
        let all: std::collections::BTreeSet<_> = parts.iter().map(|part| part.name).collect();
        assert_eq!(all.len(), parts.len());
        assert!(parts.iter().all(|part| part.missing.ends_with('.')));
    }

    #[test]
    fn policies_do_not_need_pressure_handlers() {
        let facts = probe(kernel(&STRUCTURES[..2], &FUNCTIONS[..3]).path()).unwrap();
        assert_eq!(facts.missing_for_policies(), [""; 0]);
        assert!(!facts.pressure_handlers);
    }

    #[test]
    fn what_is_no_btf_is_an_error_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "rubbish").unwrap();
        let error = probe(file.path()).unwrap_err().to_string();
        assert!(
            error.contains(&file.path().display().to_string()),
            "{error}"
        );
        assert!(probe(Path::new("/nonexistent/btf")).is_err());
    }
}
