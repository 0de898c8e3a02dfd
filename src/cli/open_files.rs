//! How many connections the limit of open files allows for.

/// For connections to nix-daemon and the evaluator, the index, and files that are being read.
const OTHERS: u32 = 128;

/// As many connections as `wanted`, or as leave enough of the limit of open files for everything else. Without this, a
/// crowd of clients would keep the registry from reaching nix-daemon, and so from answering any of them.
pub fn connections(wanted: u32) -> u32 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Some(limit) = soft_limit(&limits) else { return wanted };
    let allowed = limit.saturating_sub(OTHERS).max(limit / 2).max(1);
    if allowed < wanted {
        tracing::info!(
            "at most {allowed} connections at a time instead of {wanted} (MAX_CONNECTIONS), since only {limit} files can be \
             open; raise LimitNOFILE of the unit, or ulimit -n"
        );
    }
    allowed.min(wanted)
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
        assert_eq!(connections(1), 1);
    }
}
