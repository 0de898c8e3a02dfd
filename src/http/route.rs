//! What a request asks for: one pure function from method and URI to a [`Route`].
//!
//! | path | specification |
//! |---|---|
//! | `/v2/` | end-1 |
//! | `/v2/<name>/blobs/<digest>` | end-2 |
//! | `/v2/<name>/manifests/<reference>` | end-3 |
//! | `/v2/<name>/tags/list` | end-8a, end-8b (`n`, `last`) |
//! | `/v2/<name>/referrers/<digest>` | end-12a, end-12b (`artifactType`) |
//! | `/v2/_catalog` | none; what `distribution` answers (`n`, `last`) |
//! | `/`, `/healthz`, `/readyz` | none |
//! | `/metrics` | none; on the listener for operators alone, see [`parse_for_operators`] |
//!
//! A name may itself have components called `manifests`, `blobs` or `tags`, so a path is read from its right end.
//! Query parameters that a route does not know, such as a mirror's `ns`, are passed over.

use super::query::{self, EncodingError};
use crate::metrics;
use crate::oci::{Digest, DigestError, NameError, Reference, ReferenceError, RepositoryName, TagError};
use http::{Method, Uri};

/// How long names and tags may be, and how many entries a page of a list has.
#[derive(Debug, Clone, Copy)]
pub struct RouteLimits {
    /// Bytes of a repository name, at most [`RepositoryName::MAX_LENGTH`] (`MAX_IMAGE_NAME_LENGTH`).
    pub max_name_length: usize,
    /// Bytes of a tag, at most [`crate::oci::Tag::MAX_LENGTH`] (`MAX_TAG_LENGTH`).
    pub max_tag_length: usize,
    /// Entries of one page of `tags/list` and `_catalog`, whatever `n` asks for.
    pub max_page: usize,
}

impl Default for RouteLimits {
    fn default() -> Self {
        Self {
            max_name_length: RepositoryName::MAX_LENGTH,
            max_tag_length: crate::oci::Tag::MAX_LENGTH,
            max_page: 1000,
        }
    }
}

/// What is asked for. Whether it is a GET or a HEAD makes no difference here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`: what this is, for whoever opens it in a browser.
    Home,
    /// `/healthz`: whether the process answers.
    Health,
    /// `/readyz`: whether the parts that it depends on answer.
    Ready,
    /// `/metrics`: what Prometheus reads.
    Metrics,
    /// `/v2/`: whether this is a registry.
    ApiVersion,
    /// A manifest or an index.
    Manifest {
        /// Of which repository.
        repository: RepositoryName,
        /// By tag or by digest.
        reference: Reference,
    },
    /// A configuration, a layer, or a manifest's bytes.
    Blob {
        /// Of which repository.
        repository: RepositoryName,
        /// The content.
        digest: Digest,
    },
    /// The tags of a repository.
    Tags {
        /// Which.
        repository: RepositoryName,
        /// Which part of the list.
        page: Page,
    },
    /// The repositories.
    Catalog {
        /// Which part of the list.
        page: Page,
    },
    /// What refers to a manifest.
    Referrers {
        /// Of which repository.
        repository: RepositoryName,
        /// The manifest; `None` for a digest of an algorithm that nothing here has.
        subject: Option<Digest>,
        /// Only referrers of this type.
        artifact_type: Option<String>,
    },
}

impl Route {
    /// What it counts as.
    pub fn label(&self) -> metrics::Route {
        match self {
            Self::Home => metrics::Route::Home,
            Self::Health => metrics::Route::Health,
            Self::Ready => metrics::Route::Ready,
            Self::Metrics => metrics::Route::Metrics,
            Self::ApiVersion => metrics::Route::ApiVersion,
            Self::Manifest { .. } => metrics::Route::Manifest,
            Self::Blob { .. } => metrics::Route::Blob,
            Self::Tags { .. } => metrics::Route::Tags,
            Self::Catalog { .. } => metrics::Route::Catalog,
            Self::Referrers { .. } => metrics::Route::Referrers,
        }
    }
}

/// A part of a sorted list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How many entries at most; no more than [`RouteLimits::max_page`].
    pub size: usize,
    /// Only entries after this one, which need not exist.
    pub last: Option<String>,
}

/// Why a request asks for nothing that could be here. `http::error` decides on status and code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Neither GET nor HEAD on the registry's API.
    #[error(
        "{method} is not supported: this registry builds its images from Nix, so it can be pulled from \
         but neither pushed to nor deleted from"
    )]
    WriteUnsupported {
        /// The method.
        method: Method,
    },
    /// Neither GET nor HEAD on anything else.
    #[error("{method} is not supported here, only GET and HEAD")]
    MethodUnsupported {
        /// The method.
        method: Method,
    },
    /// No such path.
    #[error("there is nothing at {path:?}")]
    NotFound {
        /// The path, cut at 200 characters.
        path: String,
    },
    /// The path or the query is not percent-encoded UTF-8, or hides a slash.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// Not a repository name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not a tag.
    #[error(transparent)]
    Tag(TagError),
    /// Not a tag by the specification, though made of a tag's characters: there cannot be one of this name.
    #[error(transparent)]
    TagCannotExist(TagError),
    /// Not a digest.
    #[error("{0}")]
    Digest(DigestError),
    /// A manifest by a digest that nothing here has.
    #[error("{0}")]
    ManifestDigestUnsupported(DigestError),
    /// A blob by a digest that nothing here has.
    #[error("{0}")]
    BlobDigestUnsupported(DigestError),
    /// `n` is not a number.
    #[error("n={value:?} is not a number of entries: expected 0 or more")]
    PageSize {
        /// What was given, cut at 200 characters.
        value: String,
    },
}

/// What `method` on `uri` asks for where operators are served: no images.
pub fn parse_for_operators(method: &Method, uri: &Uri) -> Result<Route, RouteError> {
    if method != Method::GET && method != Method::HEAD {
        return Err(RouteError::MethodUnsupported { method: method.clone() });
    }
    match uri.path() {
        "/healthz" => Ok(Route::Health),
        "/readyz" => Ok(Route::Ready),
        "/metrics" => Ok(Route::Metrics),
        path => Err(RouteError::NotFound { path: path.chars().take(200).collect() }),
    }
}

/// What `method` on `uri` asks for.
pub fn parse(method: &Method, uri: &Uri, limits: &RouteLimits) -> Result<Route, RouteError> {
    let path = uri.path();
    let api = path == "/v2" || path.starts_with("/v2/");
    if method != Method::GET && method != Method::HEAD {
        let method = method.clone();
        return Err(if api {
            RouteError::WriteUnsupported { method }
        } else {
            RouteError::MethodUnsupported { method }
        });
    }
    match path {
        "/" | "" => return Ok(Route::Home),
        "/healthz" => return Ok(Route::Health),
        "/readyz" => return Ok(Route::Ready),
        "/v2" | "/v2/" => return Ok(Route::ApiVersion),
        _ => {}
    }
    let not_found = || RouteError::NotFound { path: path.chars().take(200).collect() };
    let rest = path.strip_prefix("/v2/").ok_or_else(not_found)?;
    let segments = rest.split('/').map(query::decode_segment).collect::<Result<Vec<_>, _>>()?;
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let name = |components: &[&str]| RepositoryName::parse(&components.join("/"), limits.max_name_length);
    let query = uri.query().unwrap_or_default();
    match segments.as_slice() {
        ["_catalog"] => Ok(Route::Catalog { page: page(query, limits)? }),
        [components @ .., "tags", "list"] => {
            Ok(Route::Tags { repository: name(components)?, page: page(query, limits)? })
        }
        [components @ .., "manifests", last] if !last.is_empty() => {
            Ok(Route::Manifest { repository: name(components)?, reference: reference(last, limits)? })
        }
        [components @ .., "blobs", last] if !last.is_empty() => {
            let repository = name(components)?;
            let digest = last.parse().map_err(|e| match e {
                DigestError::Malformed(_) => RouteError::Digest(e),
                DigestError::UnsupportedAlgorithm(_) => RouteError::BlobDigestUnsupported(e),
            })?;
            Ok(Route::Blob { repository, digest })
        }
        [components @ .., "referrers", last] if !last.is_empty() => {
            let repository = name(components)?;
            let subject = match last.parse() {
                Ok(digest) => Some(digest),
                Err(DigestError::UnsupportedAlgorithm(_)) => None,
                Err(e @ DigestError::Malformed(_)) => return Err(RouteError::Digest(e)),
            };
            let artifact_type = query::parameter(query, "artifactType")?.filter(|t| !t.is_empty());
            Ok(Route::Referrers { repository, subject, artifact_type })
        }
        _ => Err(not_found()),
    }
}

fn reference(s: &str, limits: &RouteLimits) -> Result<Reference, RouteError> {
    Reference::parse(s, limits.max_tag_length).map_err(|e| match e {
        // `.name` and `-name` are no tags. That the answer is "unknown" rather than "invalid" is what the
        // conformance suite 1.1 asks for, by pulling `.INVALID_MANIFEST_NAME`.
        ReferenceError::Tag(e)
            if s.len() <= e.limit && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) =>
        {
            RouteError::TagCannotExist(e)
        }
        ReferenceError::Tag(e) => RouteError::Tag(e),
        ReferenceError::Digest(e @ DigestError::Malformed(_)) => RouteError::Digest(e),
        ReferenceError::Digest(e @ DigestError::UnsupportedAlgorithm(_)) => {
            RouteError::ManifestDigestUnsupported(e)
        }
    })
}

/// `n` and `last`. A client that asks for more than a page gets a page and a link to the next.
fn page(query: &str, limits: &RouteLimits) -> Result<Page, RouteError> {
    let size = match query::parameter(query, "n")? {
        None => limits.max_page,
        Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
            // Digits that do not fit a number ask for more than a page.
            n.parse().unwrap_or(usize::MAX).min(limits.max_page)
        }
        Some(n) => return Err(RouteError::PageSize { value: n.chars().take(200).collect() }),
    };
    Ok(Page { size, last: query::parameter(query, "last")?.filter(|last| !last.is_empty()) })
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
