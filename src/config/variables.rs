//! The environment variables, each documented once, here; `--help` and `.env.example` show the same text.

use envconfig::Envconfig;
use std::collections::HashMap;

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
        pub(super) struct Raw {
            $(#[envconfig(from = $name)] pub(super) $field: Option<String>,)*
        }

        /// Every setting, in the order in which it is documented.
        pub const SETTINGS: &[Documented] = &[
            $(Documented { name: $name, default: $default, help: $help, aliases: concat!($($aliases)?) },)*
        ];

        impl Raw {
            /// Empty is unset, as in a unit's `Environment=NAME=`; unset is the default.
            pub(super) fn with_defaults(self) -> Self {
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
    package_set "PACKAGE_SET" = "",
        "A package set such as nixpkgs, of which names like git/htop are images: a flake, a folder with a default.nix, or <name> of an entry of the evaluator's NIX_PATH, which is used in place instead of being copied to the store.",
        aliases "NIXERY_CHANNEL, NIXERY_PKGS_REPO and NIXERY_PKGS_PATH";
    catalog "CATALOG" = "",
        "A JSON file of names and derivations that are served without evaluating anything; read again when it changes.";
    listen "LISTEN" = "127.0.0.1:6443",
        "Addresses and ports, and Unix sockets (unix:/path), to listen on for plain HTTP, separated by commas; the default is not, if a service manager hands over sockets or TLS_LISTEN is set.",
        aliases "FLASK_HOST and FLASK_PORT";
    listen_mode "LISTEN_MODE" = "0660",
        "The mode of the Unix sockets of LISTEN and METRICS_LISTEN: who may write to one may use it.";
    tls_listen "TLS_LISTEN" = "",
        "Addresses and ports to listen on for HTTPS, separated by commas.";
    tls_certificate "TLS_CERTIFICATE" = "",
        "A PEM file with the certificate for HTTPS, and after it those that lead to one that clients trust; read again on SIGHUP, as are the next two.";
    tls_key "TLS_KEY" = "",
        "A PEM file with the certificate's private key.";
    tls_client_ca "TLS_CLIENT_CA" = "",
        "A PEM file with the certificates of those who sign clients' certificates; without it, clients are not asked for any.";
    tls_client_auth "TLS_CLIENT_AUTH" = "",
        "Whether clients must have a certificate (required, the default with TLS_CLIENT_CA) or may have one (optional).";
    metrics_listen "METRICS_LISTEN" = "",
        "Addresses and ports, or Unix sockets (unix:/path), to serve /metrics on for Prometheus, with /healthz and /readyz; none if not set.";
    systems "SYSTEMS" = "",
        "Nix systems to look attributes up in, the preferred first, separated by commas; this machine's if not set.";
    state_dir "STATE_DIR" = "/var/lib/forge-registry",
        "The folder for the index, the blob cache, the entry lists and the GC roots; it survives restarts, and can be deleted.",
        aliases "STATE_DIRECTORY, as systemd sets it";
    admin_socket "ADMIN_SOCKET" = "",
        "The Unix socket for forge-registry images, inspect, forget and gc; admin.socket in STATE_DIR if not set. It is for root and the registry's own user alone.";
    nix_daemon_socket "NIX_DAEMON_SOCKET" = "/nix/var/nix/daemon-socket/socket",
        "nix-daemon's socket.",
        aliases "NIX_DAEMON_SOCKET_PATH";
    evaluator_socket "EVALUATOR_SOCKET" = "/run/forge-registry/evaluator.socket",
        "The socket of the evaluator, which runs the code of FLAKE and PACKAGE_SET; used only with these.";
    fetcher_socket "FETCHER_SOCKET" = "/run/forge-registry/fetcher.socket",
        "The socket of the fetcher, which fetches FLAKE and PACKAGE_SET and their locked inputs, and runs no code of theirs.";
    revisions "REVISIONS" = "refs",
        "Which revisions of FLAKE and PACKAGE_SET a tag may choose: none; refs, branches and tags, and commits that were reached by one of them; or commits, any commit that the source's server hands out, which at a forge includes those of anybody's fork or pull request.";
    accept_flake_config "ACCEPT_FLAKE_CONFIG" = "0",
        "Whether builds use the binary caches that the flake's nixConfig names (1); nix-daemon must trust the registry's user.";
    nix_store_dir "NIX_STORE_DIR" = "/nix/store",
        "The Nix store.";

    tag_ttl "TAG_TTL" = "60s",
        "How long a tag is cached, and its source for all names; a local source is fetched again for a name that leads nowhere in it.";
    tag_stale "TAG_STALE" = "5m",
        "How long after that the old answer is still given, while the new one is sought in the background.";
    pull_wait "PULL_WAIT" = "25s",
        "How long a request waits for a build; then the client is asked to come back (429), and the build goes on.";
    pull_wait_once "PULL_WAIT_ONCE" = "30m",
        "The same for clients that would not come back, but wait for as long as it takes: docker before 29.";
    failure_ttl "FAILURE_TTL" = "30s",
        "How long it is remembered that an evaluation, a build, making a blob again or fetching a source from another host failed, instead of trying it again.";
    unknown_ttl "UNKNOWN_TTL" = "10s",
        "How long it is remembered that a name or tag does not exist.";
    max_remembered "MAX_REMEMBERED" = "10000",
        "How many failures, answers of the evaluator, addresses with wrong passwords, right passwords, and clients that asked for what does not exist are remembered at a time.";

    nix_build_timeout "NIX_BUILD_TIMEOUT" = "600s",
        "How long one derivation may build; nix-daemon enforces it.";
    nix_daemon_timeout "NIX_DAEMON_TIMEOUT" = "30s",
        "How long nix-daemon may take to answer anything but a build.";
    evaluation_timeout "EVALUATION_TIMEOUT" = "300s",
        "How long it may take to find out what a name means: fetching its source and evaluating it.";
    ready_timeout "READY_TIMEOUT" = "10s",
        "How long nix-daemon, the fetcher and the evaluator may take to answer for /readyz.";
    nix_max_jobs "NIX_MAX_JOBS" = "0",
        "How many derivations nix-daemon may build at a time for one image; 0 is the number of processors.";
    max_builds "MAX_BUILDS" = "4",
        "Images that are built at a time, and images that are in the store already and read at a time. Clients take turns; one of the places is kept for others while one client has all the rest.";
    max_queued_builds "MAX_QUEUED_BUILDS" = "1024",
        "Builds that wait for their turn; beyond that the client with the most of them is answered 429.";
    max_queued_readings "MAX_QUEUED_READINGS" = "1024",
        "Images that are in the store already and wait to be read; beyond that the client with the most of them is answered 429.";
    max_evaluations "MAX_EVALUATIONS" = "",
        "Evaluations at a time, in turn as builds are; the number of processors, but at least 2, if not set: an evaluation keeps one busy, and more of them would slow each other down.";
    max_queued_evaluations "MAX_QUEUED_EVALUATIONS" = "1024",
        "Evaluations that wait for their turn; beyond that the client with the most of them is answered 429.";
    max_revisions "MAX_REVISIONS" = "",
        "Tags an hour that are looked up as branches, tags or commits of FLAKE and PACKAGE_SET, half of them for one client; beyond that the answer is 429, or what the tag led to last. If not set: 50 where a forge is asked by its API (github:, gitlab:, sourcehut:, names of the flake registry), 1000 for other Git repositories of other hosts; 0 is no limit. With an access token, GitHub allows 5000.";

    retention_days "RETENTION_DAYS" = "90",
        "Days after which an image that nobody asks for is dropped from the index and loses its GC root.";
    cache_size "CACHE_SIZE" = "1000",
        "Images in the index; beyond that the least recently used is dropped.";
    cache_max_bytes "CACHE_MAX_BYTES" = "20GiB",
        "Size of the blob cache, which holds layers of compressed archives and layers that LAYER_COMPRESSION compresses; beyond that the least recently used go.";
    layers_max_bytes "LAYERS_MAX_BYTES" = "1GiB",
        "Size of the entry lists of layers that are computed from store paths, about 60 bytes a file; beyond that the least recently used go and are made again when asked for.";
    max_mapped_files "MAX_MAPPED_FILES" = "1024",
        "Files of the store that are kept mapped, and open.";
    max_buffer_bytes "MAX_BUFFER_BYTES" = "128MiB",
        "Memory for chunks on their way into responses whose bytes are copied: computed layers, HTTP/2, HTTPS, and compression. A busy response uses 1 MiB; beyond this, responses get on with 16 KiB each, which is slower.";

    implicit_images "IMPLICIT_IMAGES" = "1",
        "Whether packages/<attribute> makes an image of a package that has none (1), or is not found (0).";
    layer_compression "LAYER_COMPRESSION" = "none",
        "What becomes of layers that are plain tar archives: none, they stay that; gzip or zstd, they are compressed once, into the blob cache. OCI layouts stay what they are.";
    max_layers "MAX_LAYERS" = "94",
        "Layers of an image that is made of a package, from 2 to 125; the last one has links only.";
    layer_strategy "LAYER_STRATEGY" = "stability",
        "Which store paths of such an image go into which layer: stability, nixery or nixpkgs.";
    popularity "POPULARITY" = "",
        "A JSON file of package names with versions and how often each is used, for LAYER_STRATEGY; read at the start.";
    max_closure_paths "MAX_CLOSURE_PATHS" = "20000",
        "Store paths of the runtime closure of a package or an image, at most 100000; what has more is refused (422).";
    nix_snapshotter "NIX_SNAPSHOTTER" = "0",
        "Whether layers of store paths name these in annotations, for nix-snapshotter (1), or not (0).";

    max_reading_memory "MAX_READING_MEMORY" = "512MiB",
        "Memory for reading one image, MAX_BUILDS of which are read at a time: names, JSON, expressions and decoders' windows. An image that needs more is refused (422).";
    max_matching_time "MAX_MATCHING_TIME" = "60s",
        "Processor time for compiling and matching the expressions of one of nix2container's images; one that needs more is refused (422).";
    max_reading_time "MAX_READING_TIME" = "6h",
        "How long it may take to read one image, unpacking and hashing included; one that takes longer is refused (422).";
    max_image_bytes "MAX_IMAGE_BYTES" = "64GiB",
        "Size of an image's archive once decompressed.";
    max_compression_ratio "MAX_COMPRESSION_RATIO" = "250",
        "Decompressed bytes a compressed byte, for archives beyond 64 MiB.";
    max_layer_files "MAX_LAYER_FILES" = "4000000",
        "Files, folders and links of a layer that is computed from store paths.";
    max_image_name_length "MAX_IMAGE_NAME_LENGTH" = "255",
        "Bytes of an image name, at most 255.";
    max_tag_length "MAX_TAG_LENGTH" = "128",
        "Bytes of a tag, at most 128.";
    max_page "MAX_PAGE" = "1000",
        "Entries of one page of a list of tags or images.";

    auth_htpasswd "AUTH_HTPASSWD" = "",
        "A file of users and their passwords as `htpasswd -nB USER` prints them; with it, AUTH_TOKENS or AUTH_RULES, access is controlled.";
    auth_tokens "AUTH_TOKENS" = "",
        "A file of tokens: NAME:HASH a line, the hash as `printf %s TOKEN | sha256sum` prints it.";
    auth_rules "AUTH_RULES" = "",
        "A file of rules: allow or deny, read or build, a user and a name a line; without it, whoever logs in may do everything.";
    auth_realm "AUTH_REALM" = "forge-registry",
        "What clients are told that they log in to.";
    auth_max_failures "AUTH_MAX_FAILURES" = "10",
        "Distinct wrong passwords and tokens from one address that block it (429); tokens, and users who logged in from there before, still pass.";
    auth_failure_window "AUTH_FAILURE_WINDOW" = "5m",
        "How long it is blocked, from the first of them.";
    auth_max_checks "AUTH_MAX_CHECKS" = "",
        "Passwords that are checked at a time; the number of processors if not set.";
    auth_max_queued_checks "AUTH_MAX_QUEUED_CHECKS" = "256",
        "Passwords that wait to be checked; beyond that the answer is 429.";
    trusted_proxies "TRUSTED_PROXIES" = "",
        "Addresses and networks, and unix for Unix sockets, separated by commas, whose X-Forwarded-For says where a request comes from.";
    max_client_builds "MAX_CLIENT_BUILDS" = "0",
        "Builds that one user, or one address without a user, may have running or waiting; beyond that the answer is 429; 0 is no limit, since clients take turns.";
    max_client_evaluations "MAX_CLIENT_EVALUATIONS" = "0",
        "Likewise for evaluations.";
    max_client_unknown "MAX_CLIENT_UNKNOWN" = "120",
        "Evaluations a minute that one user, or one address without a user, may cause and that lead to no image; beyond that the answer is 429 for names and tags that are not known to exist; 0 is no limit.";
    max_client_connections "MAX_CLIENT_CONNECTIONS" = "",
        "Connections of one address at a time, not counting those of TRUSTED_PROXIES and Unix sockets; further ones are answered 429 or closed; half of MAX_CONNECTIONS if not set, 0 is no limit.";

    max_connections "MAX_CONNECTIONS" = "1024",
        "Connections at a time. For a further one the oldest that is idle or half sent is closed, of the address that has most of these; if there is none, it waits.";
    max_metrics_connections "MAX_METRICS_CONNECTIONS" = "16",
        "Connections to METRICS_LISTEN at a time. They are not among MAX_CONNECTIONS, so neither keeps the other out.";
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
    max_encodings "MAX_ENCODINGS" = "",
        "Chunks of responses that are compressed at a time, for clients that accept gzip or zstd; the number of processors if not set, 0 to compress none.";
    encoding_min_rate "ENCODING_MIN_RATE" = "4GiB",
        "Bytes of a layer a second below which compressing a response never takes it, if the client takes that many; 0 compresses as well as can be, however long it takes.";
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
    nixery_channel "NIXERY_CHANNEL" = "", "";
    nixery_pkgs_repo "NIXERY_PKGS_REPO" = "", "";
    nixery_pkgs_path "NIXERY_PKGS_PATH" = "", "";
}

impl Raw {
    /// Fills in what only an older or another name says, and tells those names by the settings' own.
    pub(super) fn with_aliases(mut self) -> (Self, HashMap<&'static str, &'static str>) {
        let set = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.trim().is_empty());
        let mut names = HashMap::new();
        // What Nixery's settings name, as flake references; it takes the first that is set, too.
        let nixery = [
            ("NIXERY_CHANNEL", self.nixery_channel.take(), "github:NixOS/nixpkgs/"),
            ("NIXERY_PKGS_REPO", self.nixery_pkgs_repo.take(), "git+"),
            ("NIXERY_PKGS_PATH", self.nixery_pkgs_path.take(), "path:"),
        ];
        let nixery = nixery.into_iter().find(|(_, value, _)| set(value));
        let (nixery, source) = nixery.map_or(("", None), |(name, value, prefix)| {
            (name, value.map(|value| format!("{prefix}{}", value.trim())))
        });
        for (name, field, alias, value) in [
            ("PACKAGE_SET", &mut self.package_set, nixery, source),
            ("FLAKE", &mut self.flake, "GITHUB_REPO", self.github_repo.take()),
            ("STATE_DIR", &mut self.state_dir, "STATE_DIRECTORY", self.state_directory.take()),
            (
                "NIX_DAEMON_SOCKET",
                &mut self.nix_daemon_socket,
                "NIX_DAEMON_SOCKET_PATH",
                self.nix_daemon_socket_path.take(),
            ),
        ] {
            if !set(field) && set(&value) {
                *field = value;
                names.insert(name, alias);
            }
        }
        if !set(&self.listen) && (set(&self.flask_host) || set(&self.flask_port)) {
            let host = self.flask_host.take().filter(|host| !host.trim().is_empty());
            let port = self.flask_port.take().filter(|port| !port.trim().is_empty());
            // The defaults of the registry whose names these are.
            let host = host.unwrap_or_else(|| "0.0.0.0".into());
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            self.listen = Some(format!("{host}:{}", port.unwrap_or_else(|| "6443".into())));
            names.insert("LISTEN", "FLASK_HOST:FLASK_PORT");
        }
        (self, names)
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
