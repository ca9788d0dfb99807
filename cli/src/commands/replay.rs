//! `talaria replay`: sends deliveries again.

use super::replays;
use crate::{
    Failure,
    args::Replay,
    client::{self, ControlClient, ids},
    print::{self, delivery::delivery_line},
};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_proto::v1::{
    DeliveryFilter, ReplayDeliveriesRequest, ReplayDeliveriesResponse, ReplayDeliveryRequest, ReplayFilter,
    ReplayJob, ReplayJobState,
};

pub(crate) async fn run(config: &Path, mut args: Replay) -> Result<(), Failure> {
    args.filter = args.filter.with_tenant_of_route()?;
    let requested_by = client::user_name(args.who.name.as_deref())?;
    let mut relay = client::control(&args.ask, config).await?;
    match &args.id {
        Some(id) => {
            let mut request = ReplayDeliveryRequest {
                requested_by,
                reason: args.who.reason.clone().unwrap_or_default(),
                ..single(id, args.filter.route.as_deref())?
            };
            for id in [&mut request.delivery_id, &mut request.event_id] {
                if !id.is_empty() {
                    *id = ids::complete_at(&args.ask, config, id).await?;
                }
            }
            one(&mut relay, request, args.ask.json).await
        }
        None => {
            if args.filter.tenant.is_some() || args.filter.job.is_some() {
                let mut status = client::status(&args.ask, config).await?;
                client::check_tenant(&mut status, args.filter.tenant.as_deref()).await?;
                ids::restrict_to_job(&mut status, &args.ask, config, &mut args.filter).await?;
            }
            many(&mut relay, args, requested_by).await
        }
    }
}

/// A single delivery, by its id or by its event and its route.
fn single(id: &str, route: Option<&str>) -> Result<ReplayDeliveryRequest, Failure> {
    match (id, route) {
        (event, Some(route)) if event.starts_with("evt_") => Ok(ReplayDeliveryRequest {
            event_id: event.to_owned(),
            route: route.to_owned(),
            ..ReplayDeliveryRequest::default()
        }),
        (event, None) if event.starts_with("evt_") => Err(Failure::Usage(format!(
            "{event} is an event: say which route it is sent to again, with --route ROUTE; talaria explain {event} lists them"
        ))),
        (delivery, None) if delivery.starts_with("dlv_") => {
            Ok(ReplayDeliveryRequest { delivery_id: delivery.to_owned(), ..ReplayDeliveryRequest::default() })
        }
        (delivery, Some(_)) if delivery.starts_with("dlv_") => {
            Err(Failure::Usage(format!("{delivery} is of one route already: leave --route out")))
        }
        (other, _) => Err(Failure::Usage(format!(
            "{other} is neither a delivery (dlv_…) nor an event (evt_…): a job's deliveries are replayed with --job {other}, a \
             tenant's with --tenant {other}"
        ))),
    }
}

async fn one(relay: &mut ControlClient, request: ReplayDeliveryRequest, json: bool) -> Result<(), Failure> {
    let answer = client::change(relay.replay_delivery(request)).await?;
    if json {
        return Ok(print::json_document(&answer)?);
    }
    let mut out = anstream::stdout().lock();
    let delivery = answer.delivery.unwrap_or_default();
    writeln!(out, "{}", delivery_line(&delivery))?;
    Ok(writeln!(out, "talaria status {} shows its progress.", delivery.id)?)
}

async fn many(relay: &mut ControlClient, args: Replay, requested_by: String) -> Result<(), Failure> {
    let filter = DeliveryFilter::from(&args.filter);
    let filter = ReplayFilter {
        tenant: filter.tenant,
        route: filter.route,
        job_id: filter.job_id,
        event_type: filter.event_type,
        states: filter.states,
        since: filter.since,
        until: filter.until,
        model: filter.model,
        outcomes: filter.outcomes,
        http_statuses: filter.http_statuses,
        reason: filter.reason,
        runs: filter.runs,
    };
    let is_all = ReplayFilter { states: filter.states.clone(), ..ReplayFilter::default() } == filter;
    if is_all && !args.all {
        return Err(Failure::Usage(
            "this would replay everything there is: restrict it (--tenant, --route, --job, --type, --model, \
             --outcome, --http, --why, --run, --since, --until), or say --all"
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
    let mut answer = client::change(relay.replay_deliveries(request)).await?;
    if !args.ask.json {
        counts(&answer)?;
    }
    if let Some(job) = answer.job.take() {
        if !args.ask.json {
            writeln!(io::stdout(), "{} has begun; talaria replays {0} --cancel cancels it.", job.id)?;
        }
        answer.job = Some(if args.detach { job } else { replays::wait(relay, job, args.ask.json).await? });
    }
    if args.ask.json {
        print::json_document(&answer)?;
    }
    match answer.job {
        Some(job) => result(&job),
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

/// Fails for a job that was cancelled.
fn result(job: &ReplayJob) -> Result<(), Failure> {
    if job.state() == ReplayJobState::Cancelled {
        return Err(Failure::Other(anyhow::anyhow!(
            "{} was cancelled after {} of {}",
            job.id,
            job.replayed,
            job.matched
        )));
    }
    Ok(())
}
