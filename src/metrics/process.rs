//! What the kernel says of this process, under the names that Prometheus' own clients use (`proc(5)`).

use prometheus_client::{
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// The unit of times in `/proc`, which is the same on every architecture of Linux that Nix knows.
const TICKS_A_SECOND: f64 = 100.0;

/// Adds what can be read. `started` is not in `/proc/self` but relative to a boot whose time may be hidden.
pub(super) fn register(registry: &mut Registry, started: SystemTime) {
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let gauge = |number: u64| ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
    registry.register_with_unit(
        "process_start_time",
        "When the process was started, since 1970",
        Unit::Seconds,
        ConstGauge::new(started),
    );
    let stat = read("stat");
    if let Some(seconds) = cpu_seconds(&stat) {
        registry.register_with_unit(
            "process_cpu",
            "Processor time, of user and system",
            Unit::Seconds,
            ConstCounter::new(seconds),
        );
    }
    let status = read("status");
    for (name, line, help) in [
        ("process_resident_memory", "VmRSS:", "Memory that is resident, mapped files of the store included"),
        (
            "process_anonymous_memory",
            "RssAnon:",
            "Resident memory of the registry's own, without mapped files",
        ),
        ("process_virtual_memory", "VmSize:", "Addresses that are in use"),
    ] {
        if let Some(bytes) = kibibytes(&status, line) {
            registry.register_with_unit(name, help, Unit::Bytes, gauge(bytes));
        }
    }
    if let Some(threads) = field(&status, "Threads:") {
        registry.register("process_threads", "Threads", gauge(threads));
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // One of them is this folder.
        registry.register(
            "process_open_fds",
            "Open files",
            gauge(descriptors.count().saturating_sub(1) as u64),
        );
    }
    if let Some(limit) = field(&read("limits"), "Max open files") {
        registry.register("process_max_fds", "How many files may be open", gauge(limit));
    }
}

/// `utime` and `stime`; the name before them may have anything in it.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / TICKS_A_SECOND)
}

fn field(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    field(status, name).map(|number| number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 10";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"), Some(2 << 20));
        assert_eq!(
            field("Max open files            1024                 524288   files\n", "Max open files"),
            Some(1024)
        );
        assert_eq!(field("Max open files            unlimited", "Max open files"), None);
        let own = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap();
        assert!(cpu_seconds(&own("stat")).is_some() && kibibytes(&own("status"), "RssAnon:").is_some());
    }
}
