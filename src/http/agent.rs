//! What is known of clients by their `User-Agent`.

use crate::registry::Patience;
use http::{HeaderMap, header};

/// The first version of docker that pulls through containerd unless told otherwise, and so retries a 429.
const DOCKER_WITH_CONTAINERD: u32 = 29;

/// Whether the client comes back after a 429. All do but docker's own puller, which asks once and then fails, but has no
/// limit on how long it waits for an answer (`docs/clients.md`).
pub fn patience(headers: &HeaderMap) -> Patience {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let version = agent.and_then(|agent| agent.strip_prefix("docker/"));
    let major =
        version.and_then(|version| version.split('.').next()).and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major < DOCKER_WITH_CONTAINERD => Patience::AsksOnce,
        _ => Patience::ComesBack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_docker_asks_once() {
        let patience =
            |agent: &str| patience(&HeaderMap::from_iter([(header::USER_AGENT, agent.parse().unwrap())]));
        let docker =
            "docker/20.10.24+dfsg1 go/go1.19.8 os/linux arch/amd64 UpstreamClient(Docker-Client/20.10.24)";
        assert_eq!(patience(docker), Patience::AsksOnce);
        for agent in ["docker/29.0.1 go/go1.25", "docker/", "containerd/1.6.20~ds1", "containers/5.23.1", ""]
        {
            assert_eq!(patience(agent), Patience::ComesBack, "{agent}");
        }
    }
}
