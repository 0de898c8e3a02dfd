//! Whether the parts that the registry depends on answer.

use super::{Behalf, Registry};
use crate::resolve::Ping;
use std::{convert::Infallible, fmt::Display, future::Future, sync::Arc, time::Duration};

/// How long an answer is given again without asking: probes may come from many places at once.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What `/readyz` reports.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// Each part with `Ok` or the reason why it does not answer.
    pub parts: Vec<(&'static str, Result<(), String>)>,
}

impl Registry {
    /// Whether the parts that this registry depends on answer, or did a moment ago. There is one look at a time,
    /// which requests share; it takes no place of an evaluation, since a busy registry is a ready one.
    pub async fn readiness(self: &Arc<Self>) -> Readiness {
        if let Some(readiness) = self.checked.get(&()) {
            return readiness;
        }
        let this = self.clone();
        let look = self.checking.join(&Behalf::Client(None), (), || async move {
            let readiness = this.look().await;
            this.checked.put((), readiness.clone(), REMEMBERED);
            readiness
        });
        look.wait()
            .await
            .unwrap_or_else(|| Readiness { parts: vec![("registry", Err("the check panicked".into()))] })
    }

    async fn look(&self) -> Readiness {
        let evaluators = async { Ok::<_, Infallible>(self.resolver.ping().await) };
        let (daemon, evaluators) = tokio::join!(self.in_time(self.daemon.ping()), self.in_time(evaluators));
        let mut parts = vec![("nix-daemon", daemon.map(drop))];
        match evaluators {
            // Nothing needs them.
            Ok(None) => {}
            Ok(Some(Ping { fetcher, evaluator })) => {
                for (part, answer) in [("fetcher", fetcher), ("evaluator", evaluator)] {
                    parts.push((part, answer.map(drop).map_err(|error| error.to_string())));
                }
            }
            Err(reason) => parts.push(("fetcher or evaluator", Err(reason))),
        }
        Readiness { parts }
    }

    async fn in_time<T, E: Display>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, String> {
        let limit = self.settings.ready_timeout;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {} s (READY_TIMEOUT)", limit.as_secs())),
        }
    }
}
