//! The program's commands.

mod access;
mod admin;
mod arguments;
mod build;
mod check;
mod folders;
mod generate;
mod manager;
mod name;
mod open_files;
mod progress;
mod serve;
mod sockets;
mod table;
mod terminal;

pub use admin::{forget, gc, images, inspect};
pub use arguments::{Arguments, Command};
pub use build::build;
pub use check::check;
pub use generate::{completions, man};
pub use serve::serve;
pub use sockets::inherited;
pub use terminal::Terminal;

use forge_registry::{
    config::Config,
    nix::{BuildSettings, Caches, Evaluator, NixDaemon, StoreDir},
    resolve::{Catalog, CatalogError, Evaluators, Flake, MaxAge, PackageSet, Resolver},
};
use std::sync::Arc;

fn store(config: &Config) -> StoreDir {
    StoreDir::new(&config.nix_store_dir)
}

fn daemon(config: &Config) -> NixDaemon {
    let build = BuildSettings { timeout: config.nix_build_timeout, max_jobs: config.nix_max_jobs };
    NixDaemon::new(&config.nix_daemon_socket, store(config), build, config.nix_daemon_timeout)
}

fn flake(config: &Config) -> Option<Flake> {
    let reference = config.flake.clone()?;
    let flake = Flake::new(
        reference,
        max_age(config),
        config.systems.clone(),
        evaluators(config),
        store(config),
        config.implicit_images,
    );
    Some(flake.with_revisions(config.revisions))
}

fn package_set(config: &Config) -> Option<PackageSet> {
    let (reference, system) = (config.package_set.clone()?, config.systems.first()?.clone());
    let set = PackageSet::new(reference, max_age(config), system, evaluators(config), store(config));
    Some(set.with_revisions(config.revisions))
}

fn max_age(config: &Config) -> MaxAge {
    MaxAge { fetched: config.registry.tag_ttl, failed: config.registry.failure_ttl }
}

fn evaluators(config: &Config) -> Evaluators {
    let client = |role, socket| Evaluator::new(role, socket, config.evaluation_timeout);
    Evaluators {
        fetcher: client("fetcher", &config.fetcher_socket),
        evaluator: client("evaluator", &config.evaluator_socket),
        daemon: Arc::new(daemon(config)),
    }
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
    Ok((daemon, Resolver::new(catalog, flake, package_set(config))))
}
