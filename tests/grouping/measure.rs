//! What a client pulls again, and what a registry stores, by strategy.

use crate::corpus::{GLIBC, Random, World};
use forge_registry::closure::{Graph, Layer};
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
        let first: Vec<usize> = world.images.iter().map(|roots| self.add(world.graph(roots))).collect();
        let mut after_update = Vec::new();
        let mut update = world.clone();
        (0..world.packages.len() * 3 / 100).for_each(|_| update.bump(random.below(world.packages.len())));

        for (image, roots) in world.images.iter().enumerate() {
            let has = first[image];
            let closure = world.closure(roots);
            let mut referrers: BTreeMap<usize, usize> = closure.iter().map(|i| (*i, 0)).collect();
            for root in &closure {
                world.closure(&[*root]).iter().for_each(|i| *referrers.entry(*i).or_default() += 1);
            }
            referrers.values_mut().for_each(|count| *count -= 1);
            let kinds = |low: usize, high: usize| -> Vec<usize> {
                let own: BTreeSet<usize> = roots[..1].iter().copied().collect();
                closure.iter().copied().filter(|i| !own.contains(i) && (low..high).contains(&referrers[i])).collect()
            };
            let after = |packages: &[usize]| {
                let mut world = world.clone();
                packages.iter().for_each(|p| world.bump(*p));
                world.graph(roots)
            };
            let third = closure.len() / 8;
            let application = world.packages[roots[0]].references[0];
            let application = if application < 24 { roots[0] - 2 } else { application };
            self.pull("application", has, after(&[application]));
            for (column, packages) in [
                ("leaf", kinds(1, 6)),
                ("library", kinds(6, third.max(12))),
                ("low library", kinds(third.max(12), usize::MAX)),
            ] {
                for _ in 0..2 {
                    if !packages.is_empty() {
                        self.pull(column, has, after(&[packages[random.below(packages.len())]]));
                    }
                }
            }
            self.pull("base", has, after(&[GLIBC]));
            let updated = self.pull("update", has, update.graph(roots));
            after_update.push(updated);

            // one more direct dependency: a package of another image
            let (same, other): (Vec<usize>, Vec<usize>) = (0..world.images.len())
                .filter(|i| *i != image)
                .partition(|i| world.family[*i] == world.family[image]);
            if let (Some(near), Some(far)) = (same.first(), other.first()) {
                self.pulls.push(Pull { column: "sibling", has, pulls: first[*near] });
                self.pulls.push(Pull { column: "unrelated", has, pulls: first[*far] });
            }
            let near = same.first().or(other.first()).map(|i| world.closure(&world.images[*i])).unwrap_or_default();
            let mut new: Vec<usize> = near.into_iter().filter(|i| !closure.contains(i)).collect();
            new.retain(|i| !world.packages[*i].name.starts_with("application"));
            let mut changed = world.clone();
            let target = roots[0] - 2;
            let mut count = closure.len();
            while let Some(i) = (count * 100 < closure.len() * 110).then(|| new.pop()).flatten() {
                if i < target {
                    changed.packages[target].references.push(i);
                    count = changed.closure(roots).len();
                }
            }
            self.pull("90 % shared", has, changed.graph(roots));
        }
        self.stored.push(("images", first.clone()));
        self.stored.push(("two releases", first.into_iter().chain(after_update).collect()));
    }

    /// Bytes by column, and the mean number of layers. The `None` strategy has a layer for each path.
    pub fn run(&self, group: impl Fn(&Graph) -> Vec<Layer>) -> BTreeMap<String, f64> {
        let layers: Vec<HashMap<u64, u64>> = self
            .graphs
            .iter()
            .map(|graph| group(graph).iter().map(|layer| identity(graph, layer)).collect())
            .collect();
        let mut table: BTreeMap<String, f64> = BTreeMap::new();
        for pull in &self.pulls {
            let new = layers[pull.pulls].iter().filter(|(id, _)| !layers[pull.has].contains_key(id));
            *table.entry(format!("pull {}", pull.column)).or_default() += new.map(|(_, size)| *size as f64).sum::<f64>();
        }
        for (column, graphs) in &self.stored {
            let all: HashMap<u64, u64> = graphs.iter().flat_map(|g| layers[*g].iter()).map(|(i, s)| (*i, *s)).collect();
            *table.entry(format!("stored {column}")).or_default() += all.values().map(|s| *s as f64).sum::<f64>();
        }
        table.insert("layers".into(), layers.iter().map(HashMap::len).sum::<usize>() as f64 / layers.len() as f64);
        table
    }
}

fn identity(graph: &Graph, layer: &Layer) -> (u64, u64) {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    let mut paths: Vec<_> = layer.iter().map(|i| graph.path(*i)).collect();
    paths.sort();
    paths.hash(&mut hasher);
    (hasher.finish(), layer.iter().map(|i| graph.nar_size(*i)).sum())
}
