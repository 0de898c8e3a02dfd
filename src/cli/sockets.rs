//! Listening sockets: those that the service manager hands over (`sd_listen_fds(3)`), and those of `LISTEN` and
//! `TLS_LISTEN`.

use forge_registry::{
    config::{Address, Config},
    http::{Listener, Tls},
    unix_socket::UnixSocket,
};
use listenfd::ListenFd;
use std::{error::Error, io, net, os::unix, path::PathBuf, sync::Arc};
use tokio::net::{TcpListener, UnixListener};

/// A socket that somebody else has bound. It outlives this process, so while the service restarts its clients wait
/// and are not refused.
pub enum Inherited {
    /// Of TCP.
    Tcp(net::TcpListener),
    /// Of TCP, for HTTPS.
    Tls(net::TcpListener),
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
    fn adopt(self, tls: Option<&Arc<Tls>>) -> Result<Listener, Box<dyn Error>> {
        Ok(match (self, tls) {
            (Self::Tcp(socket), _) => Listener::Tcp(inherit(socket)?),
            (Self::Tls(socket), Some(tls)) => Listener::Tls(inherit(socket)?, tls.clone()),
            (Self::Tls(_), None) => {
                return Err(
                    "LISTEN_FDNAMES: a socket is for https, which needs TLS_CERTIFICATE and TLS_KEY".into()
                );
            }
            (Self::Unix(socket), _) => {
                socket.set_nonblocking(true)?;
                Listener::Unix(UnixListener::from_std(socket)?)
            }
        })
    }
}

fn inherit(socket: net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
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
        let (purpose, is_https) = sockets.purpose(&name)?;
        let socket = match passed.take_tcp_listener(index) {
            Ok(socket) => socket.map(if is_https { Inherited::Tls } else { Inherited::Tcp }),
            Err(_) if is_https => {
                return Err("LISTEN_FDS: a socket for https is not a stream socket of TCP".into());
            }
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
    /// What a socket is for, and whether that is HTTPS, is said by its `FileDescriptorName`, which is the unit's name
    /// unless it is set.
    fn purpose(&mut self, name: &str) -> Result<(&mut Vec<Inherited>, bool), String> {
        match name {
            "http" | "" | "unknown" => Ok((&mut self.http, false)),
            "https" => Ok((&mut self.http, true)),
            "metrics" => Ok((&mut self.metrics, false)),
            unit if unit.ends_with(".socket") => Ok((&mut self.http, false)),
            other => Err(format!(
                "LISTEN_FDNAMES: {other:?} is not valid: expected http, https or metrics (FileDescriptorName= of the \
                 socket unit)"
            )),
        }
    }
}

/// What is listened on, and the Unix sockets among it that are to be removed in the end.
pub type Listeners = (Vec<Listener>, Vec<UnixSocket>);

/// All sockets to serve on. `LISTEN` counts if it is set, or if there is no other socket.
pub async fn listeners(
    config: &Config,
    inherited: Vec<Inherited>,
    tls: Option<Arc<Tls>>,
) -> Result<Listeners, Box<dyn Error>> {
    let is_default = !config.listen_is_set && inherited.is_empty() && config.tls_listen.is_empty();
    let own: &[_] = if config.listen_is_set || is_default { &config.listen } else { &[] };
    let mut listeners =
        inherited.into_iter().map(|socket| socket.adopt(tls.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let sockets = bind(&mut listeners, "LISTEN", own, config.listen_mode).await?;
    if let Some(tls) = &tls {
        for address in &config.tls_listen {
            listeners.push(Listener::Tls(bind_tcp("TLS_LISTEN", address).await?, tls.clone()));
        }
    }
    let https = listeners.iter().any(|listener| matches!(listener, Listener::Tls(..)));
    if let (Some(files), false) = (&config.tls, https) {
        let path = files.certificate.display();
        return Err(format!(
            "TLS_CERTIFICATE={path} has no effect, since nothing listens for HTTPS: set TLS_LISTEN"
        )
        .into());
    }
    for listener in &listeners {
        tracing::info!("listening on {}", place(listener)?);
    }
    Ok((listeners, sockets))
}

/// All sockets to serve metrics on; none unless somebody wants to read them.
pub async fn metrics_listeners(
    config: &Config,
    inherited: Vec<Inherited>,
) -> Result<Listeners, Box<dyn Error>> {
    let mut listeners =
        inherited.into_iter().map(|socket| socket.adopt(None)).collect::<Result<Vec<_>, _>>()?;
    let sockets = bind(&mut listeners, "METRICS_LISTEN", &config.metrics_listen, config.listen_mode).await?;
    for listener in &listeners {
        tracing::info!("metrics are on {}", place(listener)?);
    }
    Ok((listeners, sockets))
}

async fn bind(
    listeners: &mut Vec<Listener>,
    setting: &str,
    addresses: &[Address],
    mode: u32,
) -> Result<Vec<UnixSocket>, String> {
    let mut sockets = Vec::new();
    for address in addresses {
        listeners.push(match address {
            Address::Inet(address) => Listener::Tcp(bind_tcp(setting, address).await?),
            Address::Unix(path) => {
                let (socket, listener) =
                    UnixSocket::bind(path, mode).map_err(|error| format!("{setting}: {address}: {error}"))?;
                sockets.push(socket);
                Listener::Unix(listener)
            }
        });
    }
    Ok(sockets)
}

async fn bind_tcp(setting: &str, address: &net::SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("{setting}: {address}: {error}"))
}

fn place(listener: &Listener) -> io::Result<String> {
    Ok(match listener {
        Listener::Tcp(socket) => socket.local_addr()?.to_string(),
        Listener::Tls(socket, _) => format!("https://{}", socket.local_addr()?),
        Listener::Unix(socket) => {
            let path = socket.local_addr()?.as_pathname().map_or_else(PathBuf::new, Into::into);
            format!("unix:{}", path.display())
        }
    })
}
