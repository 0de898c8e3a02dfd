//! What a flake, a builder or a client says is text, and does nothing to the log, to terminals or to those who read them.

use crate::support::{Answer, Flake, Registry, eventually};

/// The beginning of a line of the log, as somebody might want to forge it.
const FORGED: &str = "2026-01-01T00:00:00.000000Z  INFO request request=0000000000 status=200";
/// A bidirectional control, and what it is shown as.
const OVERRIDE: &str = "\u{202e}";
const SHOWN: &str = "\\u202e";
/// The letters of tokens that are nobody's.
const SECRET: &str = "s3cretS3cretS3cretS3cret";

/// A flake with `packages/throwing`, whose evaluation fails with such a message, and `packages/printing`, whose build prints
/// the lines of one and fails.
fn flake() -> Flake {
    let flake = Flake::of_scripts(&[("printing", &print("Authorization: Basic "))]);
    let path = flake.dir.path().join("flake.nix");
    let text = std::fs::read_to_string(&path).unwrap();
    let throwing = format!(
        "throwing = throw \"first\\n{FORGED}\\nsecond{OVERRIDE} ghp_{SECRET} and Bearer {SECRET}\\naccess-tokens = \
         github.com={SECRET}\\nlast\"; \"printing\" ="
    );
    flake.write_text(&text.replacen("\"printing\" =", &throwing, 1));
    flake
}

fn print(header: &str) -> String {
    format!(
        "echo first; echo '{FORGED}'; printf 'x\\r{FORGED}\\n'; echo 'second{OVERRIDE} glpat-{SECRET}'; \
         echo \"curl -H '{header}{SECRET}' https://user:{SECRET}@host/x\"; printf '\\033[2J\\302\\233last\\n'; exit 1"
    )
}

/// Each line is one of ours: it begins with a time of now and a level, and nothing in it is invisible.
#[track_caller]
fn check_log(log: &str) {
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').unwrap_or_default();
        let is_ours = time.len() == FORGED.split(' ').next().unwrap().len()
            && time.ends_with('Z')
            && !time.starts_with("2026-01-01T00:00:00")
            && ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"]
                .iter()
                .any(|level| rest.trim_start().starts_with(level));
        assert!(is_ours, "{line:?} in {log}");
        assert!(
            !line.contains(OVERRIDE) && !line.contains(|c: char| c.is_control() && c != '\t'),
            "{line:?}"
        );
    }
    assert!(!log.contains(SECRET), "{log}");
}

#[track_caller]
fn check_answer(answer: &Answer) -> String {
    assert_eq!(answer.status, 422, "{}", answer.text());
    let error = &answer.json()["errors"][0];
    let said = format!("{}\n{}", error["message"].as_str().unwrap(), error["detail"]);
    assert!(said.contains(SHOWN) && !said.contains(OVERRIDE), "{said}");
    assert!(!said.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{said:?}");
    assert!(!said.contains(SECRET) && said.contains("***"), "{said}");
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_flake_and_a_builder_forge_no_line_of_the_log_and_show_no_token() {
    for format in ["human", "json"] {
        let flake = flake();
        let registry = Registry::start(&flake, &[("LOG_FORMAT", format), ("LOG_LEVEL", "TRACE")]);
        let message = check_answer(&registry.manifest("packages/throwing", "latest"));
        // For people it has lines.
        assert!(message.contains("first\n") && message.contains("\nlast"), "{message}");
        let message = check_answer(&registry.manifest("packages/printing", "latest"));
        assert!(message.contains("printing"), "{message}");
        eventually("all lines are there", || registry.logged("request=") >= 2 || format == "json");
        let log = registry.log();
        match format {
            "human" => check_log(&log),
            _ => {
                assert!(!log.contains(OVERRIDE) && !log.contains(SECRET), "{log}");
                for line in log.lines() {
                    let event: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert!(
                        !event["timestamp"].as_str().unwrap().starts_with("2026-01-01T00:00:00"),
                        "{line}"
                    );
                }
            }
        }
        for part in ["glpat-***", "-H 'Authorization: ***'", FORGED] {
            assert!(log.contains(part), "{part} in {log}");
        }
    }
}

#[test]
fn commands_print_what_a_flake_says_without_what_a_terminal_would_do() {
    let flake = flake();
    let registry = Registry::start(&flake, &[]);
    for name in ["packages/throwing", "packages/printing"] {
        let (text, code) = registry.run_to_its_end(&["build", name]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(SHOWN) && !text.contains(OVERRIDE), "{text}");
        assert!(!text.contains(SECRET) && !text.contains('\u{1b}') && !text.contains('\u{9b}'), "{text:?}");
    }
}
