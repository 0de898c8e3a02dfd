//! How far a build is, by what nix-daemon says of its activities.
//!
//! An activity is a number with a kind, and results that refer to it (Nix's `libutil/logging.hh`): `Progress` is done,
//! expected, running and failed; `SetExpected` says how much of a kind is to come.

use super::build_log::short_name;
use nix_daemon::{Stderr, StderrActivityType as Kind, StderrField, StderrResult, StderrResultType};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Activities remembered at a time; nix-daemon runs far fewer.
const MAX_ACTIVITIES: usize = 10_000;

/// How far nix-daemon is with what it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildStatus {
    /// Derivations that have been built and store paths that have been fetched.
    pub done: u64,
    /// The same with those that are to come, as far as Nix knows by now.
    pub expected: u64,
    /// The name of what was begun last and has not ended: a derivation, or else a store path.
    pub running: Option<String>,
    /// Bytes of store paths that have come from a substituter, unpacked.
    pub fetched: u64,
    /// The same with those that are to come.
    pub to_fetch: u64,
}

/// Follows the messages of one build. Whoever waits for it can look at any time.
#[derive(Debug, Default)]
pub struct BuildProgress(Mutex<Activities>);

#[derive(Debug, Default)]
struct Activities {
    /// In the order in which they began, since nix-daemon counts them.
    running: BTreeMap<u64, Activity>,
    built: Count,
    copied: Count,
    /// Bytes of fetches that have ended.
    fetched: u64,
    to_fetch: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    done: u64,
    expected: u64,
}

#[derive(Debug)]
enum Activity {
    /// All builds, or all fetches, together.
    Builds,
    Fetches,
    /// One of them.
    Build(String),
    Fetch {
        name: String,
        bytes: u64,
    },
}

impl BuildProgress {
    /// How far it is.
    pub fn status(&self) -> BuildStatus {
        let activities = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = activities.running.values();
        let build = running.clone().rev().find_map(|activity| match activity {
            Activity::Build(name) => Some(name),
            _ => None,
        });
        let mut fetches = running.filter_map(|activity| match activity {
            Activity::Fetch { name, bytes } => Some((name, bytes)),
            _ => None,
        });
        let fetched = activities.fetched + fetches.clone().map(|(_, bytes)| bytes).sum::<u64>();
        let (built, copied) = (activities.built, activities.copied);
        BuildStatus {
            done: built.done + copied.done,
            expected: built.expected + copied.expected,
            running: build.or(fetches.next_back().map(|(name, _)| name)).cloned(),
            fetched,
            to_fetch: activities.to_fetch.max(fetched),
        }
    }

    /// Takes in one message.
    pub(super) fn record(&self, message: &Stderr) {
        let mut activities = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match message {
            Stderr::StartActivity(start) if activities.running.len() < MAX_ACTIVITIES => {
                let name = || {
                    let path = start.fields.first().and_then(StderrField::as_string);
                    path.map_or("?", |path| short_name(path)).to_owned()
                };
                let activity = match start.kind {
                    Kind::Builds => Activity::Builds,
                    Kind::CopyPaths => Activity::Fetches,
                    Kind::Build => Activity::Build(name()),
                    Kind::CopyPath => Activity::Fetch { name: name(), bytes: 0 },
                    _ => return,
                };
                activities.running.insert(start.act_id, activity);
            }
            Stderr::StopActivity { act_id } => {
                if let Some(Activity::Fetch { bytes, .. }) = activities.running.remove(act_id) {
                    activities.fetched += bytes;
                }
            }
            Stderr::Result(result) => activities.result(result),
            _ => {}
        }
    }
}

impl Activities {
    fn result(&mut self, result: &StderrResult) {
        let number = |n: usize| result.fields.get(n).and_then(StderrField::as_int).copied().unwrap_or(0);
        match (result.kind, self.running.get_mut(&result.act_id)) {
            (StderrResultType::Progress, Some(activity)) => {
                let count = Count { done: number(0), expected: number(1) };
                match activity {
                    Activity::Builds => self.built = count,
                    Activity::Fetches => self.copied = count,
                    Activity::Fetch { bytes, .. } => *bytes = count.done,
                    Activity::Build(_) => {}
                }
            }
            (StderrResultType::SetExpected, _) if number(0) == u64::from(Kind::CopyPath) => {
                self.to_fetch = number(1);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix_daemon::{StderrStartActivity, Verbosity};

    fn start(act_id: u64, kind: Kind, path: &str) -> Stderr {
        let fields = vec![StderrField::String(path.into())];
        let level = Verbosity::Info;
        Stderr::StartActivity(StderrStartActivity {
            act_id,
            level,
            kind,
            s: String::new(),
            fields,
            parent_id: 0,
        })
    }

    fn result(act_id: u64, kind: StderrResultType, numbers: &[u64]) -> Stderr {
        let fields = numbers.iter().map(|n| StderrField::Int(*n)).collect();
        Stderr::Result(StderrResult { act_id, kind, fields })
    }

    /// What nix-daemon 2.34 sends for a build that needs a path which a substituter has, shortened.
    #[test]
    fn builds_and_fetches_are_counted_together() {
        let progress = BuildProgress::default();
        for message in [
            start(1, Kind::Realise, ""),
            start(2, Kind::Builds, ""),
            start(3, Kind::CopyPaths, ""),
            result(2, StderrResultType::Progress, &[0, 2, 0, 0]),
            result(3, StderrResultType::Progress, &[0, 1, 1, 0]),
            result(1, StderrResultType::SetExpected, &[101, 7]),
            result(1, StderrResultType::SetExpected, &[100, 5000]),
            start(4, Kind::Substitute, "/nix/store/abc-glibc"),
            start(5, Kind::CopyPath, "/nix/store/abc-glibc"),
            result(5, StderrResultType::Progress, &[800, 5000, 0, 0]),
        ] {
            progress.record(&message);
        }
        let fetching =
            BuildStatus { done: 0, expected: 3, running: Some("glibc".into()), fetched: 800, to_fetch: 5000 };
        assert_eq!(progress.status(), fetching);

        for message in [
            result(5, StderrResultType::Progress, &[5000, 5000, 0, 0]),
            start(6, Kind::Build, "/nix/store/def-image.tar.gz.drv"),
            Stderr::StopActivity { act_id: 5 },
            result(3, StderrResultType::Progress, &[1, 1, 0, 0]),
            result(2, StderrResultType::Progress, &[1, 2, 1, 0]),
        ] {
            progress.record(&message);
        }
        let building = BuildStatus {
            done: 2,
            expected: 3,
            running: Some("image.tar.gz".into()),
            fetched: 5000,
            to_fetch: 5000,
        };
        assert_eq!(progress.status(), building);
        progress.record(&Stderr::StopActivity { act_id: 6 });
        assert_eq!(progress.status().running, None);
    }
}
