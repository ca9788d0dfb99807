//! One event: where it went, and its payload.

use super::{frame::Page, parts, tree, visitor::Visitor};
use crate::fault::Fault;
use maud::{Markup, html};
use talaria_core::money::dollars;
use talaria_proto::v1::{
    Event, EventConflict, EventSource, ExplainRequest, Explanation, GetEventRequest, RouteExplanation,
    RouteMatch, explain_request::Subject,
};

pub(super) async fn page(visitor: &Visitor, id: &str) -> Result<Page, Fault> {
    let asked = GetEventRequest { event_id: id.to_owned(), include_payload: !visitor.looks_again };
    let answer = visitor.status().get_event(asked).await?.into_inner();
    let event = answer.event.unwrap_or_default();
    let asked = ExplainRequest { subject: Some(Subject::EventId(id.to_owned())), tenant: String::new() };
    let explained = visitor.control().explain(asked).await;
    let explanation = explained.ok().and_then(|answer| answer.into_inner().explanations.into_iter().next());
    let here = format!("/events/{id}");
    let main = html! {
        h1 { "Event " (parts::whole_id(&event.id)) }
        div data-live id="event" {
            p.headline { (parts::text(&event.r#type)) }
            (pairs(&event))
            @match &explanation {
                Some(explanation) => (routes(visitor, &event, explanation, &here)),
                None => { h2 { "Deliveries" } (super::deliveries::table(&answer.deliveries, super::deliveries::Columns::All)) },
            }
        }
        // It never changes.
        @if !visitor.looks_again { (payloads(&event, &answer.conflicts)) }
    };
    Ok(Page::new("Event", "/inbox", main))
}

fn payloads(event: &Event, conflicts: &[EventConflict]) -> Markup {
    html! {
        h2 { "Payload" }
        (tree::payload("payload", &event.payload))
        @for (at, conflict) in conflicts.iter().enumerate() {
            h2 { "Conflict " (at + 1) }
            p { "At " (parts::time(conflict.received_at.as_ref())) " a callback came for this event with another body. The first one stands." }
            (tree::payload(&format!("conflict-{at}"), &conflict.payload))
        }
    }
}

fn pairs(event: &Event) -> Markup {
    html! {
        dl.pairs {
            dt { "Tenant" } dd { (event.tenant) }
            dt { "Job" }
            dd { a href=(super::form::url("/search", &[("q", &event.job_id)])) { (parts::text(&event.job_id)) } " (" (parts::text(&event.status)) ")" }
            dt { "Received" }
            dd { (parts::time(event.received_at.as_ref())) @if event.source() == EventSource::Poll { " by polling OpenRouter" } }
            @for (name, value) in [("Model", &event.model), ("Generation", &event.generation_id), ("Error", &event.error)] {
                @if let Some(value) = value { dt { (name) } dd { (parts::text(value)) } }
            }
            @if let Some(cost) = event.cost_micros { dt { "Cost" } dd { (dollars(cost)) } }
            @for url in &event.unsigned_urls { dt { "File" } dd { code { (parts::text(url)) } } }
            @if event.idempotency_key.is_some() && !event.idempotency_key_matches {
                dt { "OpenRouter's idempotency key" } dd { (parts::or_none(event.idempotency_key.as_deref().unwrap_or_default())) " is not that of this job" }
            }
        }
    }
}

/// Every route of the tenant: whether it takes the event, why, and how far it came.
fn routes(visitor: &Visitor, event: &Event, explanation: &Explanation, here: &str) -> Markup {
    let rows: Vec<Markup> = explanation.routes.iter().map(|route| row(visitor, event, route, here)).collect();
    html! {
        h2 { "Routes" }
        p { (parts::text(&explanation.summary)) }
        (parts::table("Routes", &["Route", "Takes it", "Delivery", "State", "Why", "Next", "Action"], &rows, "The tenant has no route."))
    }
}

fn row(visitor: &Visitor, event: &Event, route: &RouteExplanation, here: &str) -> Markup {
    let takes = match route.matches() {
        RouteMatch::Yes => parts::badge("good", "YES"),
        RouteMatch::No => parts::badge("still", "NO"),
        RouteMatch::NotConfigured => parts::badge("still", "NOT CONFIGURED"),
        RouteMatch::Unknown | RouteMatch::Unspecified => parts::badge("busy", "UNKNOWN"),
    };
    let hand_over = [("event", event.id.as_str()), ("route", route.route.as_str()), ("generation", "0")];
    html! {
        th scope="row" { a href={ "/routes/" (event.tenant) "/" (route.route) } { (route.route) } }
        td { (takes) }
        td { @if let Some(delivery) = &route.delivery { (parts::id("deliveries", &delivery.id)) } @else { span.none { "–" } } }
        td { @if let Some(delivery) = &route.delivery { (parts::state(delivery.state())) } }
        td.wide { (parts::text(&route.why)) @if !route.difference.is_empty() { p { (parts::text(&route.difference)) } } }
        td.wide { (parts::sentence(&route.next)) @if route.next_at.is_some() { " " (parts::time(route.next_at.as_ref())) } }
        td {
            @if visitor.controls() && route.delivery.is_none() && route.matches() == RouteMatch::Yes {
                (parts::button("/act/replay", "Deliver", &hand_over, here))
            }
        }
    }
}
