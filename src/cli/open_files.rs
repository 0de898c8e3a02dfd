//! How many connections and mapped files the limit of open files allows for.

use forge_registry::http::ServerLimits;
use std::num::NonZeroUsize;

/// For connections to nix-daemon and the evaluator, the index, and files that are being read.
const OTHERS: u32 = 128;

/// As many mapped files as `wanted`, or a quarter of the limit: each is open, to be read for those whose bytes are
/// encrypted or encoded.
pub fn mapped(wanted: NonZeroUsize) -> NonZeroUsize {
    let limit = limit().and_then(|limit| NonZeroUsize::new(limit as usize / 4));
    limit.map_or(wanted, |limit| wanted.min(limit))
}

/// Allows for as many connections as leave enough of the limit of open files for everything else. Without this, a crowd of
/// clients would keep the registry from reaching nix-daemon, and so from answering any of them. The share of one client
/// becomes smaller with the whole, so that it remains a share.
pub fn fit(limits: &mut ServerLimits, mapped: NonZeroUsize) {
    if let Some(open_files) = limit() {
        fit_within(limits, mapped, open_files);
    }
    let (all, share) = (limits.max_connections, limits.max_client_connections);
    if (share >= all as usize || share == 0) && all > 1 {
        tracing::warn!(
            "MAX_CLIENT_CONNECTIONS={share}: one client can take all connections (MAX_CONNECTIONS={all})"
        );
    }
}

fn fit_within(limits: &mut ServerLimits, mapped: NonZeroUsize, open_files: u32) {
    let (wanted, share) = (limits.max_connections, limits.max_client_connections);
    let others = u32::try_from(mapped.get()).unwrap_or(u32::MAX).saturating_add(OTHERS);
    let allowed = open_files.saturating_sub(others).max(open_files / 2).max(1);
    if allowed >= wanted {
        return;
    }
    limits.max_connections = allowed;
    if share > 0 {
        limits.max_client_connections =
            (share as u64 * u64::from(allowed) / u64::from(wanted)).max(1) as usize;
    }
    tracing::info!(
        "at most {allowed} connections at a time instead of {wanted} (MAX_CONNECTIONS), and {} of one client instead of \
         {share} (MAX_CLIENT_CONNECTIONS), since only {open_files} files can be open; raise LimitNOFILE of the unit, or \
         ulimit -n",
        limits.max_client_connections
    );
}

fn limit() -> Option<u32> {
    soft_limit(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default())
}

/// The soft limit in `/proc/self/limits`; none if there is no limit.
fn soft_limit(limits: &str) -> Option<u32> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_from_the_kernels_table() {
        let table = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288   files\n";
        assert_eq!(soft_limit(table), Some(1024));
        assert_eq!(soft_limit("Max open files unlimited unlimited files"), None);
        assert_eq!(soft_limit(""), None);
        assert_eq!(mapped(NonZeroUsize::MIN), NonZeroUsize::MIN);
    }

    #[test]
    fn the_share_of_a_client_becomes_smaller_with_the_whole() {
        let fit = |max_connections, max_client_connections, open_files| {
            let mut limits = ServerLimits { max_connections, max_client_connections, ..Default::default() };
            fit_within(&mut limits, NonZeroUsize::new(256).unwrap(), open_files);
            (limits.max_connections, limits.max_client_connections)
        };
        assert_eq!(fit(1024, 512, 4096), (1024, 512));
        assert_eq!(fit(1024, 512, 1024), (640, 320));
        assert_eq!(fit(1024, 0, 1024), (640, 0));
        assert_eq!(fit(1024, 1, 16), (8, 1));
    }
}
