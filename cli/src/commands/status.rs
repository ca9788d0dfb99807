//! `talaria status`: what became of callbacks.

use super::{actions, pause, refusals, routes, unmatched};
use crate::{
    Failure,
    args::{Filter, Status},
    client::{self, Shown},
    print::{self, BOLD, Cell, DIM, one_line, state_name, state_style, visible},
};
use jiff::Timestamp;
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_bus::time::{duration_from_proto, from_proto, since, to_proto};
use talaria_core::id::DeliveryId;
use talaria_proto::v1::{
    Attempt, AttemptOutcome, Configuration, ControlAction, Delivery, DeliveryFilter, DeliveryState, Event,
    EventConflict, GetDeliveryRequest, GetDeliveryResponse, GetEventRequest, GetEventResponse,
    GetSummaryRequest, GetSummaryResponse, ListDeliveriesRequest, ListDeliveriesResponse, ListEventsRequest,
    ListQuarantinedRequest, RouteSummary, TenantSummary, status_service_client::StatusServiceClient,
};

pub(super) type Relay = StatusServiceClient<Shown>;

/// The status is always a few commits behind while much happens. From so many on, it is said.
const FAR_BEHIND: u64 = 1_000;

pub(crate) async fn run(config: &Path, args: Status) -> Result<(), Failure> {
    let mut relay = client::connect(&args.ask, config).await?;
    client::knows_tenant(&mut relay, args.filter.tenant.as_deref()).await?;
    match args.id.as_deref() {
        _ if args.quarantined => quarantined(&mut relay, args).await,
        _ if args.unmatched => unmatched::show(&mut relay, &args).await,
        _ if args.refused => refusals::show(&mut relay, args.filter.tenant.as_deref(), args.ask.json).await,
        _ if args.routes => routes::show(&mut relay, args.filter.tenant.as_deref(), args.ask.json).await,
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
    let filter = DeliveryFilter { job_id: job.to_owned(), ..request_filter(&args.filter) };
    let request = ListEventsRequest {
        tenant: filter.tenant.clone(),
        job_id: job.to_owned(),
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
    let now = Timestamp::now();
    let row = |event: &Event| {
        vec![
            Cell::styled(print::clock_time(event.received_at.as_ref(), now), DIM),
            Cell::from(&event.tenant),
            Cell::from(&event.r#type),
            Cell::styled(&event.id, DIM),
        ]
    };
    print::table(&["RECEIVED", "TENANT", "TYPE", "EVENT"], events.events.iter().map(row).collect())?;
    for conflict in &conflicts {
        writeln!(io::stdout(), "{}: {}", conflict.event_id, conflicted(conflict, now))?;
    }
    writeln!(io::stdout())?;
    show_deliveries(&list)
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
    let filter = request_filter(&args.filter);
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
            show_configuration(configuration)?;
        }
        refusals::in_short(&refused.refusals)?;
        unmatched::in_short(&summary.tenants)?;
        if !summary.tenants.is_empty() {
            tenants(&summary.tenants)?;
        }
        if !summary.routes.is_empty() {
            show_routes(&summary.routes)?;
        }
        return show_deliveries(&list);
    }
    let list = list(relay, filter, args).await?;
    if args.ask.json {
        return Ok(print::json_document(&list)?);
    }
    print::warn_if_incomplete(list.incomplete)?;
    show_deliveries(&list)
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

/// Which configuration is in force; in red what is not.
fn show_configuration(configuration: &Configuration) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let (bad, now) = (state_style(DeliveryState::Parked), Timestamp::now());
    let loaded = print::clock_time(configuration.loaded_at.as_ref(), now);
    let Configuration { generation, needs_restart, fault, .. } = configuration;
    writeln!(out, "{DIM}configuration {generation}, read at {loaded}{DIM:#}")?;
    if !needs_restart.is_empty() {
        writeln!(out, "{bad}needs a restart: {}{bad:#}", needs_restart.join(", "))?;
    }
    if let Some(fault) = fault {
        let at = print::clock_time(fault.at.as_ref(), now);
        writeln!(out, "{bad}the file that was read at {at} is not valid and not in force:{bad:#}")?;
        for problem in &fault.problems {
            let place = match problem.line {
                0 => String::new(),
                line => format!("{line}:{}: ", problem.column),
            };
            writeln!(out, "  {place}{}\n    help: {}", one_line(&problem.what), one_line(&problem.help))?;
        }
    }
    Ok(writeln!(out)?)
}

fn tenants(tenants: &[TenantSummary]) -> Result<(), Failure> {
    let now = Timestamp::now();
    let rows = tenants.iter().map(|tenant| {
        vec![
            tenant.tenant.as_str().into(),
            tenant.events.into(),
            tenant.unmatched_events.into(),
            tenant.conflicts.into(),
            tenant.quarantined.into(),
            Cell::styled(
                tenant.pause.as_ref().map_or(String::new(), |paused| pause::told(paused, now)),
                state_style(DeliveryState::Parked),
            ),
        ]
    });
    print::table(&["TENANT", "EVENTS", "UNMATCHED", "CONFLICTS", "QUARANTINED", ""], rows.collect())?;
    Ok(writeln!(io::stdout())?)
}

fn show_routes(routes: &[RouteSummary]) -> Result<(), Failure> {
    let now = Timestamp::now();
    let row = |route: &RouteSummary| {
        let count = |state: DeliveryState| {
            let count = route
                .counts
                .iter()
                .find(|counted| counted.state() == state)
                .map_or(0, |counted| counted.count);
            if count == 0 { Cell::styled("-", DIM) } else { Cell::styled(count, state_style(state)) }
        };
        let latency = route.delivery_latency.as_ref().map_or("-".to_owned(), |latency| {
            let percentile = |duration: &Option<_>| print::duration(duration_from_proto(duration.as_ref()));
            format!("{} / {}", percentile(&latency.p50), percentile(&latency.p99))
        });
        let oldest = route.oldest_waiting_received_at.as_ref();
        let oldest = oldest.map_or("-".to_owned(), |at| print::duration(since(now, from_proto(Some(at)))));
        vec![
            Cell::from(format!("{}/{}", route.tenant, route.route)),
            count(DeliveryState::Waiting),
            count(DeliveryState::Delivered),
            count(DeliveryState::Ignored),
            count(DeliveryState::Parked),
            count(DeliveryState::Ambiguous),
            Cell::from(route.success_share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))),
            Cell::from(latency),
            Cell::from(oldest),
            Cell::styled(routes::in_the_way(route, now), state_style(DeliveryState::Parked)),
        ]
    };
    let heads = [
        "ROUTE",
        "WAITING",
        "DELIVERED",
        "IGNORED",
        "PARKED",
        "AMBIGUOUS",
        "SUCCESS",
        "P50 / P99",
        "OLDEST",
        "",
    ];
    print::table(&heads, routes.iter().map(row).collect())?;
    Ok(writeln!(io::stdout())?)
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

fn show_deliveries(list: &ListDeliveriesResponse) -> Result<(), Failure> {
    if list.deliveries.is_empty() {
        return Ok(writeln!(anstream::stdout(), "{DIM}No deliveries.{DIM:#}")?);
    }
    let now = Timestamp::now();
    let row = |delivery: &Delivery| {
        vec![
            Cell::styled(print::clock_time(delivery.received_at.as_ref(), now), DIM),
            Cell::state(delivery.state()),
            Cell::from(format!("{}/{}", delivery.tenant, delivery.route)),
            Cell::from(&delivery.job_id),
            Cell::from(&delivery.event_type),
            Cell::from(delivery.attempts),
            Cell::styled(&delivery.id, DIM),
            Cell::from(&delivery.reason),
        ]
    };
    let heads = ["RECEIVED", "STATE", "ROUTE", "JOB", "TYPE", "ATTEMPTS", "DELIVERY", "WHY"];
    print::table(&heads, list.deliveries.iter().map(row).collect())?;
    if !list.next_page_token.is_empty() {
        writeln!(
            anstream::stdout(),
            "{DIM}There are more: --limit shows up to 1000, --since and --until narrow.{DIM:#}"
        )?;
    }
    Ok(())
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

/// A conflict, in one line.
fn conflicted(conflict: &EventConflict, now: Timestamp) -> String {
    let at = print::clock_time(conflict.received_at.as_ref(), now);
    let id = &conflict.event_id;
    format!(
        "conflict: came again at {at} with another body; the first one stands. `talaria status {id} --payload` shows both"
    )
}

async fn event(relay: &mut Relay, id: &str, args: &Status) -> Result<(), Failure> {
    let request = GetEventRequest { event_id: id.to_owned(), include_payload: args.payload };
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

/// What an event is, without what became of it.
pub(crate) fn show_event_head(out: &mut impl io::Write, event: &Event, now: Timestamp) -> io::Result<()> {
    writeln!(out, "{BOLD}{}{BOLD:#}  {}", event.id, one_line(&event.r#type))?;
    let job = format!("{} ({})", one_line(&event.job_id), one_line(&event.status));
    writeln!(
        out,
        "  tenant {}, job {job}, received {}",
        event.tenant,
        print::clock_time(event.received_at.as_ref(), now)
    )?;
    for (name, value) in
        [("model", &event.model), ("generation", &event.generation_id), ("error", &event.error)]
    {
        if let Some(value) = value {
            writeln!(out, "  {name} {}", one_line(value))?;
        }
    }
    for url in &event.unsigned_urls {
        writeln!(out, "  file {}", one_line(url))?;
    }
    Ok(())
}

/// What an event is, in a few lines.
fn show_event(answer: &GetEventResponse, payload: bool) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let event = answer.event.clone().unwrap_or_default();
    let now = Timestamp::now();
    show_event_head(&mut out, &event, now)?;
    for conflict in &answer.conflicts {
        let at = print::clock_time(conflict.received_at.as_ref(), now);
        writeln!(
            out,
            "  conflict: came again at {at} with another body ({} bytes); the first one stands",
            conflict.payload.len()
        )?;
        if payload {
            writeln!(out, "{}", visible(&String::from_utf8_lossy(&conflict.payload)))?;
        }
    }
    if payload {
        writeln!(out, "{}", visible(&String::from_utf8_lossy(&event.payload)))?;
    }
    if answer.deliveries.is_empty() {
        let help = format!(
            "talaria explain {id} says why; talaria replay {id} --route ROUTE hands it over",
            id = event.id
        );
        writeln!(out, "  no route of the tenant took it: {help}")?;
    }
    Ok(())
}

async fn delivery(relay: &mut Relay, id: &str, args: &Status) -> Result<(), Failure> {
    let answer = relay.get_delivery(GetDeliveryRequest { delivery_id: id.to_owned() }).await?.into_inner();
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    show_delivery(&answer)?;
    let now = Timestamp::now();
    let event = id.parse::<DeliveryId>().map(|id| id.event.to_string()).unwrap_or_default();
    for conflict in conflicts_of(relay, &event).await? {
        writeln!(io::stdout(), "  {}", conflicted(&conflict, now))?;
    }
    Ok(())
}

/// A delivery with its attempts.
pub(crate) fn show_delivery(answer: &GetDeliveryResponse) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let delivery = answer.delivery.clone().unwrap_or_default();
    let (style, now) = (state_style(delivery.state()), Timestamp::now());
    writeln!(out, "{BOLD}{}{BOLD:#}  {}/{}", delivery.id, delivery.tenant, delivery.route)?;
    // In the order in which it happened.
    let mut actions = answer.actions.iter().peekable();
    for attempt in &answer.attempts {
        let began = from_proto(attempt.started_at.as_ref());
        while let Some(action) = actions.next_if(|action| from_proto(action.at.as_ref()) < began) {
            acted(&mut out, action, now)?;
        }
        let at = print::clock_time(attempt.started_at.as_ref(), now);
        writeln!(out, "  {DIM}{at}{DIM:#}  attempt {}: {}", attempt.number, told(attempt))?;
        for note in &attempt.guarded {
            writeln!(out, "                guard: {note}")?;
        }
    }
    for action in actions {
        acted(&mut out, action, now)?;
    }
    let at = print::clock_time(delivery.updated_at.as_ref(), now);
    let state = state_name(delivery.state());
    writeln!(out, "  {DIM}{at}{DIM:#}  {style}{state}{style:#}: {}", one_line(&delivery.reason))?;
    if let Some(next) = &delivery.next_attempt_at {
        writeln!(out, "                next attempt at {}", print::clock_time(Some(next), now))?;
    }
    Ok(())
}

fn acted(out: &mut impl io::Write, action: &ControlAction, now: Timestamp) -> io::Result<()> {
    let at = print::clock_time(action.at.as_ref(), now);
    writeln!(out, "  {DIM}{at}{DIM:#}  {}", actions::line(action))
}

/// An attempt, in one line.
fn told(attempt: &Attempt) -> String {
    let took = attempt
        .duration
        .as_ref()
        .map(|took| format!(" in {}", print::duration(duration_from_proto(Some(took)))));
    // A refusal of the route or of the pace is shown, and uses nothing up.
    let free = matches!(attempt.outcome(), AttemptOutcome::RouteFault | AttemptOutcome::RateLimited);
    let free = if free { ", not counted" } else { "" };
    format!("{}{}{free}", one_line(&attempt.detail), took.unwrap_or_default())
}

/// A delivery as it stands after a change, in one line.
pub(crate) fn line(delivery: &Delivery, attempt: Option<&Attempt>) -> String {
    let (style, now) = (state_style(delivery.state()), Timestamp::now());
    let at = print::clock_time(delivery.updated_at.as_ref(), now);
    let what = match attempt {
        Some(attempt) => format!("attempt {}: {}", attempt.number, told(attempt)),
        None => one_line(&delivery.reason),
    };
    let next = match &delivery.next_attempt_at {
        Some(next) if from_proto(Some(next)) > now => {
            format!(", next at {}", print::clock_time(Some(next), now))
        }
        _ => String::new(),
    };
    format!(
        "{DIM}{at}{DIM:#}  {style}{:<9}{style:#}  {}/{}  {}  {what}{next}",
        state_name(delivery.state()),
        delivery.tenant,
        delivery.route,
        one_line(&delivery.job_id),
    )
}

async fn quarantined(relay: &mut Relay, args: Status) -> Result<(), Failure> {
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
    let mut out = anstream::stdout().lock();
    match list.total {
        1 => writeln!(out, "1 signed callback was not an event.")?,
        n => writeln!(out, "{n} signed callbacks were not events.")?,
    }
    let now = Timestamp::now();
    for callback in &list.callbacks {
        let at = print::clock_time(callback.received_at.as_ref(), now);
        writeln!(
            out,
            "{DIM}{at}{DIM:#}  {}  {}  {} bytes  {}",
            callback.tenant,
            callback.id,
            callback.payload_size,
            one_line(&callback.reason)
        )?;
        if args.payload {
            writeln!(out, "{}", visible(&String::from_utf8_lossy(&callback.payload)))?;
        }
    }
    Ok(())
}
