// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control program. Everything it does is in the library.

use bpf_oomd::ctl::{Arguments, run};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    run(Arguments::parse())
}
