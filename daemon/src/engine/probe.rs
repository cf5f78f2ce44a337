// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this kernel can do, read from its own type information (BTF) and from the files that it shows. Facts only; what follows
//! from them is the caller's business. Version numbers are not looked at: the interface is in no released kernel, and distributions backport.

use super::InterfacePart;
use super::userspace;
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
    /// `struct bpf_iter__task`: BPF programs can look at all processes, and so rank cgroups without being asked for a victim.
    pub iterators: bool,
    /// What it shows in files.
    pub files: FileFacts,
}

/// What this kernel shows in files, or answers when it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileFacts {
    /// `memory.pressure`: it measures pressure, and can be asked to tell of it.
    pub pressure: bool,
    /// `memory.events`: it tells that a limit was reached.
    pub memory_events: bool,
    /// `cgroup.kill`: all processes of a cgroup can be killed at once.
    pub cgroup_kill: bool,
    /// process_mrelease(2): memory of a process that was killed can be taken back at once.
    pub release: bool,
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

    /// What is missing for the userspace engine, in words. Empty if nothing is: it can rank, and it learns when to.
    pub fn missing_for_userspace(&self) -> Vec<&'static str> {
        let tells = self.files.pressure || self.files.memory_events;
        [
            (
                self.iterators,
                "BPF programs that look at processes (struct bpf_iter__task)",
            ),
            (
                tells,
                "files that tell of pressure or limits (memory.pressure, memory.events)",
            ),
        ]
        .into_iter()
        .filter_map(|(there, what)| (!there).then_some(what))
        .collect()
    }

    /// All parts that matter to the userspace engine, and what follows where one is missing.
    pub fn parts_for_userspace(&self) -> [InterfacePart; 10] {
        let files = &self.files;
        [
            part(
                "oom-handlers",
                self.oom_handlers,
                "The daemon chooses and kills, before memory runs out; an OOM that is faster is left to the kernel's own killer.",
            ),
            part(
                "oom-kill",
                self.oom_kill,
                "The daemon kills, and the kernel's log has no report of it.",
            ),
            part(
                "cgroup-links",
                self.cgroup_links,
                "The daemon knows by itself which unit has which policy.",
            ),
            part(
                "memcg-statistics",
                self.memcg_statistics,
                "Policy programs read the numbers where the kernel keeps them.",
            ),
            part(
                "pressure-handlers",
                self.pressure_handlers,
                "The daemon watches for pressure, and learns of new units from systemd, a moment after they start.",
            ),
            part(
                "iterators",
                self.iterators,
                "No policy program can be asked whom it would choose.",
            ),
            part(
                "pressure-files",
                files.pressure,
                "No unit can be watched for pressure.",
            ),
            part(
                "memory-events",
                files.memory_events,
                "Nobody learns that a limit was reached.",
            ),
            part(
                "cgroup-kill",
                files.cgroup_kill,
                "The processes of a unit are killed one by one, and some may be missed that are made meanwhile.",
            ),
            part(
                "process-release",
                files.release,
                "A process that was killed gives its memory back only when it gets to run.",
            ),
        ]
    }

    /// All parts that matter to the kernel engine, and what follows where one is missing.
    pub fn parts(&self) -> [InterfacePart; 5] {
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

fn part(name: &'static str, present: bool, missing: &'static str) -> InterfacePart {
    InterfacePart {
        name,
        present,
        missing,
    }
}

/// Looks at the files of the cgroup tree that is mounted at `tree`, and asks the kernel that runs. Files that the root does not have are
/// looked for in the cgroups below it.
pub fn probe_files(tree: &Path) -> FileFacts {
    let below = || std::fs::read_dir(tree).into_iter().flatten().flatten();
    let somewhere = |name: &str| below().any(|entry| entry.path().join(name).exists());
    FileFacts {
        pressure: tree.join("memory.pressure").exists() || somewhere("memory.pressure"),
        memory_events: somewhere("memory.events"),
        cgroup_kill: somewhere("cgroup.kill"),
        release: userspace::can_release(),
    }
}

/// Reads what the kernel whose BTF is in the file `btf` can do, and which shows these files.
pub fn probe(btf: &Path, files: FileFacts) -> Result<KernelFacts, ProbeError> {
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
        iterators: types
            .type_by_name::<types::Struct<'_>>("bpf_iter__task")
            .is_some(),
        files,
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

    fn of_types(btf: &Path) -> Result<KernelFacts, ProbeError> {
        probe(btf, FileFacts::default())
    }

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
        let facts = of_types(kernel(&STRUCTURES, &FUNCTIONS).path()).unwrap();
        assert_eq!(facts.missing_for_policies(), [""; 0]);
        assert!(facts.pressure_handlers);
    }

    #[test]
    fn a_kernel_without_any_of_it_lacks_everything() {
        let facts =
            of_types(kernel(&[("bpf_struct_ops_link", "map")], &["schedule"]).path()).unwrap();
        assert_eq!(facts.missing_for_policies().len(), 4);
        assert!(!facts.pressure_handlers);
    }

    #[test]
    fn each_part_is_missed_by_itself() {
        for needed in &STRUCTURES[..2] {
            let mut structures = STRUCTURES.to_vec();
            structures.retain(|structure| structure != needed);
            let facts = of_types(kernel(&structures, &FUNCTIONS).path()).unwrap();
            assert_eq!(facts.missing_for_policies().len(), 1, "{needed:?}");
        }
        for needed in &FUNCTIONS[..3] {
            let mut functions = FUNCTIONS.to_vec();
            functions.retain(|function| function != needed);
            let facts = of_types(kernel(&STRUCTURES, &functions).path()).unwrap();
            assert_eq!(facts.missing_for_policies().len(), 1, "{needed}");
        }
    }

    #[test]
    fn every_part_is_told_by_a_name_of_its_own_and_with_a_sentence() {
        let facts = of_types(kernel(&STRUCTURES[..2], &FUNCTIONS[..2]).path()).unwrap();
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
        let facts = of_types(kernel(&STRUCTURES[..2], &FUNCTIONS[..3]).path()).unwrap();
        assert_eq!(facts.missing_for_policies(), [""; 0]);
        assert!(!facts.pressure_handlers);
    }

    #[test]
    fn a_stock_kernel_needs_iterators_and_something_that_tells() {
        let btf = kernel(&[("bpf_iter__task", "task")], &[]);
        let facts = |files| probe(btf.path(), files).unwrap();
        let pressure = FileFacts {
            pressure: true,
            ..FileFacts::default()
        };
        assert_eq!(facts(pressure).missing_for_userspace(), [""; 0]);
        assert_eq!(facts(pressure).missing_for_policies().len(), 4);
        let events = FileFacts {
            memory_events: true,
            ..FileFacts::default()
        };
        assert_eq!(facts(events).missing_for_userspace(), [""; 0]);
        assert_eq!(facts(FileFacts::default()).missing_for_userspace().len(), 1);
        let nothing = of_types(kernel(&[], &[]).path()).unwrap();
        assert_eq!(nothing.missing_for_userspace().len(), 2);
    }

    #[test]
    fn files_are_found_in_the_cgroups_below_the_root() {
        let tree = tempfile::tempdir().unwrap();
        let unit = tree.path().join("system.slice");
        std::fs::create_dir(&unit).unwrap();
        let without_release = |facts: FileFacts| FileFacts {
            release: false,
            ..facts
        };
        let found = without_release(probe_files(tree.path()));
        assert_eq!(found, FileFacts::default());
        for name in ["memory.pressure", "memory.events", "cgroup.kill"] {
            std::fs::write(unit.join(name), "").unwrap();
        }
        let all = FileFacts {
            pressure: true,
            memory_events: true,
            cgroup_kill: true,
            release: false,
        };
        assert_eq!(without_release(probe_files(tree.path())), all);
    }

    #[test]
    fn the_userspace_engine_tells_of_everything_too() {
        let facts = of_types(kernel(&STRUCTURES, &FUNCTIONS).path()).unwrap();
        let parts = facts.parts_for_userspace();
        let all: std::collections::BTreeSet<_> = parts.iter().map(|part| part.name).collect();
        assert_eq!(all.len(), parts.len());
        assert!(parts.iter().all(|part| part.missing.ends_with('.')));
        let of_kernel = facts.parts().map(|part| (part.name, part.present));
        let here = parts.map(|part| (part.name, part.present));
        assert_eq!(here[..of_kernel.len()], of_kernel);
    }

    #[test]
    fn what_is_no_btf_is_an_error_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "rubbish").unwrap();
        let error = of_types(file.path()).unwrap_err().to_string();
        assert!(
            error.contains(&file.path().display().to_string()),
            "{error}"
        );
        assert!(of_types(Path::new("/nonexistent/btf")).is_err());
    }
}
