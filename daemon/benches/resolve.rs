// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long it takes from configuration files and units to what has to be in the kernel, and how that grows.
//!
//! `cargo bench -p bpf-oomd` measures everything in one run; what counts is how the lines compare.

use bpf_oomd::config::Config;
use bpf_oomd::config::fragment::Fragment;
use bpf_oomd::policy::{CgroupId, Cgroups, UnitSaid, World, desired_attachments, desired_settings};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::PathBuf;

/// Drop-ins as a fleet has them: each says something about some units by name and about some by a pattern, and about a slice.
fn texts(files: usize) -> Vec<(PathBuf, String)> {
    (0..files)
        .map(|n| {
            let text = format!(
                "[slice.\"team{n}.slice\"]\npolicy = \"bpf:biggest-leaf\"\ncooldown = \"{n}s\"\n\
                 [unit.\"team{n}-*.service\"]\nkill = \"process\"\n\
                 [unit.\"team{n}-database.service\"]\npreference = \"avoid\"\n"
            );
            (format!("/etc/bpf-oomd/conf.d/{n}.toml").into(), text)
        })
        .collect()
}

fn parse(texts: &[(PathBuf, String)]) -> Vec<Fragment> {
    texts
        .iter()
        .filter_map(|(path, text)| {
            Fragment::parse(path, text.as_bytes(), &["biggest-leaf"], &|_| Vec::new()).ok()
        })
        .collect()
}

/// Everything that the daemon does when the configuration has changed, but for the attaching.
fn resolve(fragments: &[Fragment], units: &[(String, String)], cgroups: &Cgroups) -> usize {
    let config = Config::merge(fragments);
    let mut world = World {
        defaults: config.defaults().clone(),
        ..World::default()
    };
    for (name, slice) in units {
        let sections = config.for_unit(name).into_iter();
        let said = UnitSaid {
            sources: sections
                .map(|(speaker, layer)| (speaker, layer.clone()))
                .collect(),
            slice: Some(slice.clone()),
        };
        world.units.insert(name.clone(), said);
    }
    desired_attachments(&world, cgroups).len() + desired_settings(&world, cgroups).len()
}

fn units(number: usize, files: usize) -> Vec<(String, String)> {
    (0..number)
        .map(|n| {
            let team = n % files;
            match n / files {
                0 => (format!("team{team}.slice"), "-.slice".to_owned()),
                1 => (
                    format!("team{team}-database.service"),
                    format!("team{team}.slice"),
                ),
                _ => (
                    format!("team{team}-{n}.service"),
                    format!("team{team}.slice"),
                ),
            }
        })
        .collect()
}

fn benchmark(criterion: &mut Criterion) {
    let mut reading = criterion.benchmark_group("read");
    for files in [20, 200] {
        let texts = texts(files);
        reading.bench_function(BenchmarkId::from_parameter(format!("{files} files")), |b| {
            b.iter(|| parse(black_box(&texts)).len());
        });
    }
    reading.finish();

    let mut resolving = criterion.benchmark_group("resolve");
    for (number, files) in [(100, 20), (1000, 20), (1000, 200), (4000, 200)] {
        let fragments = parse(&texts(files));
        assert_eq!(fragments.len(), files);
        let units = units(number, files);
        let cgroups: Cgroups = units
            .iter()
            .zip(1..)
            .map(|((name, _), id)| (name.clone(), (CgroupId(id), 1)))
            .collect();
        let what = format!("{number} units, {files} files");
        resolving.bench_function(BenchmarkId::from_parameter(what), |b| {
            b.iter(|| resolve(black_box(&fragments), black_box(&units), &cgroups));
        });
    }
    resolving.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
