//! `forge-registry completions SHELL` and `forge-registry man`: files that a package installs.

use super::{arguments::Arguments, terminal::unread};
use crate::cli::Terminal;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, italic, line_break, roman},
};
use forge_registry::config;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// What a status means; documented in the manual alone.
const STATUSES: &[(&str, &str)] = &[
    ("0", "It is done."),
    ("1", "It failed; the last line on standard error says why."),
    ("2", "The settings or the arguments are wrong, or STATE_DIR was written by a newer version."),
    ("3", "There is no image of this name or tag."),
    ("141", "Standard output was closed before all was written."),
];

/// Prints the completions for a shell.
pub fn completions(shell: Shell, terminal: &Terminal) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "forge-registry", &mut text);
    print(&text, terminal)
}

/// Prints the manual page.
pub fn man(terminal: &Terminal) -> ExitCode {
    let mut text = Vec::new();
    match page(&mut text) {
        Ok(()) => print(&text, terminal),
        Err(error) => unread(&error, terminal),
    }
}

fn print(text: &[u8], terminal: &Terminal) -> ExitCode {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unread(&error, terminal),
    }
}

fn page(out: &mut dyn Write) -> io::Result<()> {
    // Settings have a section of their own.
    let mut command = Arguments::command().after_help("");
    command.build();
    let man = Man::new(command.clone()).manual("forge-registry").section("1");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;

    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        roff.control("TP", []);
        let mut usage = vec![bold(sub.get_name())];
        for argument in sub.get_positionals() {
            let names = argument.get_value_names().unwrap_or_default();
            usage.push(roman(" "));
            usage.push(italic(names.first().map_or_else(String::new, ToString::to_string)));
        }
        roff.text(usage);
        let mut text = vec![roman(sub.get_about().map_or_else(String::new, ToString::to_string))];
        let options = sub.get_arguments().filter(|argument| !argument.is_positional());
        for option in options.filter(|option| option.get_id() != "help") {
            let help = option.get_help().map_or_else(String::new, ToString::to_string);
            let names = option.get_value_names().filter(|_| option.get_action().takes_values());
            text.extend([line_break(), bold(format!("--{}", option.get_long().unwrap_or_default()))]);
            text.extend(names.and_then(|names| names.first()).map(|name| italic(format!(" {name}"))));
            text.push(roman(format!(": {help}")));
        }
        roff.text(text);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in STATUSES {
        roff.control("TP", []);
        roff.text([bold(*status)]);
        roff.text([roman(*meaning)]);
    }
    roff.control("SH", ["ENVIRONMENT"]);
    roff.text([roman(
        "Durations take s, m, h or d; sizes KiB, MiB, GiB or TiB. An empty variable is one that is not set.",
    )]);
    for setting in config::SETTINGS.iter().filter(|setting| !setting.help.is_empty()) {
        roff.control("TP", []);
        let mut name = vec![bold(setting.name)];
        if !setting.default.is_empty() {
            name.push(roman(format!(" ({})", setting.default)));
        }
        roff.text(name);
        let also =
            if setting.aliases.is_empty() { String::new() } else { format!(" Also: {}.", setting.aliases) };
        roff.text([roman(format!("{}{also}", setting.help))]);
    }
    roff.control("SH", ["SIGNALS"]);
    for (signal, meaning) in [
        (
            "SIGTERM, SIGINT",
            "Running responses are finished, for SHUTDOWN_GRACE at most, then the registry ends.",
        ),
        ("SIGHUP", "What is read from files at the start is read again."),
    ] {
        roff.control("TP", []);
        roff.text([bold(signal)]);
        roff.text([roman(meaning)]);
    }
    roff.to_writer(out)
}
