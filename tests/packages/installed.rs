// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has to be so wherever the daemon is installed, from whatever package.

use std::fs;
use std::path::Path;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::{attachments, links, wait_attached};
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Journal, field};
use bpf_oomd_tests::seed_units::{LARGER, SLICE, SeedUnits};
use bpf_oomd_tests::systemctl::{eventually, show, wait_for_property};
use bpf_oomd_tests::unbroken::Watcher;

use crate::{VERSION, run, told};

/// Where an administrator replaces the vendor's defaults.
pub const EDITED: &str = "/etc/bpf-oomd/conf.d/50-bpf-oomd.toml";
pub const EDIT: &str =
    "# Mine.\n[slice.\"seed.slice\"]\npolicy = \"bpf:biggest-leaf\"\ncooldown = \"7s\"\n";

/// The unit of users' service managers.
const NOTIFY: &str = "bpf-oomd-notify.service";

/// It runs, and will after the next boot.
#[track_caller]
pub fn assert_runs() {
    wait_for_property(daemon::UNIT, "ActiveState", "active");
    assert_eq!(show(daemon::UNIT, "UnitFileState"), "enabled");
    assert_eq!(
        told("bpf-oomctl", &["--version"]),
        format!("bpf-oomctl {VERSION}\n")
    );
    // Users of a desktop are told.
    let enabled = told("systemctl", &["--global", "is-enabled", NOTIFY]);
    assert_eq!(enabled.trim(), "enabled");
    assert!(Path::new("/usr/lib/bpf-oomd/policies/biggest-leaf.bpf.o").exists());
    // Shells take it from there.
    told(
        "bash",
        &["-n", "/usr/share/bash-completion/completions/bpf-oomctl"],
    );
    let defaults = told("bpf-oomctl", &["check"]);
    assert!(!defaults.contains("error"), "{defaults}");
}

/// A unit file with a policy, an OOM, the right victim, and why in the journal.
#[track_caller]
pub fn assert_works() {
    let tree = SeedUnits::start(&["ManagedOOMPolicy=bpf:biggest-leaf"]);
    wait_attached(SLICE);
    let journal = Journal::from_now();
    assert_eq!(tree.run_out(), "oom_policy=biggest-leaf");
    wait_for_property(LARGER, "Result", "oom-kill");
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    assert_eq!(field(&entry, "VICTIM_UNIT"), LARGER);
}

/// Edits a file in /etc and starts units for which it says something.
#[track_caller]
pub fn edit() -> SeedUnits {
    fs::write(EDITED, EDIT).expect("write a file in /etc");
    let tree = SeedUnits::start(&[]);
    wait_attached(SLICE);
    tree
}

/// After an upgrade another daemon runs, and what is attached was in force all the time.
#[track_caller]
pub fn assert_upgrades(upgrade: impl FnOnce()) {
    let before = daemon::pid();
    let attached = links();
    let watcher = Watcher::of_links(attached.clone());
    upgrade();
    assert_runs();
    watcher.assert_unbroken();
    assert_eq!(links(), attached);
    assert_ne!(daemon::pid(), before, "it is the same daemon");
    assert_eq!(fs::read_to_string(EDITED).expect("the edited file"), EDIT);
    wait_attached(SLICE);
    let explained = told("bpf-oomctl", &["explain", SLICE]);
    assert!(explained.contains("cooldown: 7s"), "{explained}");
}

/// Nothing of it runs or is in the kernel.
#[track_caller]
pub fn assert_gone() {
    // systemd lets go of what it keeps a moment after the service has stopped.
    eventually("nothing is attached", || attachments().is_empty());
    let found = run("pgrep", &["--exact", "bpf-oomd"]);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    assert_eq!(show(daemon::UNIT, "LoadState"), "not-found");
    assert!(!Path::new("/run/bpf-oomd").exists());
    let users = run("systemctl", &["--global", "is-enabled", NOTIFY]);
    assert!(!users.status.success(), "{users:?}");
}
