//! Settings: environment variables, each documented once, here; `--help` and `.env.example` show the same text.

mod parse;

use crate::{
    http::{RouteLimits, ServerLimits},
    registry::{Retention, Settings as RegistrySettings},
};
use envconfig::Envconfig;
use parse::{Bad, absolute, bytes, count, days, duration, integer, level, listen, nonzero, path};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A setting's documentation.
#[derive(Debug, Clone, Copy)]
pub struct Documented {
    /// The environment variable.
    pub name: &'static str,
    /// What holds when it is not set or empty.
    pub default: &'static str,
    /// What it does, in one or more lines.
    pub help: &'static str,
    /// Older or other names that mean the same.
    pub aliases: &'static str,
}

macro_rules! settings {
    ($($field:ident $name:tt = $default:literal, $help:literal $(, aliases $aliases:literal)?;)*) => {
        /// The environment as it is, before any value is looked at.
        #[derive(Envconfig)]
        struct Raw {
            $(#[envconfig(from = $name)] $field: Option<String>,)*
        }

        /// Every setting, in the order in which it is documented.
        pub const SETTINGS: &[Documented] = &[
            $(Documented { name: $name, default: $default, help: $help, aliases: concat!($($aliases)?) },)*
        ];

        impl Raw {
            /// Empty is unset, as in a unit's `Environment=NAME=`; unset is the default.
            fn with_defaults(self) -> Self {
                let or = |value: Option<String>, default: &str| match value {
                    Some(value) if !value.trim().is_empty() => Some(value.trim().to_owned()),
                    _ => Some(default.to_owned()).filter(|default| !default.is_empty()),
                };
                Self { $($field: or(self.$field, $default),)* }
            }
        }
    };
}

settings! {
    flake "FLAKE" = "",
        "The flake whose attributes are served: github:owner/repo, git+https://…, path:/…, or an absolute path.",
        aliases "GITHUB_REPO";
    catalog "CATALOG" = "",
        "A JSON file of names and derivations that are served without evaluating anything; read again when it changes.";
    listen "LISTEN" = "127.0.0.1:6443",
        "Addresses and ports to listen on, separated by commas.",
        aliases "FLASK_HOST and FLASK_PORT";
    systems "SYSTEMS" = "",
        "Nix systems to look attributes up in, the preferred first, separated by commas; this machine's if not set.";
    state_dir "STATE_DIR" = "/var/lib/forge-registry",
        "The folder for the index, the blob cache and the GC roots; it survives restarts, and can be deleted.",
        aliases "STATE_DIRECTORY, as systemd sets it";
    nix_daemon_socket "NIX_DAEMON_SOCKET" = "/nix/var/nix/daemon-socket/socket",
        "nix-daemon's socket.",
        aliases "NIX_DAEMON_SOCKET_PATH";
    evaluator_socket "EVALUATOR_SOCKET" = "/run/forge-registry/evaluator.socket",
        "The evaluator's socket; used only with FLAKE.";
    nix_store_dir "NIX_STORE_DIR" = "/nix/store",
        "The Nix store.";

    tag_ttl "TAG_TTL" = "60s",
        "How long the answer for a tag is taken for current.";
    tag_stale "TAG_STALE" = "5m",
        "How long after that the old answer is still given, while the new one is sought in the background.";
    pull_wait "PULL_WAIT" = "25s",
        "How long a request waits for a build; then the client is asked to come back (429), and the build goes on.";
    pull_wait_once "PULL_WAIT_ONCE" = "30m",
        "The same for clients that would not come back, but wait for as long as it takes: docker before 29.";
    failure_ttl "FAILURE_TTL" = "30s",
        "How long a failed evaluation or build is remembered instead of tried again.";
    unknown_ttl "UNKNOWN_TTL" = "10s",
        "How long it is remembered that a name or tag does not exist.";
    max_remembered "MAX_REMEMBERED" = "10000",
        "How many failures and how many answers of the evaluator are remembered at a time.";

    nix_build_timeout "NIX_BUILD_TIMEOUT" = "600s",
        "How long one derivation may build; nix-daemon enforces it.";
    nix_daemon_timeout "NIX_DAEMON_TIMEOUT" = "30s",
        "How long nix-daemon may take to answer anything but a build.";
    evaluation_timeout "EVALUATION_TIMEOUT" = "300s",
        "How long one evaluation may take.";
    nix_max_jobs "NIX_MAX_JOBS" = "0",
        "How many derivations nix-daemon may build at a time for one image; 0 is the number of processors.";
    max_builds "MAX_BUILDS" = "4",
        "Images that are built at a time, and images that are read at a time.";
    max_queued_builds "MAX_QUEUED_BUILDS" = "64",
        "Builds that wait for their turn; beyond that the answer is 429.";
    max_evaluations "MAX_EVALUATIONS" = "4",
        "Evaluations at a time.";
    max_queued_evaluations "MAX_QUEUED_EVALUATIONS" = "256",
        "Evaluations that wait for their turn; beyond that the answer is 429.";

    retention_days "RETENTION_DAYS" = "90",
        "Days after which an image that nobody asks for is dropped from the index and loses its GC root.";
    cache_size "CACHE_SIZE" = "1000",
        "Images in the index; beyond that the least recently used is dropped.";
    cache_max_bytes "CACHE_MAX_BYTES" = "20GiB",
        "Size of the blob cache, which holds layers of compressed archives; beyond that the least recently used go.";
    max_mapped_files "MAX_MAPPED_FILES" = "1024",
        "Files of the store that are kept mapped.";

    max_image_bytes "MAX_IMAGE_BYTES" = "64GiB",
        "Size of an image's archive once decompressed.";
    max_compression_ratio "MAX_COMPRESSION_RATIO" = "250",
        "Decompressed bytes a compressed byte, for archives beyond 64 MiB.";
    max_image_name_length "MAX_IMAGE_NAME_LENGTH" = "255",
        "Bytes of an image name, at most 255.";
    max_tag_length "MAX_TAG_LENGTH" = "128",
        "Bytes of a tag, at most 128.";
    max_page "MAX_PAGE" = "1000",
        "Entries of one page of a list of tags or images.";

    max_connections "MAX_CONNECTIONS" = "1024",
        "Connections at a time; further ones wait until one ends.";
    header_timeout "HEADER_TIMEOUT" = "15s",
        "How long a client may take to send a request's head.";
    idle_timeout "IDLE_TIMEOUT" = "120s",
        "How long a connection may stay open without a request.";
    write_timeout "WRITE_TIMEOUT" = "120s",
        "How long a client may take nothing of a response.";
    max_header_bytes "MAX_HEADER_BYTES" = "32KiB",
        "Bytes of a request's head, at least 8 KiB; more is answered 431.";
    max_headers "MAX_HEADERS" = "100",
        "Header lines of a request; more is answered 431.";
    max_streams "MAX_STREAMS" = "128",
        "Requests at a time in one HTTP/2 connection.";
    shutdown_grace "SHUTDOWN_GRACE" = "30s",
        "How long running responses may take to finish when the registry is stopped.";

    log_level "LOG_LEVEL" = "INFO",
        "ERROR, WARN, INFO, DEBUG (with every line of every build) or TRACE.";
    log_format "LOG_FORMAT" = "human",
        "human or json.";
    flask_host "FLASK_HOST" = "", "";
    flask_port "FLASK_PORT" = "", "";
    github_repo "GITHUB_REPO" = "", "";
    state_directory "STATE_DIRECTORY" = "", "";
    nix_daemon_socket_path "NIX_DAEMON_SOCKET_PATH" = "", "";
}

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// `FLAKE`, or `GITHUB_REPO`.
    pub flake: Option<String>,
    /// `CATALOG`
    pub catalog: Option<PathBuf>,
    /// `LISTEN`, or `FLASK_HOST` and `FLASK_PORT`.
    pub listen: Vec<SocketAddr>,
    /// `SYSTEMS`
    pub systems: Vec<String>,
    /// `STATE_DIR`, or `STATE_DIRECTORY`.
    pub state_dir: PathBuf,
    /// `NIX_DAEMON_SOCKET`, or `NIX_DAEMON_SOCKET_PATH`.
    pub nix_daemon_socket: PathBuf,
    /// `EVALUATOR_SOCKET`
    pub evaluator_socket: PathBuf,
    /// `NIX_STORE_DIR`
    pub nix_store_dir: PathBuf,
    /// `NIX_BUILD_TIMEOUT`
    pub nix_build_timeout: Duration,
    /// `NIX_DAEMON_TIMEOUT`
    pub nix_daemon_timeout: Duration,
    /// `EVALUATION_TIMEOUT`
    pub evaluation_timeout: Duration,
    /// `NIX_MAX_JOBS`, never zero.
    pub nix_max_jobs: u64,
    /// What the registry itself needs to know.
    pub registry: RegistrySettings,
    /// What a request may ask for.
    pub route: RouteLimits,
    /// What a client may take of the server.
    pub server: ServerLimits,
    /// `SHUTDOWN_GRACE`
    pub shutdown_grace: Duration,
    /// `LOG_LEVEL`
    pub log_level: tracing::Level,
    /// `LOG_FORMAT`
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A setting that cannot be used: one line that names it, its value, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The value is not one of those allowed.
    #[error("{name}={value:?} is not valid: expected {allowed}")]
    Value {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The environment has something that is not text.
    #[error("the environment cannot be read: {0}")]
    Environment(String),
    /// There is nothing to serve.
    #[error(
        "neither FLAKE nor CATALOG is set, so there is nothing to serve: set FLAKE to a flake reference such as \
         github:owner/repo or path:/etc/images, or CATALOG to a file of names and derivations"
    )]
    NoSource,
}

fn parse<T>(
    name: &'static str,
    value: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, Bad>,
) -> Result<T, ConfigError> {
    let value = value.unwrap_or_default();
    parse(&value).map_err(|Bad(allowed)| ConfigError::Value { name, value, allowed })
}

impl Config {
    /// Reads and checks the environment.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let raw = Raw::init_from_env().map_err(|error| ConfigError::Environment(error.to_string()))?;
        Self::from_raw(raw)
    }

    /// Reads and checks the given variables instead of the environment.
    pub fn from_variables<'a>(
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let map = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let raw =
            Raw::init_from_hashmap(&map).map_err(|error| ConfigError::Environment(error.to_string()))?;
        Self::from_raw(raw)
    }

    fn from_raw(raw: Raw) -> Result<Self, ConfigError> {
        let raw = raw.with_aliases().with_defaults();
        let flake = raw.flake.map(|flake| parse("FLAKE", Some(flake), flake_reference)).transpose()?;
        let catalog = raw.catalog.map(|file| parse("CATALOG", Some(file), absolute)).transpose()?;
        if flake.is_none() && catalog.is_none() {
            return Err(ConfigError::NoSource);
        }
        let nix_max_jobs = match parse("NIX_MAX_JOBS", raw.nix_max_jobs, integer)? {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            jobs => jobs,
        };
        let retention = Retention {
            max_age: parse("RETENTION_DAYS", raw.retention_days, days)?,
            max_images: parse("CACHE_SIZE", raw.cache_size, nonzero)?,
        };
        let image_limits = crate::image::Limits {
            max_image_bytes: parse("MAX_IMAGE_BYTES", raw.max_image_bytes, bytes)?,
            max_compression_ratio: parse("MAX_COMPRESSION_RATIO", raw.max_compression_ratio, nonzero)?.get()
                as u64,
            ..Default::default()
        };
        let registry = RegistrySettings {
            tag_ttl: parse("TAG_TTL", raw.tag_ttl, duration)?,
            tag_stale: parse("TAG_STALE", raw.tag_stale, duration)?,
            pull_wait: parse("PULL_WAIT", raw.pull_wait, duration)?,
            pull_wait_once: parse("PULL_WAIT_ONCE", raw.pull_wait_once, duration)?,
            failure_ttl: parse("FAILURE_TTL", raw.failure_ttl, duration)?,
            unknown_ttl: parse("UNKNOWN_TTL", raw.unknown_ttl, duration)?,
            max_remembered: parse("MAX_REMEMBERED", raw.max_remembered, nonzero)?,
            max_builds: parse("MAX_BUILDS", raw.max_builds, nonzero)?,
            max_queued_builds: parse("MAX_QUEUED_BUILDS", raw.max_queued_builds, count)?,
            max_evaluations: parse("MAX_EVALUATIONS", raw.max_evaluations, nonzero)?,
            max_queued_evaluations: parse("MAX_QUEUED_EVALUATIONS", raw.max_queued_evaluations, count)?,
            max_mapped_files: parse("MAX_MAPPED_FILES", raw.max_mapped_files, nonzero)?,
            retention,
            cache_max_bytes: parse("CACHE_MAX_BYTES", raw.cache_max_bytes, bytes)?,
            image_limits,
        };
        Ok(Self {
            flake,
            catalog,
            listen: parse("LISTEN", raw.listen, listen)?,
            systems: parse("SYSTEMS", raw.systems, systems)?,
            state_dir: parse("STATE_DIR", raw.state_dir, path)?,
            nix_daemon_socket: parse("NIX_DAEMON_SOCKET", raw.nix_daemon_socket, path)?,
            evaluator_socket: parse("EVALUATOR_SOCKET", raw.evaluator_socket, path)?,
            nix_store_dir: parse("NIX_STORE_DIR", raw.nix_store_dir, path)?,
            nix_build_timeout: parse("NIX_BUILD_TIMEOUT", raw.nix_build_timeout, positive)?,
            nix_daemon_timeout: parse("NIX_DAEMON_TIMEOUT", raw.nix_daemon_timeout, positive)?,
            evaluation_timeout: parse("EVALUATION_TIMEOUT", raw.evaluation_timeout, positive)?,
            nix_max_jobs,
            registry,
            route: RouteLimits {
                max_name_length: parse("MAX_IMAGE_NAME_LENGTH", raw.max_image_name_length, up_to::<255>)?,
                max_tag_length: parse("MAX_TAG_LENGTH", raw.max_tag_length, up_to::<128>)?,
                max_page: parse("MAX_PAGE", raw.max_page, nonzero)?.get(),
            },
            server: ServerLimits {
                max_connections: parse("MAX_CONNECTIONS", raw.max_connections, nonzero)?.get() as u32,
                header_timeout: parse("HEADER_TIMEOUT", raw.header_timeout, positive)?,
                idle_timeout: parse("IDLE_TIMEOUT", raw.idle_timeout, positive)?,
                write_timeout: parse("WRITE_TIMEOUT", raw.write_timeout, positive)?,
                max_header_bytes: parse("MAX_HEADER_BYTES", raw.max_header_bytes, header_bytes)?,
                max_headers: parse("MAX_HEADERS", raw.max_headers, nonzero)?.get(),
                max_streams: parse("MAX_STREAMS", raw.max_streams, nonzero)?.get() as u32,
                ..Default::default()
            },
            shutdown_grace: parse("SHUTDOWN_GRACE", raw.shutdown_grace, duration)?,
            log_level: parse("LOG_LEVEL", raw.log_level, level)?,
            log_format: parse("LOG_FORMAT", raw.log_format, log_format)?,
        })
    }
}

impl Raw {
    /// Fills in what only an older or another name says.
    fn with_aliases(mut self) -> Self {
        let set = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.trim().is_empty());
        for (field, alias) in [
            (&mut self.flake, self.github_repo.take()),
            (&mut self.state_dir, self.state_directory.take()),
            (&mut self.nix_daemon_socket, self.nix_daemon_socket_path.take()),
        ] {
            if !set(field) {
                *field = alias;
            }
        }
        if !set(&self.listen) && (set(&self.flask_host) || set(&self.flask_port)) {
            let host = self.flask_host.take().filter(|host| !host.trim().is_empty());
            let port = self.flask_port.take().filter(|port| !port.trim().is_empty());
            // The defaults of the registry whose names these are.
            let host = host.unwrap_or_else(|| "0.0.0.0".into());
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            self.listen = Some(format!("{host}:{}", port.unwrap_or_else(|| "6443".into())));
        }
        self
    }
}

fn flake_reference(text: &str) -> Result<String, Bad> {
    const ALLOWED: Bad =
        Bad("a flake reference without an attribute, such as github:owner/repo or path:/etc/images");
    if text.contains(['#', ' ', '\n']) {
        return Err(ALLOWED);
    }
    // Relative to what the evaluator's folder is would be a surprise.
    if text == "." || text.starts_with("./") || text.starts_with("../") {
        let path = std::fs::canonicalize(text).map_err(|_| ALLOWED)?;
        return Ok(format!("path:{}", path.display()));
    }
    Ok(text.to_owned())
}

fn systems(text: &str) -> Result<Vec<String>, Bad> {
    let systems: Vec<String> =
        text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Into::into).collect();
    let valid =
        |s: &String| s.contains('-') && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    match systems.as_slice() {
        [] => Ok(vec![format!("{}-linux", std::env::consts::ARCH)]),
        all if all.iter().all(valid) => Ok(systems),
        _ => Err(Bad("Nix systems such as x86_64-linux, separated by commas")),
    }
}

fn positive(text: &str) -> Result<Duration, Bad> {
    match duration(text)? {
        Duration::ZERO => Err(Bad("a duration longer than zero")),
        duration => Ok(duration),
    }
}

fn up_to<const MAX: usize>(text: &str) -> Result<usize, Bad> {
    match count(text) {
        Ok(number) if (1..=MAX).contains(&number) => Ok(number),
        _ => {
            Err(Bad(if MAX == 255 { "a whole number from 1 to 255" } else { "a whole number from 1 to 128" }))
        }
    }
}

fn header_bytes(text: &str) -> Result<usize, Bad> {
    match bytes(text) {
        Ok(number @ 8192..=1_048_576) => Ok(number as usize),
        _ => Err(Bad("a size from 8KiB to 1MiB")),
    }
}

fn log_format(text: &str) -> Result<LogFormat, Bad> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(Bad("human or json")),
    }
}

/// The settings as they stand in `.env.example`.
pub fn env_example() -> String {
    let mut out = String::from(
        "# Settings of forge-registry, each with its default. Durations take s, m, h or d; sizes KiB, MiB, GiB or TiB.\n",
    );
    for Documented { name, default, help, aliases } in documented() {
        let also = if aliases.is_empty() { String::new() } else { format!(" Also: {aliases}.") };
        out.push_str(&format!("\n# {help}{also}\n#{name}={default}\n"));
    }
    out
}

/// The settings as they stand in `--help`.
pub fn help() -> String {
    let mut out = String::from(
        "Settings are environment variables (durations take s, m, h or d; sizes KiB, MiB, GiB or TiB):\n",
    );
    for Documented { name, default, help, aliases } in documented() {
        let default = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        let also = if aliases.is_empty() { String::new() } else { format!(" Also: {aliases}.") };
        out.push_str(&format!("  {name}{default}\n          {help}{also}\n"));
    }
    out
}

fn documented() -> impl Iterator<Item = &'static Documented> {
    SETTINGS.iter().filter(|setting| !setting.help.is_empty())
}

#[cfg(test)]
mod tests;
