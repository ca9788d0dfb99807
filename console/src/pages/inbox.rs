//! What came in: events, those that no route took, signed callbacks that are no events, and what was refused.

use super::{
    deliveries::{input, moment, select},
    form::{Fields, url},
    frame::Page,
    parts::{self, count, pager},
    visitor::Visitor,
};
use crate::fault::Fault;
use maud::{Markup, html};
use talaria_proto::v1::{
    Event, EventSource, ListEventsRequest, ListQuarantinedRequest, ListRefusalsRequest, ListUnmatchedRequest,
    QuarantinedCallback, Refusal, UnmatchedEvent,
};

const PAGE_SIZE: u32 = 50;

/// The most of a quarantined body that is shown, in bytes.
const LONGEST_RAW: usize = 4 * 1024;

/// Fewer, because each has its payload.
const QUARANTINED_PAGE_SIZE: u32 = 10;

const FILTERS: &[&str] = &["show", "tenant", "type", "model", "job", "since", "until"];

const SHOWS: [(&str, &str); 4] = [
    ("events", "Events"),
    ("unmatched", "Unmatched"),
    ("quarantined", "Quarantined"),
    ("refused", "Refused"),
];

pub(super) async fn page(visitor: &Visitor, fields: &Fields) -> Result<Page, Fault> {
    let show = fields.get("show").unwrap_or("events");
    let List { shown, count, incomplete, next } = match list(visitor, fields, show).await {
        Ok(list) => list,
        Err(fault) => {
            return Page::refused(fault, "Inbox", "/inbox", &filter_form(visitor, fields, show));
        }
    };
    let main = html! {
        h1 { "Inbox" }
        nav.tabs aria-label="What is shown" {
            @for (name, label) in SHOWS {
                a href=(url("/inbox", &[("show", name)])) aria-current=[(name == show).then_some("page")] { (label) }
            }
        }
        (filter_form(visitor, fields, show))
        div data-live id="inbox" {
            (parts::incomplete(incomplete))
            (shown)
            (parts::goes_on(count, &next))
        }
        (pager("/inbox", fields, FILTERS, &next))
    };
    Ok(Page::new("Inbox", "/inbox", main))
}

/// A page of a list.
struct List {
    shown: Markup,
    count: usize,
    incomplete: bool,
    next: String,
}

async fn list(visitor: &Visitor, fields: &Fields, show: &str) -> Result<List, Fault> {
    let tenant = fields.text("tenant").to_owned();
    let (page_token, since, until) =
        (fields.text("page").to_owned(), moment(fields, "since")?, moment(fields, "until")?);
    let (event_type, model) = (fields.text("type").to_owned(), fields.text("model").to_owned());
    let (shown, count, incomplete, next) = match show {
        "events" => {
            let request = ListEventsRequest {
                tenant,
                job_id: fields.text("job").to_owned(),
                since,
                until,
                event_type,
                model,
                unmatched: false,
                page_size: PAGE_SIZE,
                page_token,
            };
            let answer = visitor.status().list_events(request).await?.into_inner();
            (events(&answer.events), answer.events.len(), answer.incomplete, answer.next_page_token)
        }
        "unmatched" => {
            let page_size = PAGE_SIZE;
            let request =
                ListUnmatchedRequest { tenant, since, until, event_type, model, page_size, page_token };
            let answer = visitor.status().list_unmatched(request).await?.into_inner();
            (
                unmatched(visitor, &answer.events),
                answer.events.len(),
                answer.incomplete,
                answer.next_page_token,
            )
        }
        "quarantined" => {
            let page_size = QUARANTINED_PAGE_SIZE;
            let request = ListQuarantinedRequest { tenant, include_payload: true, page_size, page_token };
            let answer = visitor.status().list_quarantined(request).await?.into_inner();
            (
                quarantined(&answer.callbacks),
                answer.callbacks.len(),
                answer.incomplete,
                answer.next_page_token,
            )
        }
        "refused" => {
            let answer = visitor.status().list_refusals(ListRefusalsRequest { tenant }).await?.into_inner();
            (refused(&answer.refusals), answer.refusals.len(), false, String::new())
        }
        other => {
            return Err(Fault::invalid(format!(
                "the inbox shows events, unmatched, quarantined or refused, and not {other}"
            )));
        }
    };
    Ok(List { shown, count, incomplete, next })
}

fn filter_form(visitor: &Visitor, fields: &Fields, show: &str) -> Markup {
    let tenants = visitor.config.tenants.keys().map(String::as_str).filter(|name| visitor.sees(name));
    html! {
        form.filter method="get" action="/inbox" role="search" aria-label="Filter" {
            input type="hidden" name="show" value=(show);
            (select("tenant", "Tenant", tenants, fields))
            @if show == "events" { (input("job", "Job", "OpenRouter's id", fields)) }
            @if matches!(show, "events" | "unmatched") {
                (input("type", "Type", "video.generation.*", fields))
                (input("model", "Model", "google/veo-3.1", fields))
                (input("since", "Since", "2h, or a time in UTC", fields))
                (input("until", "Until", "1h, or a time in UTC", fields))
            }
            div.row { button { "Filter" } a href=(url("/inbox", &[("show", show)])) { "Clear" } }
        }
    }
}

fn event_cells(event: &Event) -> Markup {
    html! {
        th scope="row" { a.id data-row href={ "/events/" (event.id) } title=(event.id) { (talaria_core::short_id::short(&event.id)) } }
        td { (parts::time(event.received_at.as_ref())) }
        td { (event.tenant) }
        td { (parts::text(&event.r#type)) }
        td.clip title=(event.job_id) { (parts::text(&event.job_id)) }
        td { (parts::or_none(event.model.as_deref().unwrap_or_default())) }
    }
}

pub(super) fn events(events: &[Event]) -> Markup {
    let row = |event: &Event| {
        let how = if event.source() == EventSource::Poll { "poll" } else { "callback" };
        html! { (event_cells(event)) td { (how) } td.wide { (parts::text(event.error.as_deref().unwrap_or_default())) } }
    };
    let rows: Vec<Markup> = events.iter().map(row).collect();
    let heads = ["Event", "Received", "Tenant", "Type", "Job", "Model", "By", "Error"];
    parts::table("Events", &heads, &rows, "No event came.")
}

fn unmatched(visitor: &Visitor, events: &[UnmatchedEvent]) -> Markup {
    let row = |unmatched: &UnmatchedEvent| {
        let event = unmatched.event.clone().unwrap_or_default();
        let routes =
            visitor.config.tenants.get(&event.tenant).into_iter().flat_map(|tenant| tenant.routes.keys());
        html! {
            (event_cells(&event))
            td.wide { (parts::text(&unmatched.why)) }
            td {
                @if visitor.controls() {
                    form.row method="post" action="/act/replay" {
                        input type="hidden" name="event" value=(event.id);
                        input type="hidden" name="generation" value="0";
                        input type="hidden" name="back" value={ "/events/" (event.id) };
                        select name="route" aria-label="Route" { @for route in routes { option { (route) } } }
                        button { "Deliver" }
                    }
                }
            }
        }
    };
    let rows: Vec<Markup> = events.iter().map(row).collect();
    let heads = ["Event", "Received", "Tenant", "Type", "Job", "Model", "Why no route took it", "Action"];
    parts::table("Unmatched events", &heads, &rows, "Every event was taken by a route.")
}

fn quarantined(callbacks: &[QuarantinedCallback]) -> Markup {
    html! {
        p.hint { "Callbacks with a valid signature that are no events. They are kept, and delivered nowhere." }
        @if callbacks.is_empty() { p.empty { "There is none." } }
        @for callback in callbacks {
            section.card {
                h2 { (parts::whole_id(&callback.id)) }
                dl.pairs {
                    dt { "Tenant" } dd { (callback.tenant) }
                    dt { "Received" } dd { (parts::time(callback.received_at.as_ref())) }
                    dt { "Why" } dd { (parts::text(&callback.reason)) }
                }
                @let raw = String::from_utf8_lossy(callback.payload.get(..LONGEST_RAW).unwrap_or(&callback.payload));
                details id={ "raw-" (callback.id) } {
                    summary { "As it came, " (count(callback.payload_size)) " bytes" }
                    pre tabindex="0" { (parts::lines(&raw)) }
                    @if callback.payload.len() > LONGEST_RAW {
                        p.hint { "The first " (count(LONGEST_RAW as u64)) " bytes. " code { "talaria status --quarantined --payload" } " shows all." }
                    }
                }
            }
        }
    }
}

fn refused(refusals: &[Refusal]) -> Markup {
    let row = |refusal: &Refusal| {
        html! {
            th scope="row" { (parts::or_none(&refusal.tenant)) }
            td { (parts::text(&refusal.text)) }
            td.number { (count(refusal.count)) }
            td { (parts::time(refusal.last_at.as_ref())) }
            td { (parts::or_none(&refusal.client)) }
            td.clip title=(refusal.path) { (parts::or_none(&refusal.path)) }
            td.number { @if refusal.answered > 0 { (refusal.answered) } @else { span.none { "–" } } }
            td.wide { (parts::sentence(&refusal.hint)) }
        }
    };
    let rows: Vec<Markup> = refusals.iter().map(row).collect();
    let heads = ["Tenant", "Reason", "#How many", "Last", "From", "Path", "#Answered", "What to do"];
    html! {
        p.hint { "Of the last hour, as the ingresses that run now counted it. Refused callbacks are not stored." }
        (parts::table("Refused callbacks", &heads, &rows, "Nothing was refused in the last hour."))
    }
}
