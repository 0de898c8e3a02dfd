//! From the registry's answers to responses.

use super::{
    accept::Accept,
    agent,
    body::Body,
    conditional::{self, Outcome},
    encoding,
    error::Failure,
    list::Listing,
    multipart::{MultipartBody, content_range},
    range::{self, Ranges},
    route::Page,
};
use crate::{
    blob::{Blob, Sight},
    encode::{Coding, Encoder},
    metrics::Format,
    oci::{Digest, Document, Index, Reference, media_type},
    registry::ManifestAnswer,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use serde::Serialize;
use std::collections::BTreeMap;

/// What is reached by digest can never be anything else.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// What is reached by a name can change: ask, and be told 304 if it did not.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The parts of a request that answers depend on.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// GET or HEAD.
    pub method: &'a Method,
    /// All of its headers.
    pub headers: &'a HeaderMap,
    /// Of HTTP.
    pub version: Version,
    /// Whether the client is on this machine.
    pub is_local: bool,
    /// Who looks at the bytes of the response.
    pub sight: Sight,
}

impl Asked<'_> {
    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// How a blob may be encoded: only where no end of it would be lost, and with nothing that is counted in bytes of
    /// the blob. HEAD asks for the length.
    pub fn coding(&self) -> Option<Coding> {
        let whole = self.method == Method::GET && !self.headers.contains_key(header::RANGE);
        // Before HTTP/1.1 a response without a length ends as one that is cut does.
        if whole && self.version >= Version::HTTP_11 { encoding::choose(self.headers) } else { None }
    }

    fn body(&self, bytes: impl Into<Bytes>) -> Body {
        if self.is_head() { Body::Empty } else { Body::full(bytes) }
    }
}

/// A manifest or an index, in the form that the client takes.
pub fn manifest(
    asked: Asked<'_>,
    reference: &Reference,
    answer: &ManifestAnswer,
) -> Result<Response<Body>, Failure> {
    let by_tag = match reference {
        Reference::Tag(_) | Reference::Referrer(_) => true,
        Reference::Digest(_) => false,
    };
    let zstd = by_tag && answer.documents.iter().any(Document::has_zstd);
    let document = match reference {
        Reference::Tag(_) | Reference::Referrer(_) => {
            // The other form has layers that such a client can unpack.
            let fit =
                |document: &&Document| !(zstd && agent::lacks_zstd(asked.headers) && document.has_zstd());
            let fit: Vec<Document> = answer.documents.iter().filter(fit).cloned().collect();
            let documents = if fit.is_empty() { &answer.documents } else { &fit };
            Accept::from_headers(asked.headers).choose(documents).cloned()
        }
        Reference::Digest(digest) => answer.documents.iter().find(|d| d.digest == *digest).cloned(),
    };
    let Some(document) = document else {
        return Err(Failure::internal(format!("the registry answered {reference} without a document")));
    };
    let cache = if by_tag { REVALIDATE } else { IMMUTABLE };
    let mut response = immutable_content(asked, &document.digest, cache)?;
    if by_tag {
        let vary = if zstd { "Accept, User-Agent" } else { "Accept" };
        response.headers_mut().insert(header::VARY, HeaderValue::from_static(vary));
    }
    if response.status() == StatusCode::OK {
        let Ok(content_type) = HeaderValue::try_from(&document.media_type) else {
            return Err(Failure::internal(format!("{:?} is no media type", document.media_type)));
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::CONTENT_LENGTH, document.bytes.len().into());
        *response.body_mut() = asked.body(document.bytes.clone());
    }
    Ok(response)
}

/// A blob, or the parts of it that are asked for. `boundary` separates several. It is encoded if there is an encoder.
pub fn blob(
    asked: Asked<'_>,
    digest: &Digest,
    blob: &Blob,
    encoder: Option<Encoder>,
    boundary: &str,
) -> Result<Response<Body>, Failure> {
    let mut response = immutable_content(asked, digest, IMMUTABLE)?;
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if encoder.is_some() {
        // The same content, but other bytes each time (RFC 9110, section 8.8.1).
        headers.insert(header::ETAG, conditional::weak_entity_tag(digest));
    }
    if response.status() != StatusCode::OK {
        return Ok(response);
    }
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, OCTETS);
    if let Some(encoder) = encoder {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoder.coding().name()));
        *response.body_mut() = Body::Encoded(Box::new(blob.encoded(encoder)));
        return Ok(response);
    }
    let (length, body) = match ranges(asked, digest, blob.len()) {
        Ranges::Unsatisfiable => return Err(Failure::range(blob.len())),
        Ranges::Whole => (blob.len(), Body::Blob(blob.body(0..blob.len(), asked.sight))),
        Ranges::One(part) => {
            headers.insert(header::CONTENT_RANGE, text(content_range(&part, blob.len()))?);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            (part.end - part.start, Body::Blob(blob.body(part, asked.sight)))
        }
        Ranges::Many(parts) => {
            let body = MultipartBody::new(blob, &parts, boundary, asked.sight);
            let content_type = format!("multipart/byteranges; boundary={boundary}");
            headers.insert(header::CONTENT_TYPE, text(content_type)?);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            (body.remaining(), Body::Multipart(body))
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    if !asked.is_head() {
        *response.body_mut() = body;
    }
    Ok(response)
}

/// Ranges are defined for GET alone (RFC 9110, section 14.2).
fn ranges(asked: Asked<'_>, digest: &Digest, length: u64) -> Ranges {
    let mut values = asked.headers.get_all(header::RANGE).iter();
    match (values.next(), values.next()) {
        (Some(value), None)
            if asked.method == Method::GET && conditional::range_applies(asked.headers, digest) =>
        {
            value.to_str().map_or(Ranges::Whole, |value| range::parse(value, length))
        }
        _ => Ranges::Whole,
    }
}

/// 200 or 304 without a body, with the headers that both have (RFC 9110, section 15.4.5).
fn immutable_content(
    asked: Asked<'_>,
    digest: &Digest,
    cache: HeaderValue,
) -> Result<Response<Body>, Failure> {
    let mut response = Response::new(Body::Empty);
    match conditional::evaluate(asked.headers, digest) {
        Outcome::Proceed => {}
        Outcome::NotModified => *response.status_mut() = StatusCode::NOT_MODIFIED,
        Outcome::PreconditionFailed => return Err(Failure::precondition()),
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, conditional::entity_tag(digest));
    headers.insert(header::CACHE_CONTROL, cache);
    headers.insert(CONTENT_DIGEST, text(digest.to_string())?);
    Ok(response)
}

/// A page of a list; `path` is that of the request, decoded.
pub fn list(
    asked: Asked<'_>,
    path: &str,
    page: &Page,
    listing: &Listing<'_>,
    body: &impl Serialize,
) -> Result<Response<Body>, Failure> {
    let mut response = json(asked, JSON, body)?;
    if let Some(link) = listing.link(path, page) {
        response.headers_mut().insert(header::LINK, text(link)?);
    }
    Ok(response)
}

/// The referrers of a manifest: none, so far.
pub fn referrers(asked: Asked<'_>, artifact_type: Option<&str>) -> Result<Response<Body>, Failure> {
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
    };
    let document = Document::from_index(&index);
    let mut response = bytes(asked, HeaderValue::from_static(media_type::OCI_INDEX), document.bytes);
    if artifact_type.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

/// A small JSON document that can change.
pub fn json(
    asked: Asked<'_>,
    content_type: HeaderValue,
    body: &impl Serialize,
) -> Result<Response<Body>, Failure> {
    let json = serde_json::to_vec(body).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(bytes(asked, content_type, json.into()))
}

/// `{}`: this is a registry.
pub fn api_version(asked: Asked<'_>) -> Response<Body> {
    bytes(asked, JSON, Bytes::from_static(b"{}"))
}

/// What `/readyz` says when all is well.
pub fn ready(asked: Asked<'_>, parts: &serde_json::Value) -> Result<Response<Body>, Failure> {
    json(asked, JSON, parts)
}

/// A line or a page of text.
pub fn plain(asked: Asked<'_>, text: impl Into<Bytes>) -> Response<Body> {
    bytes(asked, HeaderValue::from_static("text/plain; charset=utf-8"), text.into())
}

/// What this is, for whoever opens it in a browser or with `curl`.
pub fn home(asked: Asked<'_>) -> Response<Body> {
    // The client's own word for this host, where it cannot be anything but one.
    let host = asked.headers.get(header::HOST).and_then(|h| h.to_str().ok()).filter(|host| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
    });
    let host = host.unwrap_or("HOST:PORT");
    let mut response = plain(
        asked,
        format!(
            "forge-registry: container images built by Nix when they are pulled.\n\n\
             \x20 podman pull {host}/packages/NAME:latest\n\
             \x20 podman pull {host}/applications/NAME/IMAGE:latest\n\n\
             The names that there are: /v2/_catalog\n"
        ),
    );
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Host"));
    response
}

/// What Prometheus reads.
pub fn metrics(asked: Asked<'_>, format: Format, text: String) -> Response<Body> {
    let mut response = bytes(asked, HeaderValue::from_static(format.content_type()), text.into());
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn bytes(asked: Asked<'_>, content_type: HeaderValue, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    headers.insert(header::CACHE_CONTROL, REVALIDATE);
    *response.body_mut() = asked.body(bytes);
    response
}

/// A header value from text that we wrote ourselves.
fn text(value: String) -> Result<HeaderValue, Failure> {
    HeaderValue::try_from(value).map_err(|e| Failure::internal(e.to_string()))
}
