//! Connections to nix-daemon.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// All of them. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct DaemonConnections {
    open: Gauge,
    opened: Counter,
    failed: Counter,
}

impl DaemonConnections {
    /// One is open, until what this returns is dropped.
    pub fn open(&self) -> DaemonConnection {
        self.opened.inc();
        self.open.inc();
        DaemonConnection(self.open.clone())
    }

    /// One could not be made, or there was no answer on it.
    pub fn failed(&self) {
        self.failed.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("nix_daemon_connections", "Open connections to nix-daemon", self.open.clone());
        registry.register(
            "nix_daemon_connections_opened",
            "Connections to nix-daemon that were opened",
            self.opened.clone(),
        );
        registry.register(
            "nix_daemon_connections_failed",
            "Connections to nix-daemon that could not be made, or were not greeted in time",
            self.failed.clone(),
        );
    }
}

/// A connection, open until this is dropped.
#[derive(Debug)]
pub struct DaemonConnection(Gauge);

impl Drop for DaemonConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
