//! TLS (rustls): the handshake, and what it is made with, which can be replaced while connections go on.
//!
//! Spoken are TLS 1.2 and 1.3, and in them HTTP/2 and HTTP/1.1 (ALPN). A client that comes back resumes its session by a
//! ticket, so that nothing has to be remembered of it.

mod certificate;
mod files;

pub use certificate::Certificate;
pub use files::{ClientAuth, TlsError, TlsFiles};

use std::{
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

/// The first byte of a TLS connection: a record of a handshake (RFC 8446, section 5.1).
pub(super) const HANDSHAKE: u8 = 22;

/// How much is encrypted before it is handed to the socket. With less, the socket is written to more often.
const BUFFER: usize = 256 << 10;

/// The certificate, and what else a handshake needs.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

/// A certificate that is in force now, and what is worth a warning about it: one line that names the setting.
type Told = (Certificate, Option<String>);

/// What came of a connection.
pub(super) enum Handshake {
    /// It speaks TLS.
    Done(Box<TlsStream<TcpStream>>),
    /// It began with something else; nothing has been read of it.
    Plain(TcpStream),
}

impl Tls {
    /// Reads the files, and tells about them.
    pub fn open(files: TlsFiles) -> Result<(Self, Told), TlsError> {
        let (config, certificate) = files.read()?;
        let warning = files.warning(&certificate);
        Ok((Self { files, current: RwLock::new(Arc::new(config)) }, (certificate, warning)))
    }

    /// Reads the files again. From then on handshakes are made with what they hold, and no session of before is resumed;
    /// connections that there are go on. Files that cannot be used leave in force what there was.
    pub fn reload(&self) -> Result<Told, TlsError> {
        let (config, certificate) = self.files.read()?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        let warning = self.files.warning(&certificate);
        Ok((certificate, warning))
    }

    /// Waits for the first byte, and for the handshake that it begins.
    pub(super) async fn handshake(&self, stream: TcpStream) -> io::Result<Handshake> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != HANDSHAKE {
            return Ok(Handshake::Plain(stream));
        }
        let config = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let accepted = TlsAcceptor::from(config)
            .accept_with(stream, |connection| connection.set_buffer_limit(Some(BUFFER)))
            .await?;
        Ok(Handshake::Done(Box::new(accepted)))
    }
}
