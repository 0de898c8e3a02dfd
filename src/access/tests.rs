use super::*;
use futures_util::FutureExt;
use std::{fs, path::Path};

const TOKEN: &str = "a token that is long enough";
/// `printf %s "$TOKEN" | sha256sum`
const TOKEN_HASH: &str = "b1f04507892daa251f873b7fb74e47e7ddf9b228157a48ffee5bfd5d894af379";

fn write(dir: &Path, passwords: &[(&str, &str)]) -> Files {
    let line = |(user, password): &(&str, &str)| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
    let path = |name| Some(dir.join(name));
    let files = Files { htpasswd: path("htpasswd"), tokens: path("tokens"), rules: path("rules") };
    fs::write(dir.join("htpasswd"), passwords.iter().map(line).collect::<String>()).unwrap();
    fs::write(dir.join("tokens"), format!("ci:{TOKEN_HASH}\n")).unwrap();
    fs::write(dir.join("rules"), "allow read authenticated *\n").unwrap();
    files
}

fn open(files: Files, max_failures: u32) -> Access {
    open_remembering(files, max_failures, NonZeroUsize::MIN)
}

fn open_remembering(files: Files, max_failures: u32, max_remembered: NonZeroUsize) -> Access {
    Access::open(AccessSettings {
        files,
        realm: "here".into(),
        max_failures: NonZeroU32::new(max_failures).unwrap(),
        failure_window: Duration::from_secs(3600),
        max_checks: NonZeroUsize::MIN,
        max_queued_checks: 1000,
        max_remembered,
    })
    .unwrap()
}

fn basic(user: &str, password: &str) -> Credentials {
    Credentials::Basic { user: user.into(), password: password.into() }
}

async fn who(access: &Access, credentials: Credentials) -> Result<String, Rejection> {
    access.identify(credentials, Source::Unix).await.map(|grant| match grant.identity() {
        Identity::Anonymous => "anonymous".into(),
        Identity::User(name) => name.to_string(),
    })
}

#[tokio::test]
async fn passwords_and_tokens_lead_to_users() {
    let dir = tempfile::tempdir().unwrap();
    let access = open(write(dir.path(), &[("alice", "one"), ("bob", "two")]), 1000);
    for (credentials, expected) in [
        (Credentials::None, Some("anonymous")),
        (Credentials::Anonymous, Some("anonymous")),
        (Credentials::Unreadable, None),
        (basic("alice", "one"), Some("alice")),
        // Known again.
        (basic("alice", "one"), Some("alice")),
        (basic("alice", "two"), None),
        // In place of the one that is remembered.
        (basic("bob", "two"), Some("bob")),
        (basic("alice", "one"), Some("alice")),
        (basic("eve", "one"), None),
        (basic("whatever", TOKEN), Some("ci")),
        (Credentials::Bearer(TOKEN.into()), Some("ci")),
        (Credentials::Bearer("one".into()), None),
        (Credentials::Bearer(TOKEN_HASH.into()), None),
    ] {
        assert_eq!(who(&access, credentials).await.ok().as_deref(), expected);
    }
}

fn is_blocked(result: Result<String, Rejection>) -> bool {
    matches!(result, Err(Rejection::TooManyFailures { retry_after }) if retry_after > Duration::ZERO)
}

#[tokio::test]
async fn after_too_many_failures_what_was_never_right_from_there_is_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), &[("alice", "one"), ("bob", "two")]);
    let access = open_remembering(files, 3, NonZeroUsize::new(10).unwrap());
    assert_eq!(who(&access, basic("alice", "one")).await.unwrap(), "alice");
    // Right, and known to be, but not from there.
    let elsewhere = Source::of("192.0.2.1".parse().unwrap());
    assert!(access.identify(basic("bob", "two"), elsewhere).await.is_ok());
    for credentials in [basic("bob", "x"), Credentials::Bearer("x".into()), basic("eve", "x")] {
        assert_eq!(who(&access, credentials).await, Err(Rejection::Wrong));
    }
    for credentials in [basic("bob", "two"), basic("bob", "x"), basic("eve", "y"), basic("alice", "y")] {
        assert!(is_blocked(who(&access, credentials).await));
    }
    assert_eq!(who(&access, basic("alice", "one")).await.unwrap(), "alice");
    // Tokens cannot be found by trying.
    for credentials in [Credentials::Bearer(TOKEN.into()), basic("eve", TOKEN)] {
        assert_eq!(who(&access, credentials).await.unwrap(), "ci");
    }
    // Whoever claims nothing guesses nothing.
    assert_eq!(who(&access, Credentials::None).await.unwrap(), "anonymous");
    assert!(access.identify(basic("bob", "two"), elsewhere).await.is_ok());
    // After a reload other credentials may be right, so nothing is held against anybody.
    access.reload().unwrap();
    assert_eq!(who(&access, basic("bob", "two")).await.unwrap(), "bob");
}

#[tokio::test]
async fn a_stale_password_is_one_failure_however_often_and_however_many_at_once_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let access = open(write(dir.path(), &[("alice", "one"), ("bob", "two")]), 3);
    for _ in 0..2 {
        let stale = (0..50).map(|_| who(&access, basic("alice", "former")));
        for result in futures_util::future::join_all(stale).await {
            assert_eq!(result, Err(Rejection::Wrong));
        }
    }
    assert_eq!(who(&access, basic("alice", "other")).await, Err(Rejection::Wrong));
    assert_eq!(who(&access, basic("bob", "two")).await.unwrap(), "bob");
    assert_eq!(who(&access, basic("alice", "third")).await, Err(Rejection::Wrong));
    assert!(is_blocked(who(&access, basic("alice", "former")).await));
}

#[tokio::test]
async fn a_known_wrong_password_needs_no_turn() {
    let dir = tempfile::tempdir().unwrap();
    let access = open(write(dir.path(), &[("alice", "one")]), 3);
    assert_eq!(who(&access, basic("alice", "former")).await, Err(Rejection::Wrong));
    let turn = access.checks.queue(&[None]).unwrap().turn().await.unwrap();
    // With the one turn taken, whatever has to be checked waits.
    let mut other = Box::pin(who(&access, basic("alice", "other")));
    assert!(futures_util::poll!(other.as_mut()).is_pending());
    assert_eq!(who(&access, basic("alice", "former")).await, Err(Rejection::Wrong));
    drop(turn);
    assert_eq!(other.await, Err(Rejection::Wrong));
}

#[tokio::test]
async fn guesses_that_come_at_once_are_counted_too() {
    let dir = tempfile::tempdir().unwrap();
    let access = open(write(dir.path(), &[("alice", "one")]), 3);
    let guesses = (0..50).map(|n| who(&access, basic("alice", &n.to_string())));
    let mut wrong = 0;
    for result in futures_util::future::join_all(guesses).await {
        wrong += usize::from(result == Err(Rejection::Wrong));
    }
    assert_eq!(wrong, 3, "with one check at a time");
}

#[tokio::test]
async fn guesses_from_one_address_keep_nobody_else_from_logging_in() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), &[("alice", "one")]);
    let settings = AccessSettings { max_queued_checks: 2, ..open(files, 1000).settings };
    let access = Access::open(settings).unwrap();
    let (guesser, here) = (Source::of("192.0.2.1".parse().unwrap()), Source::Unix);
    let busy = access.checks.queue(&[Some(guesser)]).unwrap().turn().await.unwrap();
    let mut guesses: Vec<_> =
        (0..3).map(|n| access.identify(basic("eve", &n.to_string()), guesser).boxed()).collect();
    let answers: Vec<_> = guesses.iter_mut().map(|guess| guess.now_or_never()).collect();
    assert!(matches!(answers[..], [None, None, Some(Err(Rejection::Busy))]));
    let mut login = access.identify(basic("alice", "one"), here).boxed();
    assert!((&mut login).now_or_never().is_none(), "it waits in place of the newest guess");
    assert!(matches!((&mut guesses[1]).now_or_never(), Some(Err(Rejection::Busy))));
    drop(busy);
    // Nothing polls the other guess, so the next one has to be this.
    assert!(login.await.is_ok());
}

#[tokio::test]
async fn files_are_read_again_all_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let access = open(write(dir.path(), &[("alice", "one")]), 1000);
    let before = access.identify(basic("alice", "one"), Source::Unix).await.unwrap();
    let name = "hello".parse().unwrap();
    assert!(before.allows(Right::Read, &name) && !before.allows(Right::Build, &name));

    write(dir.path(), &[("alice", "two")]);
    fs::write(dir.path().join("rules"), "allow everything\n").unwrap();
    let error = access.reload().unwrap_err();
    assert_eq!((error.setting, error.line), ("AUTH_RULES", Some(1)));
    let (setting, place) =
        error.to_string().split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(setting, "AUTH_RULES");
    assert!(place.starts_with(&format!("{}:1: 2 words", dir.path().join("rules").display())), "{place}");
    assert_eq!(who(&access, basic("alice", "one")).await.unwrap(), "alice");
    assert!(who(&access, basic("alice", "two")).await.is_err());

    fs::write(dir.path().join("rules"), "allow build alice *\n# end\n").unwrap();
    let counts = access.reload().unwrap();
    assert_eq!((counts.users, counts.tokens, counts.rules, counts.is_open), (1, 1, Some(1), false));
    assert!(who(&access, basic("alice", "one")).await.is_err(), "what was right is not remembered");
    let after = access.identify(basic("alice", "two"), Source::Unix).await.unwrap();
    assert!(after.allows(Right::Build, &name));
}

#[test]
fn nothing_that_can_be_printed_has_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let access = open(write(dir.path(), &[("alice", "one")]), 3);
    let shown = format!("{access:?} {}", access.counts());
    assert!(!shown.contains("$2b$") && !shown.contains(TOKEN_HASH), "{shown}");
    assert!(shown.contains("1 users, 1 tokens, 1 rules"), "{shown}");
}
