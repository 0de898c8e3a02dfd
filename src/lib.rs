//! A container registry for NixOS hosts: image names mean Nix flake attributes, nix-daemon builds them on demand,
//! and their bytes are served straight out of the Nix store.
//!
//! Data flows one way: [`http`] → [`registry`] → [`resolve`], [`nix`], [`image`] → [`blob`] → [`http`].
//! `docs/architecture.md` has the whole picture.

pub mod access;
pub mod admin;
pub mod blob;
pub mod budget;
pub mod closure;
pub mod config;
pub mod encode;
pub mod http;
pub mod image;
pub mod index;
pub mod layer;
pub mod log;
pub mod metrics;
pub mod nix;
pub mod oci;
pub mod registry;
pub mod resolve;
pub mod seccomp;
pub mod text;
pub mod unix_socket;
