//! The HTTP side: listeners, routing, negotiation, ranges and conditions, error bodies, the request log.
//!
//! A request passes through these rooms: [`server`] accepts a connection, `connection` watches over it, [`service`]
//! gives the request an id and a line in the log, [`route`] says what it asks for, `guard` whether it may, the [`Api`]
//! below answers with data or a typed error, and `answer` or [`error`] turn that into a response. Nothing here knows of
//! Nix or of image formats.

pub mod accept;
mod activity;
mod agent;
mod answer;
mod api;
mod body;
pub mod conditional;
mod connection;
mod crowd;
mod encoding;
pub mod error;
mod flight;
mod guard;
mod host;
mod io;
mod limits;
mod list;
mod log;
mod multipart;
mod peer;
mod query;
pub mod range;
mod reason;
mod refusal;
mod request_id;
mod room;
pub mod route;
pub mod server;
pub mod service;
pub mod tls;

pub use api::Api;
pub use body::Body;
pub use guard::Guard;
pub use limits::ServerLimits;
pub use peer::Peer;
pub use route::RouteLimits;
pub use server::{Listener, serve};
pub use service::Service;
pub use tls::Tls;
