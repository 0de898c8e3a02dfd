//! What is known of clients by their `User-Agent`.

use crate::registry::Patience;
use http::{HeaderMap, header};

/// The first version of docker that pulls through containerd unless told otherwise, and so retries a 429.
const DOCKER_WITH_CONTAINERD: u32 = 29;

/// The first version of docker that unpacks layers that are compressed with zstd.
const DOCKER_WITH_ZSTD: u32 = 23;

/// Whether the client comes back after a 429. All do but docker's own puller, which asks once and then fails, but has no
/// limit on how long it waits for an answer (`docs/clients.md`).
pub fn patience(headers: &HeaderMap) -> Patience {
    match docker(headers) {
        Some(major) if major < DOCKER_WITH_CONTAINERD => Patience::AsksOnce,
        _ => Patience::ComesBack,
    }
}

/// Whether the client says that it takes OCI images, and then cannot unpack those with zstd.
pub fn lacks_zstd(headers: &HeaderMap) -> bool {
    docker(headers).is_some_and(|major| major < DOCKER_WITH_ZSTD)
}

/// Docker's version, up to the first dot.
fn docker(headers: &HeaderMap) -> Option<u32> {
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    agent.strip_prefix("docker/")?.split('.').next()?.parse().ok()
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

    #[test]
    fn docker_unpacks_zstd_since_version_23() {
        let lacks =
            |agent: &str| lacks_zstd(&HeaderMap::from_iter([(header::USER_AGENT, agent.parse().unwrap())]));
        assert!(lacks("docker/20.10.24+dfsg1 go/go1.19.8") && lacks("docker/19.03.1"));
        for agent in ["docker/23.0.0 go/go1.19", "docker/28.5.2", "docker/", "containerd/1.6.20~ds1", ""] {
            assert!(!lacks(agent), "{agent}");
        }
    }
}
