//! docker, with a dockerd of its own.

use super::{
    Client, Daemon, Folder, Outcome, outcome, run_arguments,
    scenarios::{self, Compressed},
};

pub struct Docker {
    socket: String,
    _daemon: Daemon,
    _dir: Folder,
}

impl Docker {
    pub fn start() -> Self {
        Self::start_trusting(None)
    }

    /// With a folder in the place of `/etc/docker/certs.d`, which only this daemon sees.
    pub fn start_trusting(certificates: Option<&str>) -> Self {
        let dir = Folder::new();
        let socket = format!("unix://{}", dir.join("docker.sock"));
        let settings = dir.join("daemon.json");
        std::fs::write(&settings, "{}").unwrap();
        let [data, state, pid] = ["data", "exec", "pid"].map(|name| dir.join(name));
        let arguments = [
            "--config-file",
            &settings,
            "--data-root",
            &data,
            "--exec-root",
            &state,
            "--pidfile",
            &pid,
            "--host",
            &socket,
            // The machine's network and file system stay as they are.
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
            "--storage-driver=vfs",
        ];
        let script =
            r#"mkdir -p /etc/docker/certs.d && mount --bind "$0" /etc/docker/certs.d && exec dockerd "$@""#;
        let (program, before) = match certificates {
            Some(folder) => ("unshare", vec!["--mount", "sh", "-c", script, folder]),
            None => ("dockerd", vec![]),
        };
        let arguments = before.into_iter().chain(arguments);
        let daemon = Daemon::start(&dir.path().join("dockerd.log"), program, arguments)
            .until(|| outcome("docker", ["--host", &socket, "version"]));
        Self { socket, _daemon: daemon, _dir: dir }
    }

    pub fn docker(&self, arguments: &[&str]) -> Outcome {
        outcome("docker", ["--host", &self.socket].into_iter().chain(arguments.iter().copied()))
    }
}

impl Client for Docker {
    fn pull(&self, image: &str) -> Outcome {
        self.docker(&["pull", image])
    }

    fn run(&self, image: &str, command: &[&str]) -> Outcome {
        self.docker(&[&["run", "--rm", "--network=none"], &*run_arguments(image, command)].concat())
    }
}

#[test]
fn docker_runs_an_image_of_every_format() {
    scenarios::an_image_of_every_format_runs(&Docker::start());
}

#[test]
fn docker_runs_layers_compressed_with_gzip() {
    scenarios::compressed_layers(&Docker::start(), "gzip", Compressed::Run);
}

#[test]
fn docker_20_runs_an_image_with_zstd_in_the_form_without() {
    // The version here is 20.10.
    scenarios::compressed_layers(&Docker::start(), "zstd", Compressed::PlainInstead);
}

#[test]
fn docker_runs_packages_without_an_image() {
    scenarios::packages_without_an_image_run(&Docker::start());
}

#[test]
fn docker_fetches_only_the_layers_of_a_package_that_changed() {
    scenarios::only_changed_layers_of_a_package_are_fetched_again(&Docker::start());
}

#[test]
fn docker_runs_a_container_of_an_application() {
    scenarios::a_container_of_an_application_runs(&Docker::start());
}

#[test]
fn docker_pulls_by_digest_and_by_version() {
    scenarios::the_same_image_by_digest_and_by_version(&Docker::start());
}

#[test]
fn docker_fetches_no_layer_again_even_from_a_restarted_registry() {
    scenarios::no_layer_is_fetched_by_a_second_pull(&Docker::start());
}

#[test]
fn docker_prints_the_end_of_the_log_of_a_failed_build() {
    scenarios::the_end_of_the_log_of_a_failed_build_is_printed(&Docker::start());
}

#[test]
fn docker_goes_on_where_a_download_broke() {
    scenarios::a_broken_download_goes_on_where_it_broke(&Docker::start());
}

#[test]
fn docker_prints_near_misses_of_an_unknown_name() {
    scenarios::near_misses_are_printed(&Docker::start());
}
