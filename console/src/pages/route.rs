//! One route: what it does, what waits for it, and what can be done.

use super::{
    chart::Day,
    deliveries,
    form::Fields,
    frame::Page,
    parts::{self, count},
    routes,
    visitor::Visitor,
};
use crate::fault::Fault;
use http::StatusCode;
use jiff::Timestamp;
use maud::{Markup, html};
use talaria_core::{
    config::{BodyMode, Route},
    json::{Value, parse},
    openrouter::documented::COMPLETED,
    time::in_one_unit,
};
use talaria_proto::{
    time::from_proto,
    v1::{
        BreakerState, DeliveryFilter, DeliveryState, GetEventRequest, GetSummaryRequest,
        ListDeliveriesRequest, RouteSummary,
    },
};
use talaria_relay::defuse;
use tonic::Code;

/// How many of what waits, and of what came last, are shown.
const SHOWN: u32 = 20;

pub(super) async fn page(
    visitor: &Visitor,
    tenant: &str,
    name: &str,
    fields: &Fields,
) -> Result<Page, Fault> {
    let asked = GetSummaryRequest { tenant: tenant.to_owned() };
    let summary = visitor.status().get_summary(asked).await?.into_inner();
    let found = summary.routes.into_iter().find(|route| route.tenant == tenant && route.route == name);
    let configured = visitor.config.route(tenant, name).filter(|_| visitor.sees(tenant));
    let route = match (found, configured) {
        (Some(route), _) => route,
        (None, Some(_)) => RouteSummary {
            tenant: tenant.to_owned(),
            route: name.to_owned(),
            breaker: BreakerState::Admitting.into(),
            ..RouteSummary::default()
        },
        (None, None) => {
            let message = format!("there is no route {tenant}/{name}");
            return Err(Fault::http(StatusCode::NOT_FOUND, None, message).with(Code::NotFound));
        }
    };
    let list = async |states: Vec<i32>| -> Result<_, Fault> {
        let filter = DeliveryFilter {
            tenant: tenant.to_owned(),
            route: name.to_owned(),
            states,
            ..DeliveryFilter::default()
        };
        let request =
            ListDeliveriesRequest { filter: Some(filter), page_size: SHOWN, page_token: String::new() };
        Ok(visitor.status().list_deliveries(request).await?.into_inner().deliveries)
    };
    let waiting = list(vec![DeliveryState::Waiting.into()]).await?;
    let latest = list(Vec::new()).await?;
    let preview = match (configured, fields.get("preview")) {
        (Some(configured), Some(event)) => Some(preview(visitor, configured, event).await?),
        _ => None,
    };
    let day = Day::of_route(visitor, tenant, name).await?;
    let here = format!("/routes/{tenant}/{name}");
    let main = html! {
        h1 { (tenant) "/" (name) }
        div data-live id="route" {
            (parts::incomplete(summary.incomplete))
            p.headline { (routes::state(&route)) }
            (routes::why(&route))
            (sums(&route))
            (day.bars(tenant, name))
        }
        @if visitor.controls() { (controls(&route, visitor, &here)) }
        @if let Some(configured) = configured { (settings(configured)) }
        @if let Some(configured) = configured { (preview_form(configured, &here, fields, preview.as_ref())) }
        div data-live id="route-lists" {
            h2 { "Waiting" }
            (deliveries::table(&waiting, deliveries::Columns::Waiting))
            h2 { "Latest" }
            (deliveries::table(&latest, deliveries::Columns::OfRoute))
            p { a href={ "/deliveries?tenant=" (tenant) "&route=" (name) } { "All deliveries of this route" } }
        }
    };
    Ok(Page::new(format!("{tenant}/{name}"), "/routes", main))
}

fn sums(route: &RouteSummary) -> Markup {
    let latency = route.delivery_latency.as_ref();
    html! {
        dl.pairs {
            dt { "Waiting" } dd { (count(route.backlog)) }
            @if route.oldest_waiting_received_at.is_some() {
                dt { "Oldest received" } dd { (parts::time(route.oldest_waiting_received_at.as_ref())) }
            }
            @for counted in route.counts.iter().filter(|counted| counted.state() != DeliveryState::Waiting) { dt { (parts::state(counted.state())) } dd { (count(counted.count)) } }
            @if let Some(pace) = &route.pace {
                dt { "Pace" }
                dd {
                    (count(pace.sent.into())) " of " (count(pace.limit.into())) " in the last " (parts::duration(pace.window.as_ref()))
                    @if pace.limit < pace.configured { " (" (pace.configured) " are configured; Hermes refused some)" }
                }
                dt { "Next free slot" }
                dd { (slot(pace.next_first.as_ref())) @if pace.next_again != pace.next_first { "; of retries and replays " (slot(pace.next_again.as_ref())) } }
            }
            @if let Some(share) = route.success_share { dt { "Delivered of all that ended" } dd { (format!("{:.1} %", share * 100.0)) } }
            @if let Some(latency) = latency {
                dt { "From callback to delivered" }
                dd {
                    "p50 " (parts::duration(latency.p50.as_ref())) ", p90 " (parts::duration(latency.p90.as_ref()))
                    ", p99 " (parts::duration(latency.p99.as_ref())) ", over the last " (count(latency.samples.into()))
                }
            }
        }
    }
}

fn slot(at: Option<&prost_types::Timestamp>) -> Markup {
    if from_proto(at) <= Timestamp::now() {
        html! { "now" }
    } else {
        parts::time(at)
    }
}

fn controls(route: &RouteSummary, visitor: &Visitor, here: &str) -> Markup {
    let fields = [("tenant", route.tenant.as_str()), ("route", route.route.as_str())];
    let own_pause = route.pause.as_ref().is_some_and(|pause| !pause.route.is_empty());
    html! {
        section.controls aria-label="Actions" {
            @if own_pause { (routes::resume(visitor, &route.tenant, &route.route, here)) }
            @else if route.pause.is_some() {
                p { "The whole tenant " (route.tenant) " is paused." }
                (routes::resume(visitor, &route.tenant, "", here))
            }
            @else { (routes::pause(&route.tenant, &route.route, here)) }
            @if route.breaker() == BreakerState::Shut { (parts::button("/act/probe", "Probe now", &fields, here)) }
        }
    }
}

/// What the configuration says, without any secret and any header's value.
fn settings(route: &Route) -> Markup {
    let mut url = route.url.clone();
    // Some write a password there.
    let hidden = url.set_username("").and_then(|()| url.set_password(None)).is_err();
    url.set_query(None);
    let body = if route.body == BodyMode::Raw { "the callback's own bytes" } else { "a prompt" };
    html! {
        details id="settings" {
            summary { "Configuration" }
            dl.pairs {
                dt { "URL" } dd { @if hidden { "(not shown)" } @else { code { (url) } } }
                dt { "Events" }
                dd {
                    @if route.events.is_empty() { "all" }
                    @for (at, events) in route.events.iter().enumerate() { @if at > 0 { ", " } code { (events) } }
                    @if route.filter.is_some() { ", by its filter" }
                }
                dt { "Body" } dd { (body) @if route.deliver_only { ", delivered without the agent" } }
                dt { "Signature" } dd { (route.signing.name) }
                dt { "Pace" }
                dd { @match &route.pace { Some(pace) => { (pace.count) " in " (in_one_unit(pace.window)) }, None => { "no limit" } } }
                dt { "In flight" } dd { (route.in_flight) }
                dt { "Timeout" } dd { (in_one_unit(route.timeout)) }
                @if !route.headers.is_empty() {
                    dt { "Headers" }
                    dd { @for (at, header) in route.headers.iter().enumerate() { @if at > 0 { ", " } code { (header.name.as_str()) } } }
                }
            }
        }
    }
}

/// The prompt that the route would make of an event.
struct Preview {
    prompt: String,
    notes: Vec<String>,
}

async fn preview(visitor: &Visitor, route: &Route, event: &str) -> Result<Preview, Fault> {
    let bytes = if event == "example" {
        COMPLETED.into()
    } else {
        let request = GetEventRequest { event_id: event.to_owned(), include_payload: true };
        let found = visitor.status().get_event(request).await?.into_inner().event.unwrap_or_default();
        if found.payload.is_empty() {
            return Err(Fault::new(
                Code::FailedPrecondition,
                "the payload of this event is not kept any more",
            ));
        }
        found.payload
    };
    let payload =
        parse(&bytes).map_err(|error| Fault::invalid(format!("the payload is not JSON: {error}")))?;
    let event_type = payload.root().get("type").and_then(Value::as_str).unwrap_or("unknown");
    let rendered = route.prompt.render(payload.root(), &event_type.into(), &route.name.as_str().into());
    let (text, notes) = defuse(rendered, route.guard);
    Ok(Preview {
        prompt: text.to_str_lossy().into_owned(),
        notes: notes.iter().map(ToString::to_string).collect(),
    })
}

fn preview_form(route: &Route, here: &str, fields: &Fields, preview: Option<&Preview>) -> Markup {
    if route.body == BodyMode::Raw {
        return html! {};
    }
    html! {
        details id="preview" open[preview.is_some()] {
            summary { "Preview the prompt" }
            form.row method="get" action=(here) {
                label for="preview-event" { "Of an event" }
                input.wide id="preview-event" name="preview" required maxlength="100" value=(fields.get("preview").unwrap_or("example"))
                    placeholder="evt_…";
                button { "Preview" }
                span.hint { "“example” is the documented callback of a completed video." }
            }
            @if let Some(preview) = preview {
                pre.prompt tabindex="0" { (parts::lines(&preview.prompt)) }
                @for note in &preview.notes { p.hint { "Guard: " (parts::text(note)) } }
                p.hint { "Tokens such as " code { "{talaria.delivery_id}" } " get their value with the delivery." }
            }
        }
    }
}
