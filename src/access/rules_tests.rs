use super::*;
use proptest::prelude::*;

fn rules(text: &str) -> Rules {
    Rules::parse(text).unwrap()
}

fn user(name: &str) -> Identity {
    if name == ANONYMOUS { Identity::Anonymous } else { Identity::User(name.into()) }
}

/// `-`, `r` or `b`: what somebody may do with a name at most.
fn may(rules: &Rules, who: &str, name: &str) -> &'static str {
    let name = name.parse().unwrap();
    let [read, build] = [Right::Read, Right::Build].map(|right| rules.allow(&user(who), right, &name));
    match (read, build) {
        (false, false) => "-",
        (true, false) => "r",
        (true, true) => "b",
        (false, true) => panic!("{who} may build {name} and not read it"),
    }
}

#[test]
fn the_first_rule_that_fits_decides_and_none_is_no() {
    let rules = rules(
        "# who\tmay what\n\
         allow read  anonymous     public/*\n\
         \n\
         deny  read  mallory       *\n\
         deny  read  *             shop/secret\n\
         deny  build temp-*        shop/*\n\
         allow build ci            *\n\
         allow build dev-*         shop/*\n\
         allow build temp-*        *\n\
         allow read  authenticated shop/*\n",
    );
    assert_eq!(rules.len(), 8);
    for (who, name, expected) in [
        ("anonymous", "public/hello", "r"),
        ("anonymous", "public", "-"),
        ("anonymous", "publi", "-"),
        ("anonymous", "shop/web", "-"),
        // What anonymous may is not what everybody may.
        ("alice", "public/hello", "-"),
        ("ci", "public/hello", "b"),
        ("ci", "shop/web", "b"),
        ("ci", "shop/secret", "-"),
        // A name finds attributes in either case.
        ("ci", "shop/Secret", "-"),
        ("ci", "SHOP/secret", "-"),
        ("dev-anna", "shop/web", "b"),
        ("dev-anna", "other", "-"),
        ("dev", "shop/web", "r"),
        ("alice", "shop/web", "r"),
        ("alice", "shop/a/b", "r"),
        ("mallory", "shop/web", "-"),
        ("temp-1", "shop/web", "r"),
        ("temp-1", "other", "b"),
    ] {
        assert_eq!(may(&rules, who, name), expected, "{who} {name}");
    }
}

#[test]
fn without_a_file_whoever_has_logged_in_may_do_everything() {
    let rules = Rules::default();
    assert_eq!((may(&rules, "alice", "a"), may(&rules, "anonymous", "a")), ("b", "-"));
    assert_eq!(may(&super::Rules::parse("").unwrap(), "alice", "a"), "-");
}

#[test]
fn a_star_is_everybody_and_authenticated_is_not_anonymous() {
    let all = rules("allow read * *");
    assert_eq!((may(&all, "alice", "a"), may(&all, "anonymous", "a")), ("r", "r"));
    let some = rules("allow read authenticated *");
    assert_eq!((may(&some, "alice", "a"), may(&some, "anonymous", "a")), ("r", "-"));
    let prefix = rules("allow read a* *");
    assert_eq!(may(&prefix, "anonymous", "a"), "r", "anonymous is a name like others");
}

#[test]
fn what_holds_for_any_name_and_for_every_name_is_known() {
    let table = [
        ("", false, false),
        ("allow read * *", true, true),
        ("allow read * a", true, false),
        ("allow read * a\nallow read * **", true, true),
        ("deny read * a\nallow read * *", true, false),
        ("deny read * *\nallow read * *", false, false),
        ("deny build * *\nallow read * *", true, true),
        ("allow build * *", true, true),
        ("allow read bob *", false, false),
    ];
    for (text, any, all) in table {
        let rules = rules(text);
        let alice = user("alice");
        let found = (rules.allow_any(&alice, Right::Read), rules.allow_all(&alice, Right::Read));
        assert_eq!(found, (any, all), "{text}");
    }
    assert!(!rules("allow read * *").allow_any(&user("alice"), Right::Build));
    assert!(!rules("deny read * *\nallow build * *").allow_any(&user("alice"), Right::Build));
}

#[test]
fn a_line_that_cannot_be_used_says_which_and_why() {
    for (line, part) in [
        ("allow read alice", "3 words"),
        ("allow read alice * *", "5 words"),
        ("permit read alice *", "\"permit\" is neither"),
        ("allow write alice *", "\"write\" is neither"),
        ("allow read alice shop/[ab]", "'[' cannot stand"),
    ] {
        let BadLine { line, reason } = Rules::parse(&format!("allow read * *\n# two\n{line}\n")).unwrap_err();
        assert!(line == 3 && reason.contains(part), "{line}: {reason}");
    }
}

/// As plainly as it can be said.
fn slow_match(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| slow_match(rest, &text[at..])),
        Some((byte, rest)) => text.first() == Some(byte) && slow_match(rest, &text[1..]),
    }
}

fn any_rules() -> impl Strategy<Value = Vec<(bool, bool, &'static str, &'static str)>> {
    let user = prop::sample::select(vec!["*", "a", "b*", "anonymous", "authenticated"]);
    let name = prop::sample::select(vec!["*", "x", "x/*", "*y", "y"]);
    prop::collection::vec((any::<bool>(), any::<bool>(), user, name), 0..7)
}

proptest! {
    #[test]
    fn no_file_panics(text in "(allow|deny|read|build|[ *\n#a/é]){0,30}") {
        let _ = Rules::parse(&text);
    }

    #[test]
    fn patterns_match_what_they_say(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
        prop_assert_eq!(matches(&pattern, &text), slow_match(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn the_first_match_wins_and_the_rest_is_not_asked(lines in any_rules(), more in any_rules()) {
        let text = |lines: &[(bool, bool, &str, &str)]| -> String {
            let line = |(allow, build, user, name): &(bool, bool, &str, &str)| {
                let (verb, right) = (if *allow { "allow" } else { "deny" }, if *build { "build" } else { "read" });
                format!("{verb} {right} {user} {name}\n")
            };
            lines.iter().map(line).collect()
        };
        let first = rules(&text(&lines));
        let both = rules(&text(&[lines.clone(), more].concat()));
        for who in ["a", "b1", "c", "anonymous"] {
            for name in ["x", "x/y", "y", "z"] {
                // Panics if somebody may build what they may not read.
                let (before, after) = (may(&first, who, name), may(&both, who, name));
                let name: RepositoryName = name.parse().unwrap();
                for right in [Right::Read, Right::Build] {
                    let decided = first.of(&user(who), right).any(|rule| matches(&rule.name, name.as_str()));
                    if decided {
                        prop_assert_eq!(
                            first.allow(&user(who), right, &name),
                            both.allow(&user(who), right, &name),
                            "{} {} {}", who, before, after
                        );
                    }
                    let allowed = first.allow(&user(who), right, &name);
                    prop_assert!(!allowed || first.allow_any(&user(who), right));
                    prop_assert!(allowed || !first.allow_all(&user(who), right));
                }
            }
        }
    }
}
