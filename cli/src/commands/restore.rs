//! `talaria restore`: replaces the embedded bus by a backup, or moves it to NATS.

use super::move_in;
use crate::{Failure, args::Restore, select};
use anyhow::anyhow;
use serde_json::json;
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_core::config;

pub(crate) async fn run(path: &Path, args: &Restore) -> Result<(), Failure> {
    if config::load_data_dir(path)?.is_none() && talaria_bus::is_bus_file(&args.file) {
        return move_in::run(path, args).await;
    }
    let directory = select::data_dir(path, "restore its streams")?;
    let restored =
        talaria_bus::restore(&args.file, &directory, args.force).map_err(|error| anyhow!(error))?;
    // The view was built from another journal. No process can start until `restored` is dropped.
    talaria_relay::remove_view(&directory);
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
    writeln!(
        out,
        "Start Talaria: it rebuilds the status, and delivers everything that was not delivered at the time of the backup."
    )?;
    Ok(())
}
