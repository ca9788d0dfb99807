//! `talaria backup`: copies the embedded bus.

use crate::{Failure, args::Backup, select};
use anyhow::{Context as _, anyhow};
use serde_json::json;
use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    path::Path,
};

/// Standard output.
const OUT: &str = "-";

pub(crate) fn run(path: &Path, args: &Backup) -> Result<(), Failure> {
    let directory = select::data_dir(path, "back up its streams")?;
    if args.file != Path::new(OUT) {
        let saved = talaria_bus::backup(&directory, &args.file).map_err(|error| anyhow!(error))?;
        return Ok(print_result(&mut io::stdout().lock(), args, &saved)?);
    }
    if io::stdout().is_terminal() {
        let what = "a backup is no text for a terminal\n  help: redirect it: talaria backup - > talaria.db";
        return Err(Failure::Usage(what.into()));
    }
    // In data_dir the copy is as private as the bus. It is complete before its first byte is written to standard output.
    let beside = tempfile::Builder::new().prefix("backup.").tempdir_in(&directory);
    let beside = beside.with_context(|| format!("cannot write in {}", directory.display()))?;
    let copy = beside.path().join("bus.db");
    let saved = talaria_bus::backup(&directory, &copy).map_err(|error| anyhow!(error))?;
    let mut out = io::stdout().lock();
    io::copy(&mut File::open(&copy)?, &mut out)?;
    out.flush()?;
    Ok(print_result(&mut io::stderr().lock(), args, &saved)?)
}

fn print_result(out: &mut impl Write, args: &Backup, saved: &talaria_bus::Backup) -> io::Result<()> {
    let talaria_bus::Backup { events, commits, bytes } = saved;
    if args.json {
        let document = json!({"file": args.file, "events": events, "commits": commits, "bytes": bytes});
        return writeln!(out, "{document:#}");
    }
    let file =
        if args.file == Path::new(OUT) { "standard output".into() } else { args.file.display().to_string() };
    writeln!(out, "{file}: {events} events, {commits} commits, {bytes} bytes")
}
