//! The program's commands.

mod build;
mod check;
mod manager;
mod open_files;
mod progress;
mod serve;
mod sockets;
mod terminal;
mod unix_socket;

pub use build::build;
pub use check::check;
pub use serve::serve;
pub use sockets::inherited;
pub use terminal::Terminal;

use forge_registry::{
    config::Config,
    nix::{BuildSettings, Caches, Evaluator, NixDaemon, StoreDir},
    resolve::{Catalog, CatalogError, Flake, Resolver},
};

fn store(config: &Config) -> StoreDir {
    StoreDir::new(&config.nix_store_dir)
}

fn daemon(config: &Config) -> NixDaemon {
    let build = BuildSettings { timeout: config.nix_build_timeout, max_jobs: config.nix_max_jobs };
    NixDaemon::new(&config.nix_daemon_socket, store(config), build, config.nix_daemon_timeout)
}

fn flake(config: &Config) -> Option<Flake> {
    let reference = config.flake.clone()?;
    let evaluator = Evaluator::new(&config.evaluator_socket, config.evaluation_timeout);
    Some(Flake::new(reference, config.systems.clone(), evaluator, store(config), config.implicit_images))
}

/// What the registry stands on: nix-daemon, and what names mean.
fn foundations(config: &Config) -> Result<(NixDaemon, Resolver), CatalogError> {
    let catalog = config.catalog.as_ref().map(|path| Catalog::open(path, store(config))).transpose()?;
    let (mut daemon, mut flake) = (daemon(config), flake(config));
    if config.accept_flake_config {
        let caches = Caches::default();
        daemon = daemon.with_caches(caches.clone());
        flake = flake.map(|flake| flake.with_caches(caches));
    }
    Ok((daemon, Resolver::new(catalog, flake)))
}
