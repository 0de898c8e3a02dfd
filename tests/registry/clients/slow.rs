//! Builds that take longer than clients wait.

use super::{
    Client, containerd::Containerd, docker::Docker, podman::Podman, scenarios::requests, skopeo::Skopeo,
};
use crate::support::{Flake, Registry, eventually};
use std::{thread, time::Instant};

#[test]
fn every_client_completes_a_pull_of_a_minute_by_itself_and_there_is_one_build() {
    let flake = Flake::new("slowSeconds = 60;");
    let registry = Registry::start(&flake, &[]);
    let (skopeo, podman) = (Skopeo::new(), Podman::new());
    let (docker, containerd) = (Docker::start(), Containerd::start());
    let clients: [(&str, &dyn Client); 4] =
        [("skopeo", &skopeo), ("podman", &podman), ("docker", &docker), ("containerd", &containerd)];
    let image = format!("{}/packages/slow:latest", registry.address);
    thread::scope(|scope| {
        for (name, client) in clients {
            let image = &image;
            scope.spawn(move || {
                let begin = Instant::now();
                let pulled = client.pull(image);
                println!("{name}: {:.1?}\n{}", begin.elapsed(), pulled.text);
                pulled.expect();
                let printed = client.run(image, &[]).expect().to_owned();
                assert!(printed.contains("this took 60 seconds"), "{name}: {printed}");
            });
        }
    });
    assert_eq!(registry.logged("building derivation="), 1, "{}", registry.log());
    // It did not succeed by being held for as long as it took, but by coming back.
    for agent in ["skopeo/", "containers/", "containerd/"] {
        let refused = requests(&registry, &["status=429", &format!("agent=\"{agent}")]);
        assert!(refused > 0, "{agent}: {refused}\n{}", registry.log());
    }
}

#[test]
fn a_pull_after_one_that_gave_up_joins_the_same_build() {
    let flake = Flake::new("slowSeconds = 20;");
    // containerd asks six times, without a pause: it gives up after six seconds.
    let registry = Registry::start(&flake, &[("PULL_WAIT", "1s")]);
    let containerd = Containerd::start();
    let image = format!("{}/packages/slow:latest", registry.address);
    let first = containerd.pull(&image);
    assert!(first.expect_failure().contains("429 the image is still being built"), "{}", first.text);
    eventually("containerd pulls the image", || containerd.pull(&image).success);
    assert!(containerd.run(&image, &[]).expect().contains("this took 20 seconds"));
    assert_eq!(registry.logged("building derivation="), 1, "{}", registry.log());
}
