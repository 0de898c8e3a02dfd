//! Labels, each with all the values that it can have.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use std::fmt::{self, Write};

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// What is asked for, never of which image.
    Route {
        /// `/`
        Home = "home",
        /// `/healthz`
        Health = "health",
        /// `/readyz`
        Ready = "ready",
        /// `/metrics`
        Metrics = "metrics",
        /// `/v2/`
        ApiVersion = "api_version",
        /// A manifest.
        Manifest = "manifest",
        /// A blob.
        Blob = "blob",
        /// `tags/list`
        Tags = "tags",
        /// `_catalog`
        Catalog = "catalog",
        /// `referrers`
        Referrers = "referrers",
        /// Nothing that there could be.
        None = "none",
    }
}

label! {
    /// A method that is answered, or any other.
    Method {
        /// GET
        Get = "GET",
        /// HEAD
        Head = "HEAD",
        /// Whatever else.
        Other = "other",
    }
}

label! {
    /// How a response is encoded.
    Coding {
        /// As it is.
        Identity = "identity",
        /// `Content-Encoding: gzip`
        Gzip = "gzip",
        /// `Content-Encoding: zstd`
        Zstd = "zstd",
    }
}

label! {
    /// Who ended a response before its end.
    Cut {
        /// The client went, or took too long.
        Client = "client",
        /// Its bytes could not be read.
        Registry = "registry",
    }
}

label! {
    /// What a connection was accepted by.
    Listener {
        /// An address and port.
        Tcp = "tcp",
        /// An address and port, for HTTPS.
        Tls = "tls",
        /// A Unix socket.
        Unix = "unix",
        /// The listener for operators, of either kind.
        Metrics = "metrics",
    }
}

label! {
    /// How a piece of work ended.
    Outcome {
        /// It succeeded.
        Succeeded = "succeeded",
        /// Nix says no, it is no image, or the store has it no more.
        Failed = "failed",
        /// There is no such thing.
        Unknown = "unknown",
        /// It took longer than it may.
        TimedOut = "timed_out",
        /// Too many waited already, so it was not begun.
        Refused = "refused",
        /// nix-daemon or the evaluator could not be asked.
        Unavailable = "unavailable",
        /// The disk is full.
        NoSpace = "no_space",
        /// Something that should not happen.
        Internal = "internal",
    }
}

label! {
    /// A folder of files that can be made again.
    Cache {
        /// The blob cache.
        Blobs = "blobs",
        /// Entry lists of computed layers.
        Layers = "layers",
    }
}

/// A set of one label.
macro_rules! sets {
    ($($name:ident { $($field:ident: $value:ty),* })*) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            $(pub(super) $field: $value,)*
        }
    )*};
}

sets! {
    OfRequest { route: Route, method: Method, code: u16 }
    OfRoute { route: Route }
    OfBytes { route: Route, encoding: Coding }
    OfCut { route: Route, by: Cut }
    OfListener { listener: Listener }
    OfOutcome { outcome: Outcome }
    OfCache { cache: Cache }
}
