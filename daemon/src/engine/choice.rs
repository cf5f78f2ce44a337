// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which engine a kernel gets, and what is said of it when the daemon starts. Pure.

use super::{Engine, InterfacePart};
use crate::engine::probe::KernelFacts;
use crate::policy::EngineChoice;

/// An engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// [`KernelEngine`](super::kernel::KernelEngine)
    Kernel,
    /// [`UserspaceEngine`](super::userspace::UserspaceEngine)
    Userspace,
}

/// The engine for what is configured, on a kernel that can do this.
///
/// # Errors
///
/// Why there is none, in one sentence.
pub fn choose(choice: EngineChoice, facts: &KernelFacts) -> Result<EngineKind, String> {
    let lacking = facts.missing_for_policies();
    let by_itself = facts.missing_for_userspace();
    let cannot = format!(
        "This kernel cannot choose OOM victims with BPF, it lacks {}",
        lacking.join(", ")
    );
    match choice {
        EngineChoice::Auto | EngineChoice::Kernel if lacking.is_empty() => Ok(EngineKind::Kernel),
        EngineChoice::Auto | EngineChoice::Userspace if by_itself.is_empty() => {
            Ok(EngineKind::Userspace)
        }
        EngineChoice::Auto => Err(format!(
            "{cannot}, and the daemon cannot do it instead, for it lacks {}; bpf-oomd does nothing here.",
            by_itself.join(", ")
        )),
        EngineChoice::Kernel => Err(format!(
            "{cannot}, and engine = \"kernel\" is configured; bpf-oomd does nothing here."
        )),
        EngineChoice::Userspace => Err(format!(
            "This kernel cannot be helped by the daemon, as engine = \"userspace\" asks for, it lacks {}; bpf-oomd does nothing here.",
            by_itself.join(", ")
        )),
    }
}

/// What an engine has of the kernel, what it does without, and what that means.
pub fn summary(engine: &impl Engine) -> String {
    let parts = engine.interface();
    let (there, missing): (Vec<&InterfacePart>, Vec<&InterfacePart>) =
        parts.iter().partition(|part| part.present);
    let there: Vec<&str> = there.iter().map(|part| part.name).collect();
    let missing: Vec<String> = missing
        .iter()
        .map(|part| format!("{} ({})", part.name, part.missing.trim_end_matches('.')))
        .collect();
    let list = |parts: String| match parts.is_empty() {
        true => "nothing".to_owned(),
        false => parts,
    };
    format!(
        "Engine: {}; the kernel has {}; missing: {}",
        engine.name(),
        list(there.join(", ")),
        list(missing.join(", "))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::probe::FileFacts;

    fn facts(kernel: bool, userspace: bool) -> KernelFacts {
        KernelFacts {
            oom_handlers: kernel,
            oom_kill: kernel,
            cgroup_links: kernel,
            memcg_statistics: kernel,
            pressure_handlers: kernel,
            iterators: userspace,
            files: FileFacts {
                pressure: userspace,
                memory_events: userspace,
                cgroup_kill: userspace,
                release: userspace,
            },
        }
    }

    #[test]
    fn the_kernel_comes_first_where_it_can() {
        use EngineChoice::*;
        let choose = |choice, kernel, userspace| choose(choice, &facts(kernel, userspace)).ok();
        for userspace in [false, true] {
            assert_eq!(choose(Auto, true, userspace), Some(EngineKind::Kernel));
            assert_eq!(choose(Kernel, true, userspace), Some(EngineKind::Kernel));
            assert_eq!(choose(Kernel, false, userspace), None);
        }
        assert_eq!(choose(Auto, false, true), Some(EngineKind::Userspace));
        assert_eq!(choose(Auto, false, false), None);
        for kernel in [false, true] {
            assert_eq!(choose(Userspace, kernel, true), Some(EngineKind::Userspace));
            assert_eq!(choose(Userspace, kernel, false), None);
        }
    }

    #[test]
    fn a_refusal_is_one_sentence_and_says_what_is_missing() {
        let nothing = facts(false, false);
        for (choice, expected) in [
            (
                EngineChoice::Auto,
                &["bpf_oom_ops", "bpf_iter__task", "memory.pressure"][..],
            ),
            (
                EngineChoice::Kernel,
                &["bpf_oom_ops", "engine = \"kernel\""],
            ),
            (
                EngineChoice::Userspace,
                &["bpf_iter__task", "engine = \"userspace\""],
            ),
        ] {
            let refusal = choose(choice, &nothing).unwrap_err();
            for word in expected {
                assert!(refusal.contains(word), "{refusal}");
            }
            assert!(
                refusal.ends_with("bpf-oomd does nothing here."),
                "{refusal}"
            );
            assert!(!refusal.contains('\n'), "{refusal}");
        }
    }
}
