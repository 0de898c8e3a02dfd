//! Why a source could not be fetched, by what Nix and git say: the revision does not exist, the source is wrong, or its
//! server cannot be asked now. Only the first says anything of a tag, and only the last may go better by itself.

use super::ResolveError;
use crate::nix::EvaluatorError;

/// How lines begin by which git and ssh say why they failed. Then it is they who know: Nix 2.26 goes on after a failed
/// fetch, and says that the branch is not in a repository that it could not ask.
const OF_GIT: [&str; 3] = ["fatal: ", "ERROR: ", "ssh: "];
/// What Nix appends of an HTTP response, which is the server's text.
const RESPONSE: &str = "response body:";

/// There is no such branch, tag or commit; or no such repository, which forges do not tell apart. A tag's alphabet has no
/// spaces and quotes, so no client's tag contains any of these.
const MISSING: [&str; 11] = [
    // git-fetch, and git-upload-pack of the server.
    "couldn't find remote ref",
    "not our ref",
    "allow request for unadvertised object",
    // Nix, src/libfetchers/git.cc
    "cannot find git revision",
    // libgit2, by way of src/libfetchers/git-utils.cc, for repositories of this host.
    "revspec '",
    "object not found",
    // src/libfetchers/github.cc: GitHub answers 422 for a commit that does not exist, GitLab an empty list.
    "http error 404",
    "http error 422",
    "does the git ref really exist",
    "couldn't find ref",
    "couldn't resolve head ref",
];

/// The reference leads nowhere, or may not be used.
const WRONG: [&str; 7] = [
    "is forbidden in restricted mode",
    "in the flake registries",
    "hash mismatch",
    "http error 410",
    // git, of a repository that its server does not have; and GitHub by SSH.
    "fatal: repository '",
    "does not appear to be a git repository",
    "repository not found",
];

/// The server was asked, and gave nothing.
const UNREACHABLE: [&str; 4] = [
    "unable to download",
    "failed to fetch git repository",
    "program 'git' failed",
    "could not resolve host",
];

/// Why a source could not be fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum FetchError {
    /// It has no such revision.
    #[error("{0}")]
    Missing(String),
    /// It cannot be fetched like this, however often it is tried.
    #[error("{0}")]
    Wrong(String),
    /// Its server cannot be asked now.
    #[error("{0}")]
    Unreachable(String),
    /// The fetcher gave no answer.
    #[error(transparent)]
    Fetcher(#[from] EvaluatorError),
}

impl FetchError {
    /// What the fetcher's error says of a source. What is not known is a passing fault of a server, but for a source of
    /// this host, which has none.
    pub(super) fn of_source(error: EvaluatorError, is_local: bool) -> Self {
        let EvaluatorError::Failed(reason) = error else { return Self::Fetcher(error) };
        let (text, _) = decisive(&reason);
        if has(&text, &MISSING) {
            Self::Missing(reason)
        } else if is_local || has(&text, &WRONG) {
            Self::Wrong(reason)
        } else {
            Self::Unreachable(reason)
        }
    }
}

/// What the fetcher's error says of an input that a lock file pins. What is not known is the lock file's fault, which is
/// part of the revision and not of the source.
pub(super) fn of_input(error: EvaluatorError) -> ResolveError {
    match error {
        EvaluatorError::Failed(reason) => {
            let (text, is_of_git) = decisive(&reason);
            let is_final = has(&text, &MISSING) || has(&text, &WRONG);
            match !is_final && (is_of_git || has(&text, &UNREACHABLE)) {
                true => ResolveError::Unreachable(reason),
                false => EvaluatorError::Failed(reason).into(),
            }
        }
        error => error.into(),
    }
}

impl From<FetchError> for ResolveError {
    /// That of the source as it is configured.
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Missing(reason) | FetchError::Wrong(reason) => Self::Source(reason),
            FetchError::Unreachable(reason) => Self::Unreachable(reason),
            FetchError::Fetcher(error) => error.into(),
        }
    }
}

/// The part of an error that says why, in lower case, and whether it is git's.
fn decisive(reason: &str) -> (String, bool) {
    let of_git = |line: &&str| OF_GIT.iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = reason.lines().filter(of_git).collect();
    match lines.is_empty() {
        true => (reason.split(RESPONSE).next().unwrap_or(reason).to_lowercase(), false),
        false => (lines.join("\n").to_lowercase(), true),
    }
}

fn has(text: &str, some: &[&str]) -> bool {
    some.iter().any(|part| text.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(reason: &str, is_local: bool) -> &'static str {
        match FetchError::of_source(EvaluatorError::Failed(reason.into()), is_local) {
            FetchError::Missing(_) => "missing",
            FetchError::Wrong(_) => "wrong",
            FetchError::Unreachable(_) => "unreachable",
            FetchError::Fetcher(_) => "fetcher",
        }
    }

    #[test]
    fn only_texts_that_say_so_mean_that_there_is_no_such_revision() {
        // As seen with Nix 2.34.8 and 2.26.3 and git 2.39, or in their source.
        let git = "Failed to fetch git repository 'https://h/r'\n";
        let download = "unable to download 'https://api.github.com/repos/o/r/commits/v9': ";
        for (reason, kind) in [
            (format!("{git}fatal: couldn't find remote ref refs/heads/v9"), "missing"),
            ("program 'git' failed with exit code 128\nfatal: couldn't find remote ref refs/tags/v9".into(), "missing"),
            (format!("{git}fatal: remote error: upload-pack: not our ref 0123"), "missing"),
            (format!("{git}error: Server does not allow request for unadvertised object 0123"), "missing"),
            ("Cannot find Git revision '0123' in ref 'refs/heads/main' of repository 'https://h/r'!".into(), "missing"),
            ("resolving Git reference 'refs/heads/v9': revspec 'refs/heads/v9' not found (libgit2 error code = 4)".into(), "missing"),
            ("getting Git object '0123': object not found - no match for id (0123)".into(), "missing"),
            (format!("{download}HTTP error 404"), "missing"),
            (format!("{download}HTTP error 422\n\nresponse body:\n\n{{\"message\":\"No commit found\"}}"), "missing"),
            ("No commits returned by GitLab API -- does the git ref really exist?".into(), "missing"),
            ("in 'sourcehut:~o/r/v9', couldn't find ref 'v9'".into(), "missing"),
            (format!("{download}Could not resolve hostname (6) Could not resolve host: api.github.com"), "unreachable"),
            (format!("{download}HTTP error 403\n\nresponse body:\n\nAPI rate limit exceeded; HTTP error 404"), "unreachable"),
            (format!("{download}HTTP error 401\n\nresponse body:\n\nBad credentials"), "unreachable"),
            (format!("{download}HTTP error 429"), "unreachable"),
            (format!("{download}HTTP error 503"), "unreachable"),
            (format!("{download}Couldn't connect to server (7) Failed to connect to h port 443"), "unreachable"),
            (git.into(), "unreachable"),
            (format!("{git}fatal: unable to access 'https://h/r/': Could not resolve host: h"), "unreachable"),
            (format!("{git}ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote repository."), "unreachable"),
            ("resolving Git reference 'v9': revspec 'v9' not found\nfatal: unable to access 'https://h/r/': Failed to connect".into(), "unreachable"),
            ("resolving Git reference 'v9': revspec 'v9' not found\nfatal: couldn't find remote ref v9".into(), "missing"),
            ("something new".into(), "unreachable"),
            (format!("{git}fatal: repository 'https://h/r/' not found"), "wrong"),
            (format!("{git}ERROR: Repository not found.\nfatal: Could not read from remote repository."), "wrong"),
            ("access to URI 'git+http://h/r' is forbidden in restricted mode".into(), "wrong"),
            ("cannot find flake 'flake:nothing' in the flake registries".into(), "wrong"),
        ] {
            assert_eq!(of(&reason, false), kind, "{reason}");
        }
        assert_eq!(of("path '/nowhere' does not exist", true), "wrong");
        assert_eq!(of("something new", true), "wrong");
        assert_eq!(of("resolving Git reference 'v9': revspec 'v9' not found", true), "missing");
        let timed_out = EvaluatorError::TimedOut(std::time::Duration::from_secs(1));
        assert!(matches!(FetchError::of_source(timed_out, true), FetchError::Fetcher(_)));
    }

    #[test]
    fn what_is_wrong_with_an_input_is_the_revisions_fault_unless_its_server_is_away() {
        let is_unreachable = |reason: &str| {
            matches!(of_input(EvaluatorError::Failed(reason.into())), ResolveError::Unreachable(_))
        };
        for reason in [
            "Cannot find Git revision '0123' in ref 'x'\nfatal: unable to access 'https://h/r/'",
            "unable to download 'https://h/x': HTTP error 503",
            "Failed to fetch git repository 'https://h/r'",
        ] {
            assert!(is_unreachable(reason), "{reason}");
        }
        for reason in [
            "unable to download 'https://h/x': HTTP error 404",
            "NAR hash mismatch in input 'https://h/x'",
            "the input x in flake.lock is not fetched, since it is no remote source",
            "attribute 'type' missing",
        ] {
            assert!(!is_unreachable(reason), "{reason}");
        }
    }
}
