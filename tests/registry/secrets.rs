//! A password or token in the flake's reference is for Nix alone.

use crate::support::Registry;

/// Nothing listens there, so that Nix says what it cannot fetch.
const FLAKE: &str = "git+https://deploy:s3cret-t0ken@127.0.0.1:1/images.git?access_token=s3cret-t0ken";

#[test]
fn a_token_in_the_flakes_reference_is_in_no_answer_and_no_log_line() {
    let registry = Registry::start_with(&[("FLAKE", FLAKE), ("LOG_LEVEL", "TRACE")]);
    for path in
        ["packages/hello/manifests/latest", "packages/hello/manifests/v1", "hello/tags/list", "_catalog"]
    {
        let answer = registry.get(&format!("/v2/{path}"));
        let text = format!("{:?} {}", answer.headers, answer.text());
        assert!(!text.contains("s3cret"), "{path}: {text}");
        if path.starts_with("packages") {
            // Whether the URL is quoted at all depends on the version of Nix.
            assert_ne!(answer.status, 200, "{path}: {text}");
        }
    }
    assert!(!registry.log().contains("s3cret"), "{}", registry.log());
}

#[test]
fn a_token_in_the_flakes_reference_is_in_nothing_that_the_commands_print() {
    let mut registry = Registry::start_with(&[("FLAKE", FLAKE)]);
    let (text, code) = registry.run_to_its_end(&["check"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("git+https://***@127.0.0.1:1/images.git") && !text.contains("s3cret"), "{text}");
    let (text, code) = registry.run_to_its_end(&["build", "packages/hello"]);
    assert!(code == Some(1) && !text.contains("s3cret"), "{text}");
    registry.set("FLAKE", &format!("{FLAKE}#hello"));
    let (text, code) = registry.run_to_its_end(&["check"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("FLAKE=\"git+https://***@") && !text.contains("s3cret"), "{text}");
}
