//! `talaria pause` and `talaria resume`.

use crate::{
    Failure,
    args::{Pause as PauseArgs, Resume as ResumeArgs},
    client,
    print::{self, one_line},
};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_proto::v1::{Pause, PauseRequest, ResumeRequest};
use talaria_relay::who;

pub(crate) async fn pause(config: &Path, args: PauseArgs) -> Result<(), Failure> {
    let request = PauseRequest {
        tenant: args.target.tenant.clone(),
        route: args.target.route.clone(),
        requested_by: client::asker(args.who.name.as_deref())?,
        reason: args.who.reason.unwrap_or_default(),
        // What is too long for a message is too long for a pause, and the relay says so.
        duration: args.duration.map(|duration| {
            let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
            duration.try_into().unwrap_or(longest)
        }),
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = client::done(relay.pause(request).await)?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    let since = told(&answer.pause.unwrap_or_default());
    let before = if args.duration.is_some() { " before that" } else { "" };
    Ok(writeln!(io::stdout(), "{0} is {since}.\ntalaria resume {0} lets it go on{before}.", args.target)?)
}

pub(crate) async fn resume(config: &Path, args: ResumeArgs) -> Result<(), Failure> {
    let request = ResumeRequest {
        tenant: args.target.tenant.clone(),
        route: args.target.route.clone(),
        requested_by: client::asker(args.who.name.as_deref())?,
        reason: args.who.reason.unwrap_or_default(),
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = client::done(relay.resume(request).await)?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    let mut out = io::stdout().lock();
    match &answer.ended {
        Some(ended) => writeln!(out, "{} is resumed. It was {}.", args.target, told(ended))?,
        None => writeln!(out, "{} was not paused.", args.target)?,
    }
    if let Some(remaining) = &answer.remaining {
        let tenant = &remaining.tenant;
        writeln!(out, "But {tenant} is {}: talaria resume {tenant}", told(remaining))?;
    }
    Ok(())
}

/// "paused since 2026-11-28 12:00:00Z until 2026-11-28 14:00:00Z by ana: Hermes is being moved".
pub(crate) fn told(pause: &Pause) -> String {
    let since = print::time(pause.since.as_ref());
    let reason =
        if pause.reason.is_empty() { String::new() } else { format!(": {}", one_line(&pause.reason)) };
    let until =
        pause.until.as_ref().map_or(String::new(), |until| format!(" until {}", print::time(Some(until))));
    format!(
        "paused since {since}{until} by {}{reason}",
        one_line(&who(&pause.requested_by, &pause.token_name))
    )
}
