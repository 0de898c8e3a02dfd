//! Flake references, as far as a tag can choose a revision of them (Nix manual, "nix flake", "Flake references").

use super::{Resolution, ResolveError};
use crate::{nix::EvaluatorError, oci::Tag};

/// What `name` means at the first revision that `tag` can mean, if there is one; `resolve` is given its reference.
pub(super) async fn resolve_at<F>(
    flake: &str,
    tag: &Tag,
    name: &str,
    resolve: impl Fn(String) -> F,
) -> Result<Resolution, ResolveError>
where
    F: Future<Output = Result<Resolution, ResolveError>>,
{
    let mut failure = None;
    for reference in at_revision(flake, tag.as_str()) {
        match resolve(reference).await {
            Err(ResolveError::Evaluator(EvaluatorError::Failed(reason)) | ResolveError::Hidden(reason)) => {
                failure = Some(reason);
            }
            // The revision is there, and the name is not in it.
            Err(ResolveError::Unknown(message)) => return Err(ResolveError::TagUnknown(message)),
            answer => return answer,
        }
    }
    Err(ResolveError::TagUnknown(match failure {
        Some(reason) => format!("{name} cannot be evaluated at revision {tag}: {reason}"),
        None => format!("{name} has no tag {tag}"),
    }))
}

/// The references that `tag` can mean as a branch, tag or commit of the source of `flake`, in the order to try them;
/// none for sources without revisions. A tag's alphabet has nothing special in URLs.
fn at_revision(flake: &str, tag: &str) -> Vec<String> {
    let (base, query) = flake.split_once('?').map_or((flake, None), |(base, query)| (base, Some(query)));
    let (scheme, rest) = base.split_once(':').unwrap_or(("flake", base));
    let is_commit = tag.len() == 40 && tag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match scheme {
        // <scheme>:<owner>/<repository>[/<ref or commit>]
        "github" | "gitlab" | "sourcehut" => {
            let mut parts = rest.split('/');
            match (parts.next(), parts.next()) {
                (Some(owner), Some(repository)) => {
                    vec![with_query(&format!("{scheme}:{owner}/{repository}/{tag}"), drop_revision(query))]
                }
                _ => Vec::new(),
            }
        }
        // [flake:]<id>[/<ref>[/<commit>]]
        "flake" if !rest.starts_with(['/', '.']) => {
            let id = rest.split('/').next().unwrap_or(rest);
            vec![with_query(&format!("flake:{id}/{tag}"), drop_revision(query))]
        }
        // A URL with ref= or rev= in its query. Nix takes a bare ref for a branch.
        scheme if scheme == "git" || scheme.starts_with("git+") => {
            let choices = if is_commit {
                vec![format!("rev={tag}&allRefs=1")]
            } else {
                vec![format!("ref={tag}"), format!("ref=refs/tags/{tag}")]
            };
            let others = drop_revision(query);
            let join = |choice: String| match &others {
                Some(others) => format!("{base}?{others}&{choice}"),
                None => format!("{base}?{choice}"),
            };
            choices.into_iter().map(join).collect()
        }
        _ => Vec::new(),
    }
}

fn drop_revision(query: Option<&str>) -> Option<String> {
    let is_revision =
        |p: &&str| !["ref=", "rev=", "narHash=", "lastModified="].iter().any(|k| p.starts_with(k));
    let kept: Vec<&str> = query?.split('&').filter(is_revision).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

fn with_query(base: &str, query: Option<String>) -> String {
    query.map_or_else(|| base.to_owned(), |query| format!("{base}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::at_revision;

    #[test]
    fn a_tag_chooses_a_revision_where_the_source_has_any() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let cases: [(&str, &str, &[&str]); 19] = [
            ("github:o/r", "v1", &["github:o/r/v1"]),
            ("github:o/r/main?dir=sub", "v1", &["github:o/r/v1?dir=sub"]),
            ("github:o/r/feature/x", "v1", &["github:o/r/v1"]),
            (
                "github:o/r?ref=main&host=git.example.org&dir=sub",
                "v1",
                &["github:o/r/v1?host=git.example.org&dir=sub"],
            ),
            ("github:o/r?rev=0123&narHash=sha256-x%3D", commit, &[&format!("github:o/r/{commit}")]),
            ("sourcehut:~o/r", "v1", &["sourcehut:~o/r/v1"]),
            ("github:o", "v1", &[]),
            ("gitlab:group%2Fsub/r", "v1", &["gitlab:group%2Fsub/r/v1"]),
            ("nixpkgs", "release-26.05", &["flake:nixpkgs/release-26.05"]),
            ("flake:nixpkgs/release-25.11/0123", commit, &[&format!("flake:nixpkgs/{commit}")]),
            (
                "git+ssh://git@h/r?shallow=1",
                "v1",
                &["git+ssh://git@h/r?shallow=1&ref=v1", "git+ssh://git@h/r?shallow=1&ref=refs/tags/v1"],
            ),
            ("git://h/r?rev=0123", "v1", &["git://h/r?ref=v1", "git://h/r?ref=refs/tags/v1"]),
            ("git+file:///r", "v1", &["git+file:///r?ref=v1", "git+file:///r?ref=refs/tags/v1"]),
            (
                "git+https://h/r?ref=main&dir=s",
                commit,
                &[&format!("git+https://h/r?dir=s&rev={commit}&allRefs=1")],
            ),
            ("path:/r", "v1", &[]),
            ("/r", "v1", &[]),
            ("./r", "v1", &[]),
            ("tarball+https://h/r", "v1", &[]),
            ("https://h/r.tar.gz", "v1", &[]),
        ];
        for (flake, tag, expected) in cases {
            assert_eq!(at_revision(flake, tag), expected, "{flake} at {tag}");
        }
    }
}
