//! The admin socket: what `forge-registry images`, `inspect`, `forget` and `gc` ask a running registry.
//!
//! HTTP/1.1 over a Unix socket, one request a connection, JSON both ways, errors as in the distribution specification:
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/images` | a list of [`ImageSummary`](crate::registry::ImageSummary) |
//! | `GET /v1/images/NAME[:TAG]` | a list of [`ImageDetails`](crate::registry::ImageDetails) |
//! | `DELETE /v1/images/NAME[:TAG]` | [`Dropped`](crate::registry::Dropped) |
//! | `POST /v1/gc`, with [`Collect`] as the body | [`Dropped`](crate::registry::Dropped) |
//!
//! Only root and the registry's own user are answered.

mod client;
mod server;

pub use client::{Client, ClientError};
pub use server::Server;

use crate::{
    oci::{RepositoryName, Tag},
    registry::Collect,
};
use http::Method;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// All images.
    Images,
    /// Everything about the images of a name, or about the one of a tag.
    Inspect(RepositoryName, Option<Tag>),
    /// To forget a name, or a tag of it.
    Forget(RepositoryName, Option<Tag>),
    /// To drop what nobody asked for lately.
    Collect(Collect),
}

const IMAGES: &str = "/v1/images";
const GC: &str = "/v1/gc";

impl Request {
    /// As it is sent: method, path and body.
    fn to_http(&self) -> (Method, String, Vec<u8>) {
        let image = |name: &RepositoryName, tag: &Option<Tag>| match tag {
            Some(tag) => format!("{IMAGES}/{name}:{tag}"),
            None => format!("{IMAGES}/{name}"),
        };
        match self {
            Self::Images => (Method::GET, IMAGES.into(), Vec::new()),
            Self::Inspect(name, tag) => (Method::GET, image(name, tag), Vec::new()),
            Self::Forget(name, tag) => (Method::DELETE, image(name, tag), Vec::new()),
            // Numbers and truth values: there is no request for which this fails.
            Self::Collect(what) => (Method::POST, GC.into(), serde_json::to_vec(what).unwrap_or_default()),
        }
    }

    /// What was sent, or what is wrong with it.
    fn from_http(method: &Method, path: &str, body: &[u8]) -> Result<Self, String> {
        if path == GC && *method == Method::POST {
            let what = if body.is_empty() { Ok(Collect::default()) } else { serde_json::from_slice(body) };
            return what.map(Self::Collect).map_err(|error| format!("{GC}: {error}"));
        }
        if path == IMAGES && *method == Method::GET {
            return Ok(Self::Images);
        }
        let image = path.strip_prefix(IMAGES).and_then(|rest| rest.strip_prefix('/'));
        let (Some(image), true) = (image, [Method::GET, Method::DELETE].contains(method)) else {
            return Err(format!(
                "there is no {method} {path}; there are GET {IMAGES}, GET and DELETE \
                {IMAGES}/NAME[:TAG], and POST {GC}"
            ));
        };
        let (name, tag) = match image.split_once(':') {
            Some((name, tag)) => (name, Some(tag.parse::<Tag>().map_err(|error| error.to_string())?)),
            None => (image, None),
        };
        let name = name.parse::<RepositoryName>().map_err(|error| error.to_string())?;
        Ok(if *method == Method::GET { Self::Inspect(name, tag) } else { Self::Forget(name, tag) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_arrives() {
        let name: RepositoryName = "packages/a.b_c".parse().unwrap();
        let tag = || Some("V1.0".parse().unwrap());
        for request in [
            Request::Images,
            Request::Inspect(name.clone(), None),
            Request::Inspect(name.clone(), tag()),
            Request::Forget(name.clone(), tag()),
            Request::Forget(name, None),
            Request::Collect(Collect { older_than_seconds: Some(7), all: true, dry_run: true }),
        ] {
            let (method, path, body) = request.to_http();
            assert_eq!(Request::from_http(&method, &path, &body), Ok(request));
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for (method, path, body, part) in [
            (Method::GET, "/", "", "there is no GET /"),
            (Method::POST, IMAGES, "", "POST /v1/images"),
            (Method::PUT, "/v1/images/a", "", "PUT"),
            (Method::GET, "/v1/images/", "", "name"),
            (Method::GET, "/v1/images/a//b", "", "name"),
            (Method::GET, "/v1/images/a:b:c", "", "tag"),
            (Method::DELETE, "/v1/imagesa", "", "DELETE"),
            (Method::POST, GC, "{\"allThatThereIs\":true}", "unknown field"),
            (Method::POST, GC, "[", "/v1/gc"),
        ] {
            let error = Request::from_http(&method, path, body.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{method} {path}: {error}");
        }
        assert_eq!(Request::from_http(&Method::POST, GC, b""), Ok(Request::Collect(Collect::default())));
    }
}
