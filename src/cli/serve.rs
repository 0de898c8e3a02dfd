//! `forge-registry serve`.

use super::{daemon, open_files, resolver};
use forge_registry::{
    config::Config,
    encode::Encoders,
    http::{self, Listener, Service},
    registry::Registry,
};
use std::process::ExitCode;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> ExitCode {
    match try_serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn try_serve(mut config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let registry =
        Registry::open(&config.state_dir, config.registry.clone(), daemon(&config), resolver(&config)?)?;
    let mut listeners = Vec::new();
    for address in &config.listen {
        let listener =
            TcpListener::bind(address).await.map_err(|error| format!("LISTEN: {address}: {error}"))?;
        tracing::info!("listening on {}", listener.local_addr()?);
        listeners.push(Listener::Tcp(listener));
    }
    config.server.max_connections = open_files::connections(config.server.max_connections);
    let maintenance = tokio::spawn(registry.clone().maintain());
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: running responses are finished, builds are nix-daemon's");
    };
    let encoders = Encoders::new(config.max_encodings, config.encoding_min_rate);
    let service = Service::new(registry.clone(), config.route, encoders);
    let cut = http::serve(listeners, service, config.server, stopped, config.shutdown_grace).await;
    if cut > 0 {
        tracing::warn!(connections = cut, "SHUTDOWN_GRACE has passed, connections were cut");
    }
    maintenance.abort();
    registry.flush();
    Ok(())
}
