use crate::stub::{LARGE, SMALL, Server, Stub, docker, large_digest, oci};
use forge_registry::{http::ServerLimits, oci::Digest};
use serde_json::json;

async fn server() -> Server {
    Server::start(ServerLimits::default()).await
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let server = server().await;
    let small = Digest::of(SMALL);
    let paths = [
        "/".to_owned(),
        "/healthz".to_owned(),
        "/readyz".to_owned(),
        "/v2/".to_owned(),
        "/v2/a/manifests/latest".to_owned(),
        format!("/v2/a/manifests/{}", docker().digest),
        "/v2/a/manifests/nope".to_owned(),
        "/v2/failing/manifests/latest".to_owned(),
        "/v2/building/manifests/latest".to_owned(),
        format!("/v2/a/blobs/{small}"),
        format!("/v2/a/blobs/{}", Digest::of(b"")),
        format!("/v2/a/blobs/{}", large_digest()),
        format!("/v2/a/blobs/{}", Digest::of(b"unknown")),
        "/v2/a/blobs/sha256:1".to_owned(),
        "/v2/a/tags/list?n=2".to_owned(),
        "/v2/_catalog".to_owned(),
        format!("/v2/a/referrers/{small}"),
        "/nowhere".to_owned(),
    ];
    for path in paths {
        let mut get = server.get(&path).await;
        let mut head = server.ask("HEAD", &path, &[]).await;
        assert_eq!(get.length(), Some(get.body.len() as u64), "{path}");
        for answer in [&mut get, &mut head] {
            answer.headers.remove("date");
            assert!(answer.headers.remove("x-request-id").is_some(), "{path}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
            let api = answer.header("docker-distribution-api-version");
            assert_eq!(api, path.starts_with("/v2").then_some("registry/2.0"), "{path}");
        }
        assert_eq!((get.status, get.headers), (head.status, head.headers), "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_tag_gives_the_form_that_the_client_takes() {
    let server = server().await;
    let path = "/v2/app/web/manifests/latest";
    let any = server.get(path).await;
    assert_eq!((any.status, any.body.as_slice()), (200, oci().bytes.as_ref()));
    assert_eq!(any.header("content-type"), Some(oci().media_type.as_str()));
    assert_eq!(any.header("docker-content-digest"), Some(oci().digest.to_string().as_str()));
    assert_eq!(any.header("vary"), Some("Accept"));
    assert_eq!(any.header("cache-control"), Some("no-cache"));

    let accept = format!("Accept: {}", docker().media_type);
    let old = server.ask("GET", path, &[&accept]).await;
    assert_eq!(old.body, docker().bytes);
    assert_eq!(old.header("content-type"), Some(docker().media_type.as_str()));

    // By digest it is what it is, whatever the client takes.
    let accept = format!("Accept: {}", oci().media_type);
    let by_digest = format!("/v2/app/web/manifests/{}", docker().digest);
    let exact = server.ask("GET", &by_digest, &[&accept]).await;
    assert_eq!(exact.body, docker().bytes);
    assert_eq!(exact.header("vary"), None);
    assert_eq!(exact.header("cache-control"), Some("public, max-age=31536000, immutable"));
}

#[tokio::test]
async fn a_client_that_cannot_unpack_zstd_gets_the_form_without() {
    let server = server().await;
    let accept = format!("Accept: {}, {}", oci().media_type, docker().media_type);
    let agent = |agent: &str| format!("User-Agent: {agent}");
    for (client, form) in
        [("docker/20.10.24+dfsg1 go/go1.19", docker()), ("docker/23.0.1", oci()), ("x", oci())]
    {
        let headers = [accept.as_str(), &agent(client)];
        for method in ["HEAD", "GET"] {
            let answer = server.ask(method, "/v2/zstd/manifests/latest", &headers).await;
            assert_eq!(answer.header("content-type"), Some(form.media_type.as_str()), "{client}");
            assert_eq!(answer.header("vary"), Some("Accept, User-Agent"));
        }
        // Of other images it gets what everybody gets.
        let answer = server.ask("GET", "/v2/a/manifests/latest", &headers).await;
        assert_eq!((answer.body.as_slice(), answer.header("vary")), (oci().bytes.as_ref(), Some("Accept")));
    }
}

#[tokio::test]
async fn a_client_that_has_the_content_gets_304() {
    let server = server().await;
    let blob = format!("/v2/a/blobs/{}", Digest::of(SMALL));
    for path in ["/v2/a/manifests/latest", &blob] {
        let full = server.get(path).await;
        let tag = full.header("etag").unwrap();
        for method in ["GET", "HEAD"] {
            let condition = format!("If-None-Match: \"x\", W/{tag}");
            let answer = server.ask(method, path, &[&condition, "Range: bytes=0-1"]).await;
            assert_eq!((answer.status, answer.length()), (304, None), "{path}");
            for name in ["etag", "cache-control", "vary", "docker-content-digest"] {
                assert_eq!(answer.header(name), full.header(name), "{path} {name}");
            }
        }
        let answer = server.ask("GET", path, &["If-Match: \"x\""]).await;
        assert_eq!(answer.status, 412);
    }
}

#[tokio::test]
async fn ranges_of_a_blob_are_served() {
    let server = server().await;
    let digest = Digest::of(SMALL);
    let path = format!("/v2/a/blobs/{digest}");
    type Case = (&'static [&'static str], u16, &'static [u8], Option<&'static str>);
    let table: [Case; 10] = [
        (&["Range: bytes=2-4"], 206, b"234", Some("bytes 2-4/10")),
        (&["Range: bytes=7-99"], 206, b"789", Some("bytes 7-9/10")),
        (&["Range: bytes=-1"], 206, b"9", Some("bytes 9-9/10")),
        (&["Range: bytes=0-4,3-5"], 206, b"012345", Some("bytes 0-5/10")),
        (&["Range: bytes=5-2"], 200, SMALL, None),
        (&["Range: lines=1-2"], 200, SMALL, None),
        (&["Range: bytes=1-2", "Range: bytes=4-5"], 200, SMALL, None),
        (&["Range: bytes=1-2", "If-Range: \"other\""], 200, SMALL, None),
        (&["Range: bytes=1-2", "If-Range: Thu, 01 Jan 1970 00:00:01 GMT"], 200, SMALL, None),
        (&["Range: bytes=0-"], 206, SMALL, Some("bytes 0-9/10")),
    ];
    for (headers, status, body, content_range) in table {
        let answer = server.ask("GET", &path, headers).await;
        assert_eq!((answer.status, answer.body.as_slice()), (status, body), "{headers:?}");
        assert_eq!(answer.header("content-range"), content_range, "{headers:?}");
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
    }
    let if_range = format!("If-Range: \"{digest}\"");
    assert_eq!(server.ask("GET", &path, &["Range: bytes=1-2", &if_range]).await.body, b"12");

    let beyond = server.ask("GET", &path, &["Range: bytes=10-"]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */10")));
    assert_eq!(beyond.json()["errors"][0]["code"], "SIZE_INVALID");
    // Ranges are of GET alone.
    let head = server.ask("HEAD", &path, &["Range: bytes=1-2"]).await;
    assert_eq!((head.status, head.length(), head.header("content-range")), (200, Some(10), None));

    let many = server.ask("GET", &path, &["Range: bytes=8-,0-1"]).await;
    let kind = many.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect(kind);
    let part = |range: &str, bytes: &str| {
        format!(
            "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/10\r\n\r\n{bytes}\r\n"
        )
    };
    let expected = format!("{}{}--{boundary}--\r\n", part("8-9", "89"), part("0-1", "01"));
    assert_eq!((many.status, String::from_utf8(many.body).unwrap()), (206, expected));

    let empty = format!("/v2/a/blobs/{}", Digest::of(b""));
    assert_eq!(server.ask("GET", &empty, &["Range: bytes=0-"]).await.status, 416);
    assert_eq!(server.get(&empty).await.length(), Some(0));
}

#[tokio::test]
async fn a_large_blob_arrives_whole() {
    let server = server().await;
    let answer = server.get(&format!("/v2/a/blobs/{}", large_digest())).await;
    assert_eq!((answer.status, answer.body.len() as u64), (200, LARGE));
    assert!(answer.body.starts_with(b"large\0"));
}

#[tokio::test]
async fn lists_are_paged_by_link() {
    let server = server().await;
    let first = server.get("/v2/a/b/tags/list?n=2").await;
    assert_eq!(first.json(), json!({ "name": "a/b", "tags": ["1.0", "1.1"] }));
    assert_eq!(first.header("link"), Some("</v2/a/b/tags/list?n=2&last=1.1>; rel=\"next\""));
    let second = server.get("/v2/a/b/tags/list?n=2&last=1.1").await;
    assert_eq!((second.json()["tags"].clone(), second.header("link")), (json!(["latest"]), None));
    let none = server.get("/v2/a/b/tags/list?n=0").await;
    assert_eq!((none.json()["tags"].clone(), none.header("link")), (json!([]), None));
    assert_eq!(server.get("/v2/a/b/tags/list?n=-1").await.status, 400);

    let catalog = server.get("/v2/_catalog?n=1").await;
    assert_eq!(catalog.json(), json!({ "repositories": ["app/web"] }));
    assert_eq!(catalog.header("link"), Some("</v2/_catalog?n=1&last=app%2Fweb>; rel=\"next\""));
}

#[tokio::test]
async fn referrers_are_an_empty_index() {
    let server = server().await;
    let path = format!("/v2/a/referrers/{}", Digest::of(b"anything"));
    let all = server.get(&path).await;
    assert_eq!(all.json()["manifests"], json!([]));
    assert_eq!(all.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    assert_eq!(all.header("oci-filters-applied"), None);
    let some = server.get(&format!("{path}?artifactType=application/x")).await;
    assert_eq!(some.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(server.get("/v2/a/referrers/sha256:1").await.status, 400);
}

#[tokio::test]
async fn errors_name_their_request_in_header_and_body() {
    let server = server().await;
    let table = [
        ("/v2/a/manifests/nope", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/a%20b", 400, "NAME_INVALID"),
        ("/v2/A$/manifests/x", 400, "NAME_INVALID"),
        ("/v2/a/blobs/sha256:1", 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/sha512:00", 404, "BLOB_UNKNOWN"),
        ("/v2/failing/manifests/latest", 422, "MANIFEST_UNKNOWN"),
        ("/v2/building/manifests/latest", 429, "TOOMANYREQUESTS"),
        ("/v2/buggy/manifests/latest", 500, "UNKNOWN"),
        ("/nowhere", 404, "UNSUPPORTED"),
    ];
    for (path, status, code) in table {
        let answer = server.get(path).await;
        let error = &answer.json()["errors"][0];
        assert_eq!((answer.status, error["code"].as_str()), (status, Some(code)), "{path}");
        assert_eq!(error["detail"]["requestId"].as_str(), answer.header("x-request-id"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert!(!answer.reason.is_empty() && !answer.reason.contains("secret"), "{path}");
    }
}

#[tokio::test]
async fn a_failed_build_explains_itself_even_to_a_head() {
    let server = server().await;
    let path = "/v2/failing/manifests/latest";
    assert_eq!(server.ask("HEAD", path, &[]).await.reason, "building hello.drv failed: last words");
    let error = &server.get(path).await.json()["errors"][0];
    assert_eq!(error["message"], "building hello.drv failed\n last words");
    assert_eq!(error["detail"]["log"], json!(["last words"]));
    assert_eq!(server.get("/v2/building/manifests/latest").await.header("retry-after"), Some("7"));
}

#[tokio::test]
async fn health_and_readiness_are_told_apart() {
    let stub = Stub { ready: false, ..Stub::new() };
    let unready = Server::with(stub, ServerLimits::default(), crate::stub::PATIENCE).await;
    assert_eq!(unready.get("/healthz").await.status, 200);
    let answer = unready.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["errors"][0]["message"], "nix-daemon: connection refused");
    let ready = server().await;
    assert_eq!(ready.get("/readyz").await.json(), json!({ "nix-daemon": "ok" }));
}

#[tokio::test]
async fn the_front_page_says_how_to_pull_from_this_host() {
    let text = String::from_utf8(server().await.get("/").await.body).unwrap();
    assert!(text.contains("podman pull registry.test:6443/packages/"), "{text}");
}
