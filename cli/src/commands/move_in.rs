//! `talaria restore` of an embedded bus with NATS configured: the bus moves there.

use crate::{Failure, args::Restore};
use anyhow::anyhow;
use serde_json::json;
use std::io::{self, Write as _};
use talaria_core::config::Nats;
use talaria_relay::{MovedIn, move_in};

pub(crate) async fn run(nats: &Nats, args: &Restore) -> Result<(), Failure> {
    let file = args.from.display();
    let moved = move_in(&args.from, nats).await;
    let MovedIn { events, commits, partitions } =
        moved.map_err(|error| anyhow!("cannot move {file} to NATS: {error}"))?;
    let [events_stream, journal] = ["events", "journal"].map(|stream| format!("{}-{stream}", nats.prefix));
    let mut out = io::stdout().lock();
    if args.json {
        let document = json!({
            "file": args.from, "events": events, "commits": commits, "partitions": partitions,
            "streams": [events_stream, journal],
        });
        return Ok(writeln!(out, "{document:#}")?);
    }
    writeln!(
        out,
        "{file}: {events} events and {commits} commits moved to the streams {events_stream} and {journal}, in {partitions} partitions"
    )?;
    writeln!(
        out,
        "Start the relays: they rebuild the status, and deliver what waits. Do not start the Talaria again that the file is of: it \
         would deliver the same."
    )?;
    Ok(())
}
