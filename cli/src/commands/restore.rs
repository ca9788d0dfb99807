//! `talaria restore`: replaces the embedded bus, or the streams of NATS, by a backup, or moves an embedded bus to NATS.

use super::{
    backup::{streams_as_json, streams_as_text},
    move_in,
};
use crate::{Failure, args::Restore, select};
use anyhow::anyhow;
use serde_json::json;
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_core::config;

const NEXT: &str = "Start Talaria: it rebuilds the status, and delivers everything that was not delivered at the time of the backup.";

pub(crate) async fn run(path: &Path, args: &Restore) -> Result<(), Failure> {
    match config::load_nats(path)? {
        Some(nats) if talaria_bus::is_bus_file(&args.from) => move_in::run(&nats, args).await,
        Some(nats) => to_nats(&nats, args).await,
        None => to_embedded(&select::data_dir(path)?, args),
    }
}

fn to_embedded(directory: &Path, args: &Restore) -> Result<(), Failure> {
    let restored = talaria_bus::restore(&args.from, directory, args.force).map_err(|error| anyhow!(error))?;
    // The view was built from another journal. No process can start until `restored` is dropped.
    talaria_relay::remove_view(directory);
    let talaria_bus::Backup { events, commits, bytes } = restored.has;
    let file = directory.join("bus.db");
    let mut out = io::stdout().lock();
    if args.json {
        let document = json!({
            "file": file, "events": events, "commits": commits, "bytes": bytes, "kept": restored.kept,
        });
        return Ok(writeln!(out, "{document:#}")?);
    }
    writeln!(out, "{}: {events} events, {commits} commits, {bytes} bytes", file.display())?;
    if let Some(kept) = &restored.kept {
        writeln!(out, "The bus that was there is {}.", kept.display())?;
    }
    Ok(writeln!(out, "{NEXT}")?)
}

async fn to_nats(nats: &config::Nats, args: &Restore) -> Result<(), Failure> {
    let restored = talaria_bus::restore_nats(nats, &args.from, args.force).await;
    let restored = restored.map_err(|error| anyhow!(error))?;
    let mut out = io::stdout().lock();
    if args.json {
        let document = json!({
            "time": restored.time.to_string(), "streams": streams_as_json(&restored.streams), "kept": restored.kept,
        });
        return Ok(writeln!(out, "{document:#}")?);
    }
    writeln!(out, "{}", streams_as_text(&restored.streams))?;
    if let Some(kept) = &restored.kept {
        writeln!(out, "The streams that were there are in {}.", kept.display())?;
    }
    Ok(writeln!(out, "{NEXT}")?)
}
