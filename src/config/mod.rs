//! Settings: from environment variables to checked values.

mod access;
mod parse;
mod tls;
mod values;
mod variables;

use crate::{
    access::{AccessSettings, Proxies},
    budget::Allowance,
    closure::Popularity,
    http::{RouteLimits, ServerLimits, tls::TlsFiles},
    image,
    nix::hide_secrets,
    registry::{Retention, Settings as RegistrySettings},
    resolve::Revisions,
};
use envconfig::Envconfig as _;
pub use parse::Address;
use parse::{
    Bad, absolute, addresses, bytes, count, days, duration, integer, level, listen, mode, nonzero, path,
};
use std::{borrow::Cow, net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};
use values::{
    between, flake_reference, header_bytes, layer_compression, log_format, package_set, positive, rate,
    revisions, strategy, switch, systems,
};
use variables::Raw;
pub use variables::{Documented, SETTINGS, env_example, help};

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// `FLAKE`, or `GITHUB_REPO`.
    pub flake: Option<String>,
    /// `PACKAGE_SET`, or a setting of Nixery's.
    pub package_set: Option<String>,
    /// `CATALOG`
    pub catalog: Option<PathBuf>,
    /// `LISTEN`, or `FLASK_HOST` and `FLASK_PORT`.
    pub listen: Vec<Address>,
    /// `LISTEN_MODE`
    pub listen_mode: u32,
    /// Whether `LISTEN` was asked for, rather than being the default.
    pub listen_is_set: bool,
    /// `METRICS_LISTEN`; empty if metrics are not served.
    pub metrics_listen: Vec<Address>,
    /// `MAX_METRICS_CONNECTIONS`
    pub max_metrics_connections: u32,
    /// `TLS_LISTEN`
    pub tls_listen: Vec<SocketAddr>,
    /// `TLS_CERTIFICATE` and what goes with it.
    pub tls: Option<TlsFiles>,
    /// `SYSTEMS`
    pub systems: Vec<String>,
    /// `STATE_DIR`, or `STATE_DIRECTORY`.
    pub state_dir: PathBuf,
    /// `ADMIN_SOCKET`
    pub admin_socket: PathBuf,
    /// Whether `admin_socket` was asked for, rather than being the default.
    pub admin_socket_is_set: bool,
    /// `NIX_DAEMON_SOCKET`, or `NIX_DAEMON_SOCKET_PATH`.
    pub nix_daemon_socket: PathBuf,
    /// `EVALUATOR_SOCKET`
    pub evaluator_socket: PathBuf,
    /// `FETCHER_SOCKET`
    pub fetcher_socket: PathBuf,
    /// `REVISIONS`
    pub revisions: Revisions,
    /// `ACCEPT_FLAKE_CONFIG`
    pub accept_flake_config: bool,
    /// `NIX_STORE_DIR`
    pub nix_store_dir: PathBuf,
    /// `NIX_BUILD_TIMEOUT`
    pub nix_build_timeout: Duration,
    /// `NIX_DAEMON_TIMEOUT`
    pub nix_daemon_timeout: Duration,
    /// `EVALUATION_TIMEOUT`
    pub evaluation_timeout: Duration,
    /// `IMPLICIT_IMAGES`
    pub implicit_images: bool,
    /// `NIX_MAX_JOBS`, never zero.
    pub nix_max_jobs: u64,
    /// What the registry itself needs to know.
    pub registry: RegistrySettings,
    /// What a request may ask for.
    pub route: RouteLimits,
    /// `AUTH_HTPASSWD`, `AUTH_TOKENS`, `AUTH_RULES` and what goes with them, if there is access control.
    pub access: Option<AccessSettings>,
    /// `TRUSTED_PROXIES`
    pub trusted_proxies: Proxies,
    /// What a client may take of the server.
    pub server: ServerLimits,
    /// `MAX_ENCODINGS`
    pub max_encodings: usize,
    /// `ENCODING_MIN_RATE`, in bytes a second.
    pub encoding_min_rate: u64,
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
        /// Its value, without passwords and tokens.
        value: String,
        /// What is allowed.
        allowed: Cow<'static, str>,
    },
    /// The file that it names cannot be used.
    #[error("{name}: {error}")]
    File {
        /// The variable.
        name: &'static str,
        /// Which file, and why.
        error: String,
    },
    /// It means nothing without another one.
    #[error("{name}={value:?} has no effect without {needed}: set that as well, or not this")]
    Alone {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it needs.
        needed: &'static str,
    },
    /// The environment has something that is not text.
    #[error("the environment cannot be read: {0}")]
    Environment(String),
    /// There is nothing to serve.
    #[error(
        "none of FLAKE, PACKAGE_SET and CATALOG is set, so there is nothing to serve: set FLAKE to a flake reference such \
         as github:owner/repo or path:/etc/images, PACKAGE_SET to one of a package set such as nixpkgs, or CATALOG to a \
         file of names and derivations"
    )]
    NoSource,
}

fn parse<T>(
    name: &'static str,
    value: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, Bad>,
) -> Result<T, ConfigError> {
    let value = value.unwrap_or_default();
    parse(&value).map_err(|Bad(allowed)| ConfigError::Value { name, value: hide_secrets(&value), allowed })
}

impl Config {
    /// Reads and checks the environment.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::of_state_from_environment()?.with_source()
    }

    /// The same for what needs no source of images, only the state that they left.
    pub fn of_state_from_environment() -> Result<Self, ConfigError> {
        let raw = Raw::init_from_env().map_err(|error| ConfigError::Environment(error.to_string()))?;
        Self::from_raw(raw)
    }

    fn with_source(self) -> Result<Self, ConfigError> {
        let has_some = self.flake.is_some() || self.package_set.is_some() || self.catalog.is_some();
        if has_some { Ok(self) } else { Err(ConfigError::NoSource) }
    }

    /// Reads and checks the given variables instead of the environment.
    pub fn from_variables<'a>(
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let map = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let raw =
            Raw::init_from_hashmap(&map).map_err(|error| ConfigError::Environment(error.to_string()))?;
        Self::from_raw(raw)?.with_source()
    }

    fn from_raw(raw: Raw) -> Result<Self, ConfigError> {
        let (raw, aliases) = raw.with_aliases();
        let listen_is_set = raw.listen.as_ref().is_some_and(|listen| !listen.trim().is_empty());
        Self::checked(raw.with_defaults(), listen_is_set).map_err(|error| match error {
            // By the name that was set.
            ConfigError::Value { name, value, allowed } => {
                ConfigError::Value { name: aliases.get(name).unwrap_or(&name), value, allowed }
            }
            error => error,
        })
    }

    fn checked(raw: Raw, listen_is_set: bool) -> Result<Self, ConfigError> {
        let access = access::access(&raw)?;
        let flake = raw.flake.map(|flake| parse("FLAKE", Some(flake), flake_reference)).transpose()?;
        let catalog = raw.catalog.map(|file| parse("CATALOG", Some(file), absolute)).transpose()?;
        let package_set =
            raw.package_set.map(|set| parse("PACKAGE_SET", Some(set), package_set)).transpose()?;
        let nix_max_jobs = match parse("NIX_MAX_JOBS", raw.nix_max_jobs, integer)? {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            jobs => jobs,
        };
        let retention = Retention {
            max_age: parse("RETENTION_DAYS", raw.retention_days, days)?,
            max_images: parse("CACHE_SIZE", raw.cache_size, nonzero)?,
        };
        let image_limits = image::Limits {
            reading: Allowance {
                memory: parse("MAX_READING_MEMORY", raw.max_reading_memory, bytes)?,
                matching: parse("MAX_MATCHING_TIME", raw.max_matching_time, positive)?,
                time: parse("MAX_READING_TIME", raw.max_reading_time, positive)?,
                unpacked: parse("MAX_IMAGE_BYTES", raw.max_image_bytes, bytes)?,
            },
            max_compression_ratio: parse("MAX_COMPRESSION_RATIO", raw.max_compression_ratio, nonzero)?.get()
                as u64,
            max_layer_files: parse("MAX_LAYER_FILES", raw.max_layer_files, nonzero)?.get(),
            ..Default::default()
        };
        let popularity =
            match raw.popularity.map(|file| parse("POPULARITY", Some(file), absolute)).transpose()? {
                None => Popularity::default(),
                Some(file) => Popularity::open(&file)
                    .map_err(|error| ConfigError::File { name: "POPULARITY", error: error.to_string() })?,
            };
        let layers = image::Layers {
            max: parse("MAX_LAYERS", raw.max_layers, between::<2, 125>)?,
            strategy: parse("LAYER_STRATEGY", raw.layer_strategy, strategy)?,
            popularity: popularity.digest(),
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
            max_queued_readings: parse("MAX_QUEUED_READINGS", raw.max_queued_readings, count)?,
            max_evaluations: match raw.max_evaluations {
                Some(number) => parse("MAX_EVALUATIONS", Some(number), nonzero)?,
                // Two, so that a client that has one all the time leaves one to the others.
                None => values::processors().max(const { NonZeroUsize::new(2).unwrap() }),
            },
            max_queued_evaluations: parse("MAX_QUEUED_EVALUATIONS", raw.max_queued_evaluations, count)?,
            max_client_evaluations: parse("MAX_CLIENT_EVALUATIONS", raw.max_client_evaluations, count)?,
            max_client_builds: parse("MAX_CLIENT_BUILDS", raw.max_client_builds, count)?,
            max_client_unknown: parse("MAX_CLIENT_UNKNOWN", raw.max_client_unknown, count)?,
            max_revisions: raw
                .max_revisions
                .map(|number| parse("MAX_REVISIONS", Some(number), count))
                .transpose()?,
            ready_timeout: parse("READY_TIMEOUT", raw.ready_timeout, positive)?,
            max_mapped_files: parse("MAX_MAPPED_FILES", raw.max_mapped_files, nonzero)?,
            max_buffer_bytes: parse("MAX_BUFFER_BYTES", raw.max_buffer_bytes, bytes)?,
            retention,
            cache_max_bytes: parse("CACHE_MAX_BYTES", raw.cache_max_bytes, bytes)?,
            layers_max_bytes: parse("LAYERS_MAX_BYTES", raw.layers_max_bytes, bytes)?,
            image_options: image::Options {
                compression: parse("LAYER_COMPRESSION", raw.layer_compression, layer_compression)?,
                nix_snapshotter: parse("NIX_SNAPSHOTTER", raw.nix_snapshotter, switch)?,
                layers: Some(layers),
            },
            image_limits,
            max_closure_paths: parse("MAX_CLOSURE_PATHS", raw.max_closure_paths, between::<1, 100_000>)?,
            popularity: Arc::new(popularity),
        };
        let state_dir = parse("STATE_DIR", raw.state_dir, path)?;
        let admin_socket =
            raw.admin_socket.map(|file| parse("ADMIN_SOCKET", Some(file), path)).transpose()?;
        let tls_listen =
            raw.tls_listen.clone().map(|all| parse("TLS_LISTEN", Some(all), addresses)).transpose()?;
        let tls = tls::files([
            raw.tls_listen,
            raw.tls_certificate,
            raw.tls_key,
            raw.tls_client_ca,
            raw.tls_client_auth,
        ])?;
        let max_connections = parse("MAX_CONNECTIONS", raw.max_connections, nonzero)?.get() as u32;
        Ok(Self {
            flake,
            package_set,
            catalog,
            listen: parse("LISTEN", raw.listen, listen)?,
            listen_mode: parse("LISTEN_MODE", raw.listen_mode, mode)?,
            listen_is_set,
            metrics_listen: match raw.metrics_listen {
                Some(text) => parse("METRICS_LISTEN", Some(text), listen)?,
                None => Vec::new(),
            },
            max_metrics_connections: parse("MAX_METRICS_CONNECTIONS", raw.max_metrics_connections, nonzero)?
                .get() as u32,
            tls_listen: tls_listen.unwrap_or_default(),
            tls,
            systems: parse("SYSTEMS", raw.systems, systems)?,
            admin_socket_is_set: admin_socket.is_some(),
            admin_socket: admin_socket.unwrap_or_else(|| state_dir.join("admin.socket")),
            state_dir,
            nix_daemon_socket: parse("NIX_DAEMON_SOCKET", raw.nix_daemon_socket, path)?,
            evaluator_socket: parse("EVALUATOR_SOCKET", raw.evaluator_socket, path)?,
            fetcher_socket: parse("FETCHER_SOCKET", raw.fetcher_socket, path)?,
            revisions: parse("REVISIONS", raw.revisions, revisions)?,
            accept_flake_config: parse("ACCEPT_FLAKE_CONFIG", raw.accept_flake_config, switch)?,
            nix_store_dir: parse("NIX_STORE_DIR", raw.nix_store_dir, path)?,
            nix_build_timeout: parse("NIX_BUILD_TIMEOUT", raw.nix_build_timeout, positive)?,
            nix_daemon_timeout: parse("NIX_DAEMON_TIMEOUT", raw.nix_daemon_timeout, positive)?,
            evaluation_timeout: parse("EVALUATION_TIMEOUT", raw.evaluation_timeout, positive)?,
            implicit_images: parse("IMPLICIT_IMAGES", raw.implicit_images, switch)?,
            nix_max_jobs,
            access,
            trusted_proxies: parse("TRUSTED_PROXIES", raw.trusted_proxies, access::proxies)?,
            registry,
            route: RouteLimits {
                max_name_length: parse(
                    "MAX_IMAGE_NAME_LENGTH",
                    raw.max_image_name_length,
                    between::<1, 255>,
                )?,
                max_tag_length: parse("MAX_TAG_LENGTH", raw.max_tag_length, between::<1, 128>)?,
                max_page: parse("MAX_PAGE", raw.max_page, nonzero)?.get(),
            },
            server: ServerLimits {
                max_connections,
                max_client_connections: match raw.max_client_connections {
                    Some(number) => parse("MAX_CLIENT_CONNECTIONS", Some(number), count)?,
                    // Of a single one there is no half, so there is no share.
                    None => max_connections as usize / 2,
                },
                header_timeout: parse("HEADER_TIMEOUT", raw.header_timeout, positive)?,
                idle_timeout: parse("IDLE_TIMEOUT", raw.idle_timeout, positive)?,
                write_timeout: parse("WRITE_TIMEOUT", raw.write_timeout, positive)?,
                max_header_bytes: parse("MAX_HEADER_BYTES", raw.max_header_bytes, header_bytes)?,
                max_headers: parse("MAX_HEADERS", raw.max_headers, nonzero)?.get(),
                max_streams: parse("MAX_STREAMS", raw.max_streams, nonzero)?.get() as u32,
                ..Default::default()
            },
            max_encodings: match raw.max_encodings {
                Some(number) => parse("MAX_ENCODINGS", Some(number), count)?,
                None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            },
            encoding_min_rate: parse("ENCODING_MIN_RATE", raw.encoding_min_rate, rate)?,
            shutdown_grace: parse("SHUTDOWN_GRACE", raw.shutdown_grace, duration)?,
            log_level: parse("LOG_LEVEL", raw.log_level, level)?,
            log_format: parse("LOG_FORMAT", raw.log_format, log_format)?,
        })
    }
}

/// A duration as settings have it: `90`, `15m`, `12h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|Bad(allowed)| format!("expected {allowed}"))
}

#[cfg(test)]
mod tests;
