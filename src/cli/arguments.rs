//! The command line.

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use forge_registry::config;

/// A container registry that builds images with nix-daemon on demand and serves them from the Nix store.
#[derive(Parser)]
#[command(name = "forge-registry", version, after_help = config::help(), max_term_width = 110)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve images (the default).
    Serve,
    /// Check the settings and everything that the registry depends on, and say what to do about each failure.
    Check,
    /// Resolve and build an image as a pull would, and print its digests.
    Build {
        /// The image, as a client would name it: packages/hello, or packages/hello:1.0.
        name: String,
    },
    /// List the images that have been served, and when each was last asked for.
    #[command(visible_alias = "ls")]
    Images(Format),
    /// Tell all that is known of an image: store paths, derivations, GC roots, where the bytes of its layers are.
    Inspect {
        /// The image: packages/hello, or packages/hello:1.0.
        #[arg(value_name = "NAME[:TAG]")]
        name: String,
        #[command(flatten)]
        format: Format,
    },
    /// Forget an image: its name or one tag, and, if nothing else leads to it, its GC roots and its files in the caches.
    Forget {
        /// The image: packages/hello with all its tags, or packages/hello:1.0.
        #[arg(value_name = "NAME[:TAG]")]
        name: String,
        #[command(flatten)]
        format: Format,
    },
    /// Drop images that nobody asked for lately, as RETENTION_DAYS and CACHE_SIZE say. The Nix store is not collected.
    Gc(Gc),
    /// Print a script that completes this command line in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

/// What `gc` is to drop.
#[derive(clap::Args)]
pub struct Gc {
    /// Drop images that nobody asked for in this time, such as 7d or 12h, instead of RETENTION_DAYS.
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration, conflicts_with = "all")]
    pub older_than: Option<std::time::Duration>,
    /// Drop all images.
    #[arg(long)]
    pub all: bool,
    /// Only say what would be dropped.
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    #[command(flatten)]
    pub format: Format,
}

/// How to print.
#[derive(clap::Args, Clone, Copy)]
pub struct Format {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl Command {
    /// Whether it tells its outcome itself, so that the log need not.
    pub fn is_quiet(&self) -> bool {
        !matches!(self, Self::Serve | Self::Check)
    }
}
