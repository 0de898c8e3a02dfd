//! Small graphs, grouped by hand from the rules.

use super::*;
use crate::nix::StorePath;

const MB: u64 = 1_000_000;

/// The path of a package; only its name matters.
fn path(name: &str) -> StorePath {
    StorePath::from_base_name(&format!("00bgd045z0d4icpbc2yyz4gx48ak44la-{name}")).unwrap()
}

/// `name size reference…`, one a line.
fn infos(text: &str) -> Vec<PathInfo> {
    let info = |line: &str| {
        let mut words = line.split_whitespace();
        PathInfo {
            path: path(words.next().unwrap()),
            nar_size: words.next().unwrap().parse::<u64>().unwrap() * MB,
            references: words.map(path).collect(),
        }
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(info).collect()
}

fn graph(text: &str, roots: &[&str]) -> Graph {
    Graph::new(infos(text), &roots.iter().map(|name| path(name)).collect::<Vec<_>>()).unwrap()
}

/// Names in each layer, lowest first.
fn grouped(graph: &Graph, popularity: &str, strategy: Strategy, max_layers: usize) -> Vec<String> {
    let popularity = Popularity::parse(popularity.as_bytes()).unwrap();
    let name = |i: &usize| graph.path(*i).name().to_owned();
    group(graph, &popularity, strategy, NonZeroUsize::new(max_layers).unwrap())
        .iter()
        .map(|layer| layer.iter().map(name).collect::<Vec<_>>().join(" "))
        .collect()
}

/// The example of Nixery's documentation: A, B and C need E; C needs D; D needs F and G.
const LETTERS: &str = "
    a 1 e
    b 2 e
    c 3 e d
    d 4 f g
    e 5
    f 6
    g 120
";
const LETTERS_TOP: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn nixery_keeps_what_is_big_or_popular_apart_and_the_rest_with_what_needs_it() {
    // Closures: a 6, b 7, c 138 (3+5+4+6+120), d 130, e 5, f 6, g 120: c, d and g are big, and under the root.
    // e is popular. f is d's alone. Ratings, by the sizes of closures: a 6, b 7, g 120, d (130+6), c 138, e 5 × 200.
    let graph = graph(LETTERS, &LETTERS_TOP);
    let popularity = r#"{"e": 200}"#;
    assert_eq!(grouped(&graph, popularity, Strategy::Nixery, 10), ["e", "c", "d f", "g", "b", "a"]);
    // The lowest are put together, from below: a and b (13), and g (133), and d (269).
    assert_eq!(grouped(&graph, popularity, Strategy::Nixery, 5), ["e", "c", "d f", "g", "a b"]);
    assert_eq!(grouped(&graph, popularity, Strategy::Nixery, 4), ["e", "c", "d f", "a b g"]);
    assert_eq!(grouped(&graph, popularity, Strategy::Nixery, 3), ["e", "a b d f g", "c"]);
    assert_eq!(grouped(&graph, popularity, Strategy::Nixery, 1), ["a b c d e f g"]);
    // Without popularity, e has 5: it is still under the root, since three of its children need it.
    assert_eq!(grouped(&graph, "{}", Strategy::Nixery, 10), ["c", "d f", "g", "b", "a", "e"]);
}

#[test]
fn nixery_gives_a_path_to_the_one_that_all_ways_to_it_lead_through() {
    // Closures: top 33, left 18, right 19, shared 11, low 8, certificates 1.
    let text = "
        top 3 left right nss-cacert-3.1
        left 7 shared
        right 8 shared
        shared 3 low
        low 8
        nss-cacert-3.1 1
    ";
    // Everything is top's but the certificates, whose rating is 500 000.
    assert_eq!(
        grouped(&graph(text, &["top"]), "{}", Strategy::Nixery, 94),
        ["nss-cacert-3.1", "left low right shared top"]
    );
    // Asked for by itself, left is under the root; then no path has shared for itself, which keeps low.
    // Ratings: top 30 + right 19, shared 11 + 8, left 18.
    assert_eq!(
        grouped(&graph(text, &["top", "left"]), "{}", Strategy::Nixery, 94),
        ["nss-cacert-3.1", "right top", "low shared", "left"]
    );
    // A popularity of 99 keeps nothing apart, 100 does.
    let popularity = |count| format!(r#"{{"low": {count}}}"#);
    assert_eq!(grouped(&graph(text, &["top"]), &popularity(99), Strategy::Nixery, 94).len(), 2);
    assert_eq!(
        grouped(&graph(text, &["top"]), &popularity(100), Strategy::Nixery, 94),
        ["nss-cacert-3.1", "low", "left right shared top"]
    );
}

#[test]
fn nixery_takes_the_first_name_for_the_lowest_of_equal_ratings() {
    let graph = graph("d 1\n c 1\n b 1\n a 1", &["a", "b", "c", "d"]);
    assert_eq!(grouped(&graph, "{}", Strategy::Nixery, 4), ["d", "c", "b", "a"]);
    assert_eq!(grouped(&graph, "{}", Strategy::Nixery, 3), ["a b", "d", "c"]);
}

#[test]
fn nixery_takes_a_closure_of_exactly_100_mb_for_small() {
    for (size, layers) in [(50, 1), (51, 2)] {
        let graph = graph(&format!("a 1 b\n b {size} c\n c 50"), &["a"]);
        // at 51 both a (102) and b (101) are big
        assert_eq!(grouped(&graph, "{}", Strategy::Nixery, 94).len(), layers, "{size}");
    }
}

#[test]
fn nixpkgs_orders_by_the_ways_that_lead_to_a_path_and_to_what_needs_it() {
    // The example of closure-graph.py, with the counts that it states: a 1, b 2, c 3, d 4, e 5, f 9, g 2. Of b and g,
    // which have the same, the first by name comes first.
    let graph = graph("a 1 b g\n b 1 c e\n c 1 d e\n d 1 f\n e 1 f\n f 1\n g 1", &["a"]);
    assert_eq!(grouped(&graph, "{}", Strategy::Nixpkgs, 94), ["f", "e", "d", "c", "b", "g", "a"]);
    assert_eq!(grouped(&graph, "{}", Strategy::Nixpkgs, 3), ["f", "e", "a b c d g"]);
    assert_eq!(grouped(&graph, "{}", Strategy::Nixpkgs, 1), ["a b c d e f g"]);
}

#[test]
fn stability_has_big_paths_alone_and_the_small_ones_by_how_much_they_need() {
    // Paths in closures: conf 10, app 9, plugin 6, module 5, tool 4, data 1, bash 3, zlib 2, libc 1, python 4.
    let text = "
        conf 1 app
        app 2 plugin tool data
        plugin 3 module
        module 4 python zlib
        tool 5 bash
        data 6
        bash 7 zlib
        zlib 8 libc
        libc 30
        python 60 bash
    ";
    let graph = graph(text, &["conf"]);
    let all = ["data", "libc", "zlib", "bash", "python", "tool", "module", "plugin", "app", "conf"];
    assert_eq!(grouped(&graph, "{}", Strategy::Stability, 10), all);
    // Eight alone, the smallest two together; five alone, the smallest five together.
    let two = ["data", "libc", "zlib", "bash", "python", "tool", "module", "plugin", "app conf"];
    assert_eq!(grouped(&graph, "{}", Strategy::Stability, 9), two);
    let five = ["data", "libc", "zlib", "bash", "python", "app conf module plugin tool"];
    assert_eq!(grouped(&graph, "{}", Strategy::Stability, 6), five);
    assert_eq!(grouped(&graph, "{}", Strategy::Stability, 1).len(), 1);
}

#[test]
fn stability_keeps_apart_what_nearly_every_change_changes_and_what_hardly_any_does() {
    // Thirty paths of the same size, each with all before it in its closure. Three layers are for small ones: a fifth of
    // 11, and one for each eight of the 19 beyond the limit. Of equal sizes, the first names count as bigger.
    let line =
        |i: usize| format!("c{i:02} 1 {}\n", if i > 0 { format!("c{:02}", i - 1) } else { String::new() });
    let graph = graph(&(0..30).map(line).collect::<String>(), &["c29"]);
    let alone = |range: std::ops::Range<usize>| range.map(|i| format!("c{i:02}")).collect::<Vec<_>>();
    let mut expected = alone(0..8);
    // c22 is the first that needs more than three quarters, which are 22.5 paths
    expected.extend([alone(8..15), alone(15..22), alone(22..30)].map(|run| run.join(" ")));
    assert_eq!(grouped(&graph, "{}", Strategy::Stability, 11), expected);
}

#[test]
fn what_is_no_closure_is_refused_and_named() {
    let error = |text: &str, root: &str| Graph::new(infos(text), &[path(root)]).unwrap_err().to_string();
    assert!(
        error("a 1 b", "a").contains("-a refers to") && error("a 1 b", "a").contains("-b, which is not in")
    );
    assert!(error("a 1", "b").contains("-b was asked for"));
    assert!(error("a 1\n a 1", "a").contains("-a is in the closure twice"));
    assert!(error("a 1 b\n b 1 c\n c 1 d b\n d 1", "a").contains("refers to itself by way of"));
    let many = vec![infos("a 1").remove(0); MAX_PATHS + 1];
    assert_eq!(Graph::new(many, &[]).unwrap_err(), GraphError::TooMany(MAX_PATHS + 1));
}

#[test]
fn a_path_may_refer_to_itself_and_an_image_may_be_empty() {
    let graph = graph("a 1 a b b\n b 1 b", &[]);
    assert_eq!((graph.references(0), graph.roots(), graph.bottom_up()), (&[1][..], &[0][..], &[1, 0][..]));
    let empty = Graph::new(Vec::new(), &[]).unwrap();
    for strategy in Strategy::ALL {
        assert!(grouped(&empty, "{}", strategy, 94).is_empty());
    }
}

#[test]
fn a_strategy_has_a_name() {
    for strategy in Strategy::ALL {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
        assert!(UnknownStrategy.to_string().contains(&strategy.to_string()));
    }
    assert_eq!("popular".parse::<Strategy>(), Err(UnknownStrategy));
    assert_eq!(Strategy::default(), Strategy::Stability);
}
