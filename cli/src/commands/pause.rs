//! `talaria pause`, `talaria resume` and `talaria probe`: whether anything goes out to a route.

use crate::{
    Failure,
    args::{Pause as PauseArgs, Probe as ProbeArgs, Resume as ResumeArgs},
    client,
    commands::routes::in_the_way,
    print::{self, one_line},
};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_proto::v1::{
    BreakerState, GetSummaryRequest, Pause, PauseRequest, ProbeRouteRequest, ResumeRequest,
};
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
        return Ok(());
    }
    // What an operator resumes is expected to go out, and a breaker may hold it all the same.
    let mut status = client::connect(&args.ask, config).await?;
    let request = GetSummaryRequest { tenant: args.target.tenant.clone() };
    let routes = status.get_summary(request).await?.into_inner().routes;
    let is_meant = |route: &str| args.target.route.is_empty() || args.target.route == route;
    let is_shut = |state| matches!(state, BreakerState::Shut | BreakerState::Probing);
    for route in routes.iter().filter(|route| {
        is_meant(&route.route) && route.tenant == args.target.tenant && is_shut(route.breaker())
    }) {
        let name = format!("{}/{}", one_line(&route.tenant), one_line(&route.route));
        writeln!(out, "But {name} is {}: talaria probe {name} tries it now", one_line(&in_the_way(route)))?;
    }
    Ok(())
}

pub(crate) async fn probe(config: &Path, args: ProbeArgs) -> Result<(), Failure> {
    let target = &args.target;
    if target.route.is_empty() {
        return Err(Failure::Usage(format!(
            "a single route is probed: write {target}/ROUTE; `talaria status --routes` lists those that are shut"
        )));
    }
    let request = ProbeRouteRequest {
        tenant: target.tenant.clone(),
        route: target.route.clone(),
        requested_by: client::asker(args.who.name.as_deref())?,
        reason: args.who.reason.unwrap_or_default(),
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = client::done(relay.probe_route(request).await)?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    let what = if answer.already_probing { "is being probed already" } else { "is probed now" };
    Ok(writeln!(
        io::stdout(),
        "{target} {what}: a delivery goes out at the route's pace.\ntalaria status --routes shows what comes of it."
    )?)
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
