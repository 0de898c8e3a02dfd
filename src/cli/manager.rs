//! The service manager: what it is told (`sd_notify(3)`), and what its signals mean.

use super::access;
use forge_registry::{access::Access, http::Tls, registry::Registry};
use sd_notify::NotifyState as State;
use std::{sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::MissedTickBehavior,
};

/// How much longer than `SHUTDOWN_GRACE` stopping may take.
const STOPPING_MARGIN: Duration = Duration::from_secs(10);

/// The signals that mean something to the registry.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From here on none of them ends the process by itself.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// What SIGHUP reads again.
pub struct Reloaded {
    pub registry: Arc<Registry>,
    pub access: Option<Arc<Access>>,
    pub tls: Option<Arc<Tls>>,
}

/// To be awaited by the server once it serves: says so, reloads on SIGHUP, and returns on SIGTERM or SIGINT.
pub async fn until_stopped(mut signals: Signals, reloaded: Reloaded, grace: Duration) {
    tell(&[State::Ready]);
    if let Some(period) = sd_notify::watchdog_enabled() {
        tokio::spawn(feed_watchdog(period));
    }
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => reload(&reloaded).await,
        }
    }
    tracing::info!("stopping: running responses are finished, builds are nix-daemon's");
    let longest = u32::try_from((grace + STOPPING_MARGIN).as_micros()).unwrap_or(u32::MAX);
    tell(&[State::Stopping, State::ExtendTimeoutUsec(longest)]);
}

/// Reads again what was read from files at the start. Whatever cannot be used leaves in force what there was.
async fn reload(Reloaded { registry, access, tls }: &Reloaded) {
    match State::monotonic_usec_now() {
        Ok(now) => tell(&[State::Reloading, now]),
        Err(error) => tracing::warn!("the time of the reload is not known: {error}"),
    }
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    match registry.reload_catalog().await {
        Ok(entries) => done.extend(entries.map(|entries| format!("{entries} images in the catalog"))),
        Err(error) => {
            tracing::error!("not reloaded, the last good catalog stays: CATALOG: {error}");
            failed.push(format!("CATALOG: {error}"));
        }
    }
    if let Some(access) = access {
        match access::reload(access).await {
            Ok(found) => {
                tracing::info!("access is controlled anew: {found}");
                done.push(found);
            }
            Err(error) => {
                tracing::error!("not reloaded, access is controlled as before: {error}");
                failed.push(error);
            }
        }
    }
    if let Some(tls) = tls {
        let tls = tls.clone();
        // Reading files can take its time.
        match tokio::task::spawn_blocking(move || tls.reload()).await {
            Ok(Ok((certificate, warning))) => {
                tracing::info!("certificate: {certificate}");
                if let Some(warning) = warning {
                    tracing::warn!("{warning}");
                }
                done.push(format!("certificate: {certificate}"));
            }
            Ok(Err(error)) => {
                tracing::error!("not reloaded, the last good certificate stays: {error}");
                failed.push(error.to_string());
            }
            Err(panic) => {
                tracing::error!("not reloaded, the last good certificate stays: {panic}");
                failed.push(panic.to_string());
            }
        }
    }
    tell(&[State::Ready, State::Status(&status(&done, &failed))]);
}

/// How a reload ended: what failed, and what was read all the same.
fn status(done: &[String], failed: &[String]) -> String {
    let part = |outcome: &str, what: &[String]| format!("{outcome}: {}", what.join("; "));
    match (done, failed) {
        ([], []) => "reloaded".into(),
        (_, []) => part("reloaded", done),
        ([], _) => part("not reloaded", failed),
        _ => format!("{}; {}", part("not reloaded", failed), part("reloaded", done)),
    }
}

/// Runs among the requests, and so stops when they do.
async fn feed_watchdog(period: Duration) {
    let mut ticks = tokio::time::interval(period / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if files_can_be_read().await {
            tell(&[State::Watchdog]);
        }
    }
}

/// Waits until one of the threads that read files for responses has had time for this.
async fn files_can_be_read() -> bool {
    tokio::task::spawn_blocking(|| ()).await.is_ok()
}

fn tell(states: &[State<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be reached: NOTIFY_SOCKET: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_status_has_what_was_reloaded_beside_what_was_not() {
        let (good, bad) = (["a".to_owned(), "b".to_owned()], ["CATALOG: no".to_owned()]);
        for (done, failed, text) in [
            (&[][..], &[][..], "reloaded"),
            (&good, &[], "reloaded: a; b"),
            (&[], &bad, "not reloaded: CATALOG: no"),
            (&good, &bad, "not reloaded: CATALOG: no; reloaded: a; b"),
        ] {
            assert_eq!(status(done, failed), text);
        }
    }

    #[test]
    fn the_watchdog_is_not_fed_while_no_thread_can_read_files() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (release, held) = mpsc::channel::<()>();
            let stuck = tokio::task::spawn_blocking(move || held.recv().is_err());
            let mut check = tokio::spawn(files_can_be_read());
            let waiting = tokio::time::timeout(Duration::from_millis(200), &mut check).await;
            assert!(waiting.is_err(), "it was fed");
            drop(release);
            assert!(stuck.await.unwrap() && check.await.unwrap());
        });
    }
}
