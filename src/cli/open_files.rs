//! How many connections and mapped files the limit of open files allows for.

use std::num::NonZeroUsize;

/// For connections to nix-daemon and the evaluator, the index, and files that are being read.
const OTHERS: u32 = 128;

/// As many mapped files as `wanted`, or a quarter of the limit: each is open, to be read for those whose bytes are
/// encrypted or encoded.
pub fn mapped(wanted: NonZeroUsize) -> NonZeroUsize {
    let limit = limit().and_then(|limit| NonZeroUsize::new(limit as usize / 4));
    limit.map_or(wanted, |limit| wanted.min(limit))
}

/// As many connections as `wanted`, or as leave enough of the limit of open files for everything else. Without this, a
/// crowd of clients would keep the registry from reaching nix-daemon, and so from answering any of them.
pub fn connections(wanted: u32, mapped: NonZeroUsize) -> u32 {
    let Some(limit) = limit() else { return wanted };
    let others = u32::try_from(mapped.get()).unwrap_or(u32::MAX).saturating_add(OTHERS);
    let allowed = limit.saturating_sub(others).max(limit / 2).max(1);
    if allowed < wanted {
        tracing::info!(
            "at most {allowed} connections at a time instead of {wanted} (MAX_CONNECTIONS), since only {limit} files can be \
             open; raise LimitNOFILE of the unit, or ulimit -n"
        );
    }
    allowed.min(wanted)
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
        let one = NonZeroUsize::MIN;
        assert_eq!((connections(1, one), mapped(one)), (1, one));
    }
}
