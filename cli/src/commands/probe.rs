//! `talaria probe`: tries a shut route at once.

use crate::{Failure, args::Probe, client, print};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_proto::v1::ProbeRouteRequest;

pub(crate) async fn run(config: &Path, args: Probe) -> Result<(), Failure> {
    let target = &args.target;
    if target.route.is_empty() {
        return Err(Failure::Usage(format!(
            "a single route is probed: write {target}/ROUTE; `talaria status --routes` lists those that are shut"
        )));
    }
    let request = ProbeRouteRequest {
        tenant: target.tenant.clone(),
        route: target.route.clone(),
        requested_by: client::user_name(args.who.name.as_deref())?,
        reason: args.who.reason.unwrap_or_default(),
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = client::change(relay.probe_route(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    let state = if answer.already_probing { "is being probed already" } else { "is probed now" };
    Ok(writeln!(
        io::stdout(),
        "{target} {state}: a delivery goes out at the route's pace.\ntalaria status --routes shows the result."
    )?)
}
