use super::*;
use crate::oci::Tag;
use proptest::prelude::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn get(path: &str) -> Result<Route, RouteError> {
    parse(&Method::GET, &path.parse().expect("a URI"), &RouteLimits::default())
}

fn manifest(name: &str, reference: &str) -> Result<Route, RouteError> {
    Ok(Route::Manifest {
        repository: name.parse().unwrap(),
        reference: Reference::parse(reference, Tag::MAX_LENGTH).unwrap(),
    })
}

fn blob(name: &str) -> Result<Route, RouteError> {
    Ok(Route::Blob { repository: name.parse().unwrap(), digest: DIGEST.parse().unwrap() })
}

fn tags(name: &str, size: usize, last: Option<&str>) -> Result<Route, RouteError> {
    Ok(Route::Tags { repository: name.parse().unwrap(), page: Page { size, last: last.map(Into::into) } })
}

#[test]
fn every_path_of_the_api_has_its_route() {
    let table = [
        ("/", Ok(Route::Home)),
        ("/healthz", Ok(Route::Health)),
        ("/readyz?verbose", Ok(Route::Ready)),
        ("/v2", Ok(Route::ApiVersion)),
        ("/v2/", Ok(Route::ApiVersion)),
        ("/v2/?ns=example.org", Ok(Route::ApiVersion)),
        ("/v2/packages/hello/manifests/latest", manifest("packages/hello", "latest")),
        ("/v2/packages/hello/manifests/latest?ns=example.org&x", manifest("packages/hello", "latest")),
        ("/v2/hello/manifests/v1%2e2", manifest("hello", "v1.2")),
        ("/v2/a/b/c/d/manifests/1", manifest("a/b/c/d", "1")),
        ("/v2/manifests/manifests/manifests", manifest("manifests", "manifests")),
        ("/v2/a/blobs/manifests/list", manifest("a/blobs", "list")),
        ("/v2/tags/list/manifests/list", manifest("tags/list", "list")),
        ("/v2/a/manifests/tags/list", tags("a/manifests", 1000, None)),
        ("/v2/tags/tags/list", tags("tags", 1000, None)),
        ("/v2/x/tags/list?n=5&last=v%2B1", tags("x", 5, Some("v+1"))),
        ("/v2/x/tags/list?n=0", tags("x", 0, None)),
        ("/v2/x/tags/list?n=99999999999999999999999&last=", tags("x", 1000, None)),
        ("/v2/_catalog?n=3", Ok(Route::Catalog { page: Page { size: 3, last: None } })),
    ];
    for (path, expected) in table {
        assert_eq!(get(path), expected, "{path}");
    }
    assert_eq!(get(&format!("/v2/a/blobs/{DIGEST}")), blob("a"));
    assert_eq!(get(&format!("/v2/a/blobs/blobs/{}", DIGEST.replace(':', "%3A"))), blob("a/blobs"));
    assert_eq!(get(&format!("/v2/a/manifests/{DIGEST}")), manifest("a", DIGEST));
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for (subject, parsed) in [(DIGEST, Some(DIGEST.parse().unwrap())), (&sha512, None)] {
        assert_eq!(
            get(&format!("/v2/a/referrers/{subject}?artifactType=application%2Fx%2Bjson")),
            Ok(Route::Referrers {
                repository: "a".parse().unwrap(),
                subject: parsed,
                artifact_type: Some("application/x+json".into()),
            })
        );
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    for path in [
        "/v1/",
        "/v2x",
        "/v20/",
        "/favicon.ico",
        "/v2/x",
        "/v2/a/b",
        "/v2/x/tags/list/",
        "/v2/x/tags",
        "/v2/x/manifests/",
        "/v2/x/blobs/uploads/",
        "/v2/_catalog/",
        "//v2/",
    ] {
        assert!(matches!(get(path), Err(RouteError::NotFound { .. })), "{path}: {:?}", get(path));
    }
}

#[test]
fn malformed_parts_are_told_apart() {
    type Check = fn(&RouteError) -> bool;
    let long_name = format!("/v2/{}/manifests/x", "a".repeat(256));
    let long_tag = format!("/v2/a/manifests/{}", "a".repeat(129));
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let (blob512, manifest512) = (format!("/v2/a/blobs/{sha512}"), format!("/v2/a/manifests/{sha512}"));
    let table: [(&str, Check); 18] = [
        ("/v2//manifests/latest", |e| matches!(e, RouteError::Name(_))),
        ("/v2/manifests/latest", |e| matches!(e, RouteError::Name(NameError::Empty))),
        ("/v2/a//b/tags/list", |e| matches!(e, RouteError::Name(_))),
        ("/v2/../etc/manifests/x", |e| matches!(e, RouteError::Name(_))),
        ("/v2/%2e%2e/manifests/x", |e| matches!(e, RouteError::Name(_))),
        ("/v2/a%00b/manifests/x", |e| matches!(e, RouteError::Name(_))),
        (&long_name, |e| matches!(e, RouteError::Name(NameError::TooLong { length: 256, limit: 255 }))),
        ("/v2/a%2Fb/manifests/x", |e| matches!(e, RouteError::Encoding(EncodingError::Slash(_)))),
        ("/v2/a/manifests/%ff", |e| matches!(e, RouteError::Encoding(EncodingError::NotUtf8(_)))),
        ("/v2/a/manifests/%4", |e| matches!(e, RouteError::Encoding(EncodingError::Incomplete(_)))),
        (&long_tag, |e| matches!(e, RouteError::Tag(_))),
        ("/v2/a/manifests/a%20b", |e| matches!(e, RouteError::Tag(_))),
        ("/v2/a/manifests/.INVALID_MANIFEST_NAME", |e| matches!(e, RouteError::TagCannotExist(_))),
        ("/v2/a/manifests/sha256:abc", |e| matches!(e, RouteError::Digest(_))),
        ("/v2/a/blobs/abc", |e| matches!(e, RouteError::Digest(_))),
        ("/v2/a/referrers/sha256:xyz", |e| matches!(e, RouteError::Digest(_))),
        (&blob512, |e| matches!(e, RouteError::BlobDigestUnsupported(_))),
        (&manifest512, |e| matches!(e, RouteError::ManifestDigestUnsupported(_))),
    ];
    for (path, check) in table {
        let error = get(path).expect_err(path);
        assert!(check(&error), "{path}: {error:?}");
    }
    for n in ["-1", "x", "", "1.5", "%2B1", "1e3", "0x10"] {
        let error = get(&format!("/v2/a/tags/list?n={n}")).expect_err(n);
        assert!(matches!(error, RouteError::PageSize { .. }), "{n}: {error:?}");
    }
}

#[test]
fn the_configured_limits_hold() {
    let limits = RouteLimits { max_name_length: 5, max_tag_length: 3, max_page: 2 };
    let get = |path: &str| parse(&Method::GET, &path.parse().unwrap(), &limits);
    assert!(get("/v2/a/bcd/manifests/123").is_ok());
    assert!(matches!(get("/v2/a/bcde/manifests/123"), Err(RouteError::Name(NameError::TooLong { .. }))));
    assert!(matches!(get("/v2/a/bcd/manifests/1234"), Err(RouteError::Tag(_))));
    // Nobody chooses these: a client that looks for a signature has to get "unknown", not "invalid".
    let signature = format!("{}.sig", DIGEST.replace(':', "-"));
    assert_eq!(get(&format!("/v2/a/manifests/{signature}")), manifest("a", &signature));
    assert_eq!(get("/v2/_catalog?n=9"), Ok(Route::Catalog { page: Page { size: 2, last: None } }));
}

#[test]
fn nothing_can_be_written() {
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for path in ["/v2/", "/v2/a/blobs/uploads/", "/v2/a/manifests/x", "/v2/anything"] {
            let error = parse(&method, &path.parse().unwrap(), &RouteLimits::default());
            assert!(matches!(error, Err(RouteError::WriteUnsupported { .. })), "{method} {path}");
        }
        let error = parse(&method, &"/healthz".parse().unwrap(), &RouteLimits::default());
        assert!(matches!(error, Err(RouteError::MethodUnsupported { .. })), "{method}");
    }
    assert_eq!(
        parse(&Method::HEAD, &"/v2/".parse().unwrap(), &RouteLimits::default()),
        Ok(Route::ApiVersion)
    );
}

proptest! {
    #[test]
    fn any_name_can_be_asked_for(
        name in "(manifests|blobs|tags|list|referrers|_catalog|[a-z0-9]{1,5})(/(manifests|blobs|tags|list|[a-z]{1,3})){0,4}",
        tag in "(list|manifests|[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20})",
    ) {
        prop_assert_eq!(get(&format!("/v2/{name}/tags/list")), tags(&name, 1000, None));
        prop_assert_eq!(get(&format!("/v2/{name}/blobs/{DIGEST}")), blob(&name));
        prop_assert_eq!(get(&format!("/v2/{name}/manifests/{tag}")), manifest(&name, &tag));
    }

    #[test]
    fn no_uri_makes_it_panic(path in "[/a-z0-9%.:?&=_-]{0,60}") {
        if let Ok(uri) = format!("/v2/{path}").parse::<Uri>() {
            let _ = parse(&Method::GET, &uri, &RouteLimits::default());
        }
    }
}
