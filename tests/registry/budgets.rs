//! What images can cost the registry, in a control group as its unit has one: a reading ends by its own budget.

use crate::support::{Flake, Registry};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

const MIB: u64 = 1 << 20;

/// A control group with a limit of memory, of whichever version the machine has.
struct Group {
    folder: PathBuf,
    is_v2: bool,
}

impl Group {
    /// None where this test may not make one.
    fn new(limit: u64) -> Option<Self> {
        let name = format!("forge-budgets-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let folder = if is_v2 { root.join(name) } else { root.join("memory").join(name) };
        fs::create_dir(&folder).ok()?;
        let group = Self { folder, is_v2 };
        let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(group.folder.join(file), limit.to_string()).ok()?;
        Some(group)
    }

    fn add(&self, pid: u32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// How often the kernel has ended a process of it.
    fn kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folder.join(file)).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
fn the_worst_images_of_every_format_are_refused_side_by_side_and_the_registry_lives() {
    let zeroes = format!("sha256:{}", "0".repeat(64));
    let repeat = |text: &str, times: usize| {
        let text = text.replace('"', "\\\"");
        format!(r#"awk 'BEGIN {{ for (n = 0; n < {times}; n++) printf "%s{text}", (n ? "," : "") }}'"#)
    };
    let description = |paths: &str| {
        format!(
            r#"{{ printf '{{"version":1,"image-config":{{}},"arch":"","layers":[{{"digest":"{zeroes}","diff_ids":"{zeroes}","paths":['; {paths}; printf ']}}]}}'; }} >$out"#
        )
    };
    let perms = r#"printf '{"path":"%s","options":{"perms":[' $hello;
        awk 'BEGIN { for (n = 0; n < 10000; n++) printf "%s{\"regex\":\"(((((((((a)))))))){100}){10}x%d\",\"mode\":\"0755\"}", (n ? "," : ""), n }';
        printf ']}}'"#;
    let conf = format!(
        r#"{{ printf '{{"architecture":"","created":"now","store_dir":"/nix/store","store_layers":[],"config":['; {}; printf ']}}'; }} >$out"#,
        repeat("[0]", 1_900_000)
    );
    let config =
        format!("{{ printf '{{\"x\":['; {}; printf ']}}'; }} >config.json", repeat("[0]", 1_900_000));
    let archive = format!(
        r#"{config}; printf '[{{"Config":"config.json","Layers":[]}}]' >manifest.json; tar -cf archive.tar config.json manifest.json"#
    );
    let descriptor = format!(r#"{{"mediaType":"","digest":"{zeroes}","size":1,"annotations":{{"":""}}}}"#);
    let layout = format!(
        r#"mkdir -p $out/blobs; echo '{{}}' >$out/oci-layout;
        {{ printf '{{"schemaVersion":2,"manifests":['; {}; printf ']}}'; }} >$out/index.json"#,
        repeat(&descriptor, 29_000)
    );
    let scripts = [
        (
            "n2c-expressions",
            description(perms),
            "an expression would need more memory than the 50331648 bytes that MAX_READING_MEMORY",
        ),
        ("n2c-trees", description(&repeat(r#"{"path":""}"#, 600_000)), "MAX_READING_MEMORY"),
        ("streamed", conf, "MAX_READING_MEMORY"),
        ("archive", format!("{archive}; cp archive.tar $out"), "MAX_READING_MEMORY"),
        ("compressed", format!("{archive}; gzip -c archive.tar >$out"), "MAX_READING_MEMORY"),
        ("layout", layout, "MAX_READING_MEMORY"),
    ];
    let all: Vec<_> = scripts.iter().map(|(name, script, _)| (*name, script.as_str())).collect();
    let all = [all, vec![("good", "gzip -c $hello >$out")]].concat();
    let flake = Flake::of_scripts(&all);
    let settings = [
        ("MAX_READING_MEMORY", "48MiB"),
        ("MAX_BUILDS", "8"),
        ("PULL_WAIT", "1h"),
        ("MAX_COMPRESSION_RATIO", "1000000"),
    ];
    let registry = Registry::start(&flake, &settings);
    // What eight readings may have by their budgets and in buffers, and the rest of the registry. The first of these images
    // took 3.5 GiB when there were no budgets.
    let group = Group::new(8 * (48 + 24) * MIB + 64 * MIB);
    if let Some(group) = &group {
        group.add(registry.pid());
    } else {
        eprintln!("no control group can be made here: only what the registry says is looked at");
    }
    thread::scope(|scope| {
        for (name, _, expected) in &scripts {
            let registry = &registry;
            scope.spawn(move || {
                let said = registry.manifest(name, "latest").is_error(422, "MANIFEST_UNKNOWN");
                assert!(said.contains(expected), "{name}: {said}");
            });
        }
    });
    registry.pull("good", "latest");
    assert_eq!(group.as_ref().map_or(0, Group::kills), 0);
    for folder in ["layers", "gcroots"] {
        let expected = if folder == "gcroots" { 1 } else { 0 };
        let left = fs::read_dir(registry.state.join(folder)).unwrap().count();
        assert_eq!(left, expected, "{folder}");
    }
}
