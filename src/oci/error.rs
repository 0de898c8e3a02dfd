//! Error codes and bodies (distribution-spec, "Error Codes").

use crate::text;
use serde::Serialize;
use serde_json::Value;

/// A code of the specification's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The blob is not known to this repository.
    BlobUnknown,
    /// The digest in the request is malformed.
    DigestInvalid,
    /// The manifest is not known to this repository.
    ManifestUnknown,
    /// What the name leads to is not an image that this registry understands.
    ManifestInvalid,
    /// The repository name, or the tag, is malformed.
    NameInvalid,
    /// No such repository.
    NameUnknown,
    /// A size or length in the request is out of bounds.
    SizeInvalid,
    /// Credentials are needed.
    Unauthorized,
    /// The credentials do not allow this.
    Denied,
    /// The operation is not supported: this registry cannot be pushed to.
    Unsupported,
    /// The client should come back later.
    TooManyRequests,
    /// Something failed that is not in the specification's table; what older registries say for it.
    Unknown,
    /// A part that this registry depends on does not answer.
    Unavailable,
}

impl ErrorCode {
    /// The code as it stands in the body.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// `{"errors":[{"code","message","detail"}]}`
#[derive(Debug, Serialize)]
pub struct ErrorBody {
    /// At least one.
    pub errors: Vec<ErrorEntry>,
}

/// One error of an [`ErrorBody`]. Clients print it to terminals, so it holds no text that is not seen: [`text::lines`].
#[derive(Debug, Serialize)]
pub struct ErrorEntry {
    code: &'static str,
    message: String,
    detail: Value,
}

impl ErrorEntry {
    /// `message` says what failed, on what, and what the user can do: the text that clients print. `detail` is anything
    /// further, for machines: the request id, near misses, log lines.
    pub fn new(code: ErrorCode, message: &str, detail: Value) -> Self {
        Self { code: code.as_str(), message: text::lines(message).into_owned(), detail: shown(detail) }
    }

    /// The text that clients print.
    pub fn message(&self) -> &str {
        &self.message
    }
}

fn shown(detail: Value) -> Value {
    match detail {
        Value::String(text) => text::lines(&text).into(),
        Value::Array(values) => values.into_iter().map(shown).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, shown(value))).collect(),
        other => other,
    }
}
