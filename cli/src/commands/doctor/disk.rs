//! The data directory: whether it can be written, who else can read it, and its free space.

use super::finding::Finding;
use rustix::fs::{Access, access, statvfs};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use talaria_core::config::{BusKind, Config, Role};

const CHECK: &str = "disk";

const MIB: u64 = 1 << 20;

/// Less free space than this is a fault: SQLite and its log need some for each commit.
const FULL: u64 = 64 * MIB;

/// Less than this is a warning: space for a thousand callbacks of the default maximum length.
const SOON_FULL: u64 = 1024 * MIB;

pub(super) fn check(config: &Config, role: Role) -> Vec<Finding> {
    // An ingress on NATS keeps no files.
    if !role.has_relay() && matches!(config.bus, BusKind::Nats(_)) {
        return Vec::new();
    }
    let directory = &config.data_dir;
    // A missing directory is created at the start.
    let Some(existing) = directory.ancestors().find(|path| path.exists()) else { return Vec::new() };
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    if !existing.is_dir() {
        let what = format!("{} is not a directory", existing.display());
        return vec![Finding::fault(CHECK, what, "name another data_dir, or move that away")];
    }
    if access(existing, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let what = format!("{} cannot be written by this user", existing.display());
        let help = "give it to the user that runs Talaria, or run `talaria doctor` as that user";
        return vec![Finding::fault(CHECK, what, help)];
    }
    let mut found = Vec::new();
    let mode = fs::metadata(existing).map_or(0, |found| found.permissions().mode());
    if existing == directory && mode & 0o077 != 0 {
        found.push(Finding::warning(
            CHECK,
            format!("{} has payloads, and other users of this machine can look into it", directory.display()),
            format!(
                "chmod 700 {}; Talaria does so when it starts, where the directory is its own",
                directory.display()
            ),
        ));
    }
    let free = statvfs(existing).map(|filesystem| filesystem.f_bavail.saturating_mul(filesystem.f_frsize));
    found.push(match free {
        Ok(free) => of_free_space(&directory.display().to_string(), free),
        Err(error) => {
            Finding::warning(CHECK, format!("{}: its free space is unknown: {error}", existing.display()), "")
        }
    });
    found
}

fn of_free_space(directory: &str, free: u64) -> Finding {
    let what = format!("{directory} can be written, with {} free", size(free));
    let help = "free space, or shorten retention: without it, callbacks are answered 503 and OpenRouter's retries end";
    match free {
        0..FULL => Finding::fault(CHECK, what, help),
        FULL..SOON_FULL => Finding::warning(CHECK, what, help),
        _ => Finding::ok(CHECK, what),
    }
}

fn size(bytes: u64) -> String {
    let gib = bytes / (1024 * MIB);
    if gib >= 10 { format!("{gib} GiB") } else { format!("{} MiB", bytes / MIB) }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    #[test]
    fn little_free_space_is_a_fault() {
        for (free, level, says) in [
            (0, Level::Fault, "0 MiB free"),
            (FULL - 1, Level::Fault, "63 MiB free"),
            (FULL, Level::Warning, "64 MiB free"),
            (SOON_FULL, Level::Ok, "1024 MiB free"),
            (50 * SOON_FULL, Level::Ok, "50 GiB free"),
        ] {
            let finding = of_free_space("/data", free);
            assert_eq!(finding.level, level, "{free}");
            assert!(finding.what.contains(says), "{finding:?}");
        }
    }
}
