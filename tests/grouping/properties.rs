//! What holds for every graph.

use forge_registry::{
    closure::{Graph, Layer, PathInfo, Popularity, Strategy, group},
    nix::StorePath,
};
use proptest::{
    prelude::{Just, any, prop, prop_assert, prop_assert_eq, proptest},
    sample::Index,
    strategy::Strategy as _,
};
use std::num::NonZeroUsize;

fn path(i: usize) -> StorePath {
    // names repeat, as those of outputs and of several versions of a library do
    StorePath::from_base_name(&format!("{i:032}-package{}", i % 7)).unwrap()
}

/// Each path with its size and references to paths before it, and to itself.
fn infos() -> impl proptest::strategy::Strategy<Value = Vec<PathInfo>> {
    let info = (0..400_u64 << 20, prop::collection::vec(any::<Index>(), 0..6));
    prop::collection::vec(info, 1..60).prop_map(|infos| {
        let info = |(i, (nar_size, references)): (usize, (u64, Vec<Index>))| PathInfo {
            path: path(i),
            nar_size,
            references: references.into_iter().map(|index| path(index.index(i + 1))).collect(),
        };
        infos.into_iter().enumerate().map(info).collect()
    })
}

/// Made layers, as paths.
fn layers(
    infos: Vec<PathInfo>,
    roots: &[StorePath],
    strategy: Strategy,
    max_layers: usize,
) -> Vec<Vec<StorePath>> {
    let graph = Graph::new(infos, roots).unwrap();
    let popularity = Popularity::parse(br#"{"package1": 1000, "package2": 100, "package3": 99}"#).unwrap();
    let layers = group(&graph, &popularity, strategy, NonZeroUsize::new(max_layers).unwrap());
    layers.iter().map(|layer: &Layer| layer.iter().map(|i| graph.path(*i).clone()).collect()).collect()
}

proptest! {
    #[test]
    fn each_path_is_in_one_layer_and_the_limit_is_kept(infos in infos(), max_layers in 1..70_usize, root: Index) {
        let count = infos.len();
        for strategy in Strategy::ALL {
            let layers = layers(infos.clone(), &[path(root.index(count))], strategy, max_layers);
            prop_assert!(layers.len() <= max_layers);
            prop_assert!(layers.iter().all(|layer| !layer.is_empty()));
            let mut all = layers.concat();
            all.sort();
            prop_assert_eq!(all, (0..count).map(path).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_order_in_which_paths_are_given_changes_nothing(
        (given, shuffled) in infos().prop_flat_map(|infos| (Just(infos.clone()), Just(infos).prop_shuffle())),
        max_layers in 1..70_usize,
        roots: [Index; 2],
    ) {
        let [a, b] = roots.map(|root| path(root.index(given.len())));
        let reversed = shuffled.into_iter().map(|mut info| { info.references.reverse(); info }).collect::<Vec<_>>();
        for strategy in Strategy::ALL {
            let one = layers(given.clone(), &[a.clone(), b.clone()], strategy, max_layers);
            prop_assert_eq!(one, layers(reversed.clone(), &[b.clone(), a.clone(), b.clone()], strategy, max_layers));
        }
    }

    #[test]
    fn by_default_each_path_is_a_layer_if_there_are_enough(infos in infos()) {
        let count = infos.len();
        prop_assert_eq!(layers(infos, &[], Strategy::default(), count).len(), count);
    }
}
