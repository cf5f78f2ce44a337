// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rest of the system misbehaves, and the daemon has to do without something for a while. What is in force stays in force, what is wrong
//! is said plainly, and when the trouble is over everything is as it should be without a restart.
//!
//! A bus that goes away, and a systemd that executes itself again, are in `following.rs`.

mod clock;
mod descriptors;
mod journal;
mod memory;
mod names;
mod places;

use bpf_oomd_tests::attachments::wait_attached;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::oomctl::{bpf_oomctl, text};
use bpf_oomd_tests::systemctl::{daemon_reload, start, stop};
use bpf_oomd_tests::units::{Units, hog_service};

/// A daemon with nothing set at run time, and a service with a policy and a limit, which it will exceed when it gets SIGUSR1.
#[track_caller]
fn limited(service: &str) -> Units {
    stop(&[daemon::UNIT]);
    daemon::started();
    let mut units = Units::new();
    units.write(
        service,
        &hog_service(
            "system.slice",
            &["ManagedOOMPolicy=bpf:biggest-leaf", "MemoryMax=24M"],
            "notify=READY=1 usr1 anon=64M pause",
        ),
    );
    daemon_reload();
    start(&[service]);
    wait_attached(service);
    units
}

/// What `bpf-oomctl status` says; its exit status is 1 while something is wrong.
fn status() -> String {
    text(&bpf_oomctl(&["status"]).stdout)
}
