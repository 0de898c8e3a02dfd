//! What a client pulls again, and what a registry stores, by strategy.

use crate::corpus::{Image, Random, World};
use forge_registry::closure::{Graph, Layer};
use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
};

/// A client has one image and pulls another.
pub struct Pull {
    pub column: &'static str,
    /// Indexes of graphs.
    pub has: usize,
    pub pulls: usize,
}

/// What is measured: all graphs, the pulls, and which graphs a registry stores together.
#[derive(Default)]
pub struct Plan {
    pub graphs: Vec<Graph>,
    pub pulls: Vec<Pull>,
    pub stored: Vec<(&'static str, Vec<usize>)>,
}

impl Plan {
    fn add(&mut self, graph: Graph) -> usize {
        self.graphs.push(graph);
        self.graphs.len() - 1
    }

    fn pull(&mut self, column: &'static str, has: usize, graph: Graph) -> usize {
        let pulls = self.add(graph);
        self.pulls.push(Pull { column, has, pulls });
        pulls
    }

    /// All changes to all images of a world.
    pub fn extend(&mut self, world: &World, seed: u64) {
        let mut random = Random(seed ^ 0xc0ff_ee00);
        let mut updated = world.clone();
        (0..world.packages.len() * 3 / 100).for_each(|_| updated.bump(random.below(world.packages.len())));
        let first: Vec<usize> =
            world.images.iter().map(|image| self.add(world.graph(&image.roots))).collect();
        let second: Vec<usize> = (world.images.iter().zip(&first))
            .map(|(image, has)| self.pull("update of 3 % of all packages", *has, updated.graph(&image.roots)))
            .collect();

        for (image, &has) in world.images.iter().zip(&first) {
            let bumped = |package| {
                let mut world = world.clone();
                world.bump(package);
                world.graph(&image.roots)
            };
            self.pull("new version of the application", has, bumped(image.application));
            self.pull("new version of the C library", has, bumped(world.base));
            for (column, packages) in by_dependents(world, image) {
                for _ in 0..2_usize.min(packages.len()) {
                    self.pull(column, has, bumped(packages[random.below(packages.len())]));
                }
            }
            let other = |same: bool| {
                let same = |other: &Image| (other.family == image.family) == same;
                (0..first.len()).find(|i| first[*i] != has && same(&world.images[*i]))
            };
            if let Some(sibling) = other(true) {
                self.pulls.push(Pull { column: "another image of its family", has, pulls: first[sibling] });
                self.pull("image that shares 90 %", has, extended(world, image, &world.images[sibling]));
            }
            if let Some(stranger) = other(false) {
                self.pulls.push(Pull { column: "unrelated image", has, pulls: first[stranger] });
            }
        }
        self.stored.push(("all images", first.clone()));
        self.stored
            .push(("all images before and after the update", first.into_iter().chain(second).collect()));
    }

    /// Bytes by column, and the mean number of layers.
    pub fn run(&self, group: impl Fn(&Graph) -> Vec<Layer>) -> BTreeMap<String, f64> {
        let layers: Vec<HashMap<u64, u64>> = (self.graphs.iter())
            .map(|graph| group(graph).iter().map(|layer| identity(graph, layer)).collect())
            .collect();
        let mut table: BTreeMap<String, f64> = BTreeMap::new();
        for Pull { column, has, pulls } in &self.pulls {
            let new = layers[*pulls].iter().filter(|(id, _)| !layers[*has].contains_key(id));
            *table.entry(format!("pulled: {column}")).or_default() +=
                new.map(|(_, size)| *size as f64).sum::<f64>();
        }
        for (column, graphs) in &self.stored {
            let all: HashMap<u64, u64> =
                graphs.iter().flat_map(|i| &layers[*i]).map(|(id, size)| (*id, *size)).collect();
            *table.entry(format!("stored: {column}")).or_default() +=
                all.values().map(|s| *s as f64).sum::<f64>();
        }
        table.insert(
            LAYERS.into(),
            layers.iter().map(HashMap::len).sum::<usize>() as f64 / layers.len() as f64,
        );
        table
    }
}

/// The column that is no number of bytes.
pub const LAYERS: &str = "layers of an image";

/// The packages of an image by how many others of it need them, directly or not.
fn by_dependents(world: &World, image: &Image) -> [(&'static str, Vec<usize>); 3] {
    let closure = world.closure(&image.roots);
    let mut counts = vec![0; world.packages.len()];
    for other in &closure {
        world.closure(&[*other]).into_iter().filter(|i| i != other).for_each(|i| counts[i] += 1);
    }
    let many = (closure.len() / 8).max(12);
    let with = |range: Range<usize>| {
        let own = |i: &usize| world.packages[*i].name.starts_with("application");
        closure.iter().copied().filter(|i| !own(i) && range.contains(&counts[*i])).collect()
    };
    [
        ("new version of a leaf (up to 5 need it)", with(1..6)),
        ("new version of a library (an eighth needs it)", with(6..many)),
        ("new version of a low library (more do)", with(many..usize::MAX)),
    ]
}

/// An image whose application needs a tenth more packages, out of what a sibling has.
fn extended(world: &World, image: &Image, sibling: &Image) -> Graph {
    let mut world = world.clone();
    let before = world.closure(&image.roots);
    let mut new = world.closure(&sibling.roots);
    new.retain(|i| {
        *i < image.application && !before.contains(i) && !world.packages[*i].name.starts_with("application")
    });
    for package in new.into_iter().rev() {
        let references = &mut world.packages[image.application].references;
        references.push(package);
        // with all that it needs, it may be too much
        if world.closure(&image.roots).len() * 10 > before.len() * 11 {
            world.packages[image.application].references.pop();
        }
    }
    world.graph(&image.roots)
}

/// A layer's digest, as it were: a function of its paths alone. And its bytes.
fn identity(graph: &Graph, layer: &Layer) -> (u64, u64) {
    let mut hasher = DefaultHasher::new();
    let mut paths: Vec<_> = layer.iter().map(|i| graph.path(*i)).collect();
    paths.sort_unstable();
    paths.hash(&mut hasher);
    (hasher.finish(), layer.iter().map(|i| graph.nar_size(*i)).sum())
}
