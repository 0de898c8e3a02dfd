//! What a certificate says (RFC 5280).

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate as X509,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Whom a certificate is for, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// The first second of its validity, since 1970.
    not_before: Duration,
    /// The last one.
    not_after: Duration,
    /// The last one, as people write it.
    until: String,
}

impl Certificate {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = X509::from_der(certificate).map_err(|error| format!("it is no certificate: {error}"))?;
        let certificate = parsed.tbs_certificate();
        let alternatives = certificate.get_extension::<SubjectAltName>();
        let alternatives = alternatives.map_err(|error| format!("its names cannot be read: {error}"))?;
        let names = alternatives.map_or_else(Vec::new, |(_, names)| names.0);
        let validity = certificate.validity();
        Ok(Self {
            names: names.iter().filter_map(name).collect(),
            not_before: validity.not_before.to_unix_duration(),
            not_after: validity.not_after.to_unix_duration(),
            until: validity.not_after.to_string(),
        })
    }

    /// Why clients will not accept it now, if it is for that reason.
    pub fn is_not_valid_now(&self) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if now > self.not_after {
            return Some(format!("the certificate has expired: it was valid until {}", self.until));
        }
        (now < self.not_before).then(|| "the certificate is not valid yet: see the clock".to_owned())
    }
}

/// `registry.example, 10.0.0.1, until 2027-01-01T00:00:00Z`
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.names.is_empty() { "no name".to_owned() } else { self.names.join(", ") };
        write!(f, "{names}, until {}", self.until)
    }
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(octets) => match octets.as_bytes() {
            bytes if bytes.len() == 4 => <[u8; 4]>::try_from(bytes).ok().map(|b| IpAddr::from(b).to_string()),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(|b| IpAddr::from(b).to_string()),
        },
        _ => None,
    }
}
