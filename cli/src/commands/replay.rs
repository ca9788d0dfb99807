//! `talaria replay` and `talaria cancel`: sending deliveries again, and calling them off.

use super::{
    jobs,
    status::{line, request_filter},
};
use crate::{
    Failure,
    args::{Cancel, Replay},
    client::{self, Shown},
    print,
};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_proto::v1::{
    CancelDeliveryRequest, ReplayDeliveriesRequest, ReplayDeliveriesResponse, ReplayDeliveryRequest,
    ReplayFilter, ReplayJob, ReplayJobState, control_service_client::ControlServiceClient,
};

type Relay = ControlServiceClient<Shown>;

pub(crate) async fn cancel(config: &Path, args: Cancel) -> Result<(), Failure> {
    let request = CancelDeliveryRequest {
        delivery_id: args.id,
        requested_by: client::asker(args.who.name.as_deref())?,
        reason: args.who.reason.unwrap_or_default(),
    };
    let mut relay = client::control(&args.ask, config).await?;
    let answer = relay.cancel_delivery(request).await?.into_inner();
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    Ok(writeln!(anstream::stdout(), "{}", line(&answer.delivery.unwrap_or_default(), None))?)
}

pub(crate) async fn run(config: &Path, args: Replay) -> Result<(), Failure> {
    let requested_by = client::asker(args.who.name.as_deref())?;
    let mut relay = client::control(&args.ask, config).await?;
    match &args.id {
        Some(id) => one(&mut relay, id, requested_by, args.who.reason.clone(), args.ask.json).await,
        None => many(&mut relay, args, requested_by).await,
    }
}

async fn one(
    relay: &mut Relay,
    id: &str,
    requested_by: String,
    reason: Option<String>,
    json: bool,
) -> Result<(), Failure> {
    let request = ReplayDeliveryRequest {
        delivery_id: id.to_owned(),
        requested_by,
        reason: reason.unwrap_or_default(),
    };
    let answer = relay.replay_delivery(request).await?.into_inner();
    if json {
        return Ok(print::json_document(&answer)?);
    }
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", line(&answer.delivery.unwrap_or_default(), None))?;
    Ok(writeln!(out, "talaria status {id} shows what becomes of it.")?)
}

async fn many(relay: &mut Relay, args: Replay, requested_by: String) -> Result<(), Failure> {
    let filter = request_filter(&args.filter);
    let filter = ReplayFilter {
        tenant: filter.tenant,
        route: filter.route,
        job_id: filter.job_id,
        event_type: args.event_type.unwrap_or_default(),
        states: filter.states,
        since: filter.since,
        until: filter.until,
    };
    let is_all = ReplayFilter { states: filter.states.clone(), ..ReplayFilter::default() } == filter;
    if is_all && !args.all {
        return Err(Failure::Usage(
            "this would replay everything there is: restrict it (--tenant, --route, --job, --type, --since, \
             --until), or say --all"
                .to_owned(),
        ));
    }
    let request = ReplayDeliveriesRequest {
        filter: Some(filter),
        requested_by,
        reason: args.who.reason.unwrap_or_default(),
        rate_per_minute: args.rate,
        dry_run: args.dry_run,
        all: args.all,
    };
    let mut answer = relay.replay_deliveries(request).await?.into_inner();
    if !args.ask.json {
        counts(&answer)?;
    }
    if let Some(job) = answer.job.take() {
        if !args.ask.json {
            writeln!(io::stdout(), "{} has begun; talaria jobs {0} --cancel calls it off.", job.id)?;
        }
        answer.job = Some(if args.detach { job } else { jobs::wait(relay, job, args.ask.json).await? });
    }
    if args.ask.json {
        print::json_document(&answer)?;
    }
    match answer.job {
        Some(job) => ended(&job),
        None => Ok(()),
    }
}

fn counts(answer: &ReplayDeliveriesResponse) -> io::Result<()> {
    print::warn_if_incomplete(answer.incomplete)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{} match, {} can be replayed.", answer.matching, answer.replayable)?;
    for (count, why) in [
        (answer.event_not_kept, "cannot: their event is not kept any more"),
        (answer.route_not_configured, "cannot: their route is not configured; replay once it is back"),
    ] {
        if count > 0 {
            writeln!(out, "{count} {why}.")?;
        }
    }
    Ok(())
}

/// That somebody called it off is not what was asked for here.
fn ended(job: &ReplayJob) -> Result<(), Failure> {
    if job.state() == ReplayJobState::Cancelled {
        return Err(Failure::Other(anyhow::anyhow!(
            "{} was called off after {} of {}",
            job.id,
            job.replayed,
            job.matched
        )));
    }
    Ok(())
}
