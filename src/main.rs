//! Start-up and shutdown.

use clap::Parser;
use cli::{Arguments, Command};
use forge_registry::{
    config::{Config, ConfigError},
    seccomp,
};
use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Serve);
    let terminal = cli::Terminal::new();
    // These need no settings.
    match &command {
        Command::Completions { shell } => return cli::completions(*shell, &terminal),
        Command::Man => return cli::man(&terminal),
        _ => {}
    }
    let config = match &command {
        Command::Serve | Command::Check | Command::Build { .. } => Config::from_environment(),
        _ => Config::of_state_from_environment(),
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => return fail_settings(&error, &terminal),
    };
    log(&config, command.is_quiet(), &terminal);
    let inherited = match cli::inherited() {
        Ok(sockets) => sockets,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(2);
        }
    };
    // Before any thread, listener or input: nothing that comes later can start a program.
    if let Err(error) = seccomp::deny_exec() {
        tracing::warn!("{error}; the registry starts no programs, but nothing enforces it");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match command {
            Command::Serve => cli::serve(config, inherited).await,
            Command::Check => cli::check(config, &terminal).await,
            Command::Build { name } => cli::build(config, &name, &terminal).await,
            Command::Images(format) => cli::images(config, format, &terminal).await,
            Command::Inspect { name, format } => cli::inspect(config, &name, format, &terminal).await,
            Command::Forget { name, format } => cli::forget(config, &name, format, &terminal).await,
            Command::Gc(arguments) => cli::gc(config, arguments, &terminal).await,
            Command::Completions { .. } | Command::Man => std::process::ExitCode::SUCCESS,
        }
    });
    // Reading a large image is not interrupted by waiting for it; what it wrote half is removed at the next start.
    runtime.shutdown_background();
    code
}

fn fail_settings(error: &ConfigError, terminal: &cli::Terminal) -> ExitCode {
    terminal.line(format_args!("forge-registry: {error}"));
    ExitCode::from(2)
}

fn log(config: &Config, quiet: bool, terminal: &cli::Terminal) {
    use tracing::Level;
    use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};
    // A command tells its outcome itself; whoever asks for more than that gets it all the same.
    let level = if quiet && config.log_level <= Level::INFO { Level::ERROR } else { config.log_level };
    // Libraries tell at DEBUG what our own lines tell better.
    let targets = Targets::new().with_default(Level::WARN).with_target("forge_registry", level);
    let (writer, ansi) = (terminal.clone(), terminal.is_one());
    let lines = forge_registry::log::layer(config.log_format, move || writer.writer(), ansi);
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
}
