//! Tags that choose a revision of a source, and which of them may (`REVISIONS`).
//!
//! References are those of the Nix manual ("nix flake", "Flake references").

use super::{
    ResolveError,
    fetch_error::FetchError,
    source::{Fetched, Source},
};
use crate::oci::Tag;

/// Digits of the shortest abbreviation of a commit that git makes by itself.
const MIN_ABBREVIATION: usize = 7;
/// Digits of a whole one, by SHA-1 and SHA-256.
const WHOLE: [usize; 2] = [40, 64];

/// Why a tag that is, or may be, a commit is refused.
const COMMIT_OF_NOBODY: &str = ": it looks like a commit, and this registry has come to none like it by a branch or tag (REVISIONS=refs)";

/// Which revisions of a source tags may choose (`REVISIONS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Revisions {
    /// None: there is only the source as it is configured.
    None,
    /// Branches and tags, and commits that this registry came to by one of these.
    #[default]
    Refs,
    /// Any commit that the source's server hands out. Forges keep the commits of forks and pull requests with those of the
    /// repository, so anybody can have code of his own evaluated.
    Commits,
}

/// A revision that a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Revision<'t> {
    /// The branch, tag or commit.
    pub tag: &'t Tag,
    /// The commit that the tag is, or abbreviates, if this registry came to it by a branch or tag.
    pub known: Option<&'t str>,
}

/// Whether servers may take the tag for a commit: the hash, an abbreviation of it, or an expression of git's that leads to
/// one.
pub fn may_be_commit(tag: &Tag) -> bool {
    is_hash(tag.as_str(), MIN_ABBREVIATION) || is_expression(tag.as_str())
}

fn is_hash(text: &str, min: usize) -> bool {
    text.len() >= min && text.len() <= WHOLE[1] && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What `git describe` prints, which git resolves by the hash behind `-g` alone, and ranges.
fn is_expression(text: &str) -> bool {
    text.contains("..") || text.rsplit_once("-g").is_some_and(|(_, hash)| is_hash(hash, 4))
}

impl Revision<'_> {
    /// The source at this revision. `name` is what is wanted of it. A tag that is none costs one look, or two in git
    /// repositories, where it may be a branch or a tag; nothing is evaluated for it.
    pub(super) async fn fetch(
        &self,
        source: &Source,
        allowed: Revisions,
        name: &str,
    ) -> Result<Fetched, ResolveError> {
        let unknown =
            |reason: &str| ResolveError::TagUnknown(format!("{name} has no tag {}{reason}", self.tag));
        let mut failure = None;
        for reference in self.references(source.reference(), allowed).map_err(|reason| unknown(&reason))? {
            match source.fetch(&reference).await {
                Err(FetchError::Missing(reason)) => failure = failure.or(Some(reason)),
                fetched => {
                    let fetched = fetched?;
                    let commit = fetched.revision();
                    // Forges take any digits that a hash begins with for the commit, however few.
                    if allowed == Revisions::Refs && self.abbreviates(commit.as_deref(), &reference) {
                        return Err(unknown(COMMIT_OF_NOBODY));
                    }
                    return Ok(fetched);
                }
            }
        }
        Err(unknown(&failure.map_or_else(String::new, |reason| format!(": {reason}"))))
    }

    /// Whether the source is asked for it at all.
    pub(super) fn is_looked_up(&self, source: &Source, allowed: Revisions) -> bool {
        self.references(source.reference(), allowed).is_ok_and(|references| !references.is_empty())
    }

    /// Whether the tag led to a commit by being the beginning of its hash, rather than by a branch or tag of that name.
    fn abbreviates(&self, commit: Option<&str>, reference: &str) -> bool {
        let tag = self.tag.as_str().to_ascii_lowercase();
        commit
            .is_some_and(|commit| is_hash(&tag, 1) && commit.starts_with(&tag) && !reference.contains(commit))
    }

    /// The references that the tag can mean, in the order to try them; none for sources without revisions. A tag's
    /// alphabet has nothing special in URLs.
    fn references(&self, source: &str, allowed: Revisions) -> Result<Vec<String>, String> {
        let tag = self.tag.as_str();
        let (base, query) =
            source.split_once('?').map_or((source, None), |(base, query)| (base, Some(query)));
        let (scheme, rest) = base.split_once(':').unwrap_or(("flake", base));
        let is_git = scheme == "git" || scheme.starts_with("git+");
        let commit = match allowed {
            Revisions::None => return Err("; tags mean no revisions here (REVISIONS=none)".into()),
            Revisions::Commits => {
                self.known.or((!is_git || is_commit(tag)).then_some(tag).filter(|_| may_be_commit(self.tag)))
            }
            Revisions::Refs => self.known.or(pinned(source).filter(|commit| is_of(tag, commit))),
        };
        // Of git it can be asked for a branch or a tag alone, whatever hash it looks like. Expressions it resolves there, too.
        let is_certain = is_git && !is_commit(tag) && !is_expression(tag);
        if commit.is_none() && may_be_commit(self.tag) && !is_certain && has_revisions(source) {
            return Err(COMMIT_OF_NOBODY.into());
        }
        let wanted = commit.unwrap_or(tag);
        Ok(match scheme {
            // <scheme>:<owner>/<repository>[/<ref or commit>]
            "github" | "gitlab" | "sourcehut" => {
                let mut parts = rest.split('/');
                match (parts.next(), parts.next()) {
                    (Some(owner), Some(repository)) => {
                        let base = format!("{scheme}:{owner}/{repository}/{wanted}");
                        vec![with_query(&base, drop_revision(query))]
                    }
                    _ => Vec::new(),
                }
            }
            // [flake:]<id>[/<ref>[/<commit>]]
            "flake" if has_revisions(source) => {
                let id = rest.split('/').next().unwrap_or(rest);
                vec![with_query(&format!("flake:{id}/{wanted}"), drop_revision(query))]
            }
            // A URL with ref= or rev= in its query.
            _ if is_git => {
                let choices = match commit {
                    Some(commit) => vec![format!("rev={commit}&allRefs=1")],
                    None => vec![format!("ref=refs/heads/{tag}"), format!("ref=refs/tags/{tag}")],
                };
                let others = drop_revision(query);
                let join = |choice: String| match &others {
                    Some(others) => format!("{base}?{others}&{choice}"),
                    None => format!("{base}?{choice}"),
                };
                choices.into_iter().map(join).collect()
            }
            _ => Vec::new(),
        })
    }
}

/// Whether tags can choose revisions of the source at all.
fn has_revisions(source: &str) -> bool {
    let (scheme, rest) = source.split_once(':').unwrap_or(("flake", source));
    match scheme {
        "github" | "gitlab" | "sourcehut" | "git" => true,
        "flake" => !rest.starts_with(['/', '.', '<']),
        scheme => scheme.starts_with("git+"),
    }
}

/// Whether it is the whole hash of a commit.
pub fn is_commit(text: &str) -> bool {
    WHOLE.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_of(tag: &str, commit: &str) -> bool {
    tag.len() >= MIN_ABBREVIATION && commit.starts_with(tag)
}

/// The commit that the operator wrote into the reference.
fn pinned(source: &str) -> Option<&str> {
    let (base, query) = source.split_once('?').unwrap_or((source, ""));
    let in_query = query.split('&').filter_map(|parameter| parameter.strip_prefix("rev="));
    // Behind owner and repository, or behind the name in the flake registry.
    let names = if base.starts_with("flake:") || !base.contains(':') { 1 } else { 2 };
    in_query.chain(base.split('/').skip(names)).find(|text| is_commit(text))
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
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn at(source: &str, tag: &str, allowed: Revisions, known: Option<&str>) -> Result<Vec<String>, String> {
        Revision { tag: &tag.parse().unwrap(), known }.references(source, allowed)
    }

    #[test]
    fn a_tag_chooses_a_revision_where_the_source_has_any() {
        let cases: [(&str, &str, &[&str]); 18] = [
            ("github:o/r", "v1", &["github:o/r/v1"]),
            ("github:o/r/main?dir=sub", "v1", &["github:o/r/v1?dir=sub"]),
            ("github:o/r/feature/x", "v1", &["github:o/r/v1"]),
            (
                "github:o/r?ref=main&host=git.example.org&dir=sub",
                "v1",
                &["github:o/r/v1?host=git.example.org&dir=sub"],
            ),
            ("sourcehut:~o/r", "v1", &["sourcehut:~o/r/v1"]),
            ("github:o", "v1", &[]),
            ("gitlab:group%2Fsub/r", "v1", &["gitlab:group%2Fsub/r/v1"]),
            ("nixpkgs", "release-26.05", &["flake:nixpkgs/release-26.05"]),
            (
                "git+ssh://git@h/r?shallow=1",
                "v1",
                &[
                    "git+ssh://git@h/r?shallow=1&ref=refs/heads/v1",
                    "git+ssh://git@h/r?shallow=1&ref=refs/tags/v1",
                ],
            ),
            ("git://h/r?rev=0123", "v1", &["git://h/r?ref=refs/heads/v1", "git://h/r?ref=refs/tags/v1"]),
            ("git+file:///r", "v1", &["git+file:///r?ref=refs/heads/v1", "git+file:///r?ref=refs/tags/v1"]),
            // A release of that day: a branch or a tag, and nothing else.
            (
                "git://h/r",
                "20261129",
                &["git://h/r?ref=refs/heads/20261129", "git://h/r?ref=refs/tags/20261129"],
            ),
            ("path:/r", "v1", &[]),
            ("path:/r", COMMIT, &[]),
            ("/r", "v1", &[]),
            ("./r", "v1", &[]),
            ("tarball+https://h/r", "v1", &[]),
            ("https://h/r.tar.gz", "v1", &[]),
        ];
        for (source, tag, expected) in cases {
            for allowed in [Revisions::Refs, Revisions::Commits] {
                assert_eq!(at(source, tag, allowed, None).unwrap(), expected, "{source} at {tag}");
            }
            at(source, tag, Revisions::None, None).unwrap_err();
        }
    }

    #[test]
    fn a_commit_is_none_of_a_strangers_choice() {
        let commits = [
            "0123456",
            "0123456789AB",
            COMMIT,
            &COMMIT.repeat(2)[..64],
            "v1-3-g0123456",
            "x-g0123",
            "main..0123456",
            "20261129",
        ];
        for source in ["github:o/r", "gitlab:o/r/main", "sourcehut:~o/r", "nixpkgs", "flake:nixpkgs/x"] {
            for tag in commits {
                let refusal = at(source, tag, Revisions::Refs, None).unwrap_err();
                assert!(refusal.contains("REVISIONS=refs"), "{source} at {tag}: {refusal}");
                assert_eq!(at(source, tag, Revisions::Commits, None).unwrap().len(), 1);
            }
            // What only looks a little like one.
            for tag in ["012345", "v0123456", "deadbeefs", "v1-g", "x-g012"] {
                if let Ok(tag) = tag.parse::<Tag>() {
                    assert_eq!(at(source, tag.as_str(), Revisions::Refs, None).unwrap().len(), 1, "{tag}");
                }
            }
        }
        // git would take these for a commit, and a fetch of all refs has those of pull requests.
        for tag in [COMMIT, "v1-3-g0123456", "x-1-g0123", &format!("x-g{COMMIT}"), "main..0123"] {
            at("git+https://h/r", tag, Revisions::Refs, None).unwrap_err();
        }
        assert_eq!(
            at("git+https://h/r?ref=main&dir=s", COMMIT, Revisions::Commits, None).unwrap(),
            [format!("git+https://h/r?dir=s&rev={COMMIT}&allRefs=1")]
        );
    }

    #[test]
    fn a_few_digits_are_a_branch_unless_they_begin_the_hash_that_they_led_to() {
        let abbreviates = |tag: &str, commit, reference: &str| {
            Revision { tag: &tag.parse().unwrap(), known: None }.abbreviates(commit, reference)
        };
        assert!(abbreviates("0123", Some(COMMIT), "github:o/r/0123"));
        assert!(!abbreviates("2024", Some(COMMIT), "github:o/r/2024"));
        assert!(!abbreviates("v0123", Some(COMMIT), "github:o/r/v0123"));
        assert!(!abbreviates("0123", None, "github:o/r/0123"));
        assert!(!abbreviates("0123", Some(COMMIT), &format!("github:o/r/{COMMIT}")), "which is known");
    }

    #[test]
    fn commits_of_branches_and_those_that_the_operator_pins_may_be_chosen() {
        let known = at("github:o/r", "0123456", Revisions::Refs, Some(COMMIT)).unwrap();
        assert_eq!(known, [format!("github:o/r/{COMMIT}")]);
        let known = at("git+https://h/r", "0123456", Revisions::Refs, Some(COMMIT)).unwrap();
        assert_eq!(known, [format!("git+https://h/r?rev={COMMIT}&allRefs=1")]);
        for source in [
            format!("github:o/r/{COMMIT}"),
            format!("github:o/r?rev={COMMIT}&narHash=sha256-x%3D"),
            format!("flake:nixpkgs/release-25.11/{COMMIT}"),
            format!("git+https://h/r?ref=main&rev={COMMIT}"),
        ] {
            for tag in [COMMIT, &COMMIT[..7]] {
                if tag == COMMIT || !source.starts_with("git+") {
                    let chosen = at(&source, tag, Revisions::Refs, None).unwrap();
                    assert!(chosen.len() == 1 && chosen[0].contains(COMMIT), "{source} at {tag}: {chosen:?}");
                }
            }
            at(&source, &COMMIT.replace('0', "f"), Revisions::Refs, None).unwrap_err();
        }
    }
}
