use super::*;

/// An expression, a text, a replacement, and what `tests/reference/gotar.go replace` made of it with Go 1.26; nothing if
/// that is no expression.
type Case = (&'static str, &'static [u8], &'static str, Option<&'static [u8]>);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("^/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "", Some(b"/bin/hello")),
    ("^/nix/store/[a-z0-9]+-([^/]*)", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "/opt/$1", Some(b"/opt/hello/bin/hello")),
    ("^/nix/store/[a-z0-9]+-([^/]*)", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "/opt/${1}x", Some(b"/opt/hellox/bin/hello")),
    ("^/nix/store/[a-z0-9]+-([^/]*)", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "/opt/$1x", Some(b"/opt//bin/hello")),
    ("(?P<hash>[a-z0-9]{32})-(?P<name>\\w+)", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "${name}_$hash", Some(b"/nix/store/hello_00bgd045z0d4icpbc2yyz4gx48ak44la/bin/hello")),
    ("(?<name>hel+)o", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "<$name>$name2$", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-<hell>$/bin/<hell>$")),
    ("hello", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "$$1$0$2$9$name", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-$1hello/bin/$1hello")),
    ("hello", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "${0}${}${a b}${0$", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello${}${a b}${0$/bin/hello${}${a b}${0$")),
    ("(h)(x)?", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "[$2$01$1]", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-[h]ello/bin/[h]ello")),
    ("x*", b"abc", "-", Some(b"-a-b-c-")),
    ("b*", b"abbc", "-", Some(b"-a-c-")),
    ("(?:)", b"a\xc3\xa9b", "-", Some(b"-a-\xc3\xa9-b-")),
    ("\\bhello\\b", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "B", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-B/bin/B")),
    ("\\b", b"a\xc3\xa9 b", "|", Some(b"|a|\xc3\xa9 |b|")),
    ("\\Bl", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "L", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44La-heLLo/bin/heLLo")),
    ("\\w+", b"a\xc3\xa9b_1", "w", Some(b"w\xc3\xa9w")),
    ("\\W", b"a\xc3\xa9b_1-", "W", Some(b"aWb_1W")),
    ("\\d", b"1\xd9\xa3a", "d", Some(b"d\xd9\xa3a")),
    ("\\D+", b"1\xd9\xa3a2", "D", Some(b"1D2")),
    ("\\s", b"a\xc2\xa0b c\x0bd\x09e", "s", Some(b"a\xc2\xa0bsc\x0bdse")),
    ("\\S+", b"a\xc2\xa0b c", "S", Some(b"S S")),
    ("[\\w-]+", b"a-b\xc3\xa9", "x", Some(b"x\xc3\xa9")),
    ("[^\\w/]+", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "x", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44laxhello/bin/hello")),
    ("[\\d\\D]", b"a1\xc3\xa9", "x", Some(b"xxx")),
    (".", b"a\x0ab\xc3\xa9", "x", Some(b"x\x0axx")),
    ("(?s).", b"a\x0ab", "x", Some(b"xxx")),
    ("^b$", b"a\x0ab\x0ac", "x", Some(b"a\x0ab\x0ac")),
    ("(?m)^b$", b"a\x0ab\x0ac", "x", Some(b"a\x0ax\x0ac")),
    ("b$", b"ab\x0a", "x", Some(b"ab\x0a")),
    ("\\Aa|c\\z", b"abc", "x", Some(b"xbx")),
    ("(?i)HELLO", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "x", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x/bin/x")),
    ("(?i:H)e", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "x", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-xllo/bin/xllo")),
    ("(?i)k", b"K\xe2\x84\xaa", "x", Some(b"xx")),
    ("(?U)l+", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "x", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44xa-hexxo/bin/hexxo")),
    ("l+?", b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello", "x", Some(b"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44xa-hexxo/bin/hexxo")),
    ("(?-s).", b"\x0a", "x", Some(b"\x0a")),
    ("a{2}", b"aaa{2}", "x", Some(b"xa{2}")),
    ("a{2,}", b"aaaa", "x", Some(b"x")),
    ("a{1,2}", b"aaa", "x", Some(b"xx")),
    ("a{,2}", b"a{,2}aa", "x", Some(b"xaa")),
    ("a{", b"a{", "x", Some(b"x")),
    ("a{b}", b"a{b}", "x", Some(b"x")),
    ("{1}", b"{1}", "x", None),
    ("a}", b"a}", "x", Some(b"x")),
    ("]a", b"]a", "x", Some(b"x")),
    ("[]a]+", b"]a[", "x", Some(b"x[")),
    ("[^]a]+", b"]a[b", "x", Some(b"]ax")),
    ("[[a]+", b"a[]", "x", Some(b"x]")),
    ("[a-]+", b"a-b", "x", Some(b"xb")),
    ("[-a]+", b"a-b", "x", Some(b"xb")),
    ("[a&&b]+", b"a&b", "x", Some(b"x")),
    ("[a~~b--c]+", b"a~b-c", "x", None),
    ("[a-c-e]+", b"abcde-", "x", Some(b"xdx")),
    ("[\\]\\-\\^]+", b"]-^a", "x", Some(b"xa")),
    ("[[:alpha:]]+", b"ab1\xc3\xa9", "x", Some(b"x1\xc3\xa9")),
    ("[[:^alpha:]]+", b"ab1\xc3\xa9", "x", Some(b"abx")),
    ("[^[:space:]x]+", b"a x", "y", Some(b"y x")),
    ("[[:nope:]]", b"a", "x", None),
    ("[:alpha:]+", b"alp:h", "x", Some(b"x")),
    ("\\Q.*\\E.", b"a.*bc", "x", Some(b"axc")),
    ("\\Q[a", b"[a", "x", Some(b"x")),
    ("a\\E", b"a", "x", None),
    ("\\.\\/\\-\\<\\>\\\"\\@\\#\\ \\_", b"./-<>\"@# _", "x", Some(b"x")),
    ("\\101\\x42\\x{43}\\07", b"ABC\x07", "x", Some(b"x")),
    ("\\1(a)", b"a", "x", None),
    ("\\8", b"8", "x", None),
    ("\\a\\f\\t\\n\\r\\v", b"\x07\x0c\x09\x0a\x0d\x0b", "x", Some(b"x")),
    ("\\pL+", b"a\xc3\xa91", "x", Some(b"x1")),
    ("\\p{Greek}+", b"a\xce\xb1", "x", Some(b"ax")),
    ("\\p{^Greek}+", b"a\xce\xb1", "x", Some(b"x\xce\xb1")),
    ("\\P{Lu}+", b"aB", "x", Some(b"xB")),
    ("[\\p{Lu}\\d]+", b"aB1", "x", Some(b"ax")),
    ("\\y", b"y", "x", None),
    ("\\Z", b"y", "x", None),
    ("\\C", b"y", "x", None),
    ("(?x) a", b"a", "x", None),
    ("(?=a)", b"a", "x", None),
    ("(?<!a)b", b"b", "x", None),
    ("(?#a)b", b"b", "x", None),
    ("(a", b"a", "x", None),
    ("a)", b"a", "x", None),
    ("[a", b"a", "x", None),
    ("*a", b"a", "x", None),
    ("[b-a]", b"a", "x", None),
    ("\\\\", b"a\\b", "x", Some(b"axb")),
    ("a|b|", b"cab", "x", Some(b"xcxx")),
    ("\\u00e9 #", b"\xc3\xa9 #", "x", None),
    ("\u{e9} #[\u{e8}-\u{ea}]", b"\xc3\xa9 #\xc3\xa9", "x", Some(b"x")),
    ("(a|ab)(c|bcd)(d*)", b"abcd", "$1,$2,$3", Some(b"a,bcd,")),
    ("\\x{110000}", b"a", "x", None),
    ("hello", b"hello", "$\u{e9}", Some(b"")),
    ("(?P<\\u00e9>h)", b"hello", "x", None),
    (".", b"a\xffb", "x", Some(b"xxx")),
    ("^..$", b"a\xff", "x", Some(b"x")),
    ("[^a]", b"a\xffb\xc3\xa9", "<$0>", Some(b"a<\xff><b><\xc3\xa9>")),
    ("(\\W+)b", b"a\xff\xfeb", "$1", Some(b"a\xff\xfe")),
    ("x*", b"a\xff", "-", Some(b"-a-\xff-")),
];

fn regex(expression: &str) -> Result<GoRegex, String> {
    GoRegex::new(expression, Purpose::Replacing)
}

fn replace_all(regex: &GoRegex, text: &[u8], by: &str) -> Option<Vec<u8>> {
    regex.replace_all(&mut regex.cache(), text, by, || Ok::<_, ()>(())).unwrap()
}

#[test]
fn texts_become_what_go_makes_of_them() {
    let mut wrong = Vec::new();
    for (expression, text, by, expected) in CASES {
        let found = regex(expression).ok().and_then(|regex| replace_all(&regex, text, by));
        if found.as_deref() != *expected {
            wrong.push((expression, by, found.map(|found| found.escape_ascii().to_string())));
        }
    }
    assert_eq!(wrong, []);
}

#[test]
fn no_expression_takes_much_time_or_memory() {
    let text = [b'a'; 4000];
    let slow = GoRegex::new("^(a+)+b$", Purpose::Matching).unwrap();
    assert!(!slow.is_match(&mut slow.cache(), &text));
    let long = "a".repeat(MAX_LENGTH + 1);
    for (expression, expected) in [
        (r"((\pL{100}){100}){100}", "too much memory"),
        (&long, "longer than 4096"),
        (&"(".repeat(4000), "none that Go"),
        (&format!("{}a{}", "(".repeat(1000), ")".repeat(1000)), "none that Go"),
    ] {
        let error = regex(expression).unwrap_err();
        assert!(error.contains(expected) && error.len() < 500, "{error}");
    }
}

#[test]
fn a_replacement_that_multiplies_is_given_up() {
    let empty = regex("x*").unwrap();
    let text = [b'a'; 4000];
    assert_eq!(
        replace_all(&empty, b"", &"a".repeat(MAX_REPLACED)).map(|text| text.len()),
        Some(MAX_REPLACED)
    );
    assert_eq!(replace_all(&empty, b"", &"a".repeat(MAX_REPLACED + 1)), None);
    assert_eq!(replace_all(&empty, &text, &"a".repeat(MAX_REPLACED)), None);
    assert_eq!(replace_all(&regex("^.*$").unwrap(), &text, &"$0".repeat(30_000)), None);
    assert_eq!(replace_all(&empty, &[b'a'; MAX_REPLACED + 1], ""), None);
}
