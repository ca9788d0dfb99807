//! `talaria status`: what became of callbacks.
//!
//! - [`tables`]: what is listed. [`details`]: a single event or delivery.

mod details;
mod tables;

pub(crate) use details::{attempted, show_delivery, show_event_head};

use super::{refusals, routes, unmatched};
use crate::{
    Failure,
    args::{Filter, Status},
    client::{self, Shown},
    ids,
    print::{self, Screen},
};
use details::{conflicted, show_event};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_core::id::DeliveryId;
use talaria_proto::{
    time::to_proto,
    v1::{
        DeliveryFilter, DeliveryState, EventConflict, GetDeliveryRequest, GetEventRequest, GetSummaryRequest,
        GetSummaryResponse, ListDeliveriesRequest, ListDeliveriesResponse, ListEventsRequest,
        ListQuarantinedRequest, status_service_client::StatusServiceClient,
    },
};

pub(super) type Relay = StatusServiceClient<Shown>;

/// The status is always a few commits behind while much happens. From so many on, it is said.
const FAR_BEHIND: u64 = 1_000;

pub(crate) async fn run(config: &Path, mut args: Status) -> Result<(), Failure> {
    args.filter = args.filter.with_tenant_of_route()?;
    let mut relay = client::connect(&args.ask, config).await?;
    client::knows_tenant(&mut relay, args.filter.tenant.as_deref()).await?;
    if let Some(job) = &args.filter.job {
        args.filter.job = Some(ids::job(&mut relay, job, args.filter.tenant.as_deref()).await?);
    }
    match args.id.as_deref() {
        _ if args.quarantined => quarantined(&mut relay, args).await,
        _ if args.unmatched => unmatched::show(&mut relay, &args).await,
        _ if args.refused => refusals::show(&mut relay, args.filter.tenant.as_deref(), args.ask.json).await,
        _ if args.routes => routes::show(&mut relay, &args).await,
        Some(id) if id.starts_with("evt_") => event(&mut relay, id, &args).await,
        Some(id) if id.starts_with("qrt_") => {
            Err(Failure::Usage(format!("{id} was no event; talaria status --quarantined lists it")))
        }
        Some(id) if id.starts_with("rpl_") => {
            Err(Failure::Usage(format!("{id} is a replay job; talaria jobs {id} shows it")))
        }
        Some(_) if args.payload => {
            Err(Failure::Usage("--payload needs an event (evt_…) or --quarantined".to_owned()))
        }
        Some(id) if id.starts_with("dlv_") => delivery(&mut relay, id, &args).await,
        Some(id) => job(&mut relay, id, &args).await,
        None => overview(&mut relay, &args).await,
    }
}

/// A job's events and their deliveries: an event that no route wants is known all the same.
async fn job(relay: &mut Relay, job: &str, args: &Status) -> Result<(), Failure> {
    let job = &ids::job(relay, job, args.filter.tenant.as_deref()).await?;
    let filter = DeliveryFilter { job_id: job.clone(), ..request_filter(&args.filter) };
    let request = ListEventsRequest {
        tenant: filter.tenant.clone(),
        job_id: job.clone(),
        page_size: args.limit,
        ..ListEventsRequest::default()
    };
    let events = relay.list_events(request).await?.into_inner();
    if events.events.is_empty() {
        return Err(if events.incomplete {
            Failure::Unreachable(format!(
                "no job {job} is known to the relays that answer: some partitions have no owner at the moment, or it does not \
                 answer; ask again soon"
            ))
        } else {
            Failure::Unknown(format!(
                "no job {job} is known: it never came, waits to be planned, or is not kept any more"
            ))
        });
    }
    let mut list = list(relay, filter, args).await?;
    // Both are one answer.
    list.incomplete |= events.incomplete;
    let mut conflicts = Vec::new();
    for event in &events.events {
        conflicts.extend(conflicts_of(relay, &event.id).await?);
    }
    if args.ask.json {
        let mut document = print::json(&events)?;
        print::merge(&mut document, print::json(&list)?);
        let conflicts = conflicts.iter().map(print::json).collect::<Result<Vec<_>, _>>()?;
        print::merge(&mut document, serde_json::json!({ "conflicts": conflicts }));
        return Ok(writeln!(io::stdout(), "{document:#}")?);
    }
    print::warn_if_incomplete(list.incomplete)?;
    let screen = Screen::stdout(args.wide);
    tables::events(&events.events, screen)?;
    for conflict in &conflicts {
        writeln!(io::stdout(), "{}: {}", screen.id(&conflict.event_id), conflicted(conflict))?;
    }
    writeln!(io::stdout())?;
    tables::deliveries(&list, screen)
}

pub(crate) fn request_filter(filter: &Filter) -> DeliveryFilter {
    DeliveryFilter {
        tenant: filter.tenant.clone().unwrap_or_default(),
        route: filter.route.clone().unwrap_or_default(),
        job_id: filter.job.clone().unwrap_or_default(),
        states: filter.state.iter().map(|state| DeliveryState::from(*state).into()).collect(),
        since: filter.since.map(to_proto),
        until: filter.until.map(to_proto),
    }
}

/// Every route and the latest deliveries; with a filter, the deliveries alone.
async fn overview(relay: &mut Relay, args: &Status) -> Result<(), Failure> {
    let (filter, screen) = (request_filter(&args.filter), Screen::stdout(args.wide));
    let by_tenant = DeliveryFilter { tenant: filter.tenant.clone(), ..DeliveryFilter::default() };
    if filter == by_tenant {
        let mut summary =
            relay.get_summary(GetSummaryRequest { tenant: filter.tenant.clone() }).await?.into_inner();
        let refused = refusals::ask(relay, &filter.tenant).await?;
        let mut list = list(relay, filter, args).await?;
        if args.ask.json {
            // All are one answer.
            list.incomplete |= summary.incomplete;
            let mut document = print::json(&summary)?;
            print::merge(&mut document, print::json(&list)?);
            print::merge(&mut document, print::json(&refused)?);
            return Ok(writeln!(io::stdout(), "{document:#}")?);
        }
        summary.incomplete |= list.incomplete;
        warn_of(&summary)?;
        // Who has changed nothing needs not be told of it.
        if let Some(configuration) = summary
            .configuration
            .as_ref()
            .filter(|it| it.generation > 1 || it.fault.is_some() || !it.needs_restart.is_empty())
        {
            tables::configuration(configuration)?;
        }
        refusals::in_short(&refused.refusals)?;
        unmatched::in_short(&summary.tenants)?;
        if !summary.tenants.is_empty() {
            tables::tenants(&summary.tenants, screen)?;
        }
        if !summary.routes.is_empty() {
            tables::route_sums(&summary.routes, screen)?;
        }
        return tables::deliveries(&list, screen);
    }
    let list = list(relay, filter, args).await?;
    if args.ask.json {
        return Ok(print::json_document(&list)?);
    }
    print::warn_if_incomplete(list.incomplete)?;
    tables::deliveries(&list, screen)
}

/// Warns of what is missing in sums.
pub(super) fn warn_of(summary: &GetSummaryResponse) -> io::Result<()> {
    print::warn_if_incomplete(summary.incomplete)?;
    if summary.view_behind >= FAR_BEHIND {
        let behind = summary.view_behind;
        print::warn(&format!(
            "the status is {behind} commits of the journal behind: what happened last is missing"
        ))?;
    }
    Ok(())
}

async fn list(
    relay: &mut Relay,
    filter: DeliveryFilter,
    args: &Status,
) -> Result<ListDeliveriesResponse, Failure> {
    let request =
        ListDeliveriesRequest { filter: Some(filter), page_size: args.limit, page_token: String::new() };
    Ok(relay.list_deliveries(request).await?.into_inner())
}

/// The callbacks that came for an event with another body. None for one that was forgotten a moment ago.
async fn conflicts_of(relay: &mut Relay, event_id: &str) -> Result<Vec<EventConflict>, Failure> {
    let request = GetEventRequest { event_id: event_id.to_owned(), include_payload: false };
    match relay.get_event(request).await {
        Ok(answer) => Ok(answer.into_inner().conflicts),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(Vec::new()),
        Err(status) => Err(status.into()),
    }
}

async fn event(relay: &mut Relay, id: &str, args: &Status) -> Result<(), Failure> {
    let event_id = ids::whole_of(relay, id).await?;
    let request = GetEventRequest { event_id, include_payload: args.payload };
    let answer = relay.get_event(request).await?.into_inner();
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    show_event(&answer, args.payload)?;
    for delivery in &answer.deliveries {
        let request = GetDeliveryRequest { delivery_id: delivery.id.clone() };
        show_delivery(&relay.get_delivery(request).await?.into_inner())?;
    }
    Ok(())
}

async fn delivery(relay: &mut Relay, id: &str, args: &Status) -> Result<(), Failure> {
    let id = ids::whole_of(relay, id).await?;
    let answer = relay.get_delivery(GetDeliveryRequest { delivery_id: id.clone() }).await?.into_inner();
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    show_delivery(&answer)?;
    let event = id.parse::<DeliveryId>().map(|id| id.event.to_string()).unwrap_or_default();
    for conflict in conflicts_of(relay, &event).await? {
        writeln!(io::stdout(), "  {}", conflicted(&conflict))?;
    }
    Ok(())
}

async fn quarantined(relay: &mut Relay, args: Status) -> Result<(), Failure> {
    let screen = Screen::stdout(args.wide);
    let request = ListQuarantinedRequest {
        tenant: args.filter.tenant.unwrap_or_default(),
        include_payload: args.payload,
        page_size: args.limit,
        page_token: String::new(),
    };
    let list = relay.list_quarantined(request).await?.into_inner();
    if args.ask.json {
        return Ok(print::json_document(&list)?);
    }
    print::warn_if_incomplete(list.incomplete)?;
    Ok(tables::quarantined(&list, args.payload, screen)?)
}
