//! What `build` shows while it works: a bar on a terminal, else a line for each step.

use super::Terminal;
use forge_registry::{
    nix::BuildStatus,
    registry::{Step, Task},
    text,
};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::{fmt::Display, sync::Arc};

const TEXT: &str = "{spinner} {elapsed:>4} {wide_msg}";
const COUNT: &str = "{spinner} {elapsed:>4} [{bar:30}] {pos}/{len} {wide_msg}";
const BYTES: &str = "{spinner} {elapsed:>4} [{bar:30}] {binary_bytes}/{binary_total_bytes} {wide_msg}";

/// The steps of one image, as far as they have been shown.
pub struct Progress {
    terminal: Terminal,
    /// The image.
    name: String,
    bar: ProgressBar,
    template: &'static str,
    begun: usize,
    finished: usize,
    /// The last line that was written of the step that runs.
    said: String,
}

impl Progress {
    /// Nothing has been done yet.
    pub fn new(terminal: &Terminal, name: String) -> Self {
        let bar = terminal.bars().add(ProgressBar::new_spinner());
        let terminal = terminal.clone();
        Self { terminal, name, bar, template: "", begun: 0, finished: 0, said: String::new() }
    }

    /// Shows how far it is by now. Steps that have come and gone since the last look are told of as well.
    pub fn show(&mut self, steps: &[Arc<Step>]) {
        for (n, step) in steps.iter().enumerate() {
            if n >= self.begun {
                self.begun = n + 1;
                self.bar.reset();
            }
            if n >= self.finished && (step.is_finished() || n + 1 == steps.len()) {
                self.now(step);
            }
            if n >= self.finished && step.is_finished() {
                self.finished = n + 1;
                self.terminal.line(outcome(step));
            }
        }
    }

    /// The step that runs.
    fn now(&mut self, step: &Step) {
        let turn = if step.is_queued() { "waiting for its turn, before " } else { "" };
        let (template, done, all, message) = match &step.task {
            Task::Evaluating => (TEXT, 0, 0, format!("evaluating {}", self.name)),
            Task::Building(progress) => {
                let status = progress.status();
                let message = building(&status);
                let template = if status.expected > 0 { COUNT } else { TEXT };
                (template, status.done, status.expected, message)
            }
            Task::Reading(progress) => match progress.status() {
                (done, Some(all)) => (BYTES, done, all, "reading".to_owned()),
                (0, None) => (TEXT, 0, 0, "reading".to_owned()),
                (done, None) => (TEXT, 0, 0, format!("reading, {} so far", HumanBytes(done))),
            },
        };
        if self.terminal.bars().is_hidden() {
            // The numbers change too often to be worth a line each.
            let line = format!("{turn}{}", message.split(',').next().unwrap_or_default());
            // Between two derivations there is nothing new to say.
            if !self.said.starts_with(&line) {
                self.terminal.line(&line);
                self.said = line;
            }
            return;
        }
        self.bar.set_message(format!("{turn}{message}"));
        if template != self.template {
            self.template = template;
            self.bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
        }
        self.bar.set_length(all);
        self.bar.set_position(done);
        self.bar.tick();
    }

    /// Takes the bar away.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

fn building(status: &BuildStatus) -> String {
    let mut message = "building".to_owned();
    if let Some(name) = &status.running {
        message = format!("{message} {}", text::line(name));
    }
    if status.to_fetch > 0 {
        message =
            format!("{message}, {} of {} fetched", HumanBytes(status.fetched), HumanBytes(status.to_fetch));
    }
    message
}

/// What a finished step has done.
fn outcome(step: &Step) -> impl Display + use<> {
    let seconds = step.took().as_secs_f32();
    match &step.task {
        Task::Evaluating => format!("evaluated in {seconds:.1} s"),
        Task::Building(progress) => match progress.status() {
            BuildStatus { done: 0, .. } => "nothing to build".to_owned(),
            BuildStatus { done, fetched: 0, .. } => format!("built {done} in {seconds:.1} s"),
            BuildStatus { done, fetched, .. } => {
                format!("built and fetched {done} in {seconds:.1} s, {}", HumanBytes(fetched))
            }
        },
        Task::Reading(progress) => {
            format!("read {} in {seconds:.1} s", HumanBytes(progress.status().0))
        }
    }
}
