//! A process's memory and time, as the kernel counts them.

/// The most resident memory of this process so far; 0 where the kernel does not say.
pub(super) fn peak_bytes() -> u64 {
    peak_bytes_of(std::process::id())
}

/// The most resident memory of a process so far; 0 where the kernel does not say.
pub(super) fn peak_bytes_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The CPU time of a process so far, seconds; 0 where the kernel does not say.
pub(super) fn cpu_seconds_of(process: u32) -> f64 {
    // Linux gives it in ticks of 1/100 s on every architecture that this runs on (proc(5), sysconf(3)).
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The command's name is in parentheses and may hold spaces; what follows is numbered from field 3.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks =
        |field: usize| after.split_whitespace().nth(field - 3).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(14) + ticks(15)) / TICKS_PER_S
}
