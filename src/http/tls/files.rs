//! The files of `TLS_CERTIFICATE`, `TLS_KEY` and `TLS_CLIENT_CA`.

use super::Certificate;
use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_rustls::rustls::{
    self, InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

/// Where the certificate and its key are, and who may connect. All files are PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// `TLS_CERTIFICATE`: the certificate, and after it those that lead to one that clients trust.
    pub certificate: PathBuf,
    /// `TLS_KEY`
    pub key: PathBuf,
    /// `TLS_CLIENT_CA`: who signs the certificates of clients.
    pub client_ca: Option<PathBuf>,
    /// `TLS_CLIENT_AUTH`, which means something with `client_ca` only.
    pub client_auth: ClientAuth,
}

/// Whether clients need a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client may have none; one that it has must be valid.
    Optional,
    /// A client without one is refused.
    Required,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}={}: {problem}", path.display())]
pub struct TlsError {
    /// Which setting names it.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is the matter. Never anything that the file holds.
    pub problem: String,
}

/// A setting, with the file that it names.
#[derive(Clone, Copy)]
struct File<'a>(&'static str, &'a Path);

impl File<'_> {
    fn error(self, problem: impl fmt::Display) -> TlsError {
        TlsError { setting: self.0, path: self.1.into(), problem: problem.to_string() }
    }

    fn read(self) -> Result<Vec<u8>, TlsError> {
        fs::read(self.1).map_err(|error| self.error(error))
    }

    fn certificates(self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.read()?).collect();
        match all {
            Ok(all) if all.is_empty() => {
                Err(self.error("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"))
            }
            Ok(all) => Ok(all),
            Err(error) => Err(self.error(format!("it is not valid PEM: {error}"))),
        }
    }

    fn key(self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let text = self.read()?;
        let encrypted = String::from_utf8_lossy(&text).contains("ENCRYPTED");
        PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            self.error(match encrypted {
                true => "the key is encrypted, and there is nobody to ask for the passphrase",
                false => "it holds no private key in PEM (-----BEGIN PRIVATE KEY-----)",
            })
        })
    }
}

impl TlsFiles {
    /// Everything that handshakes need, and what the certificate says.
    pub(super) fn read(&self) -> Result<(ServerConfig, Certificate), TlsError> {
        let provider = Arc::new(ring::default_provider());
        let [certificate, key] = [File("TLS_CERTIFICATE", &self.certificate), File("TLS_KEY", &self.key)];
        let chain = certificate.certificates()?;
        let first = chain.first().ok_or_else(|| certificate.error("it holds no certificate"))?;
        let facts = Certificate::of(first).map_err(|error| certificate.error(error))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| certificate.error(error))?;
        let builder = match self.client_verifier(provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key.key()?).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                key.error(format!("it is not the key of TLS_CERTIFICATE={}", self.certificate.display()))
            }
            error => key.error(error),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets have keys of their own each time that the files are read, so a session does not outlive what it was
        // begun with.
        config.ticketer = ring::Ticketer::new().map_err(|error| certificate.error(error))?;
        Ok((config, facts))
    }

    fn client_verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let Some(path) = &self.client_ca else { return Ok(None) };
        let file = File("TLS_CLIENT_CA", path);
        let mut roots = RootCertStore::empty();
        for certificate in file.certificates()? {
            roots.add(certificate).map_err(|error| file.error(error))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let builder = match self.client_auth {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        builder.build().map(Some).map_err(|error| file.error(error))
    }

    /// What is worth a warning about files that can be used.
    pub(super) fn warning(&self, certificate: &Certificate) -> Option<String> {
        let named = format!("TLS_CERTIFICATE={}", self.certificate.display());
        if let Some(problem) = certificate.is_not_valid_now() {
            return Some(format!("{named}: {problem}"));
        }
        let mode = fs::metadata(&self.key).map_or(0, |metadata| metadata.mode());
        (mode & 0o007 != 0).then(|| {
            let path = self.key.display();
            format!(
                "TLS_KEY={path}: everybody on this machine can use it (mode {:o}); chmod o= {path}",
                mode & 0o777
            )
        })
    }
}
