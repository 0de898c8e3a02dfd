//! Images of every format, compression and degree of malice, read from a folder that plays the store.

mod budgets;
mod closures;
mod compressed;
mod formats;
mod hostile;
mod layouts;
mod nix2container;
mod packages;
mod places;
mod properties;
#[path = "../reference/mod.rs"]
mod reference;
mod streamed;
mod support;
