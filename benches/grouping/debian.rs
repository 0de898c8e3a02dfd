//! The packages of a Debian release as a world: a graph and sizes that nobody made up. Reads what `apt-cache dumpavail`
//! prints.

use crate::corpus::{Package, Random, World};
use std::collections::{BTreeMap, BTreeSet};

/// Applications, those of a family on a line.
const FAMILIES: [&str; 6] = [
    "nginx-full apache2 haproxy postfix dovecot-core redis-server postgresql-15 mariadb-server",
    "python3-django python3-scipy python3-pandas python3-matplotlib jupyter-notebook ansible python3-openstackclient calibre",
    "nodejs npm webpack eslint node-typescript",
    "openjdk-17-jre tomcat10 maven gradle ant",
    "gimp inkscape libreoffice-writer evince gnome-shell gnome-core thunderbird evolution",
    "qgis kdenlive plasma-desktop digikam texlive-latex-extra octave r-base ffmpeg imagemagick vlc",
];
const TOOLS: [&str; 3] = ["bash", "coreutils", "ca-certificates"];

struct Found {
    size: u64,
    needs: Vec<String>,
}

/// `None` if one of the packages that every image has is not there.
pub fn world(text: &str) -> Option<World> {
    let found = parse(text);
    let mut world = World { packages: Vec::new(), images: Vec::new(), base: 0 };
    let mut placed = BTreeMap::new();
    for name in found.keys() {
        place(name, &found, &mut placed, &mut world.packages);
    }
    world.base = placed.get("libc6").copied().flatten()?;
    let [shell, tools, certificates] = TOOLS.map(|name| placed.get(name).copied().flatten());
    let tools = [shell?, tools?, certificates?];
    let mut random = Random(1);
    for (family, names) in FAMILIES.into_iter().enumerate() {
        for package in names.split(' ').filter_map(|name| placed.get(name).copied().flatten()) {
            world.add_application(family, BTreeSet::from([package]), tools, 1.0, &mut random);
        }
    }
    Some(world)
}

/// What a package depends on comes before it. Debian's packages may need each other; where they do, one need is forgotten.
/// (`None` in `placed` marks a package that is being placed.)
fn place<'t>(
    name: &'t str,
    found: &'t BTreeMap<String, Found>,
    placed: &mut BTreeMap<&'t str, Option<usize>>,
    packages: &mut Vec<Package>,
) -> Option<usize> {
    if let Some(index) = placed.get(name) {
        return *index;
    }
    let Found { size, needs } = found.get(name)?;
    placed.insert(name, None);
    let references: BTreeSet<usize> =
        needs.iter().filter_map(|need| place(need, found, placed, packages)).collect();
    packages.push(Package {
        name: name.into(),
        version: 1,
        size: *size,
        references: references.into_iter().collect(),
    });
    let index = packages.len() - 1;
    placed.insert(name, Some(index));
    Some(index)
}

/// Packages by name, and what they need: the first of alternatives, the first provider of what is virtual.
fn parse(text: &str) -> BTreeMap<String, Found> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut providers: BTreeMap<String, String> = BTreeMap::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let names = |name: &str| {
            let word = |item: &str| item.split(['|', '(', ':']).next().unwrap_or("").trim().to_owned();
            field(name).map_or(Vec::new(), |list| list.split(',').map(word).collect::<Vec<_>>())
        };
        let (Some(package), Some(size)) =
            (field("Package"), field("Installed-Size").and_then(|s| s.parse::<u64>().ok()))
        else {
            continue;
        };
        if found.contains_key(package) {
            continue;
        }
        for virtual_name in names("Provides") {
            providers.entry(virtual_name).or_insert_with(|| package.to_owned());
        }
        let needs = names("Pre-Depends").into_iter().chain(names("Depends")).collect();
        // an installed package is a few files at the least; Debian counts in KiB
        found.insert(package.to_owned(), Found { size: (size << 10).max(2_000), needs });
    }
    let resolve = |need: &String| {
        if found.contains_key(need) { need.clone() } else { providers.get(need).unwrap_or(need).clone() }
    };
    let resolved: Vec<Vec<String>> = found.values().map(|f| f.needs.iter().map(resolve).collect()).collect();
    found.values_mut().zip(resolved).for_each(|(found, needs)| found.needs = needs);
    found
}
