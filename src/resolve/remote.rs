//! Whom a look-up of a revision asks.

/// A source that is somewhere else. What allows the fewest look-ups comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote {
    /// A forge, by its API: `github:`, `gitlab:`, `sourcehut:`, and what the flake registry may lead to.
    Forge,
    /// A Git repository of another host.
    Git,
}

impl Remote {
    /// That of a flake reference; none if it is on this host, or has no revisions.
    pub(super) fn of(reference: &str) -> Option<Self> {
        let (scheme, rest) = reference.split_once(':').unwrap_or(("flake", reference));
        match scheme {
            "github" | "gitlab" | "sourcehut" => Some(Self::Forge),
            "flake" if !rest.starts_with(['/', '.']) => Some(Self::Forge),
            "git+file" => None,
            scheme if scheme == "git" || scheme.starts_with("git+") => Some(Self::Git),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Remote;

    #[test]
    fn a_reference_says_who_is_asked() {
        for (reference, remote) in [
            ("github:o/r", Some(Remote::Forge)),
            ("gitlab:o/r/main", Some(Remote::Forge)),
            ("sourcehut:~o/r", Some(Remote::Forge)),
            ("nixpkgs", Some(Remote::Forge)),
            ("flake:nixpkgs/release-26.05", Some(Remote::Forge)),
            ("git+ssh://git@h/r", Some(Remote::Git)),
            ("git+https://h/r?ref=main", Some(Remote::Git)),
            ("git://h/r", Some(Remote::Git)),
            ("git+file:///r", None),
            ("path:/r", None),
            ("/r", None),
            ("https://h/r.tar.gz", None),
        ] {
            assert_eq!(Remote::of(reference), remote, "{reference}");
        }
    }
}
