//! Images of every format, compression and degree of malice, read from a folder that plays the store.

mod formats;
mod hostile;
mod layouts;
mod packages;
mod places;
mod properties;
mod streamed;
mod support;
