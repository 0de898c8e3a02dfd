//! Access control, as the commands begin it, check it and read it again.

use forge_registry::{
    access::{Access, AccessError},
    config::Config,
    http::Listener,
};
use std::{net::SocketAddr, sync::Arc};

/// Reads the files, if there are any.
pub fn open(config: &Config) -> Result<Option<Arc<Access>>, AccessError> {
    let access = config.access.clone().map(Access::open).transpose()?.map(Arc::new);
    if let Some(access) = &access {
        tracing::info!("access is controlled: {}", access.counts());
    }
    Ok(access)
}

/// Reads the files again; what to say about it, or why the old ones stay in force.
pub async fn reload(access: &Arc<Access>) -> Result<String, String> {
    let access = access.clone();
    match tokio::task::spawn_blocking(move || access.reload()).await {
        Ok(Ok(counts)) => Ok(counts.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(panic.to_string()),
    }
}

/// Says which listeners take passwords that others can read on the way.
pub fn warn_of_plain(config: &Config, listeners: &[Listener]) {
    for listener in listeners {
        if let Listener::Tcp(socket) = listener
            && let Ok(address) = socket.local_addr()
            && is_plain(config, &address)
        {
            tracing::warn!("{}", plain(&address));
        }
    }
}

/// Whether passwords can be read on their way to an address with plain HTTP.
pub fn is_plain(config: &Config, address: &SocketAddr) -> bool {
    config.access.is_some() && config.trusted_proxies.is_empty() && !address.ip().to_canonical().is_loopback()
}

/// What there is to say about it.
pub fn plain(address: &SocketAddr) -> String {
    format!(
        "{address} is plain HTTP, so passwords and tokens can be read on their way there; \
         serve HTTPS with TLS_LISTEN, or listen on 127.0.0.1 behind a proxy with TLS that is named in TRUSTED_PROXIES"
    )
}
