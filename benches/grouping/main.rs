//! What clients pull again and what a registry stores, by grouping strategy; and how long grouping takes.
//!
//!     cargo bench --bench grouping [-- FILE]
//!
//! FILE is what `apt-cache dumpavail` prints on a Debian machine: a graph and sizes that nobody made up.

#[path = "../../tests/grouping/corpus.rs"]
mod corpus;
mod debian;
#[path = "../../tests/grouping/measure.rs"]
mod measure;

use corpus::{Shape, World};
use forge_registry::closure::{Graph, Layer, Popularity, Strategy, group};
use measure::{LAYERS, Plan};
use std::{collections::BTreeMap, num::NonZeroUsize, time::Instant};

const MAX_LAYERS: NonZeroUsize = NonZeroUsize::new(94).unwrap();
const SEEDS: std::ops::Range<u64> = 100..104;

fn main() {
    let shapes: Vec<(&str, Shape)> = Shape::ALL.to_vec();
    for (name, shape) in shapes {
        let worlds: Vec<World> = SEEDS.map(|seed| World::generate(seed, &shape)).collect();
        report(name, &worlds);
    }
    if let Some(file) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let world = debian::world(&text)
            .unwrap_or_else(|| panic!("{file}: there is no libc6, bash, coreutils or ca-certificates"));
        report("packages of Debian", &[world]);
    }
    times();
}

/// One table: mebibytes where each path is a layer, and how many times as much the strategies take.
fn report(name: &str, worlds: &[World]) {
    type Row = BTreeMap<String, f64>;
    let mut rows: [Row; 5] = Default::default();
    let (mut paths, mut images, mut pulls) = (0, 0, 0);
    for (seed, world) in (1..).zip(worlds) {
        let mut plan = Plan::default();
        plan.extend(world, seed);
        paths += plan.graphs.iter().map(Graph::len).sum::<usize>();
        images += plan.graphs.len();
        pulls += plan.pulls.len();
        let (none, data) = (Popularity::default(), world.popularity());
        let by = |strategy, popularity| move |graph: &Graph| group(graph, popularity, strategy, MAX_LAYERS);
        let all = [
            plan.run(|graph| (0..graph.len()).map(|i| vec![i]).collect::<Vec<Layer>>()),
            plan.run(by(Strategy::Stability, &none)),
            plan.run(by(Strategy::Nixery, &none)),
            plan.run(by(Strategy::Nixery, &data)),
            plan.run(by(Strategy::Nixpkgs, &none)),
        ];
        for (sum, row) in rows.iter_mut().zip(all) {
            row.into_iter().for_each(|(column, value)| *sum.entry(column).or_default() += value);
        }
    }
    println!("\n{name}: {images} images of {} paths on average, {pulls} pulls", paths / images);
    println!(
        "| {:<58} | {:>10} | {:>9} | {:>6} | {:>17} | {:>7} |",
        "", "paths, MiB", "stability", "nixery", "nixery, with data", "nixpkgs"
    );
    println!(
        "|{}|{}:|{}:|{}:|{}:|{}:|",
        "-".repeat(60),
        "-".repeat(11),
        "-".repeat(10),
        "-".repeat(7),
        "-".repeat(18),
        "-".repeat(8)
    );
    for (column, least) in &rows[0] {
        let cell = |row: &Row| match column.as_str() {
            LAYERS => format!("{:.1}", row[column] / worlds.len() as f64),
            _ => format!("{:.3}", row[column] / least),
        };
        let first = if column == LAYERS { cell(&rows[0]) } else { format!("{:.0}", least / 1_048_576.0) };
        println!(
            "| {column:<58} | {first:>10} | {:>9} | {:>6} | {:>17} | {:>7} |",
            cell(&rows[1]),
            cell(&rows[2]),
            cell(&rows[3]),
            cell(&rows[4])
        );
    }
}

/// Milliseconds for big closures.
fn times() {
    println!(
        "\n| {:>6} paths | {:>9} references | {:>5} | {:>9} | {:>6} | {:>7} | milliseconds",
        "", "", "graph", "stability", "nixery", "nixpkgs"
    );
    for size in [1_000, 10_000, 50_000] {
        let shape = Shape {
            libraries: size / 4,
            families: 4,
            modules: size * 3 / 16,
            used: size,
            applications: 4,
            spread: 1.9,
        };
        let world = World::generate(1, &shape);
        let roots: Vec<usize> = (0..world.packages.len()).collect();
        let (graph, built) = timed(|| world.graph(&roots));
        let references: usize = (0..graph.len()).map(|i| graph.references(i).len()).sum();
        let [stability, nixery, nixpkgs] = Strategy::ALL
            .map(|strategy| timed(|| group(&graph, &Popularity::default(), strategy, MAX_LAYERS)).1);
        println!(
            "| {:>12} | {references:>20} | {built:>5.0} | {stability:>9.0} | {nixery:>6.0} | {nixpkgs:>7.0} |",
            graph.len()
        );
    }
}

fn timed<T>(work: impl Fn() -> T) -> (T, f64) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed().as_secs_f64() * 1e3)
}
