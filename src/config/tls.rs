//! The settings of TLS, which mean something together.

use super::{
    ConfigError, parse,
    parse::{Bad, absolute},
};
use crate::http::tls::{ClientAuth, TlsFiles};

/// The files, from `TLS_LISTEN`, `TLS_CERTIFICATE`, `TLS_KEY`, `TLS_CLIENT_CA` and `TLS_CLIENT_AUTH`.
pub(super) fn files(
    [listen, certificate, key, client_ca, client_auth]: [Option<String>; 5],
) -> Result<Option<TlsFiles>, ConfigError> {
    let alone = |name, value: &Option<String>, needed| match value {
        Some(value) => Err(ConfigError::Alone { name, value: value.clone(), needed }),
        None => Ok(()),
    };
    if client_ca.is_none() {
        alone("TLS_CLIENT_AUTH", &client_auth, "TLS_CLIENT_CA")?;
    }
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (certificate, key) => {
            alone("TLS_CERTIFICATE", &certificate, "TLS_KEY")?;
            alone("TLS_KEY", &key, "TLS_CERTIFICATE")?;
            alone("TLS_LISTEN", &listen, "TLS_CERTIFICATE and TLS_KEY")?;
            alone("TLS_CLIENT_CA", &client_ca, "TLS_CERTIFICATE and TLS_KEY")?;
            return Ok(None);
        }
    };
    Ok(Some(TlsFiles {
        certificate: parse("TLS_CERTIFICATE", Some(certificate), absolute)?,
        key: parse("TLS_KEY", Some(key), absolute)?,
        client_ca: client_ca.map(|file| parse("TLS_CLIENT_CA", Some(file), absolute)).transpose()?,
        client_auth: match client_auth {
            Some(text) => parse("TLS_CLIENT_AUTH", Some(text), auth)?,
            None => ClientAuth::Required,
        },
    }))
}

fn auth(text: &str) -> Result<ClientAuth, Bad> {
    match text {
        "optional" => Ok(ClientAuth::Optional),
        "required" => Ok(ClientAuth::Required),
        _ => Err(Bad::new("optional or required")),
    }
}
