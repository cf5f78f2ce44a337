// SPDX-License-Identifier: MIT OR Apache-2.0
//! What benchmarks are written with. The machine may be slow, and is often emulated: numbers say something beside others of the same
//! run alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

/// Numbers of the same thing, measured several times.
#[derive(Debug, Clone)]
pub struct Numbers(Vec<f64>);

impl Numbers {
    /// None if there are none.
    pub fn new(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        (!numbers.is_empty()).then_some(Self(numbers))
    }

    /// The one in the middle; of an even number of them, the mean of both.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() % 2 {
            0 => f64::midpoint(self.0[middle - 1], self.0[middle]),
            _ => self.0[middle],
        }
    }

    /// The least and the most of them.
    pub fn range(&self) -> (f64, f64) {
        (self.0[0], self.0[self.0.len() - 1])
    }

    /// All of it, as results have it.
    pub fn json(&self) -> Value {
        let (least, most) = self.range();
        json!({ "median": self.median(), "least": least, "most": most })
    }
}

/// The kernel's release.
pub fn kernel() -> String {
    line_of("/proc/sys/kernel/osrelease", "")
}

/// The processor's name, and how many there are.
pub fn processor() -> String {
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{count} x {}", line_of("/proc/cpuinfo", "model name"))
}

/// What runs the machine, as systemd-detect-virt(1) calls it: `qemu` emulates, `kvm` does not.
pub fn virtualization() -> String {
    let output = Command::new("systemd-detect-virt")
        .output()
        .expect("run systemd-detect-virt");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn line_of(file: &str, begins: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let line = text.lines().find(|line| line.starts_with(begins));
    line.unwrap_or("unknown")
        .trim_start_matches(begins)
        .trim_start_matches([' ', '\t', ':'])
        .to_owned()
}

/// Writes `NAME.json` to where the machine collects what is to be kept, if it does.
pub fn keep(name: &str, result: &Value) {
    if let Some(artifacts) = std::env::var_os("BPF_OOMD_ARTIFACTS") {
        let file = PathBuf::from(artifacts).join(format!("{name}.json"));
        fs::write(&file, format!("{result:#}\n"))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let median = |numbers: &[f64]| Numbers::new(numbers.to_vec()).map(|all| all.median());
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(&[]), None);
        let range = Numbers::new(vec![3.0, 1.0, 2.0]).map(|all| all.range());
        assert_eq!(range, Some((1.0, 3.0)));
    }
}
