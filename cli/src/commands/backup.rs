//! `talaria backup`: a copy of the embedded bus.

use crate::{Failure, args::Backup};
use anyhow::anyhow;
use serde_json::json;
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_core::config;

pub(crate) fn run(path: &Path, args: &Backup) -> Result<(), Failure> {
    let Some(directory) = config::load_data_dir(path)? else {
        let what = "the bus is NATS, which keeps everything itself\n  help: back up its streams, as docs/operations.md#backup says";
        return Err(Failure::Usage(what.into()));
    };
    let saved = talaria_bus::backup(&directory, &args.file).map_err(|error| anyhow!(error))?;
    let mut out = io::stdout().lock();
    if args.json {
        let document = json!({
            "file": args.file, "events": saved.events, "commits": saved.commits, "bytes": saved.bytes,
        });
        writeln!(out, "{document:#}")?;
    } else {
        let (file, talaria_bus::Backup { events, commits, bytes }) = (args.file.display(), saved);
        writeln!(out, "{file}: {events} events, {commits} commits, {bytes} bytes")?;
    }
    Ok(())
}
