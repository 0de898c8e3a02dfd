//! Wrong passwords and tokens: what they cost, whom they lock out, and what a guesser learns.

use crate::{
    access::{Files, TOKEN, ask, basic, password},
    support::{Flake, Registry},
};

fn registry(files: &Files, settings: &[(&str, &str)]) -> Registry {
    let own = [("AUTH_MAX_FAILURES", "3"), ("AUTH_FAILURE_WINDOW", "1h")];
    files.registry(&Flake::new(""), &[&own, settings].concat())
}

fn status(registry: &Registry, authorization: &str) -> u16 {
    ask(registry, authorization, "GET", "/v2/").status
}

#[test]
fn an_address_that_is_wrong_too_often_is_not_listened_to() {
    let files = Files::new(&["alice"], "allow build alice *\n");
    let registry = files.registry(
        &Flake::new(""),
        &[("AUTH_MAX_FAILURES", "3"), ("AUTH_FAILURE_WINDOW", "1h"), ("TRUSTED_PROXIES", "127.0.0.1")],
    );
    let from = |authorization: &str, forwarded: &str| {
        let headers = [("authorization", authorization), ("x-forwarded-for", forwarded)];
        registry.request("GET", "/v2/", &headers)
    };
    for secret in ["x", "y", "z"] {
        from(&password("alice", secret), "198.51.100.1").is_error(401, "UNAUTHORIZED");
    }
    let answer = from(&basic("alice"), "198.51.100.1");
    answer.is_error(429, "TOOMANYREQUESTS");
    assert!((3000..=3600).contains(&answer.header("retry-after").parse::<u32>().unwrap()));
    // What a client writes left of its own address changes nothing.
    from(&basic("alice"), "198.51.100.2, 198.51.100.1").is_error(429, "TOOMANYREQUESTS");
    assert_eq!(from(&basic("alice"), "198.51.100.2").status, 200);
    let log = registry.log();
    assert!(log.contains("client=198.51.100.1 proxy=127.0.0.1:"), "{log}");

    // Nor does anything without a proxy that is trusted.
    let registry =
        files.registry(&Flake::new(""), &[("AUTH_MAX_FAILURES", "3"), ("AUTH_FAILURE_WINDOW", "1h")]);
    for n in 0..4 {
        let headers = [
            ("authorization", &*password("alice", &n.to_string())),
            ("x-forwarded-for", &format!("198.51.100.{n}")),
        ];
        let answer = registry.request("GET", "/v2/", &headers);
        assert_eq!(answer.status, if n < 3 { 401 } else { 429 });
    }
    assert!(!registry.log().contains("198.51.100."));
}

#[test]
fn a_stale_secret_locks_nobody_out() {
    let files = Files::new(&["alice", "bob"], "allow build authenticated *\n");
    let registry = registry(&files, &[]);
    // One of a node, one token, and one of somebody who has left.
    let stale = [password("alice", "former"), "Bearer a-token-that-was-withdrawn".into()];
    for _ in 0..20 {
        for stale in &stale {
            let answer = ask(&registry, stale, "HEAD", "/v2/hello/manifests/latest");
            assert_eq!((answer.status, answer.header("retry-after")), (401, ""));
        }
    }
    for right in [basic("alice"), basic("bob"), format!("Bearer {TOKEN}")] {
        assert_eq!(status(&registry, &right), 200);
    }
}

#[test]
fn a_block_lets_known_users_in_and_confirms_no_guess() {
    let files = Files::new(&["alice", "bob", "carol"], "allow build authenticated *\n");
    let registry = registry(&files, &[]);
    for user in ["alice", "bob"] {
        assert_eq!(status(&registry, &basic(user)), 200);
    }
    for guess in ["1", "2", "3"] {
        ask(&registry, &password("carol", guess), "GET", "/v2/").is_error(401, "UNAUTHORIZED");
    }
    // Right, wrong, and known to be wrong: all the same.
    let answers = ["carol-password", "4", "1"].map(|secret| {
        let answer = ask(&registry, &password("carol", secret), "GET", "/v2/");
        assert_ne!(answer.header("retry-after"), "");
        answer.is_error(429, "TOOMANYREQUESTS")
    });
    assert!(answers.iter().all(|message| *message == answers[0]), "{answers:?}");
    for right in [basic("alice"), basic("bob"), format!("Bearer {TOKEN}"), password("carol", TOKEN)] {
        assert_eq!(status(&registry, &right), 200);
    }
    // Guesses at somebody who is let in are as many as without the block, and cost others nothing.
    for guess in ["1", "1", "2", "1", "3"] {
        assert_eq!(status(&registry, &password("alice", guess)), 429);
    }
    assert_eq!(status(&registry, &basic("alice")), 429);
    assert_eq!(status(&registry, &basic("bob")), 200);
    // Those who run the registry can lift it.
    registry.signal(1);
    crate::support::eventually("the files are in force", || registry.logged("anew: 3 users") == 1);
    for user in ["alice", "carol"] {
        assert_eq!(status(&registry, &basic(user)), 200);
    }
}
