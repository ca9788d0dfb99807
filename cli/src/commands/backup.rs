//! `talaria backup`: copies the embedded bus into a file, or the streams of NATS into a directory.

mod copies;

use crate::{Failure, args::Backup, select};
use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
};
use talaria_bus::NatsStream;
use talaria_core::config;

/// Standard output.
const OUT: &str = "-";

pub(crate) async fn run(path: &Path, args: &Backup) -> Result<(), Failure> {
    let begun = Timestamp::now();
    match config::load_nats(path)? {
        Some(nats) => of_nats(&nats, args, begun).await,
        None => of_embedded(&select::data_dir(path)?, args, begun),
    }
}

/// The new file or directory, which names itself by its time in a directory of copies.
fn target(args: &Backup, suffix: &str, begun: Timestamp) -> PathBuf {
    match &args.into {
        Some(directory) => directory.join(copies::name(begun, suffix)),
        None => args.to.clone().unwrap_or_default(),
    }
}

fn of_embedded(directory: &Path, args: &Backup, begun: Timestamp) -> Result<(), Failure> {
    const SUFFIX: &str = ".db";
    let to = target(args, SUFFIX, begun);
    let saved = if to == Path::new(OUT) {
        to_standard_output(directory)?
    } else {
        talaria_bus::backup(directory, &to).map_err(|error| anyhow!(error))?
    };
    if let Err(error) = talaria_bus::record_backup(directory, begun) {
        tracing::warn!("the backup is complete, and its time is not recorded: {error}");
    }
    let removed = remove_superfluous(args, SUFFIX, begun);
    let talaria_bus::Backup { events, commits, bytes } = saved;
    let document =
        json!({"file": to, "events": events, "commits": commits, "bytes": bytes, "removed": removed});
    let line = format!("{events} events, {commits} commits, {bytes} bytes");
    // Standard output has the copy.
    if to == Path::new(OUT) {
        return Ok(print_result(
            &mut io::stderr().lock(),
            args,
            "standard output",
            &line,
            &document,
            &removed,
        )?);
    }
    let name = to.display().to_string();
    Ok(print_result(&mut io::stdout().lock(), args, &name, &line, &document, &removed)?)
}

fn to_standard_output(directory: &Path) -> Result<talaria_bus::Backup, Failure> {
    if io::stdout().is_terminal() {
        let what = "a backup is no text for a terminal\n  help: redirect it: talaria backup - > talaria.db";
        return Err(Failure::Usage(what.into()));
    }
    // In data_dir the copy is as private as the bus. It is complete before its first byte is written to standard output.
    let beside = tempfile::Builder::new().prefix("backup.").tempdir_in(directory);
    let beside = beside.with_context(|| format!("cannot write in {}", directory.display()))?;
    let copy = beside.path().join("bus.db");
    let saved = talaria_bus::backup(directory, &copy).map_err(|error| anyhow!(error))?;
    let mut out = io::stdout().lock();
    io::copy(&mut File::open(&copy)?, &mut out)?;
    out.flush()?;
    Ok(saved)
}

async fn of_nats(nats: &config::Nats, args: &Backup, begun: Timestamp) -> Result<(), Failure> {
    let to = target(args, "", begun);
    if to == Path::new(OUT) {
        let what = "a backup of NATS is a directory of several files, and cannot go to standard output\n  help: pack it: \
                    talaria backup DIRECTORY && tar --create DIRECTORY";
        return Err(Failure::Usage(what.into()));
    }
    let saved = talaria_bus::backup_nats(nats, &to).await.map_err(|error| anyhow!(error))?;
    if let Some(error) = &saved.unrecorded {
        tracing::warn!("the backup is complete, and its time is not recorded: {error}");
    }
    let removed = remove_superfluous(args, "", begun);
    let document = json!({
        "directory": to, "time": saved.time.to_string(), "recorded": saved.unrecorded.is_none(),
        "streams": streams_as_json(&saved.streams), "removed": removed,
    });
    let (name, line) = (to.display().to_string(), streams_as_text(&saved.streams));
    Ok(print_result(&mut io::stdout().lock(), args, &name, &line, &document, &removed)?)
}

pub(super) fn streams_as_json(streams: &[NatsStream]) -> Value {
    let as_json = |stream: &NatsStream| {
        json!({
            "name": stream.name, "messages": stream.messages, "first_seq": stream.first_seq,
            "last_seq": stream.last_seq, "bytes": stream.bytes,
        })
    };
    streams.iter().map(as_json).collect()
}

pub(super) fn streams_as_text(streams: &[NatsStream]) -> String {
    let as_text = |stream: &NatsStream| {
        format!("{} messages of {}, {} bytes", stream.messages, stream.name, stream.bytes)
    };
    streams.iter().map(as_text).collect::<Vec<_>>().join("; ")
}

/// Removes old copies, and returns their paths. A failure is no failed backup.
fn remove_superfluous(args: &Backup, suffix: &str, now: Timestamp) -> Vec<PathBuf> {
    let (Some(directory), Some(keep)) = (&args.into, args.keep) else { return Vec::new() };
    let warn = |path: &Path, error: &io::Error| {
        tracing::warn!("cannot remove old copies in {}: {error}", path.display());
    };
    let read = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    };
    let names = read().unwrap_or_else(|error| {
        warn(directory, &error);
        Vec::new()
    });
    let mut removed = Vec::new();
    for name in copies::superfluous(&names, suffix, keep.into(), now) {
        let path = directory.join(name);
        let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        match if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) } {
            Ok(()) => removed.push(path),
            Err(error) => warn(&path, &error),
        }
    }
    removed
}

fn print_result(
    out: &mut impl Write,
    args: &Backup,
    name: &str,
    line: &str,
    document: &Value,
    removed: &[PathBuf],
) -> io::Result<()> {
    if args.json {
        return writeln!(out, "{document:#}");
    }
    writeln!(out, "{name}: {line}")?;
    for path in removed {
        writeln!(out, "removed {}", path.display())?;
    }
    Ok(())
}
