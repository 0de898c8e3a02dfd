//! Worlds of made-up packages, in the shape of nixpkgs: everything refers to a C library and what belongs to it, libraries
//! build on each other, families of modules on a large interpreter or framework, and applications on a family. Sizes have a
//! heavy tail. The same seed gives the same world.

use forge_registry::{
    closure::{Graph, PathInfo, Popularity},
    nix::StorePath,
};
use std::collections::BTreeSet;

/// A package, or one output of it.
#[derive(Clone)]
pub struct Package {
    pub name: String,
    pub version: u64,
    pub size: u64,
    /// Indexes of packages before it.
    pub references: Vec<usize>,
}

/// What an image is made of.
#[derive(Clone)]
pub struct Image {
    /// What it is asked to contain; what starts the application first.
    pub roots: Vec<usize>,
    pub application: usize,
    /// Images of different families have little in common.
    pub family: usize,
}

/// A package set, and images.
#[derive(Clone)]
pub struct World {
    pub packages: Vec<Package>,
    pub images: Vec<Image>,
    /// What most depend on.
    pub base: usize,
}

/// What a world is like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub libraries: usize,
    pub families: usize,
    /// Modules of each family.
    pub modules: usize,
    /// How many of them an application uses itself.
    pub used: usize,
    pub applications: usize,
    /// Standard deviation of the logarithm of sizes.
    pub spread: f64,
}

impl Shape {
    /// From images that hardly exceed the limit to those of a whole desktop; sizes more and less alike than usual.
    pub const ALL: [(&str, Self); 5] = [
        ("small images", Self::new(200, 125, 10, 1.9)),
        ("middling images", Self::new(400, 250, 20, 1.9)),
        ("large images", Self::new(1_200, 750, 60, 1.9)),
        ("middling images of packages that are all much alike", Self::new(400, 250, 20, 1.2)),
        ("middling images with a few huge packages", Self::new(400, 250, 20, 2.5)),
    ];

    const fn new(libraries: usize, modules: usize, used: usize, spread: f64) -> Self {
        Self { libraries, families: 4, modules, used, applications: 12, spread }
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Log-normal, at least 300 bytes.
    fn size(&mut self, median: f64, spread: f64) -> u64 {
        let normal: f64 = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        (median * (normal * spread).exp()).clamp(300.0, 3e9) as u64
    }

    /// One of `0..limit`, low ones more often.
    fn low(&mut self, limit: usize) -> usize {
        (self.unit().powi(2) * limit as f64) as usize
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Sizes in KiB as in nixpkgs; references by position.
const BASE: [(&str, u64, &[usize]); 24] = [
    ("libunistring", 1_900, &[]),
    ("libidn2", 360, &[0]),
    ("xgcc-libgcc", 190, &[]),
    ("glibc", 29_500, &[1, 2]),
    ("gcc-lib", 9_300, &[3]),
    ("bash", 1_600, &[3]),
    ("zlib", 130, &[3]),
    ("attr", 90, &[3]),
    ("acl", 170, &[7, 3]),
    ("gmp", 760, &[3, 4]),
    ("coreutils", 1_800, &[3, 8, 7, 9]),
    ("ncurses", 6_500, &[3, 4]),
    ("readline", 480, &[11, 3]),
    ("openssl", 6_800, &[3]),
    ("bzip2", 80, &[3]),
    ("xz", 830, &[3]),
    ("libffi", 80, &[3]),
    ("expat", 240, &[3]),
    ("sqlite", 1_700, &[3, 6]),
    ("pcre2", 1_600, &[3]),
    ("mailcap", 110, &[]),
    ("tzdata", 1_900, &[]),
    ("iana-etc", 430, &[]),
    ("nss-cacert", 490, &[]),
];
const GLIBC: usize = 3;
const BASH: usize = 5;
const COREUTILS: usize = 10;
const CACERT: usize = 23;

impl World {
    pub fn generate(seed: u64, shape: &Shape) -> Self {
        let mut random = Random(seed);
        let mut packages: Vec<Package> = BASE
            .iter()
            .map(|(name, size, references)| Package {
                name: (*name).into(),
                version: 1,
                size: size << 10,
                references: references.to_vec(),
            })
            .collect();
        let mut add = |name: String, size: u64, references: BTreeSet<usize>| {
            packages.push(Package { name, version: 1, size, references: references.into_iter().collect() });
            packages.len() - 1
        };

        for i in 0..shape.libraries {
            let mut references = BTreeSet::new();
            if random.below(10) > 0 {
                references.insert(GLIBC);
                (0..random.below(5)).for_each(|_| _ = references.insert(random.low(BASE.len() + i)));
            }
            add(format!("library{i}"), random.size(450e3, shape.spread), references);
        }
        let libraries = BASE.len() + shape.libraries;
        let mut modules: Vec<Vec<usize>> = Vec::new();
        for family in 0..shape.families {
            let mut references: BTreeSet<usize> = [GLIBC, 4, 5, 6, 12, 13, 16, 21].into();
            (0..6).for_each(|_| _ = references.insert(random.low(libraries)));
            let framework = add(format!("framework{family}"), random.size(80e6, 0.7), references);
            let mut own = Vec::new();
            for i in 0..shape.modules {
                let mut references = BTreeSet::from([framework]);
                (0..random.below(5)).for_each(|_| _ = own.get(random.low(i)).map(|m| references.insert(*m)));
                if random.below(4) == 0 {
                    (0..=random.below(4)).for_each(|_| _ = references.insert(random.below(libraries)));
                }
                own.push(add(format!("module{family}-{i}"), random.size(350e3, shape.spread), references));
            }
            modules.push(own);
        }

        let mut world = Self { packages, images: Vec::new(), base: GLIBC };
        for i in 0..shape.applications {
            let family = i % shape.families;
            let used = shape.used / 2 + random.below(shape.used + 1);
            let mut references: BTreeSet<usize> =
                (0..used).map(|_| modules[family][random.below(shape.modules)]).collect();
            (0..used / 4).for_each(|_| _ = references.insert(random.below(libraries)));
            world.add_application(family, references, [BASH, COREUTILS, CACERT], shape.spread, &mut random);
        }
        world
    }

    /// An application: itself, what it shows, its configuration, and a script that starts it.
    pub fn add_application(
        &mut self,
        family: usize,
        mut references: BTreeSet<usize>,
        [shell, tools, certificates]: [usize; 3],
        spread: f64,
        random: &mut Random,
    ) {
        let (i, assets) = (self.images.len(), self.packages.len());
        let (application, configuration, start) = (assets + 1, assets + 2, assets + 3);
        references.extend([assets, shell]);
        let mut add = |part: &str, size, references: Vec<usize>| {
            self.packages.push(Package {
                name: format!("application{i}{part}"),
                version: 1,
                size,
                references,
            });
        };
        add("-assets", random.size(1e6, spread), Vec::new());
        add("", random.size(3e6, 1.0), references.into_iter().collect());
        add("-conf", 2_000, vec![application, assets]);
        add("-start", 700, vec![application, configuration, shell, tools]);
        self.images.push(Image { roots: vec![start, shell, tools, certificates], application, family });
    }

    /// The closure of some packages.
    pub fn closure(&self, roots: &[usize]) -> Vec<usize> {
        let mut seen = vec![false; self.packages.len()];
        let mut stack = roots.to_vec();
        while let Some(i) = stack.pop() {
            if !std::mem::replace(&mut seen[i], true) {
                stack.extend(&self.packages[i].references);
            }
        }
        (0..seen.len()).filter(|i| seen[*i]).collect()
    }

    /// The graph of an image.
    pub fn graph(&self, roots: &[usize]) -> Graph {
        let paths = self.paths();
        let infos = self.closure(roots).into_iter().map(|i| PathInfo {
            path: paths[i].clone(),
            nar_size: self.packages[i].size,
            references: self.packages[i].references.iter().map(|r| paths[*r].clone()).collect(),
        });
        Graph::new(infos.collect(), &roots.iter().map(|r| paths[*r].clone()).collect::<Vec<_>>()).unwrap()
    }

    /// As in Nix, a path's hash is a function of its own definition and of the hashes of all that it refers to.
    fn paths(&self) -> Vec<StorePath> {
        let mut hashes: Vec<u64> = Vec::new();
        for package in &self.packages {
            let own = package.name.bytes().fold(package.version, |hash, byte| mix(hash ^ u64::from(byte)));
            hashes.push(package.references.iter().fold(own, |hash, r| mix(hash.rotate_left(5) ^ hashes[*r])));
        }
        let name = |(package, hash): (&Package, &u64)| {
            let digits = b"0123456789abcdfghijklmnpqrsvwxyz";
            let mut random = Random(*hash);
            let digest: String = (0..32).map(|_| digits[random.below(32)] as char).collect();
            StorePath::from_base_name(&format!("{digest}-{}-{}", package.name, package.version)).unwrap()
        };
        self.packages.iter().zip(&hashes).map(name).collect()
    }

    /// A new version of a package; its size changes a little.
    pub fn bump(&mut self, package: usize) {
        let package = &mut self.packages[package];
        package.version += 1;
        package.size += package.size * (mix(package.version ^ package.size) % 60) / 1_000;
    }

    /// How many packages refer to each, as if there were as many as nixpkgs has; of this version and the next ones, as if
    /// the data were always up to date.
    pub fn popularity(&self) -> Popularity {
        let mut counts = vec![0; self.packages.len()];
        self.packages.iter().flat_map(|package| &package.references).for_each(|i| counts[*i] += 1);
        let entry = |(package, count): (&Package, &usize)| {
            let count = (count * 100_000 / self.packages.len()).max(1);
            let entry = |version| format!("\"{}-{version}\": {count}", package.name);
            (package.version..package.version + 4).map(entry).collect::<Vec<_>>().join(",")
        };
        let entries: Vec<String> = self.packages.iter().zip(&counts).map(entry).collect();
        Popularity::parse(format!("{{{}}}", entries.join(",")).as_bytes()).unwrap()
    }
}
