// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of the administrator that are run before a kill.
//!
//! systemd runs them, each as a service of its own: not with the few rights that this daemon has, nor in its memory. They can be as
//! slow as they like: whoever waits for them does so for a limited time.

use super::bus::{MANAGER, MANAGER_PATH, SYSTEMD};
use crate::fault::causes;
use crate::policy::CgroupId;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, Variant};

/// What is to be run.
#[derive(Debug)]
pub struct Run {
    /// For whose kill.
    pub victim: CgroupId,
    /// Absolute paths.
    pub programs: Vec<PathBuf>,
    /// What they are told, as `NAME=VALUE`.
    pub environment: Vec<String>,
    /// How long each may take.
    pub timeout: Duration,
    /// Part of the services' names, different for each run.
    pub name: String,
}

/// Runs what comes, all of it at the same time, and tells for whom programs have ended. Returns when nothing can come any more.
pub async fn run_programs(mut runs: mpsc::Receiver<Run>, ended: mpsc::Sender<CgroupId>) {
    while let Some(run) = runs.recv().await {
        let ended = ended.clone();
        tokio::spawn(async move {
            let victim = run.victim;
            if let Err(error) = carry_out(run).await {
                warn!("Programs before a kill cannot be run: {}", causes(&error));
            }
            // Nobody may be there any more who wants to know.
            let _ = ended.send(victim).await;
        });
    }
}

/// A job has been removed: its number, its object, the unit, and what came of it.
type JobRemoved = (u32, OwnedObjectPath, String, String);

async fn carry_out(run: Run) -> zbus::Result<()> {
    let until = Instant::now() + run.timeout;
    let limited = async |what| match timeout_at(until, what).await {
        Ok(result) => result,
        Err(_) => Err(zbus::Error::Failure("it takes too long".into())),
    };
    let bus = limited(Box::pin(Connection::system())).await?;
    let removed = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SYSTEMD)
        .path(MANAGER_PATH)
        .interface(MANAGER)
        .member("JobRemoved")
        .build()?;
    // Before the first one is started: it may be over before the answer is there.
    let mut jobs = MessageStream::for_match_rule(removed, &bus, None).await?;
    let mut running: BTreeMap<String, &Path> = BTreeMap::new();
    for (number, program) in run.programs.iter().enumerate() {
        let unit = format!("bpf-oomd-pre-kill-{}-{number}.service", run.name);
        match timeout_at(until, start(&bus, &unit, program, &run)).await {
            Ok(Ok(())) => {
                running.insert(unit, program);
            }
            Ok(Err(error)) => warn!("{} was not run: {}", program.display(), causes(&error)),
            Err(_) => warn!("{} was not run: systemd does not answer", program.display()),
        }
    }
    while !running.is_empty() {
        let Ok(message) = timeout_at(until, jobs.next()).await else {
            break;
        };
        let Some(message) = message else {
            break;
        };
        let (_, _, unit, result): JobRemoved = message?.body().deserialize()?;
        if let Some(program) = running.remove(&unit) {
            match result.as_str() {
                "done" => debug!("{} has ended", program.display()),
                result => warn!("{}: {result} (journalctl -u {unit})", program.display()),
            }
        }
    }
    for program in running.values() {
        warn!("{} takes longer than it is waited for", program.display());
    }
    Ok(())
}

/// Has a program run as a service. The job that starts it is over when the program is.
async fn start(bus: &Connection, unit: &str, program: &Path, run: &Run) -> zbus::Result<()> {
    let usec = u64::try_from(run.timeout.as_micros()).unwrap_or(u64::MAX);
    let path = program.to_string_lossy().into_owned();
    let command = vec![(path.clone(), vec![path], false)];
    let description = format!("{} before a kill", program.display());
    let properties: Vec<(&str, Variant<'_>)> = vec![
        ("Description", description.into()),
        ("Type", "oneshot".into()),
        ("ExecStart", command.into()),
        ("Environment", run.environment.clone().into()),
        ("TimeoutStartUSec", usec.into()),
        ("TimeoutStopUSec", 1_000_000_u64.into()),
        ("CollectMode", "inactive-or-failed".into()),
        // Where memory is short may be in any other slice.
        ("Slice", "-.slice".into()),
        ("DefaultDependencies", false.into()),
        ("ManagedOOMPreference", "omit".into()),
    ];
    let others: Vec<(String, Vec<(String, Variant<'_>)>)> = Vec::new();
    bus.call_method(
        Some(SYSTEMD),
        MANAGER_PATH,
        Some(MANAGER),
        "StartTransientUnit",
        &(unit, "fail", properties, others),
    )
    .await?;
    Ok(())
}
