//! The HTTP side, spoken to over real sockets and answering from memory.

mod answers;
mod connections;
mod crowded;
mod encoded;
mod framing;
mod http2;
mod log;
mod shutdown;
mod stub;
mod unreadable;
