// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program that goes on running says, line by line.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// The lines of a program's standard output, which is a pipe, as they come.
pub fn lines(program: &mut Child) -> Receiver<String> {
    let stdout = program.stdout.take().expect("a pipe for its output");
    let (send, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
