//! `talaria status`: shows callbacks and their deliveries.
//!
//! - `job`: a job. `evidence`: requests and answers of a delivery. `refused`, `routes`, `unmatched`: the lists of these options.
//!   `tables`: the others.

mod evidence;
mod job;
mod refused;
mod routes;
mod tables;
mod unmatched;

use crate::{
    Failure,
    args::Status,
    client::{self, StatusClient, ask, ids},
    print::{
        self, Screen,
        delivery::{conflict, show_delivery, show_event},
    },
};
use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    path::Path,
};
use talaria_core::{config, id::DeliveryId};
use talaria_proto::v1::{
    DeliveryFilter, EventConflict, GetDeliveryRequest, GetEventRequest, GetSummaryRequest,
    GetSummaryResponse, ListDeliveriesRequest, ListDeliveriesResponse, ListQuarantinedRequest,
};

/// Commits of lag from which the user is warned. Under load the status is always a few commits behind.
const FAR_BEHIND: u64 = 1_000;

pub(crate) async fn run(config: &Path, mut args: Status) -> Result<(), Failure> {
    args.filter = args.filter.with_tenant_of_route()?;
    let mut relay = client::status(&args.ask, config).await?;
    client::check_tenant(&mut relay, args.filter.tenant.as_deref()).await?;
    ids::restrict_to_job(&mut relay, &args.ask, config, &mut args.filter).await?;
    match args.id.as_deref() {
        _ if args.quarantined => quarantined(&mut relay, args).await,
        _ if args.unmatched => unmatched::show(&mut relay, &args).await,
        _ if args.refused => refused::show(&mut relay, args.filter.tenant.as_deref(), args.ask.json).await,
        _ if args.routes => routes::show(&mut relay, &args).await,
        Some(id) if args.evidence && id.starts_with("dlv_") => {
            evidence::show(&mut relay, id, args.attempt, args.ask.json).await
        }
        _ if args.evidence => Err(Failure::Usage("--evidence needs a delivery (dlv_…)".to_owned())),
        Some(id) if id.starts_with("evt_") => event(&mut relay, id, &args).await,
        Some(id) if id.starts_with("qrt_") => {
            Err(Failure::Usage(format!("{id} was no event; talaria status --quarantined lists it")))
        }
        Some(id) if id.starts_with("rpl_") => {
            Err(Failure::Usage(format!("{id} is a replay job; talaria replays {id} shows it")))
        }
        Some(_) if args.payload => {
            Err(Failure::Usage("--payload needs an event (evt_…) or --quarantined".to_owned()))
        }
        Some(id) if id.starts_with("dlv_") => delivery(&mut relay, id, &args).await,
        Some(id) => job::show(&mut relay, config, id, &args).await,
        None => overview(&mut relay, &args, config).await,
    }
}

/// Sums and the latest deliveries; with a filter or for a later page, the deliveries alone.
async fn overview(relay: &mut StatusClient, args: &Status, config: &Path) -> Result<(), Failure> {
    let (filter, screen) = (DeliveryFilter::from(&args.filter), Screen::stdout(args.list.wide));
    let by_tenant = DeliveryFilter { tenant: filter.tenant.clone(), ..DeliveryFilter::default() };
    if filter == by_tenant && args.list.page.is_empty() {
        let mut summary = ask(relay.get_summary(GetSummaryRequest { tenant: filter.tenant.clone() })).await?;
        let refusals = refused::list(relay, &filter.tenant).await?;
        let mut list = list(relay, filter, args).await?;
        if args.ask.json {
            list.incomplete |= summary.incomplete;
            let mut document = print::json(&summary)?;
            print::merge(&mut document, print::json(&list)?);
            print::merge(&mut document, print::json(&refusals)?);
            return Ok(writeln!(io::stdout(), "{document:#}")?);
        }
        summary.incomplete |= list.incomplete;
        warn_if_partial(&summary)?;
        // The first configuration is not worth a line.
        if let Some(configuration) = summary
            .configuration
            .as_ref()
            .filter(|it| it.generation > 1 || it.fault.is_some() || !it.needs_restart.is_empty())
        {
            tables::configuration(configuration)?;
        }
        refused::summary(&refusals.refusals)?;
        unmatched::summary(&summary.tenants)?;
        if !summary.tenants.is_empty() {
            tables::tenants(&summary.tenants, screen)?;
        }
        if !summary.routes.is_empty() {
            tables::route_sums(&summary.routes, screen)?;
        }
        return Ok(tables::deliveries(&list, screen)?);
    }
    let list = list(relay, filter, args).await?;
    if let (Some(route), true) = (&args.filter.route, list.deliveries.is_empty() && args.list.page.is_empty())
    {
        check_route(relay, args.filter.tenant.as_deref(), route, config).await?;
    }
    if args.ask.json {
        return Ok(print::json_document(&list)?);
    }
    print::warn_if_incomplete(list.incomplete)?;
    Ok(tables::deliveries(&list, screen)?)
}

/// Fails for a route that has had no delivery and is not in the configuration here.
async fn check_route(
    relay: &mut StatusClient,
    tenant: Option<&str>,
    route: &str,
    config: &Path,
) -> Result<(), Failure> {
    let request = GetSummaryRequest { tenant: tenant.unwrap_or_default().to_owned() };
    let summary = ask(relay.get_summary(request)).await?;
    let mut names: BTreeSet<(String, String)> =
        summary.routes.iter().map(|known| (known.tenant.clone(), known.route.clone())).collect();
    // The relay reports no route before its first delivery. Without its file, nothing is known of such a route.
    let Ok(configured) = config::load_signers(config) else { return Ok(()) };
    names.extend(configured.iter().filter_map(|(name, ..)| {
        let (owner, route) = name.split_once('/')?;
        tenant.is_none_or(|tenant| tenant == owner).then(|| (owner.to_owned(), route.to_owned()))
    }));
    if summary.incomplete || names.iter().any(|(_, known)| known == route) {
        return Ok(());
    }
    let route = tenant.map_or_else(|| route.to_owned(), |tenant| format!("{tenant}/{route}"));
    let names: Vec<String> = names.iter().map(|(tenant, route)| format!("{tenant}/{route}")).collect();
    let known =
        if names.is_empty() { "none is".to_owned() } else { format!("there is: {}", names.join(", ")) };
    Err(Failure::Unknown(format!(
        "no route {route} is known: it has had no delivery, and {} does not name it; {known}",
        config.display()
    )))
}

/// Warns if sums are incomplete or old.
fn warn_if_partial(summary: &GetSummaryResponse) -> io::Result<()> {
    print::warn_if_incomplete(summary.incomplete)?;
    if summary.view_behind >= FAR_BEHIND {
        let behind = summary.view_behind;
        print::warn(&format!(
            "the status is {behind} commits of the journal behind: the latest changes are missing"
        ))?;
    }
    Ok(())
}

async fn list(
    relay: &mut StatusClient,
    filter: DeliveryFilter,
    args: &Status,
) -> Result<ListDeliveriesResponse, Failure> {
    let mut request = ListDeliveriesRequest {
        filter: Some(filter),
        page_size: args.list.limit,
        page_token: args.list.page.clone(),
    };
    let mut found = ask(relay.list_deliveries(request.clone())).await?;
    // Where the filter matches little of much, a page is not full, and the relay searches on when it is asked again.
    while !found.next_page_token.is_empty()
        && let Some(missing) = left(args.list.limit, found.deliveries.len())
    {
        (request.page_size, request.page_token) = (missing, found.next_page_token);
        let more = ask(relay.list_deliveries(request.clone())).await?;
        found.deliveries.extend(more.deliveries);
        found.next_page_token = more.next_page_token;
        found.incomplete |= more.incomplete;
    }
    Ok(found)
}

/// How many entries a page of `limit` lacks; `None` for a full one.
fn left(limit: u32, found: usize) -> Option<u32> {
    let left = limit.saturating_sub(u32::try_from(found).unwrap_or(u32::MAX));
    (left > 0).then_some(left)
}

/// An event's conflicts; none for an event that was just forgotten.
async fn conflicts_of(relay: &mut StatusClient, event_id: &str) -> Result<Vec<EventConflict>, Failure> {
    let request = GetEventRequest { event_id: event_id.to_owned(), include_payload: false };
    match relay.get_event(request).await {
        Ok(answer) => Ok(answer.into_inner().conflicts),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(Vec::new()),
        Err(status) => Err(status.into()),
    }
}

async fn event(relay: &mut StatusClient, id: &str, args: &Status) -> Result<(), Failure> {
    let event_id = ids::complete(relay, id).await?;
    let request = GetEventRequest { event_id, include_payload: args.payload };
    let answer = ask(relay.get_event(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    show_event(&answer, args.payload)?;
    for delivery in &answer.deliveries {
        let request = GetDeliveryRequest { delivery_id: delivery.id.clone() };
        show_delivery(&ask(relay.get_delivery(request)).await?)?;
    }
    Ok(())
}

async fn delivery(relay: &mut StatusClient, id: &str, args: &Status) -> Result<(), Failure> {
    let id = ids::complete(relay, id).await?;
    let answer = ask(relay.get_delivery(GetDeliveryRequest { delivery_id: id.clone() })).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    show_delivery(&answer)?;
    let event = id.parse::<DeliveryId>().map(|id| id.event.to_string()).unwrap_or_default();
    for found in conflicts_of(relay, &event).await? {
        writeln!(io::stdout(), "  {}", conflict(&found))?;
    }
    Ok(())
}

async fn quarantined(relay: &mut StatusClient, args: Status) -> Result<(), Failure> {
    let screen = Screen::stdout(args.list.wide);
    let request = ListQuarantinedRequest {
        tenant: args.filter.tenant.unwrap_or_default(),
        include_payload: args.payload,
        page_size: args.list.limit,
        page_token: args.list.page,
    };
    let list = ask(relay.list_quarantined(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&list)?);
    }
    print::warn_if_incomplete(list.incomplete)?;
    tables::quarantined(&list, args.payload, screen)?;
    Ok(print::note_next_page(&list.next_page_token)?)
}
