// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows a person what bpf-oomd does: a slice of real units runs out of memory, and a line in a unit file decides who dies.
//!
//! Whatever is printed was read from the system: cgroup files, systemd, the policy's ranking, the daemon's journal entry, the
//! kernel's log. It runs in the test machine; see `tests/demo`.

mod ranking;
mod report;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use bpf_oomd::events::kill::KILL_MESSAGE_ID;
use bpf_oomd_tests::attachments::wait_attached;
use bpf_oomd_tests::daemon;
use bpf_oomd_tests::journal::{Entry, Journal, field, number};
use bpf_oomd_tests::kmsg::Kmsg;
use bpf_oomd_tests::machine::TestMachine;
use bpf_oomd_tests::seed_units::{SERVICES, SLICE, SeedUnits, UNKILLABLE};
use bpf_oomd_tests::systemctl::{cgroup_of, eventually, show, wait_for_property};
use bpf_oomd_tests::text::{size, wrap};

use tree::Unit;

const POLICY: &str = "biggest-leaf";
/// Columns that text may have.
const WIDTH: usize = 96;

fn heading(text: &str) {
    println!("\n{}\n{}", text, "─".repeat(text.chars().count()));
}

fn say(text: &str) {
    for line in wrap(text, WIDTH) {
        println!("{line}");
    }
}

fn main() -> ExitCode {
    let _machine = TestMachine::enter();
    daemon::started();
    let setting = format!("ManagedOOMPolicy=bpf:{POLICY}");
    let tree = SeedUnits::start(&[&setting]);
    let slice = tree.slice_cgroup();
    let id = wait_attached(SLICE);

    heading("A line in a unit file");
    print_setting(&tree, &setting);
    say(&format!(
        "bpf-oomd has read it and attached the policy to the slice's cgroup (id {id}). From now on the kernel decides by itself. \
         The daemon's status: {}.",
        daemon::status_text()
    ));

    heading("The units, before");
    let before = Unit::read(&slice);
    before.print();

    heading("What the policy would do now, by its own ranking (nothing is killed)");
    let cgroups: Vec<(String, PathBuf)> = SERVICES
        .iter()
        .map(|unit| ((*unit).to_owned(), cgroup_of(unit)))
        .collect();
    let ranked = ranking::rank(POLICY, &slice, &cgroups);
    ranking::print(&ranked);
    if let Some((unit, score)) = before.highest_oom_score() {
        println!();
        say(&format!(
            "The kernel's own killer, by its oom_score, would begin with {unit} ({score})."
        ));
    }
    let foreseen = ranking::victim(&ranked).map(|judged| judged.unit.clone());

    let log = Kmsg::before_a_report();
    let journal = Journal::from_now();
    say(&format!(
        "Now {UNKILLABLE} asks for more memory than the slice has left."
    ));
    tree.run_out_of_memory();
    let entry = journal.wait_for(&[&format!("MESSAGE_ID={KILL_MESSAGE_ID}")]);
    wait_for_property(UNKILLABLE, "StatusText", "grown");
    let victim = field(&entry, "VICTIM_UNIT").to_owned();
    eventually("systemd has noticed the victim's end", || {
        show(&victim, "ActiveState") == "failed"
    });

    heading("Who was chosen, and why: bpf-oomd's entry in the journal");
    print_entry(&entry);

    heading("The units, after");
    let after = Unit::read(&slice).with_the_gone_of(&before);
    after.print();

    heading("The kernel's own report");
    report::print(&log.wait_for_report());

    println!();
    verdict(foreseen.as_deref(), &victim, &after.gone())
}

fn print_setting(tree: &SeedUnits, setting: &str) {
    let file = tree.slice_file.display();
    let text = std::fs::read_to_string(&tree.slice_file).expect("the slice's file");
    println!("  # {file}");
    for line in text.lines() {
        let mark = if line == setting { "  <--" } else { "" };
        println!("  {line}{mark}");
    }
}

fn print_entry(entry: &Entry) {
    say(field(entry, "MESSAGE"));
    let bytes = |name: &str| size(number(entry, name));
    let line = |what: &str, value: String| println!("  {what:<22} {value}");
    line(
        "ran out",
        format!(
            "{}, using {}",
            field(entry, "OOM_DOMAIN"),
            bytes("OOM_DOMAIN_BYTES")
        ),
    );
    line(
        "decided by",
        format!(
            "policy {}, attached to {}",
            field(entry, "OOM_POLICY"),
            field(entry, "OOM_ATTACHMENT_UNIT")
        ),
    );
    line(
        "candidates",
        format!(
            "{}; units with an unkillable process are none",
            field(entry, "OOM_CANDIDATES")
        ),
    );
    line("chosen", field(entry, "VICTIM_CGROUP").to_owned());
    line(
        "because",
        format!(
            "its score was the highest: {} (memory without page cache {})",
            field(entry, "VICTIM_SCORE"),
            bytes("VICTIM_BYTES")
        ),
    );
    for process in field(entry, "VICTIM_PROCESSES").lines() {
        let mut parts = process.splitn(3, ' ');
        let (pid, bytes, comm) = (parts.next(), parts.next(), parts.next());
        let bytes = bytes.and_then(|bytes| bytes.parse().ok()).map(size);
        line(
            "killed",
            format!(
                "{} ({}), {}",
                comm.unwrap_or_default(),
                pid.unwrap_or_default(),
                bytes.unwrap_or_default()
            ),
        );
    }
    line(
        "time in the kernel",
        format!("{} microseconds", field(entry, "OOM_HANDLER_USEC")),
    );
}

/// Compares what was foreseen with what happened.
fn verdict(foreseen: Option<&str>, victim: &str, gone: &[&str]) -> ExitCode {
    let policy = format!(
        "the policy's ranking foresaw {}",
        foreseen.unwrap_or("nobody")
    );
    let happened = format!("{victim} was killed, and {} gone", gone.join(", "));
    if foreseen == Some(victim) && gone == [victim] {
        say(&format!("As foreseen: {victim} is gone, and nothing else."));
        ExitCode::SUCCESS
    } else {
        say(&format!("NOT AS FORESEEN: {policy}; {happened}."));
        ExitCode::FAILURE
    }
}
