//! A strategy is as good as what clients do not pull again and registries do not store twice. `dev/bench grouping` prints
//! the figures, of more worlds and other seeds.

use crate::{
    corpus::{Shape, World},
    measure::{LAYERS, Plan},
};
use forge_registry::closure::{Popularity, Strategy, group};
use std::{collections::BTreeMap, num::NonZeroUsize, ops::Range};

/// In each column and for each limit, over all images of some worlds. (One pair of images that hardly exceed the limit
/// may be cut in the one way that suits it by any strategy.)
fn the_default_wins_or_ties((name, shape): (&str, Shape), seeds: Range<u64>, limits: &[usize]) {
    let plans = seeds.map(|seed| {
        let world = World::generate(seed, &Shape { applications: 6, families: 2, ..shape });
        let mut plan = Plan::default();
        plan.extend(&world, seed);
        (plan, world.popularity())
    });
    let plans: Vec<(Plan, Popularity)> = plans.collect();
    for max_layers in limits.iter().map(|n| NonZeroUsize::new(*n).unwrap()) {
        let sums = |strategy, with_data: bool| {
            let mut sums: BTreeMap<String, f64> = BTreeMap::new();
            for (plan, data) in &plans {
                let popularity = if with_data { data } else { &Popularity::default() };
                let row = plan.run(|graph| group(graph, popularity, strategy, max_layers));
                row.into_iter().for_each(|(column, bytes)| *sums.entry(column).or_default() += bytes);
            }
            sums.remove(LAYERS);
            sums
        };
        let ours = sums(Strategy::default(), false);
        assert_eq!(ours.len(), 11);
        for (strategy, with_data) in
            [(Strategy::Nixery, false), (Strategy::Nixery, true), (Strategy::Nixpkgs, false)]
        {
            for (column, theirs) in sums(strategy, with_data) {
                let ours = ours[&column];
                assert!(
                    ours <= theirs,
                    "{name}, {max_layers} layers, {column}: {ours}, with {strategy} {theirs}"
                );
            }
        }
    }
}

#[test]
fn no_other_strategy_pulls_or_stores_less_for_small_images() {
    the_default_wins_or_ties(Shape::ALL[0], 200..206, &[40, 94, 125]);
}

#[test]
fn no_other_strategy_pulls_or_stores_less_for_middling_images() {
    the_default_wins_or_ties(Shape::ALL[1], 200..202, &[40, 94, 125]);
}

#[test]
fn no_other_strategy_pulls_or_stores_less_for_large_images() {
    the_default_wins_or_ties(Shape::ALL[2], 200..201, &[94, 125]);
}

#[test]
fn no_other_strategy_pulls_or_stores_less_where_packages_are_much_alike() {
    the_default_wins_or_ties(Shape::ALL[3], 200..202, &[94, 125]);
}

#[test]
fn no_other_strategy_pulls_or_stores_less_where_a_few_packages_are_huge() {
    the_default_wins_or_ties(Shape::ALL[4], 200..202, &[94, 125]);
}
