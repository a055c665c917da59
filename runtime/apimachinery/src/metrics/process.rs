//! What the kernel says of this process.

use std::path::Path;

use super::write_once;

/// Clock ticks a second, of which the kernel's ABI has just this number.
const TICKS: f64 = 100.0;
const PAGE: f64 = 4096.0;

/// Writes the `process_*` families; what can't be read is left out.
pub fn write(out: &mut String) {
    let proc = Path::new("/proc/self");
    let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
    // The second field is a name in parentheses, which may hold anything; after it come plain ones.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok());
    let mut one = |name: &str, help: &str, kind: &str, value: Option<f64>| {
        let values: Vec<(String, f64)> = value.map(|v| (String::new(), v)).into_iter().collect();
        write_once(out, name, help, kind, &values);
    };
    let cpu = number(11).zip(number(12)).map(|(user, system)| (user + system) / TICKS);
    one("process_cpu_seconds_total", "User and system time spent.", "counter", cpu);
    let files = std::fs::read_dir(proc.join("fd")).ok().map(|entries| entries.count() as f64);
    one("process_open_fds", "Open file descriptors.", "gauge", files);
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap_or_default();
    let most = limits.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    one("process_max_fds", "Most file descriptors that may be open.", "gauge", most);
    one("process_virtual_memory_bytes", "Size of the address space in bytes.", "gauge", number(20));
    one("process_resident_memory_bytes", "Memory in RAM in bytes.", "gauge", number(21).map(|pages| pages * PAGE));
    let booted = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = booted.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    let began = booted.zip(number(19)).map(|(boot, ticks)| boot + ticks / TICKS);
    one("process_start_time_seconds", "When the process began, in seconds since 1970.", "gauge", began);
}
