//! Listening sockets: those that the service manager hands over (`sd_listen_fds(3)`), and those of `LISTEN`.

use forge_registry::{config::Config, http::Listener};
use listenfd::ListenFd;
use std::{error::Error, net, os::unix, path::PathBuf};
use tokio::net::{TcpListener, UnixListener};

/// A socket that somebody else has bound. It outlives this process, so while the service restarts its clients wait
/// and are not refused.
pub enum Inherited {
    /// Of TCP.
    Tcp(net::TcpListener),
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
            serves_http(&name)?;
            let socket = match passed.take_tcp_listener(index) {
                Ok(socket) => socket.map(Inherited::Tcp),
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
fn serves_http(name: &str) -> Result<(), String> {
    match name {
        "http" | "" | "unknown" => Ok(()),
        unit if unit.ends_with(".socket") => Ok(()),
        other => Err(format!(
            "LISTEN_FDNAMES: {other:?} is not valid: expected http (FileDescriptorName= of the socket unit)"
        )),
    }
}

/// All sockets to serve on. `LISTEN` counts if it is set, or if there is no other socket.
pub async fn listeners(config: &Config, inherited: Vec<Inherited>) -> Result<Vec<Listener>, Box<dyn Error>> {
    let own: &[_] = if config.listen_is_set || inherited.is_empty() { &config.listen } else { &[] };
    let mut listeners = Vec::new();
    for socket in inherited {
        listeners.push(match socket {
            Inherited::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Listener::Tcp(TcpListener::from_std(socket)?)
            }
            Inherited::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Listener::Unix(UnixListener::from_std(socket)?)
            }
        });
    }
    for address in own {
        let bound =
            TcpListener::bind(address).await.map_err(|error| format!("LISTEN: {address}: {error}"))?;
        listeners.push(Listener::Tcp(bound));
    }
    for listener in &listeners {
        match listener {
            Listener::Tcp(socket) => tracing::info!("listening on {}", socket.local_addr()?),
            Listener::Unix(socket) => {
                let path = socket.local_addr()?.as_pathname().map_or_else(PathBuf::new, Into::into);
                tracing::info!("listening on unix:{}", path.display());
            }
        }
    }
    Ok(listeners)
}
