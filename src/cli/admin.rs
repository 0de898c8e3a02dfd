//! `forge-registry images`, `inspect`, `forget` and `gc`: asked of the registry that runs, else of the state that it left.

use super::{
    Terminal,
    arguments::{Format, Gc},
    daemon,
    folders::{Scratch, other_owner},
    name::{ImageNameError, parse_with_tag},
    store, table,
    terminal::{print, unread},
};
use forge_registry::{
    admin::{Client, ClientError, Request},
    config::Config,
    metrics::Metrics,
    registry::{
        Collect, Dropped, ImageDetails, ImageSummary, Place, Registry, RegistryError, Snapshot, StateError,
        Time,
    },
    resolve::Resolver,
};
use serde::Serialize;
use std::{io, process::ExitCode, sync::Arc, time::SystemTime};

#[derive(Debug, thiserror::Error)]
enum AdminError {
    #[error(transparent)]
    Name(#[from] ImageNameError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("no forge-registry listens on {socket:?} (ADMIN_SOCKET), and {error}")]
    State { socket: std::path::PathBuf, error: StateError },
    #[error(
        "no forge-registry listens on {socket:?} (ADMIN_SOCKET), and what it left in STATE_DIR={dir:?} is user {owner}'s to \
         change: start it (systemctl start forge-registry), or run this as that user"
    )]
    Owner { socket: std::path::PathBuf, dir: std::path::PathBuf, owner: u32 },
    #[error("a folder for a copy of the index: {0}")]
    Scratch(io::Error),
    #[error("standard output")]
    Output(#[from] io::Error),
}

impl AdminError {
    fn status(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Name(_) => 2,
            Self::State { error, .. } if error.is_of_another_version() => 2,
            Self::Registry(RegistryError::NameUnknown { .. } | RegistryError::ManifestUnknown { .. }) => 3,
            Self::Client(ClientError::Refused { code, .. })
                if code == "NAME_UNKNOWN" || code == "MANIFEST_UNKNOWN" =>
            {
                3
            }
            _ => 1,
        })
    }
}

type Result<T, E = AdminError> = std::result::Result<T, E>;

/// Prints the table of images.
pub async fn images(config: Config, format: Format, terminal: &Terminal) -> ExitCode {
    ended(try_images(&config, format).await, terminal)
}

/// Prints everything about one image, or all of a name.
pub async fn inspect(config: Config, name: &str, format: Format, terminal: &Terminal) -> ExitCode {
    ended(try_inspect(&config, name, format).await, terminal)
}

/// Forgets a name or a tag, and prints what was dropped.
pub async fn forget(config: Config, name: &str, format: Format, terminal: &Terminal) -> ExitCode {
    ended(try_forget(config, name, format).await, terminal)
}

/// Drops what nobody asked for lately, and prints what that was.
pub async fn gc(config: Config, arguments: Gc, terminal: &Terminal) -> ExitCode {
    ended(try_gc(config, arguments).await, terminal)
}

fn ended(result: Result<()>, terminal: &Terminal) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(AdminError::Output(error)) => unread(&error, terminal),
        Err(error) => {
            terminal.line(format_args!("forge-registry: {error}"));
            error.status()
        }
    }
}

async fn try_images(config: &Config, format: Format) -> Result<()> {
    let images: Vec<ImageSummary> = match Client::new(&config.admin_socket).ask(&Request::Images).await {
        Err(ClientError::NotRunning(_)) => with_snapshot(config, |snapshot| snapshot.images())?,
        other => other?,
    };
    if format.json {
        return json(&images);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    table::images(&images, Time(now)).iter().try_for_each(|line| Ok(print(line)?))
}

async fn try_inspect(config: &Config, name: &str, format: Format) -> Result<()> {
    let (name, tag) = parse_with_tag(name, config)?;
    let request = Request::Inspect(name.clone(), tag.clone());
    let images: Vec<ImageDetails> = match Client::new(&config.admin_socket).ask(&request).await {
        Err(ClientError::NotRunning(_)) => {
            with_snapshot(config, |snapshot| snapshot.inspect(&name, tag.as_ref()))?
        }
        other => other?,
    };
    if format.json {
        return json(&images);
    }
    for (number, image) in images.iter().enumerate() {
        if number > 0 {
            print("")?;
        }
        describe(image)?;
    }
    Ok(())
}

async fn try_forget(config: Config, name: &str, format: Format) -> Result<()> {
    let (name, tag) = parse_with_tag(name, &config)?;
    let request = Request::Forget(name.clone(), tag.clone());
    let dropped = match Client::new(&config.admin_socket).ask(&request).await {
        Err(ClientError::NotRunning(_)) => {
            with_state(config, move |registry| registry.forget(&name, tag.as_ref())).await?
        }
        other => other?,
    };
    if format.json { json(&dropped) } else { tell("forgot", &dropped) }
}

async fn try_gc(config: Config, arguments: Gc) -> Result<()> {
    let what = Collect {
        older_than_seconds: arguments.older_than.map(|time| time.as_secs()),
        all: arguments.all,
        dry_run: arguments.dry_run,
    };
    let dropped = match Client::new(&config.admin_socket).ask(&Request::Collect(what)).await {
        Err(ClientError::NotRunning(_)) if what.dry_run => {
            with_snapshot(&config, |snapshot| snapshot.would_drop(what, config.registry.retention))?
        }
        Err(ClientError::NotRunning(_)) => with_state(config, move |registry| registry.collect(what)).await?,
        other => other?,
    };
    if arguments.format.json {
        return json(&dropped);
    }
    tell(if dropped.dry_run { "would drop" } else { "dropped" }, &dropped)
}

/// Looks at what a registry left that does not run, without changing any of it.
fn with_snapshot<T>(
    config: &Config,
    look: impl FnOnce(&Snapshot) -> std::result::Result<T, RegistryError>,
) -> Result<T> {
    let scratch = Scratch::new().map_err(AdminError::Scratch)?;
    let snapshot = Snapshot::open(&config.state_dir, store(config), scratch.path())
        .map_err(|error| AdminError::State { socket: config.admin_socket.clone(), error })?;
    Ok(look(&snapshot)?)
}

/// Opens the state of a registry that does not run, as the registry would, to change it.
async fn with_state<T: Send + 'static>(
    config: Config,
    change: impl FnOnce(&Arc<Registry>) -> std::result::Result<T, RegistryError> + Send + 'static,
) -> Result<T> {
    let (dir, socket) = (config.state_dir.clone(), config.admin_socket.clone());
    if let Some(owner) = other_owner(&dir) {
        return Err(AdminError::Owner { socket, dir, owner });
    }
    if !dir.exists() {
        return Err(AdminError::State { socket, error: StateError::Missing(dir) });
    }
    let work = move || {
        let (daemon, resolver) = (daemon(&config), Resolver::new(None, None, None));
        let registry = Registry::open(&dir, config.registry.clone(), daemon, resolver, Metrics::default())
            .map_err(|error| AdminError::State { socket, error })?;
        Ok(change(&registry)?)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| {
        Err(AdminError::Registry(RegistryError::Internal { message: panic.to_string() }))
    })
}

fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    Ok(print(text)?)
}

fn tell(what: &str, dropped: &Dropped) -> Result<()> {
    for image in &dropped.listed {
        let tag = image.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        print(format_args!("{what} {}{tag} {}", image.name, image.digest))?;
    }
    let Dropped { count, bytes, roots, .. } = dropped;
    print(format_args!(
        "images: {count}, GC roots: {roots}, freed in the registry's own caches: {}",
        table::bytes(*bytes)
    ))?;
    if *roots > 0 {
        print("Nothing is deleted from the Nix store by this: nix-collect-garbage does that, as root.")?;
    }
    Ok(())
}

fn describe(image: &ImageDetails) -> Result<()> {
    let ImageSummary { name, tag, digest, size, made_at, used_at, .. } = &image.summary;
    let line = |what: &str, value: String| print(format_args!("{what:14}{value}"));
    let time = |time: &Option<Time>| time.map_or_else(|| "unknown".into(), |time| time.to_string());
    print(match tag {
        Some(tag) => format!("{name}:{tag}"),
        None => name.clone(),
    })?;
    line("  digest", digest.to_string())?;
    line("  as Docker's", image.docker_digest.to_string())?;
    line("  names", image.names.join(", "))?;
    line("  size", table::bytes(*size))?;
    line("  made", time(made_at))?;
    line("  resolved", time(&image.resolved_at))?;
    line("  last used", time(used_at))?;
    for path in &image.store_paths {
        line("  store path", path.display().to_string())?;
    }
    for derivation in &image.derivations {
        line("  derivation", derivation.clone())?;
    }
    for root in &image.gc_roots {
        let state = match (&root.target, root.present) {
            (None, _) => "missing",
            (Some(_), false) => "points at nothing",
            (Some(_), true) => "present",
        };
        line("  GC root", format!("{} ({state})", root.link.display()))?;
    }
    for blob in &image.blobs {
        let gone = |present: &bool| if *present { "" } else { " (not there; made again when asked for)" };
        let place = match &blob.place {
            Some(Place::Store { path, offset, present }) => {
                format!("{} from byte {offset}{}", path.display(), gone(present))
            }
            Some(Place::Cache { path, present }) => format!("{}{}", path.display(), gone(present)),
            Some(Place::Computed { path, present }) => {
                format!("computed, by {}{}", path.display(), gone(present))
            }
            Some(Place::Index) => "in the index".into(),
            None => "unknown; found out when asked for".into(),
        };
        line("  blob", format!("{} {} {}", blob.digest, table::bytes(blob.size), blob.media_type))?;
        line("", place)?;
    }
    let options = &image.options;
    line("  options", serde_json::to_string(options).unwrap_or_default())?;
    Ok(())
}
