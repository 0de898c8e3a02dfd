//! `forge-registry build NAME`: what a pull would do, without the pull.

use super::{
    Terminal,
    folders::{Scratch, other_owner},
    foundations,
    name::parse,
    progress::Progress,
    terminal::{print, unread},
};
use forge_registry::{
    config::Config,
    metrics::Metrics,
    oci::{Reference, RepositoryName},
    registry::{Caller, ManifestAnswer, Registry, RegistryError, StateError},
    resolve::LATEST,
};
use std::{path::Path, pin::pin, process::ExitCode, sync::Arc, time::Duration};

/// Resolves and builds the image and prints the digests of its manifests.
pub async fn build(mut config: Config, name: &str, terminal: &Terminal) -> ExitCode {
    let documents = match try_build(&mut config, name, terminal).await {
        Ok(answer) => answer.documents,
        Err(error) => {
            terminal.line(format_args!("forge-registry: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut lines = documents.iter().map(|document| format!("{} {}", document.digest, document.media_type));
    match lines.try_for_each(print) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unread(&error, terminal),
    }
}

async fn try_build(
    config: &mut Config,
    name: &str,
    terminal: &Terminal,
) -> Result<ManifestAnswer, Box<dyn std::error::Error>> {
    let (repository, reference) = parse(name, config)?;
    let reference = match reference {
        Some(reference) => reference,
        None => Reference::parse(LATEST, config.route.max_tag_length)?,
    };
    // Nobody waits on the other end of a connection.
    config.registry.pull_wait_once = Duration::from_secs(365 * 86_400);
    let open = |config: &Config, dir: &Path| -> Result<_, Box<dyn std::error::Error>> {
        let (daemon, resolver) = foundations(config)?;
        Ok(Registry::open(dir, config.registry.clone(), daemon, resolver, Metrics::default())?)
    };
    // A running registry holds its state, and one that runs as somebody else could not use what is written there as
    // this user. What is built here is found by it in the Nix store all the same.
    let mut scratch = None;
    let registry = match other_owner(&config.state_dir) {
        Some(_) => open(config, scratch.insert(Scratch::new()?).path())?,
        None => match open(config, &config.state_dir) {
            Err(error) if error.downcast_ref::<StateError>().is_some() => {
                open(config, scratch.insert(Scratch::new()?).path())?
            }
            other => other?,
        },
    };
    let answer = watch(&registry, &repository, &reference, terminal).await;
    registry.flush();
    drop(registry);
    drop(scratch);
    Ok(answer?)
}

/// Asks for the manifest, and shows what is being done until it is there.
async fn watch(
    registry: &Arc<Registry>,
    repository: &RepositoryName,
    reference: &Reference,
    terminal: &Terminal,
) -> Result<ManifestAnswer, RegistryError> {
    let caller = Caller::operator();
    let mut answer = pin!(registry.manifest(repository, reference, &caller));
    let mut progress = Progress::new(terminal, format!("{repository}:{reference}"));
    let mut work = None;
    // The first look begins the work, so that none of it is missed.
    let mut pause = Duration::ZERO;
    loop {
        let answer = tokio::time::timeout(pause, answer.as_mut()).await;
        work = work.or_else(|| registry.work(repository, reference));
        if let Some(work) = &work {
            progress.show(&work.steps());
        }
        if let Ok(answer) = answer {
            progress.end();
            return answer;
        }
        pause = Duration::from_millis(100);
    }
}
