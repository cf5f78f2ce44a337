// SPDX-License-Identifier: MIT OR Apache-2.0
//! What came of it: tables of ratios for people, and all numbers as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use bpf_oomd_tests::machine::meminfo;
use bpf_oomd_tests::measured::{self, Numbers};
use serde_json::{Value, json};

use crate::contender::{self, Contender};
use crate::idle::{Cost, ROWS, UNITS};
use crate::scene::Scene;
use crate::turn::Turn;

/// A time that a turn took, if it is over.
type Time = fn(&Turn) -> Option<Duration>;
const FROM_STALL: Time = |turn| turn.from_stall;
const FROM_LOW: Time = |turn| turn.from_low;

/// A scene, and the turns of each contender.
pub struct Compared {
    scene: &'static Scene,
    pub contenders: Vec<(Contender, Vec<Turn>)>,
}

impl Compared {
    pub fn new(scene: &'static Scene, contenders: Vec<Contender>) -> Self {
        let contenders = contenders.into_iter().map(|who| (who, Vec::new()));
        Compared {
            scene,
            contenders: contenders.collect(),
        }
    }

    /// How many times as long as the first contender it took each round; of rounds in which both had their memory back.
    fn ratio(&self, turns: &[Turn], time: Time) -> Option<Numbers> {
        let firsts = &self.contenders[0].1;
        let ratios = turns.iter().zip(firsts).filter_map(|(turn, first)| {
            Some(time(turn)?.as_secs_f64() / time(first)?.as_secs_f64())
        });
        Numbers::new(ratios.collect())
    }

    fn json(&self) -> Value {
        let contenders = self.contenders.iter().map(|(contender, turns)| {
            let ratio = |time| self.ratio(turns, time).map(|numbers| numbers.json());
            let result = json!({
                "turns": turns.iter().map(Turn::json).collect::<Vec<_>>(),
                "ratio_from_stall": ratio(FROM_STALL),
                "ratio_from_low": ratio(FROM_LOW),
            });
            (contender.name().to_owned(), result)
        });
        json!({
            "scene": self.scene.name,
            "what": self.scene.what,
            "contenders": contenders.collect::<BTreeMap<_, _>>(),
        })
    }

    fn print(&self) {
        println!("\n{}: {}", self.scene.name, self.scene.what);
        println!(
            "{:14}{:>24}{:>24}{:>20}{:>17}",
            "", "from the first stall", "from being low", "killed needlessly", "memory not back"
        );
        for (contender, turns) in &self.contenders {
            let dead: usize = turns.iter().map(|turn| turn.dead.len()).sum();
            let kernels = turns.iter().filter(|turn| turn.by_kernel > 0).count();
            let not_back = turns
                .iter()
                .filter(|turn| turn.from_stall.is_none())
                .count();
            println!(
                "{:14}{:>24}{:>24}{:>20}{:>17}{}",
                contender.name(),
                with_spread(self.ratio(turns, FROM_STALL)),
                with_spread(self.ratio(turns, FROM_LOW)),
                format!("{dead} in {} rounds", turns.len()),
                not_back,
                match kernels {
                    0 => String::new(),
                    count => format!("   the kernel killed in {count} rounds"),
                }
            );
        }
    }
}

/// What each contender cost, minute by minute.
pub struct Idled {
    pub contenders: Vec<(Contender, Vec<Cost>)>,
}

impl Idled {
    pub fn new(contenders: Vec<Contender>) -> Self {
        let contenders = contenders.into_iter().map(|who| (who, Vec::new()));
        Idled {
            contenders: contenders.collect(),
        }
    }

    /// By contender, the numbers of a row.
    fn row(&self, row: usize) -> Vec<Option<Numbers>> {
        let contenders = self.contenders.iter();
        contenders
            .map(|(_, costs)| Numbers::new(costs.iter().map(|cost| cost.numbers()[row]).collect()))
            .collect()
    }

    fn json(&self) -> Value {
        let contenders = self.contenders.iter().map(|(contender, costs)| {
            let minutes: Vec<Value> = costs.iter().map(|cost| cost.json()).collect();
            (contender.name().to_owned(), json!(minutes))
        });
        json!({ "units": UNITS, "minutes": contenders.collect::<BTreeMap<_, _>>() })
    }

    fn print(&self) {
        println!(
            "\nidle: {UNITS} units that do nothing; medians, and how many times as much as the first"
        );
        print!("{:34}", "");
        for (contender, _) in &self.contenders {
            print!("{:>24}", contender.name());
        }
        println!();
        for (row, what) in ROWS.iter().enumerate() {
            let medians: Vec<Option<f64>> = self
                .row(row)
                .iter()
                .map(|numbers| numbers.as_ref().map(Numbers::median))
                .collect();
            print!("{what:34}");
            for (index, median) in medians.iter().enumerate() {
                print!("{:>24}", beside(row, *median, medians[0], index == 0));
            }
            println!();
        }
    }
}

/// A number of wake-ups or of bytes, and what it is beside the first one's. Of processor time the ratio alone.
fn beside(row: usize, number: Option<f64>, first: Option<f64>, is_first: bool) -> String {
    let (Some(number), Some(first)) = (number, first) else {
        return "-".into();
    };
    let ratio = match (is_first, first > 0.0) {
        (true, _) => "1".into(),
        (false, true) => format!("{:.1}", number / first),
        (false, false) => "-".into(),
    };
    match row {
        0 => ratio,
        1 => format!("{number:.0} ({ratio})"),
        _ => format!("{:.1} MiB ({ratio})", number / (1024.0 * 1024.0)),
    }
}

fn with_spread(ratio: Option<Numbers>) -> String {
    match ratio {
        None => "-".into(),
        Some(ratio) => {
            let (least, most) = ratio.range();
            format!("{:.2} ({least:.2} to {most:.2})", ratio.median())
        }
    }
}

pub fn print(compared: &[Compared], idled: &Idled) {
    println!(
        "\non {} ({}, {}): ratios to {} in the same round, medians, and from the least to the most",
        measured::kernel(),
        measured::processor(),
        measured::virtualization(),
        contender::ALL[0].name()
    );
    for scene in compared {
        scene.print();
    }
    idled.print();
}

pub fn keep(compared: &[Compared], idled: &Idled) {
    let versions = contender::ALL.map(|who| (who.name().to_owned(), who.version()));
    let scenes: Vec<Value> = compared.iter().map(Compared::json).collect();
    let result = json!({
        "benchmark": "side-by-side",
        "kernel": measured::kernel(),
        "machine": measured::processor(),
        "virtualization": measured::virtualization(),
        "memory_bytes": meminfo("MemTotal:"),
        "versions": BTreeMap::from(versions),
        "thresholds": contender::thresholds(),
        "scenes": scenes,
        "idle": idled.json(),
    });
    measured::keep("side-by-side", &result);
}
