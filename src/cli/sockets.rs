//! Listening sockets: those that the service manager hands over (`sd_listen_fds(3)`), and those of `LISTEN`.

use forge_registry::{
    config::{Address, Config},
    http::Listener,
};
use listenfd::ListenFd;
use std::{
    error::Error,
    io, net,
    os::unix::{self, fs::FileTypeExt},
    path::{Path, PathBuf},
};
use tokio::net::{TcpListener, UnixListener};

/// A socket that somebody else has bound. It outlives this process, so while the service restarts its clients wait
/// and are not refused.
pub enum Inherited {
    /// Of TCP.
    Tcp(net::TcpListener),
    /// A Unix socket.
    Unix(unix::net::UnixListener),
}

/// All sockets that somebody else has bound, by what they are for.
#[derive(Default)]
pub struct InheritedSockets {
    /// For images.
    pub http: Vec<Inherited>,
    /// For metrics.
    pub metrics: Vec<Inherited>,
}

impl Inherited {
    fn adopt(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Listener::Tcp(TcpListener::from_std(socket)?)
            }
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Listener::Unix(UnixListener::from_std(socket)?)
            }
        })
    }
}

/// Takes over the sockets that the environment announces. To be called before there are threads, since it changes the
/// environment.
pub fn inherited() -> Result<InheritedSockets, String> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut passed = ListenFd::from_env();
    let mut sockets = InheritedSockets::default();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default();
        let purpose = sockets.purpose(&name)?;
        let socket = match passed.take_tcp_listener(index) {
            Ok(socket) => socket.map(Inherited::Tcp),
            Err(_) => passed
                .take_unix_listener(index)
                .map_err(|_| format!("LISTEN_FDS: socket {name:?} is not a stream socket of TCP or Unix"))?
                .map(Inherited::Unix),
        };
        purpose.push(socket.ok_or_else(|| format!("LISTEN_FDS: socket {name:?} was taken already"))?);
    }
    Ok(sockets)
}

impl InheritedSockets {
    /// What a socket is for is said by its `FileDescriptorName`, which is the unit's name unless it is set.
    fn purpose(&mut self, name: &str) -> Result<&mut Vec<Inherited>, String> {
        match name {
            "http" | "" | "unknown" => Ok(&mut self.http),
            "metrics" => Ok(&mut self.metrics),
            unit if unit.ends_with(".socket") => Ok(&mut self.http),
            other => Err(format!(
                "LISTEN_FDNAMES: {other:?} is not valid: expected http or metrics (FileDescriptorName= of the socket unit)"
            )),
        }
    }
}

/// All sockets to serve on. `LISTEN` counts if it is set, or if there is no other socket.
pub async fn listeners(config: &Config, inherited: Vec<Inherited>) -> Result<Vec<Listener>, Box<dyn Error>> {
    let own: &[_] = if config.listen_is_set || inherited.is_empty() { &config.listen } else { &[] };
    let mut listeners = inherited.into_iter().map(Inherited::adopt).collect::<io::Result<Vec<_>>>()?;
    for address in own {
        let bound =
            TcpListener::bind(address).await.map_err(|error| format!("LISTEN: {address}: {error}"))?;
        listeners.push(Listener::Tcp(bound));
    }
    for listener in &listeners {
        tracing::info!("listening on {}", place(listener)?);
    }
    Ok(listeners)
}

/// All sockets to serve metrics on; none unless somebody wants to read them.
pub async fn metrics_listeners(
    config: &Config,
    inherited: Vec<Inherited>,
) -> Result<Vec<Listener>, Box<dyn Error>> {
    let mut listeners = inherited.into_iter().map(Inherited::adopt).collect::<io::Result<Vec<_>>>()?;
    for address in &config.metrics_listen {
        let failed = |error| format!("METRICS_LISTEN: {address}: {error}");
        listeners.push(match address {
            Address::Inet(address) => Listener::Tcp(TcpListener::bind(address).await.map_err(failed)?),
            Address::Unix(path) => Listener::Unix(bind_unix(path).map_err(failed)?),
        });
    }
    for listener in &listeners {
        tracing::info!("metrics are on {}", place(listener)?);
    }
    Ok(listeners)
}

/// In place of the socket that a former process has left there.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

fn place(listener: &Listener) -> io::Result<String> {
    Ok(match listener {
        Listener::Tcp(socket) => socket.local_addr()?.to_string(),
        Listener::Unix(socket) => {
            let path = socket.local_addr()?.as_pathname().map_or_else(PathBuf::new, Into::into);
            format!("unix:{}", path.display())
        }
    })
}
