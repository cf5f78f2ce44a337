// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own report of an OOM, shortened to what says who ran out and who died.

use bpf_oomd_tests::text::wrap;

/// Columns that a line may have.
const WIDTH: usize = 94;

/// What of the report is shown; the rest are the stack that allocated and statistics of every kind.
const SHOWN: [&str; 6] = [
    "invoked oom-killer:",
    "oom_policy=",
    "memory: usage",
    "oom-kill:",
    "Memory cgroup out of memory:",
    "Out of memory:",
];

/// Prints a report, `lines` being the kernel log from its first line on.
pub fn print(lines: &[String]) {
    let end = lines
        .iter()
        .position(|line| line.contains("Killed process"))
        .map_or(lines.len(), |at| at + 1);
    let mut left_out = 0;
    for line in &lines[..end] {
        if !SHOWN.iter().any(|part| line.contains(part)) {
            left_out += 1;
            continue;
        }
        print_left_out(&mut left_out);
        for (number, part) in wrap(line, WIDTH).iter().enumerate() {
            println!("  {}{part}", if number == 0 { "" } else { "  " });
        }
    }
    print_left_out(&mut left_out);
}

fn print_left_out(lines: &mut usize) {
    if *lines > 0 {
        println!("  [{lines} lines left out]");
    }
    *lines = 0;
}
