//! `forge-registry build NAME`: what a pull would do, without the pull.

use super::{
    Terminal, foundations,
    progress::Progress,
    terminal::{print, unread},
};
use forge_registry::{
    config::Config,
    oci::{NameError, Reference, ReferenceError, RepositoryName},
    registry::{Caller, ManifestAnswer, Registry, RegistryError, StateError},
};
use std::{
    fs::DirBuilder,
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

#[derive(Debug, thiserror::Error)]
enum NameAndTagError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

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
    // Nobody waits on the other end of a connection.
    config.registry.pull_wait_once = Duration::from_secs(365 * 86_400);
    let open = |config: &Config, dir: &Path| -> Result<_, Box<dyn std::error::Error>> {
        let (daemon, resolver) = foundations(config)?;
        Ok(Registry::open(dir, config.registry.clone(), daemon, resolver)?)
    };
    // A running registry holds its state, and one that runs as somebody else could not use what is written there as
    // this user. What is built here is found by it in the Nix store all the same.
    let mut scratch = None;
    let registry = match is_anothers(&config.state_dir) {
        true => open(config, scratch.insert(new_folder()?))?,
        false => match open(config, &config.state_dir) {
            Err(error) if error.downcast_ref::<StateError>().is_some() => {
                open(config, scratch.insert(new_folder()?))?
            }
            other => other?,
        },
    };
    let answer = watch(&registry, &repository, &reference, terminal).await;
    registry.flush();
    drop(registry);
    if let Some(scratch) = scratch {
        let _ = std::fs::remove_dir_all(scratch);
    }
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

/// Whether a folder is there and belongs to another user. Root could write to it, and follow the links in it to
/// anywhere.
fn is_anothers(folder: &Path) -> bool {
    let owner = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.uid()).ok();
    owner(folder).is_some_and(|uid| Some(uid) != owner(Path::new("/proc/self")))
}

/// A folder of our own. Others can write where it lies, so it must not have been there before.
fn new_folder() -> io::Result<PathBuf> {
    let random = RandomState::new().hash_one(std::process::id());
    let path = std::env::temp_dir().join(format!("forge-registry-build-{random:016x}"));
    DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

/// `name`, `name:tag`, `name@digest`; a registry's address in front is what people paste, and is not part of it.
fn parse(text: &str, config: &Config) -> Result<(RepositoryName, Reference), NameAndTagError> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    let text = match text.split_once('/') {
        Some((host, name)) if host.contains(':') || host == "localhost" => name,
        _ => text,
    };
    let (name, reference) = match (text.split_once('@'), text.rsplit_once(':')) {
        (Some(parts), _) => parts,
        (None, Some((name, tag))) if !tag.contains('/') => (name, tag),
        _ => (text, forge_registry::resolve::LATEST),
    };
    Ok((
        RepositoryName::parse(name, config.route.max_name_length)?,
        Reference::parse(reference, config.route.max_tag_length)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste_is_understood() {
        let config = Config::from_variables([("FLAKE", "github:o/r")]).unwrap();
        for text in
            ["packages/a", "packages/a:latest", "localhost/packages/a", "docker://127.0.0.1:6443/packages/a"]
        {
            let (name, reference) = parse(text, &config).unwrap();
            assert_eq!((name.as_str(), reference.to_string().as_str()), ("packages/a", "latest"), "{text}");
        }
        let (name, reference) = parse("[::1]:6443/python3.12:1.0", &config).unwrap();
        assert_eq!((name.as_str(), reference.to_string().as_str()), ("python3.12", "1.0"));
        assert!(parse("a b", &config).is_err());
    }
}
