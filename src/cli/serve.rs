//! `forge-registry serve`.

use super::{
    foundations,
    manager::{Signals, until_stopped},
    open_files,
    sockets::{Inherited, listeners},
};
use forge_registry::{
    config::Config,
    encode::Encoders,
    http::{self, Service, Tls, tls::TlsError},
    registry::Registry,
};
use std::{process::ExitCode, sync::Arc};

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
    let (daemon, resolver) = foundations(&config)?;
    config.registry.max_mapped_files = open_files::mapped(config.registry.max_mapped_files);
    let registry = Registry::open(&config.state_dir, config.registry.clone(), daemon, resolver)?;
    let tls = open_tls(&config)?;
    let (listeners, sockets) = listeners(&config, inherited, tls.clone()).await?;
    config.server.max_connections =
        open_files::connections(config.server.max_connections, config.registry.max_mapped_files);
    let maintenance = tokio::spawn(registry.clone().maintain());
    let stopped = until_stopped(signals, registry.clone(), tls, config.shutdown_grace);
    let encoders = Encoders::new(config.max_encodings, config.encoding_min_rate);
    let service = Service::new(registry.clone(), config.route, encoders);
    let cut = http::serve(listeners, service, config.server, stopped, config.shutdown_grace).await;
    if cut > 0 {
        tracing::warn!(connections = cut, "SHUTDOWN_GRACE has passed, connections were cut");
    }
    drop(sockets);
    maintenance.abort();
    registry.flush();
    Ok(())
}

fn open_tls(config: &Config) -> Result<Option<Arc<Tls>>, TlsError> {
    let Some(files) = config.tls.clone() else { return Ok(None) };
    let (tls, (certificate, warning)) = Tls::open(files)?;
    tracing::info!("certificate: {certificate}");
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Ok(Some(Arc::new(tls)))
}
