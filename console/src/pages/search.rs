//! Finds what an id, or its beginning, means.

use super::{Shown, form::Fields, frame::Page, parts, visitor::Visitor};
use crate::fault::Fault;
use maud::{Markup, html};
use talaria_proto::v1::{
    GetJobRequest, KnownId, ListEventsRequest, ListIdsRequest, list_ids_request::BeginsWith,
};

/// Events of one job at OpenRouter.
const MOST_EVENTS: u32 = 50;

/// The list of such ids, and the question for them.
type Kind = (&'static str, fn(String) -> BeginsWith);

pub(super) async fn page(visitor: &Visitor, fields: &Fields) -> Result<Shown, Fault> {
    let wanted = fields.text("q").trim();
    if wanted.is_empty() {
        return Ok(Shown::Elsewhere("/".into()));
    }
    let kinds: &[Kind] = match wanted.split('_').next().unwrap_or_default() {
        "evt" => &[("events", BeginsWith::EventId)],
        "dlv" => &[("deliveries", BeginsWith::DeliveryId)],
        "rpl" => &[("replays", BeginsWith::ReplayJobId)],
        // An id of OpenRouter's may begin with job_, too.
        _ => &[("jobs", BeginsWith::SubmittedJobId), ("search", BeginsWith::JobId)],
    };
    let mut found: Vec<(&str, KnownId)> = Vec::new();
    let (mut more, mut incomplete) = (false, false);
    for (kind, begins) in kinds {
        let request = ListIdsRequest { tenant: String::new(), begins_with: Some(begins(wanted.to_owned())) };
        // What cannot be the beginning of such an id is none.
        let Ok(answer) = visitor.status().list_ids(request).await else { continue };
        let answer = answer.into_inner();
        found.extend(answer.ids.into_iter().map(|id| (*kind, id)));
        (more, incomplete) = (more || answer.more, incomplete || answer.incomplete);
    }
    if let [(kind, id)] = found.as_slice() {
        if let Some(path) = page_of(kind, id) {
            return Ok(Shown::Elsewhere(path));
        }
        if id.id == wanted || found.len() == 1 {
            return of_job(visitor, &id.id).await;
        }
    }
    let rows: Vec<Markup> = found.iter().map(|(kind, id)| row(kind, id)).collect();
    let main = html! {
        h1 { "Search" }
        (parts::incomplete(incomplete))
        p { "Ids that begin with " code { (parts::text(wanted)) } @if more { ", the first of them" } }
        (parts::table("Ids", &["Id", "Tenant", "Route"], &rows, "There is none. Ids are those of events (evt_…), deliveries (dlv_…), jobs (job_…, or OpenRouter's own) and replays (rpl_…)."))
    };
    Ok(Page::new("Search", "", main).into())
}

/// The page of an id that has one.
fn page_of(kind: &str, id: &KnownId) -> Option<String> {
    match kind {
        "replays" => Some("/replays".into()),
        "search" => None,
        kind => Some(format!("/{kind}/{}", id.id)),
    }
}

fn row(kind: &str, id: &KnownId) -> Markup {
    let href = page_of(kind, id).unwrap_or_else(|| super::form::url("/search", &[("q", &id.id)]));
    html! {
        th scope="row" { a.id data-row href=(href) { (parts::text(&id.id)) } }
        td { (parts::or_none(&id.tenant)) }
        td { (parts::or_none(&id.route)) }
    }
}

/// A job at OpenRouter: the job that was submitted here, or else its events.
async fn of_job(visitor: &Visitor, job: &str) -> Result<Shown, Fault> {
    let asked = GetJobRequest { job_id: job.to_owned(), tenant: String::new() };
    let own = visitor.jobs().get_job(asked).await.ok().and_then(|answer| answer.into_inner().job);
    let request =
        ListEventsRequest { job_id: job.to_owned(), page_size: MOST_EVENTS, ..ListEventsRequest::default() };
    let events = visitor.status().list_events(request).await?.into_inner().events;
    if let (None, [event]) = (&own, events.as_slice()) {
        return Ok(Shown::Elsewhere(format!("/events/{}", event.id)));
    }
    if let (Some(own), []) = (&own, events.as_slice()) {
        return Ok(Shown::Elsewhere(format!("/jobs/{}", own.id)));
    }
    let main = html! {
        h1 { "Job " code { (parts::text(job)) } }
        @if let Some(own) = own { p { "It was submitted or tracked here: " (parts::id("jobs", &own.id)) } }
        (super::inbox::events(&events))
    };
    Ok(Page::new("Job", "/jobs", main).into())
}
