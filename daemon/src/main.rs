// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon. Everything it does is in the library.

use anyhow::Context;
use bpf_oomd::cgroup::{MOUNT_POINT, Tree};
use bpf_oomd::config::Configuration;
use bpf_oomd::core::{Core, STATE_DIRECTORY, run};
use bpf_oomd::engine::kernel::KernelEngine;
use bpf_oomd::engine::probe::{KernelFacts, VMLINUX_BTF, probe, probe_files};
use bpf_oomd::engine::userspace::{UserspaceEngine, give_back_nominations};
use bpf_oomd::engine::{Engine, EngineKind, choose};
use bpf_oomd::fault::causes;
use bpf_oomd::log;
use bpf_oomd::resident;
use bpf_oomd::systemd::fd_store::{FdStore, Inherited};
use bpf_oomd::systemd::files::Files;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use tracing::{error, info, warn};

/// Exit status: the command line is not understood (systemd.exec(5): EXIT_INVALIDARGUMENT).
const USAGE: u8 = 2;
/// Exit status: this kernel cannot do what is needed (sysexits.h: EX_UNAVAILABLE). Starting again would not help.
const UNSUPPORTED_KERNEL: u8 = 69;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--version"] => {
            println!("bpf-oomd {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["--help"] => {
            println!(
                "bpf-oomd decides per systemd unit what happens when memory runs out.\n\
                 It is started by systemd: systemctl start bpf-oomd.service\n\n\
                 Options: --help, --version"
            );
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!(
                "bpf-oomd: unknown arguments {arguments:?}, expected none, --help or --version"
            );
            return ExitCode::from(USAGE);
        }
    }
    log::start();
    let (store, inherited) = FdStore::open().unwrap_or_else(|error| {
        error!("Nothing that an earlier daemon left can be found: {error}");
        Default::default()
    });
    let (kind, facts) = match supported() {
        Ok(found) => found,
        Err(reason) => {
            error!("{reason}");
            return ExitCode::from(UNSUPPORTED_KERNEL);
        }
    };
    match start(kind, &facts, store, inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", causes(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Which engine there is for what is configured, and what this kernel can do; or why it will not do, in one sentence.
fn supported() -> Result<(EngineKind, KernelFacts), String> {
    let files = probe_files(Path::new(MOUNT_POINT));
    let facts = probe(Path::new(VMLINUX_BTF), files).map_err(|error| {
        format!(
            "It cannot be told whether this kernel can choose OOM victims with BPF: {}; bpf-oomd does nothing here.",
            causes(&error)
        )
    })?;
    // Its faults are told by the core, which reads it again.
    let mut configuration = Configuration::below(Path::new("/"));
    configuration.read();
    let kind = choose(configuration.config().machine().engine, &facts)?;
    Ok((kind, facts))
}

fn start(
    kind: EngineKind,
    facts: &KernelFacts,
    store: FdStore,
    inherited: Inherited,
) -> anyhow::Result<()> {
    let tree = || Tree::open(Path::new(MOUNT_POINT)).context("the cgroup tree cannot be used");
    give_back_nominations(&tree()?, Path::new(STATE_DIRECTORY));
    match kind {
        EngineKind::Kernel => {
            let engine =
                KernelEngine::new(facts, store, inherited).context("BPF cannot be used")?;
            daemon(engine, tree()?, resident::keep_what_is_there)
        }
        EngineKind::Userspace => {
            let engine = UserspaceEngine::new(facts, tree()?, Path::new(STATE_DIRECTORY))
                .context("BPF cannot be used")?;
            // What the kernel engine left, before the configuration chose this one: two that are in charge would both kill.
            store.let_go(inherited);
            daemon(engine, tree()?, resident::keep_everything)
        }
    }
}

fn daemon(engine: impl Engine, tree: Tree, keep: fn() -> io::Result<()>) -> anyhow::Result<()> {
    info!("{}", bpf_oomd::engine::summary(&engine));
    // It works without, as long as there is a disk that answers.
    if let Err(error) = keep() {
        warn!("The daemon's memory may be reclaimed when memory is short: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no event loop")?;
    let configuration = Configuration::below(Path::new("/"));
    let state = Path::new(STATE_DIRECTORY);
    let mut core = Core::new(engine, tree, Files::below("/"), configuration, state);
    runtime
        .block_on(run(&mut core))
        .context("the core loop ended")?;
    // What is kept for the next daemon stays in force. When the service is stopped there is none, and systemd lets go of it.
    drop(core);
    info!("Stopped");
    Ok(())
}
