// SPDX-License-Identifier: MIT OR Apache-2.0
//! Swap space in compressed memory, gone when the test is over.

use std::fs;
use std::process::Command;

const CONTROL: &str = "/sys/class/zram-control";

/// A zram device that is swapped to; dropping it takes it away.
pub struct Swap {
    number: String,
}

impl Swap {
    /// Room for so many bytes of pages.
    #[track_caller]
    pub fn on(bytes: u64) -> Self {
        let number = fs::read_to_string(format!("{CONTROL}/hot_add")).expect("a zram device");
        let number = number.trim().to_owned();
        let size = format!("/sys/block/zram{number}/disksize");
        fs::write(size, bytes.to_string()).expect("set the size of a zram device");
        let swap = Self { number };
        run("mkswap", &swap.device());
        run("swapon", &swap.device());
        swap
    }

    fn device(&self) -> String {
        format!("/dev/zram{}", self.number)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Perhaps it is full; the test that failed is to be told of, not this.
            let _ = Command::new("swapoff").arg(self.device()).status();
        } else {
            run("swapoff", &self.device());
        }
        let _ = fs::write(format!("{CONTROL}/hot_remove"), &self.number);
    }
}

#[track_caller]
fn run(program: &str, device: &str) {
    let output = Command::new(program)
        .arg(device)
        .output()
        .unwrap_or_else(|error| panic!("run {program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {device}: {said}");
}
