use super::*;
use crate::{http::request_id::RequestIds, oci::Digest};
use http_body_util::BodyExt;

fn message() -> String {
    "what failed".into()
}

fn every_error() -> Vec<(RegistryError, u16, &'static str)> {
    use RegistryError as E;
    let retry_after = Duration::from_millis(1500);
    let repository = "a/b".parse().unwrap();
    vec![
        (E::NameUnknown { message: message() }, 404, "NAME_UNKNOWN"),
        (E::ManifestUnknown { message: message() }, 404, "MANIFEST_UNKNOWN"),
        (E::BlobUnknown { repository, digest: Digest::of(b"") }, 404, "BLOB_UNKNOWN"),
        (E::NameInvalid { message: message() }, 400, "NAME_INVALID"),
        (E::NotAnImage { message: message(), is_other: false, names_others: false }, 422, "MANIFEST_UNKNOWN"),
        (E::EvaluationFailed { message: message(), names_others: false }, 422, "MANIFEST_UNKNOWN"),
        (E::BuildFailed { message: message(), log_tail: vec!["last line".into()] }, 422, "MANIFEST_UNKNOWN"),
        (E::TimedOut { message: message() }, 504, "UNKNOWN"),
        (E::InProgress { message: message(), retry_after }, 429, "TOOMANYREQUESTS"),
        (E::Overloaded { message: message(), retry_after }, 429, "TOOMANYREQUESTS"),
        (E::OverLimit { message: message(), retry_after }, 429, "TOOMANYREQUESTS"),
        (E::SourceBroken { message: message() }, 422, "MANIFEST_UNKNOWN"),
        (E::SourceUnreachable { message: message(), retry_after }, 503, "UNAVAILABLE"),
        (E::Unavailable { message: message() }, 503, "UNAVAILABLE"),
        (E::StorageFull { message: "secret".into() }, 507, "UNKNOWN"),
        (E::Internal { message: "secret".into() }, 500, "UNKNOWN"),
    ]
}

async fn respond(failure: Failure) -> (http::response::Parts, Value) {
    let (parts, body) = failure.into_response(RequestIds::new().next(), false).into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    assert_eq!(parts.headers[header::CONTENT_LENGTH], bytes.len().to_string());
    (parts, serde_json::from_slice(&bytes).unwrap())
}

fn reason(parts: &http::response::Parts) -> String {
    let reason = parts.extensions.get::<hyper::ext::ReasonPhrase>().expect("a reason");
    String::from_utf8(reason.as_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn nobody_is_told_to_wait_for_an_hour() {
    for (retry_after, header) in [(1, "1"), (60, "60"), (3600, "60")] {
        let retry_after = Duration::from_secs(retry_after);
        let (parts, _) = respond(RegistryError::OverLimit { message: message(), retry_after }.into()).await;
        assert_eq!(parts.headers[header::RETRY_AFTER], header);
    }
}

#[tokio::test]
async fn every_error_is_json_that_names_the_request() {
    for (error, status, code) in every_error() {
        let text = error.to_string();
        let (parts, body) = respond(error.into()).await;
        assert_eq!(parts.status, status);
        assert_eq!(body["errors"][0]["code"], code);
        assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(parts.headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(body["errors"][0]["detail"]["requestId"].as_str().unwrap().len(), 10);
        assert_eq!(parts.headers.contains_key(header::RETRY_AFTER), matches!(status, 429 | 503));
        if !matches!(status, 500 | 507) {
            assert_eq!(body["errors"][0]["message"], text.as_str());
            assert!(reason(&parts).starts_with(&text), "{}", reason(&parts));
        }
    }
}

#[tokio::test]
async fn the_reason_of_an_internal_error_does_not_leak() {
    let error = RegistryError::Internal { message: "secret".into() };
    let (parts, body) = respond(error.into()).await;
    assert!(!body.to_string().contains("secret") && !reason(&parts).contains("secret"));
    let id = body["errors"][0]["detail"]["requestId"].as_str().unwrap();
    assert!(body["errors"][0]["message"].as_str().unwrap().contains(id) && reason(&parts).contains(id));
}

#[tokio::test]
async fn a_failed_build_carries_the_end_of_its_log() {
    let error = RegistryError::BuildFailed {
        message: "building /nix/store/x.drv failed\ngcc: nope".into(),
        log_tail: vec!["compiling".into(), "gcc: nope".into()],
    };
    let (parts, body) = respond(error.into()).await;
    assert_eq!(body["errors"][0]["detail"]["log"], json!(["compiling", "gcc: nope"]));
    assert_eq!(reason(&parts), "building /nix/store/x.drv failed: compiling | gcc: nope");
}

#[tokio::test]
async fn retry_after_is_whole_seconds_rounded_up() {
    for (after, expected) in [(0, "1"), (1500, "2"), (2000, "2"), (10_001, "11")] {
        let retry_after = Duration::from_millis(after);
        let error = RegistryError::InProgress { message: message(), retry_after };
        assert_eq!(respond(error.into()).await.0.headers[header::RETRY_AFTER], expected);
    }
}

#[tokio::test]
async fn a_head_is_answered_with_the_same_headers_and_no_body() {
    let id = RequestIds::new().next();
    let failure = Failure::range(7);
    let get = failure.clone().into_response(id, false);
    let head = failure.into_response(id, true);
    assert_eq!(get.headers(), head.headers());
    assert_eq!(head.headers()[header::CONTENT_RANGE], "bytes */7");
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[test]
fn readiness_tells_which_part_fails() {
    let parts = vec![("nix-daemon", Ok(())), ("evaluator", Err("refused".to_owned()))];
    let failure = Failure::not_ready(&Readiness { parts }).unwrap();
    assert_eq!(failure.message, "evaluator: refused");
    assert_eq!(failure.detail["parts"], json!({"nix-daemon": "ok", "evaluator": "refused"}));
    assert!(Failure::not_ready(&Readiness { parts: vec![("nix-daemon", Ok(()))] }).is_none());
}
