//! Whether a request names its host as it has to, and its body in one way only. Two readers of the same bytes, a proxy and
//! this server, must not take them for different requests.

use super::error::Failure;
use crate::oci::ErrorCode;
use http::{HeaderValue, Request, StatusCode, Version, header, uri::Authority};

/// 400 for a request without a host, with more than one, or with one that is none (RFC 9112, section 3.2; RFC 9113,
/// section 8.3.1). Requests of HTTP/1.0 may be without.
pub fn refusal<B>(request: &Request<B>) -> Option<Failure> {
    let mut lines = request.headers().get_all(header::HOST).iter();
    let (host, more) = (lines.next(), lines.next());
    let authority = request.uri().authority().filter(|_| request.version() == Version::HTTP_2);
    let problem = match (host, more, authority) {
        (_, Some(_), _) => "more than one Host header",
        (Some(host), None, _) if !is_valid(host) => "a Host header that is not a host with or without a port",
        (Some(host), None, Some(authority))
            if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            "a Host header that differs from its authority"
        }
        (None, None, None) if request.version() > Version::HTTP_10 => "no Host header",
        _ => return None,
    };
    let message = format!("the request has {problem}");
    Some(Failure::new(StatusCode::BAD_REQUEST, ErrorCode::Unknown, message))
}

/// Whether the connection is to be closed after the response: a body in chunks is read as such whatever else is said of its
/// length, and a proxy may have believed that (RFC 9112, section 6.1).
pub fn ends_connection<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::TRANSFER_ENCODING)
}

/// `Host = uri-host [ ":" port ]`; nothing at all for a URI without a host.
fn is_valid(host: &HeaderValue) -> bool {
    let host = host.as_bytes();
    host.is_empty()
        || Authority::try_from(host).is_ok_and(|authority| {
            let port = authority.as_str().strip_prefix(authority.host()).unwrap_or("@");
            port.is_empty()
                || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(version: Version, uri: &str, hosts: &[&[u8]]) -> Option<String> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        refusal(&request.body(()).unwrap()).map(|failure| failure.message)
    }

    #[test]
    fn a_request_names_one_host() {
        let old = |hosts: &[&[u8]]| problem(Version::HTTP_10, "/v2/", hosts);
        let new = |hosts: &[&[u8]]| problem(Version::HTTP_11, "/v2/", hosts);
        for host in ["", "x", "registry.test:6443", "[::1]", "[::1]:80", "127.0.0.1:", "a_b-c.d~"] {
            assert_eq!((old(&[host.as_bytes()]), new(&[host.as_bytes()])), (None, None), "{host}");
        }
        for host in ["a b", "user@x", "x/y", "x:80:90", "x:port", "[::1", "http://x", "x?y", "x#y", "é"] {
            assert!(new(&[host.as_bytes()]).is_some_and(|said| said.contains("is not a host")), "{host}");
            assert!(old(&[host.as_bytes()]).is_some(), "{host}");
        }
        assert!(new(&[b"x\xff"]).is_some());
        assert_eq!(old(&[]), None);
        assert_eq!(new(&[]).unwrap(), "the request has no Host header");
        for hosts in [&[&b"x"[..], b"x"], &[b"x", b"y"], &[b"", b""]] {
            assert_eq!(new(hosts).unwrap(), "the request has more than one Host header");
            assert!(old(hosts).is_some());
        }
    }

    #[test]
    fn http2_has_an_authority_or_a_host() {
        let ask = |uri, hosts: &[&[u8]]| problem(Version::HTTP_2, uri, hosts);
        assert_eq!(ask("http://x:80/v2/", &[]), None);
        assert_eq!(ask("http://x:80/v2/", &[b"X:80"]), None);
        assert_eq!(ask("/v2/", &[b"x"]), None);
        assert!(ask("/v2/", &[]).is_some());
        assert!(ask("http://x/v2/", &[b"y"]).unwrap().contains("differs"));
    }
}
