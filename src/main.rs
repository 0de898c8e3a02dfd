//! Start-up and shutdown.

use clap::{Parser, Subcommand};
use forge_registry::{
    config::{self, Config, ConfigError, LogFormat},
    seccomp,
};
use std::process::ExitCode;

mod cli;

/// A container registry that builds images with nix-daemon on demand and serves them from the Nix store.
#[derive(Parser)]
#[command(version, after_help = config::help(), max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve images (the default).
    Serve,
    /// Check the settings and everything that the registry depends on, and say what to do about each failure.
    Check,
    /// Resolve and build an image as a pull would, and print its digests.
    Build {
        /// The image, as a client would name it: packages/hello, or packages/hello:1.0.
        name: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Serve);
    let config = match Config::from_environment() {
        Ok(config) => config,
        Err(error) => return fail_settings(&error),
    };
    log(&config, matches!(command, Command::Build { .. }));
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
            Command::Check => cli::check(config).await,
            Command::Build { name } => cli::build(config, &name).await,
        }
    });
    // Reading a large image is not interrupted by waiting for it; what it wrote half is removed at the next start.
    runtime.shutdown_background();
    code
}

fn fail_settings(error: &ConfigError) -> ExitCode {
    eprintln!("forge-registry: {error}");
    ExitCode::from(2)
}

fn log(config: &Config, quiet: bool) {
    use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};
    // Libraries tell at DEBUG what our own lines tell better.
    // A command tells its outcome itself.
    let level = if quiet { tracing::Level::ERROR } else { config.log_level };
    let targets = Targets::new().with_default(tracing::Level::WARN).with_target("forge_registry", level);
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let subscriber = tracing_subscriber::registry().with(targets);
    match config.log_format {
        LogFormat::Human => {
            use std::io::IsTerminal;
            subscriber.with(format.with_target(false).with_ansi(std::io::stderr().is_terminal())).init();
        }
        LogFormat::Json => subscriber.with(format.json().flatten_event(true)).init(),
    }
}
