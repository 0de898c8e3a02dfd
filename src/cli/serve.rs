//! `forge-registry serve`.

use super::{
    access, foundations,
    manager::{Reloaded, Signals, until_stopped},
    open_files,
    sockets::{InheritedSockets, listeners, metrics_listeners},
};
use forge_registry::{
    admin,
    config::Config,
    encode::Encoders,
    http::{self, Guard, Listener, ServerLimits, Service, Tls, tls::TlsError},
    metrics::Metrics,
    registry::{Registry, StateError},
};
use std::{future::pending, process::ExitCode, sync::Arc};

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config, inherited: InheritedSockets) -> ExitCode {
    match try_serve(config, inherited).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error.downcast_ref::<StateError>() {
                // Nor does the next start get further: the service manager need not try.
                Some(error) if error.is_of_another_version() => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The admin socket. Without it images are served all the same, so only one that was asked for must be there.
fn admin_socket(config: &Config) -> Result<Option<admin::Server>, String> {
    let path = &config.admin_socket;
    match admin::Server::bind(path).map_err(|error| format!("ADMIN_SOCKET={}: {error}", path.display())) {
        Ok(server) => Ok(Some(server)),
        Err(error) if config.admin_socket_is_set => Err(error),
        Err(error) => {
            tracing::warn!(
                "forge-registry images, inspect, forget and gc will not reach this registry: {error}"
            );
            Ok(None)
        }
    }
}

async fn try_serve(
    mut config: Config,
    inherited: InheritedSockets,
) -> Result<(), Box<dyn std::error::Error>> {
    let signals = Signals::catch()?;
    let access = access::open(&config)?;
    let (daemon, resolver) = foundations(&config)?;
    let metrics = Metrics::default();
    let daemon = daemon.with_metrics(metrics.daemon.clone());
    config.registry.max_mapped_files = open_files::mapped(config.registry.max_mapped_files);
    let registry =
        Registry::open(&config.state_dir, config.registry.clone(), daemon, resolver, metrics.clone())?;
    let tls = open_tls(&config)?;
    // First of all sockets: when the log says that the registry listens, its commands reach it as well.
    let admin = admin_socket(&config)?.map(|server| tokio::spawn(server.run(registry.clone())));
    let (metrics_listeners, metrics_sockets) = metrics_listeners(&config, inherited.metrics).await?;
    let (listeners, sockets) = listeners(&config, inherited.http, tls.clone()).await?;
    access::warn_of_plain(&config, &listeners);
    open_files::fit(&mut config.server, config.registry.max_mapped_files);
    let maintenance = tokio::spawn(registry.clone().maintain());
    let reloaded = Reloaded { registry: registry.clone(), access: access.clone(), tls };
    let stopped = until_stopped(signals, reloaded, config.shutdown_grace);
    let encoders = Encoders::new(config.max_encodings, config.encoding_min_rate);
    let encoders = encoders.with_metrics(metrics.encodings.clone());
    let service = Service::new(registry.clone(), config.route, encoders)
        .guarded(Guard::new(access, config.trusted_proxies))
        .with_metrics(metrics);
    let for_operators =
        ServerLimits { max_connections: config.max_metrics_connections, ..config.server.clone() };
    let for_operators = serve_operators(metrics_listeners, service.for_operators(), for_operators);
    let cut = tokio::select! {
        cut = http::serve(listeners, service, config.server.clone(), stopped, config.shutdown_grace) => cut,
        never = for_operators => never,
    };
    if cut > 0 {
        tracing::warn!(connections = cut, "SHUTDOWN_GRACE has passed, connections were cut");
    }
    drop((sockets, metrics_sockets));
    maintenance.abort();
    if let Some(admin) = admin {
        admin.abort();
        // Until its name is gone as well.
        let _ = admin.await;
    }
    registry.flush();
    Ok(())
}

/// Serves metrics until the registry itself has ended: how it stops is something to be watched as well.
async fn serve_operators(listeners: Vec<Listener>, service: Service<Registry>, limits: ServerLimits) -> u32 {
    http::serve(listeners, service, limits, pending(), std::time::Duration::ZERO).await
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
