//! The real program against a real nix-daemon and evaluator: what a user of the registry would see.
//!
//! `make test` starts these (see `dev/testbed`) and runs the tests with Nix 2.34 and again with 2.26.

mod access;
mod admin;
mod bed;
mod building;
mod caching;
mod catalog;
mod certificates;
mod changing;
mod changing_archives;
mod clients;
mod collecting;
mod commands;
mod compressing;
mod conforming;
mod disk_full;
mod faults;
mod flake_config;
mod flakes;
mod forgetting;
mod freshness;
mod image_config;
mod limits;
mod metrics;
mod module;
mod nix2container;
mod nothing_is_executed;
mod package_sets;
mod packages;
mod pulling;
mod reading;
mod reading_only;
mod referrers;
mod restarting;
mod scrape;
mod secrets;
mod service;
mod socket;
mod state;
mod streaming;
mod support;
mod systems;
mod tls;
mod truncated;
mod wire;
