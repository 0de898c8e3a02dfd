//! `forge-registry serve`.

use super::{
    access, foundations,
    manager::{Signals, until_stopped},
    open_files,
    sockets::{Inherited, listeners},
};
use forge_registry::{
    config::Config,
    encode::Encoders,
    http::{self, Guard, Service},
    registry::Registry,
};
use std::process::ExitCode;

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config, inherited: Vec<Inherited>) -> ExitCode {
    match try_serve(config, inherited).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn try_serve(mut config: Config, inherited: Vec<Inherited>) -> Result<(), Box<dyn std::error::Error>> {
    let signals = Signals::catch()?;
    let access = access::open(&config)?;
    let (daemon, resolver) = foundations(&config)?;
    let registry = Registry::open(&config.state_dir, config.registry.clone(), daemon, resolver)?;
    let listeners = listeners(&config, inherited).await?;
    access::warn_of_plain(&config, &listeners);
    config.server.max_connections = open_files::connections(config.server.max_connections);
    let maintenance = tokio::spawn(registry.clone().maintain());
    let stopped = until_stopped(signals, registry.clone(), access.clone(), config.shutdown_grace);
    let encoders = Encoders::new(config.max_encodings, config.encoding_min_rate);
    let service = Service::new(registry.clone(), config.route, encoders)
        .guarded(Guard::new(access, config.trusted_proxies));
    let cut = http::serve(listeners, service, config.server, stopped, config.shutdown_grace).await;
    if cut > 0 {
        tracing::warn!(connections = cut, "SHUTDOWN_GRACE has passed, connections were cut");
    }
    maintenance.abort();
    registry.flush();
    Ok(())
}
