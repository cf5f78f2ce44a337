// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a command in the test machine, and says afterwards which system calls the daemon made meanwhile, which of those that its unit file
//! allows it did without, and which it was refused. What the unit file allows is found with it.
//!
//! Ends with the command's status, or with 1 where the daemon was refused a call.

use std::env;
use std::process::{Command, ExitCode};

use bpf_oomd_tests::program::Program;
use bpf_oomd_tests::programs;
use bpf_oomd_tests::rights::allowed_calls;

include!(concat!(env!("OUT_DIR"), "/calls.rs"));

fn print(what: &str, calls: &[&str]) {
    println!("{what} ({}): {}", calls.len(), calls.join(" "));
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(command) = arguments.next() else {
        eprintln!("usage: bpf-oomd-calls COMMAND [ARGUMENT...]");
        return ExitCode::from(2);
    };
    let program = Program::load(programs::CALLS);
    let _links = ["enters", "leaves"].map(|name| program.attach(name));
    let status = Command::new(&command).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("{}: {error}", command.display()));

    let allowed = allowed_calls();
    let (mut made, mut unmade, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for &(name, number) in SYSTEM_CALLS {
        if program.get_at("made", number) > 0 {
            made.push(name);
        } else if allowed.contains(name) {
            unmade.push(name);
        }
        // One that is allowed has been refused by the kernel itself, which has its reasons.
        if !allowed.contains(name) && program.get_at("refused", number) > 0 {
            refused.push(name);
        }
    }
    print("calls that the daemon made", &made);
    print("calls that it may make, and did not", &unmade);
    print("calls that it was refused", &refused);
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(0) if refused.is_empty() => ExitCode::SUCCESS,
        Some(0) | None => ExitCode::FAILURE,
        Some(code) => ExitCode::from(code),
    }
}
