//! Listening sockets: those that the service manager hands over (`sd_listen_fds(3)`), and those of `LISTEN` and
//! `TLS_LISTEN`.

use super::unix_socket::UnixSocket;
use forge_registry::{
    config::Config,
    http::{Listener, Tls},
};
use listenfd::ListenFd;
use std::{error::Error, net, os::unix, path::PathBuf, sync::Arc};
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

/// Takes over the sockets that the environment announces. To be called before there are threads, since it changes the
/// environment.
pub fn inherited() -> Result<Vec<Inherited>, String> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut passed = ListenFd::from_env();
    (0..passed.len())
        .map(|index| {
            let name = names.next().unwrap_or_default();
            let https = is_for_https(&name)?;
            let socket = match passed.take_tcp_listener(index) {
                Ok(socket) => socket.map(if https { Inherited::Tls } else { Inherited::Tcp }),
                Err(_) if https => {
                    return Err("LISTEN_FDS: a socket for https is not a stream socket of TCP".into());
                }
                Err(_) => passed
                    .take_unix_listener(index)
                    .map_err(|_| {
                        format!("LISTEN_FDS: socket {name:?} is not a stream socket of TCP or Unix")
                    })?
                    .map(Inherited::Unix),
            };
            socket.ok_or_else(|| format!("LISTEN_FDS: socket {name:?} was taken already"))
        })
        .collect()
}

/// What a socket is for is said by its `FileDescriptorName`, which is the unit's name unless it is set.
fn is_for_https(name: &str) -> Result<bool, String> {
    match name {
        "https" => Ok(true),
        "http" | "" | "unknown" => Ok(false),
        unit if unit.ends_with(".socket") => Ok(false),
        other => Err(format!(
            "LISTEN_FDNAMES: {other:?} is not valid: expected http or https (FileDescriptorName= of the socket unit)"
        )),
    }
}

/// All sockets to serve on, and the Unix sockets among them that are to be removed in the end. `LISTEN` counts if it is
/// set, or if there is no other socket.
pub async fn listeners(
    config: &Config,
    inherited: Vec<Inherited>,
    tls: Option<Arc<Tls>>,
) -> Result<(Vec<Listener>, Vec<UnixSocket>), Box<dyn Error>> {
    let is_default = !config.listen_is_set && inherited.is_empty() && config.tls_listen.is_empty();
    let own: &[_] = if config.listen_is_set || is_default { &config.listen } else { &[] };
    let mut listeners = Vec::new();
    for socket in inherited {
        listeners.push(match (socket, &tls) {
            (Inherited::Tcp(socket), _) => Listener::Tcp(inherit(socket)?),
            (Inherited::Tls(socket), Some(tls)) => Listener::Tls(inherit(socket)?, tls.clone()),
            (Inherited::Tls(_), None) => {
                return Err(
                    "LISTEN_FDNAMES: a socket is for https, which needs TLS_CERTIFICATE and TLS_KEY".into()
                );
            }
            (Inherited::Unix(socket), _) => {
                socket.set_nonblocking(true)?;
                Listener::Unix(UnixListener::from_std(socket)?)
            }
        });
    }
    for address in own {
        listeners.push(Listener::Tcp(bind("LISTEN", *address).await?));
    }
    let mut sockets = Vec::new();
    for path in &config.listen_unix {
        let (socket, listener) = UnixSocket::bind(path, config.listen_mode)
            .map_err(|error| format!("LISTEN: unix:{}: {error}", path.display()))?;
        listeners.push(Listener::Unix(listener));
        sockets.push(socket);
    }
    if let Some(tls) = &tls {
        for address in &config.tls_listen {
            listeners.push(Listener::Tls(bind("TLS_LISTEN", *address).await?, tls.clone()));
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
        match listener {
            Listener::Tcp(socket) => tracing::info!("listening on {}", socket.local_addr()?),
            Listener::Tls(socket, _) => tracing::info!("listening on https://{}", socket.local_addr()?),
            Listener::Unix(socket) => {
                let path = socket.local_addr()?.as_pathname().map_or_else(PathBuf::new, Into::into);
                tracing::info!("listening on unix:{}", path.display());
            }
        }
    }
    Ok((listeners, sockets))
}

fn inherit(socket: net::TcpListener) -> std::io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

async fn bind(setting: &str, address: net::SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("{setting}: {address}: {error}"))
}
