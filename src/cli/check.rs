//! `forge-registry check`: what was found, and what to do about what was not.

use super::{
    Terminal, access, daemon, flake, package_set, store,
    terminal::{print, unread},
};
use forge_registry::{
    access::Access,
    config::{Address, Config},
    http::{Tls, tls::TlsFiles},
    registry::state_format,
    resolve::{Catalog, Listing, Ping},
    unix_socket::{BindError, UnixSocket},
};
use std::{
    fs,
    io::{self, ErrorKind},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
};
use tokio::net::TcpListener;

/// Checks every part and prints a line for each; fails if any part does.
pub async fn check(config: Config, terminal: &Terminal) -> ExitCode {
    match try_check(config).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => unread(&error, terminal),
    }
}

/// How many parts fail, unless that cannot be printed.
async fn try_check(config: Config) -> io::Result<usize> {
    let mut report = Report { failures: 0 };
    print(format_args!("forge-registry {}", env!("CARGO_PKG_VERSION")))?;
    report.state_dir(&config.state_dir)?;
    // The default lies in STATE_DIR: a new one is made first, and of a bad one enough has been said.
    let is_admin_seen = config.admin_socket_is_set || report.failures == 0 && config.state_dir.exists();
    report.store(&config.nix_store_dir)?;

    let socket = config.nix_daemon_socket.display();
    match daemon(&config).version().await {
        Ok(version) => report.good("NIX_DAEMON_SOCKET", &format!("{socket}: nix-daemon of {version}")),
        Err(error) => report.bad(
            "NIX_DAEMON_SOCKET",
            &error.to_string(),
            "start nix-daemon (systemctl start nix-daemon.socket), 2.15 or newer, or point NIX_DAEMON_SOCKET at it",
        ),
    }?;

    match flake(&config) {
        None => print("  -   FLAKE: not set, so no evaluator is needed"),
        Some(flake) => {
            let reference = flake.shown();
            if report.evaluators(&config, flake.ping().await)? {
                match flake.list().await {
                    Ok(listing) => {
                        let found = found(&listing, &config.systems.join(", "));
                        report.good("FLAKE", &format!("{reference}: {found}"))
                    }
                    Err(error) => report.bad(
                        "FLAKE",
                        &format!("{reference}: {error}"),
                        "see that the fetcher's user can fetch it, and that `nix flake show` works on it",
                    ),
                }
            } else {
                Ok(())
            }
        }
    }?;

    match package_set(&config) {
        None => print("  -   PACKAGE_SET: not set"),
        Some(set) => {
            let reference = set.shown();
            match set.look().await {
                Ok(()) => report.good("PACKAGE_SET", &format!("{reference}: can be evaluated")),
                Err(error) => report.bad(
                    "PACKAGE_SET",
                    &format!("{reference}: {error}"),
                    "see that the fetcher's user can fetch it, and that it is a flake or has a default.nix",
                ),
            }
        }
    }?;

    match &config.catalog {
        None => print("  -   CATALOG: not set"),
        Some(path) => match Catalog::open(path, store(&config)) {
            Ok(catalog) => {
                let images = catalog.names().await.len();
                report.good("CATALOG", &format!("{}: {images} images", path.display()))
            }
            Err(error) => report.bad("CATALOG", &error.to_string(), "correct the file"),
        },
    }?;

    match config.access.clone().map(Access::open) {
        None => {
            print("  -   AUTH_HTPASSWD, AUTH_TOKENS, AUTH_RULES: not set, so everybody may do everything")
        }
        Some(Ok(access)) => report.good("AUTH", &access.counts().to_string()),
        Some(Err(error)) => {
            report.bad(error.setting, &error.place(), "correct the file, or let the service's user read it")
        }
    }?;

    let is_served = config.listen_is_set || config.tls_listen.is_empty();
    let plain: Vec<SocketAddr> =
        config.listen.iter().filter(|_| is_served).filter_map(Address::inet).collect();
    for address in plain.iter().filter(|address| access::is_plain(&config, address)) {
        print(format_args!("  !   LISTEN: {}", access::plain(address)))?;
    }
    let own = config.listen.iter().filter(|_| is_served).map(|address| ("LISTEN", address.clone()));
    let tls = config.tls_listen.iter().map(|address| ("TLS_LISTEN", Address::Inet(*address)));
    let metrics = config.metrics_listen.iter().map(|address| ("METRICS_LISTEN", address.clone()));
    let admin = is_admin_seen.then(|| ("ADMIN_SOCKET", Address::Unix(config.admin_socket.clone())));
    for (name, address) in own.chain(tls).chain(metrics).chain(admin) {
        report.address(name, &address).await?;
    }
    report.certificate(config.tls)?;

    match report.failures {
        0 => print("everything is fine")?,
        n => print(format_args!("{n} to mend"))?,
    }
    Ok(report.failures)
}

fn found(listing: &Listing, systems: &str) -> String {
    let mut found = format!("{} images for {systems}", listing.names.len());
    if let Some(name) = listing.names.first() {
        found += &format!(", such as {name}");
    }
    if !listing.broken.is_empty() {
        let first: Vec<&str> = listing.broken.iter().take(10).map(String::as_str).collect();
        found += &format!("; {} cannot be evaluated: {}", listing.broken.len(), first.join(", "));
    }
    found
}

struct Report {
    failures: usize,
}

impl Report {
    fn good(&mut self, name: &str, found: &str) -> io::Result<()> {
        print(format_args!("  ok  {name}: {found}"))
    }

    fn bad(&mut self, name: &str, problem: &str, advice: &str) -> io::Result<()> {
        self.failures += 1;
        print(format_args!("  BAD {name}: {problem}\n      {advice}"))
    }

    /// Somewhere to listen. Nothing is left behind there.
    async fn address(&mut self, name: &str, address: &Address) -> io::Result<()> {
        let (free, advice) = match address {
            Address::Inet(address) => (
                TcpListener::bind(address).await.map(drop).map_err(|error| match error.kind() {
                    ErrorKind::AddrInUse => BindError::InUse,
                    _ => BindError::Io(error),
                }),
                "choose another address or port",
            ),
            Address::Unix(path) => (
                UnixSocket::can_be_made(path),
                "make the folder, let the service's user write to it, or choose another name",
            ),
        };
        match free {
            Ok(()) => self.good(name, &format!("{address} is free")),
            Err(BindError::InUse) => {
                self.good(name, &format!("{address} is in use, by this registry if it runs"))
            }
            Err(error) => self.bad(name, &format!("{address}: {error}"), advice),
        }
    }

    /// Whether both sockets of evaluations answer.
    fn evaluators(&mut self, config: &Config, ping: Ping) -> io::Result<bool> {
        let before = self.failures;
        for (name, service, socket, answer) in [
            ("FETCHER_SOCKET", "fetcher", &config.fetcher_socket, ping.fetcher),
            ("EVALUATOR_SOCKET", "evaluator", &config.evaluator_socket, ping.evaluator),
        ] {
            match answer {
                Ok(version) => self.good(name, &format!("{}: Nix {version}", socket.display()))?,
                Err(error) => self.bad(
                    name,
                    &error.to_string(),
                    &format!(
                        "start the {service} (systemctl start forge-{service}.socket), or point {name} at it"
                    ),
                )?,
            }
        }
        Ok(self.failures == before)
    }

    fn certificate(&mut self, files: Option<TlsFiles>) -> io::Result<()> {
        let Some(files) = files else { return Ok(()) };
        match Tls::open(files) {
            Ok((_, (_, Some(warning)))) => {
                let (name, problem) = warning.split_once('=').unwrap_or(("TLS_CERTIFICATE", &warning));
                self.bad(name, problem, "mend that, and reload the registry (SIGHUP)")
            }
            Ok((_, (certificate, None))) => {
                self.good("TLS_CERTIFICATE", &format!("{certificate}; TLS_KEY is its key"))
            }
            Err(error) => {
                let problem = format!("{}: {}", error.path.display(), error.problem);
                self.bad(
                    error.setting,
                    &problem,
                    "see that the registry's user can read it, and that the files belong together",
                )
            }
        }
    }

    fn state_dir(&mut self, path: &Path) -> io::Result<()> {
        let probe = path.join(".check");
        let _ = fs::remove_file(&probe);
        let is_new = !path.exists();
        let written = fs::create_dir_all(path).and_then(|()| fs::File::create_new(&probe));
        match written {
            Ok(_) => {
                let _ = fs::remove_file(&probe);
                if is_new {
                    // The service's folder, should this be run by someone else.
                    let _ = fs::remove_dir(path);
                }
                match state_format(path) {
                    Ok(_) => self.good("STATE_DIR", &format!("{} can be written", path.display())),
                    Err(error) => self.bad(
                        "STATE_DIR",
                        &error.to_string(),
                        "what the folder has is no more than what a pull makes again",
                    ),
                }
            }
            Err(error) => self.bad(
                "STATE_DIR",
                &format!("{}: {error}", path.display()),
                "run as the service's user, or set STATE_DIR to a folder that can be written",
            ),
        }
    }

    fn store(&mut self, path: &Path) -> io::Result<()> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                self.good("NIX_STORE_DIR", &format!("{} is there", path.display()))
            }
            Ok(_) => self.bad("NIX_STORE_DIR", &format!("{} is not a folder", path.display()), "correct it"),
            Err(error) => self.bad(
                "NIX_STORE_DIR",
                &format!("{}: {error}", path.display()),
                "install Nix, or set NIX_STORE_DIR to nix-daemon's store",
            ),
        }
    }
}
