//! `talaria resume`: ends a pause.

use crate::{
    Failure,
    args::Resume,
    client,
    print::{
        self, one_line,
        route::{block, is_shut, paused},
    },
};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_proto::v1::{GetSummaryRequest, ResumeRequest};

pub(crate) async fn run(config: &Path, args: Resume) -> Result<(), Failure> {
    let request = ResumeRequest {
        tenant: args.target.tenant.clone(),
        route: args.target.route.clone(),
        requested_by: client::user_name(args.who.name.as_deref())?,
        reason: args.who.reason.unwrap_or_default(),
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = client::change(relay.resume(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    let mut out = io::stdout().lock();
    match &answer.ended {
        Some(ended) => writeln!(out, "{} is resumed. It was {}.", args.target, paused(ended))?,
        None => writeln!(out, "{} was not paused.", args.target)?,
    }
    if let Some(remaining) = &answer.remaining {
        let tenant = &remaining.tenant;
        writeln!(out, "But {tenant} is {}: talaria resume {tenant}", paused(remaining))?;
        return Ok(());
    }
    // An operator who resumes a route expects deliveries; its breaker may keep it shut all the same.
    let mut status = client::status(&args.ask, config).await?;
    let request = GetSummaryRequest { tenant: args.target.tenant.clone() };
    let routes = client::ask(status.get_summary(request)).await?.routes;
    let is_meant = |route: &str| args.target.route.is_empty() || args.target.route == route;
    for route in routes
        .iter()
        .filter(|route| is_meant(&route.route) && route.tenant == args.target.tenant && is_shut(route))
    {
        let name = format!("{}/{}", one_line(&route.tenant), one_line(&route.route));
        writeln!(out, "But {name} is {}: talaria probe {name} tries it now", one_line(&block(route)))?;
    }
    Ok(())
}
