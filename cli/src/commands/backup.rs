//! `talaria backup`: a copy of the embedded bus.

use crate::{Failure, args::Backup};
use anyhow::{Context as _, anyhow};
use serde_json::json;
use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
};
use talaria_core::config;

/// Standard output.
const OUT: &str = "-";

pub(crate) fn run(path: &Path, args: &Backup) -> Result<(), Failure> {
    let directory = data_dir(path, "back up its streams")?;
    if args.file != Path::new(OUT) {
        let saved = talaria_bus::backup(&directory, &args.file).map_err(|error| anyhow!(error))?;
        return Ok(tell(&mut io::stdout().lock(), args, &saved)?);
    }
    if io::stdout().is_terminal() {
        let what =
            "a backup is no text for a terminal\n  help: lead it on, as in: talaria backup - > talaria.db";
        return Err(Failure::Usage(what.into()));
    }
    // There its payloads are as private as in the bus, and it is known to be whole before its first byte goes out.
    let beside = tempfile::Builder::new().prefix("backup.").tempdir_in(&directory);
    let beside = beside.with_context(|| format!("cannot write in {}", directory.display()))?;
    let copy = beside.path().join("bus.db");
    let saved = talaria_bus::backup(&directory, &copy).map_err(|error| anyhow!(error))?;
    let mut out = io::stdout().lock();
    io::copy(&mut File::open(&copy)?, &mut out)?;
    out.flush()?;
    Ok(tell(&mut io::stderr().lock(), args, &saved)?)
}

/// Where the embedded bus is; over NATS its streams are to be looked after.
pub(super) fn data_dir(path: &Path, instead: &str) -> Result<PathBuf, Failure> {
    config::load_data_dir(path)?.ok_or_else(|| {
        Failure::Usage(format!(
            "the bus is NATS, which keeps everything itself\n  help: {instead}, as docs/backup.md says"
        ))
    })
}

fn tell(out: &mut impl Write, args: &Backup, saved: &talaria_bus::Backup) -> io::Result<()> {
    let talaria_bus::Backup { events, commits, bytes } = saved;
    if args.json {
        let document = json!({"file": args.file, "events": events, "commits": commits, "bytes": bytes});
        return writeln!(out, "{document:#}");
    }
    let file =
        if args.file == Path::new(OUT) { "standard output".into() } else { args.file.display().to_string() };
    writeln!(out, "{file}: {events} events, {commits} commits, {bytes} bytes")
}
