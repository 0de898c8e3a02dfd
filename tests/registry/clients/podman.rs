//! podman, which asks as CRI-O and buildah do.

use super::{
    Client, Folder, Outcome, outcome, run_arguments,
    scenarios::{self, Compressed},
};

/// podman with images of its own. vfs and cgroupfs work in containers and without systemd.
pub struct Podman {
    dir: Folder,
}

impl Podman {
    pub fn new() -> Self {
        Self { dir: Folder::new() }
    }

    pub fn podman(&self, arguments: &[&str]) -> Outcome {
        self.podman_in(&[], arguments)
    }

    /// The same with variables, each `NAME=value`.
    pub fn podman_in(&self, variables: &[&str], arguments: &[&str]) -> Outcome {
        let [storage, state, temporary] = ["root", "runroot", "tmp"].map(|name| self.dir.join(name));
        let own = [
            "--root",
            &storage,
            "--runroot",
            &state,
            "--tmpdir",
            &temporary,
            "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
            "--runtime=runc",
        ];
        let podman = variables.iter().copied().chain(["podman"]).chain(own);
        outcome("env", podman.chain(arguments.iter().copied()))
    }
}

impl Client for Podman {
    fn pull(&self, image: &str) -> Outcome {
        self.podman(&["pull", "--tls-verify=false", image])
    }

    fn run(&self, image: &str, command: &[&str]) -> Outcome {
        // Some machines set limits that a container may not raise, so set low ones.
        let limited = [
            "run",
            "--rm",
            "--pull=never",
            "--network=none",
            "--ulimit=nofile=1024:20000",
            "--ulimit=nproc=4096:4096",
        ];
        self.podman(&[&limited, &*run_arguments(image, command)].concat())
    }
}

#[test]
fn podman_runs_an_image_of_every_format() {
    scenarios::an_image_of_every_format_runs(&Podman::new());
}

#[test]
fn podman_runs_layers_compressed_with_gzip() {
    scenarios::compressed_layers(&Podman::new(), "gzip", Compressed::Run);
}

#[test]
fn podman_runs_layers_compressed_with_zstd() {
    scenarios::compressed_layers(&Podman::new(), "zstd", Compressed::Run);
}

#[test]
fn podman_runs_packages_without_an_image() {
    scenarios::packages_without_an_image_run(&Podman::new());
}

#[test]
fn podman_fetches_only_the_layers_of_a_package_that_changed() {
    scenarios::only_changed_layers_of_a_package_are_fetched_again(&Podman::new());
}

#[test]
fn podman_runs_a_container_of_an_application() {
    scenarios::a_container_of_an_application_runs(&Podman::new());
}

#[test]
fn podman_pulls_by_digest_and_by_version() {
    scenarios::the_same_image_by_digest_and_by_version(&Podman::new());
}

#[test]
fn podman_fetches_no_layer_again_even_from_a_restarted_registry() {
    scenarios::no_layer_is_fetched_by_a_second_pull(&Podman::new());
}

#[test]
fn podman_prints_the_end_of_the_log_of_a_failed_build() {
    scenarios::the_end_of_the_log_of_a_failed_build_is_printed(&Podman::new());
}

#[test]
fn podman_completes_a_download_that_broke() {
    scenarios::a_broken_download_is_completed_in_two_attempts_at_most(&Podman::new());
}

#[test]
fn podman_prints_near_misses_of_an_unknown_name() {
    scenarios::near_misses_are_printed(&Podman::new());
}
