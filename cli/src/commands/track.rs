//! `talaria track`: follows a job that another program submitted.

use super::submit::options;
use crate::{
    Failure,
    args::Track,
    client::{self, ids},
    print::{self, DIM, Screen, job::show},
    select,
};
use std::{io::Write as _, path::Path};
use talaria_core::short_id::is_job;
use talaria_proto::v1::TrackJobRequest;

pub(crate) async fn run(config: &Path, args: Track) -> Result<(), Failure> {
    let mut named = args.of.tenant.clone();
    let mut openrouter_id = ids::submitted_job_at(&args.ask, config, &args.id, named.as_deref()).await?;
    if is_job(&openrouter_id) {
        let known = ids::job_at_openrouter(&args.ask, config, &openrouter_id, named.as_deref()).await?;
        (named, openrouter_id) = (Some(known.tenant), known.openrouter_id);
    }
    let (tenant, route) = select::tenant_and_route(config, named.as_deref(), args.of.route.as_deref())?;
    let request = TrackJobRequest {
        tenant,
        openrouter_id,
        context: args.of.values()?,
        route,
        requested_by: client::user_name(args.of.name.as_deref())?,
    };
    let mut relay = client::submits(&args.ask, config).await?;
    let if_lost = "it may be followed all the same, and can be tracked again without harm";
    let track = async { relay.track_job(request).await.map_err(options::translated) };
    let answer = client::change_or(track, if_lost).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    let mut out = anstream::stdout().lock();
    show(&mut out, &answer.job.unwrap_or_default(), Screen::stdout(false))?;
    if answer.known {
        writeln!(out, "{DIM}It was known already, and nothing was changed.{DIM:#}")?;
    }
    Ok(())
}
