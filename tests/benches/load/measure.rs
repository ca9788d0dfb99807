//! The cost of a process, from /proc.

use std::{fs, time::Duration};

/// Clock ticks a second in /proc: Linux shows user space 100 whatever the kernel's own are.
const TICKS: u64 = 100;

/// CPU time that a process has used so far, in user and kernel mode.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which is in brackets and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Resident memory of a process, in MB.
pub fn memory(pid: u32) -> f64 {
    status(pid, "VmRSS:")
}

/// The most resident memory that a process has had, in MB.
pub fn peak_memory(pid: u32) -> f64 {
    status(pid, "VmHWM:")
}

/// Resident memory of a process that is mapped from no file, in MB.
pub fn anonymous(pid: u32) -> f64 {
    megabytes(&format!("/proc/{pid}/smaps_rollup"), "Anonymous:")
}

fn status(pid: u32, name: &str) -> f64 {
    megabytes(&format!("/proc/{pid}/status"), name)
}

fn megabytes(file: &str, name: &str) -> f64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024.0 / 1e6
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
