//! containerd through `ctr`, with a containerd of its own.

use super::{
    Client, Daemon, Folder, Outcome, outcome,
    scenarios::{self, Compressed},
};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Containerd {
    socket: String,
    _daemon: Daemon,
    _dir: Folder,
}

impl Containerd {
    pub fn start() -> Self {
        let dir = Folder::new();
        let socket = dir.join("containerd.sock");
        let settings = dir.join("config.toml");
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {socket:?}\n\
             # for ctr 2, which has containerd unpack, and lets it do so with no other snapshotter than this says\n\
             [[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n\
             platform = \"linux/{}\"\nsnapshotter = \"native\"\n",
            dir.join("root"),
            dir.join("state"),
            if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        );
        std::fs::write(&settings, text).unwrap();
        let daemon = Daemon::start(&dir.path().join("containerd.log"), "containerd", ["--config", &settings])
            .until(|| outcome("ctr", ["--address", &socket, "version"]));
        Self { socket, _daemon: daemon, _dir: dir }
    }

    pub fn ctr(&self, arguments: &[&str]) -> Outcome {
        outcome("ctr", ["--address", &self.socket].into_iter().chain(arguments.iter().copied()))
    }
}

impl Client for Containerd {
    fn pull(&self, image: &str) -> Outcome {
        self.ctr(&["images", "pull", "--plain-http", "--snapshotter=native", image])
    }

    fn run(&self, image: &str, command: &[&str]) -> Outcome {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("test-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let mut arguments = vec!["run", "--rm", "--snapshotter=native", image, &id];
        arguments.extend(command);
        self.ctr(&arguments)
    }
}

#[test]
fn containerd_runs_an_image_of_every_format() {
    scenarios::an_image_of_every_format_runs(&Containerd::start());
}

#[test]
fn containerd_runs_layers_compressed_with_gzip() {
    scenarios::compressed_layers(&Containerd::start(), "gzip", Compressed::Run);
}

#[test]
fn containerd_runs_layers_compressed_with_zstd() {
    scenarios::compressed_layers(&Containerd::start(), "zstd", Compressed::Run);
}

#[test]
fn containerd_runs_packages_without_an_image() {
    scenarios::packages_without_an_image_run(&Containerd::start());
}

#[test]
fn containerd_fetches_only_the_layers_of_a_package_that_changed() {
    scenarios::only_changed_layers_of_a_package_are_fetched_again(&Containerd::start());
}

#[test]
fn containerd_runs_a_container_of_an_application() {
    scenarios::a_container_of_an_application_runs(&Containerd::start());
}

#[test]
fn containerd_pulls_by_digest_and_by_version() {
    scenarios::the_same_image_by_digest_and_by_version(&Containerd::start());
}

#[test]
fn containerd_fetches_no_layer_again_even_from_a_restarted_registry() {
    scenarios::no_layer_is_fetched_by_a_second_pull(&Containerd::start());
}

#[test]
fn containerd_prints_the_end_of_the_log_of_a_failed_build() {
    scenarios::the_end_of_the_log_of_a_failed_build_is_printed(&Containerd::start());
}

#[test]
fn containerd_goes_on_where_a_download_broke() {
    scenarios::a_broken_download_goes_on_where_it_broke(&Containerd::start());
}

/// Whatever a 404 says, see `docs/clients.md`.
#[test]
fn containerd_says_not_found_for_an_unknown_name() {
    let printed = scenarios::misspelt(&Containerd::start());
    assert!(printed.contains("/packages/helo:latest: not found"), "{printed}");
}
