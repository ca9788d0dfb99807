//! Replay jobs.

use super::{
    form::Fields,
    frame::Page,
    parts::{self, badge, count, pager},
    visitor::Visitor,
};
use crate::fault::Fault;
use maud::{Markup, html};
use talaria_proto::v1::{ListReplayJobsRequest, ReplayFilter, ReplayJob, ReplayJobState};

const PAGE_SIZE: u32 = 50;

pub(super) async fn page(visitor: &Visitor, fields: &Fields) -> Result<Page, Fault> {
    let request = ListReplayJobsRequest { page_size: PAGE_SIZE, page_token: fields.text("page").to_owned() };
    let answer = visitor.control().list_replay_jobs(request).await?.into_inner();
    let rows: Vec<Markup> = answer.jobs.iter().map(|job| row(visitor, job)).collect();
    let heads = ["Replay", "Began", "State", "Progress", "Which", "By", "#A minute", "Action"];
    let main = html! {
        h1 { "Replays" }
        p.hint { "A replay of many is begun on the " a href="/deliveries?state=parked" { "list of deliveries" } ": filter, and replay all that match." }
        div data-live id="replays" {
            (parts::incomplete(answer.incomplete))
            (parts::table("Replays", &heads, &rows, "No replay of many was begun."))
        }
        (pager("/replays", fields, &[], &answer.next_page_token))
    };
    Ok(Page::new("Replays", "/replays", main))
}

fn row(visitor: &Visitor, job: &ReplayJob) -> Markup {
    let state = match job.state() {
        ReplayJobState::Running => badge("busy", "RUNNING"),
        ReplayJobState::Done => badge("good", "DONE"),
        ReplayJobState::Cancelled | ReplayJobState::Unspecified => badge("still", "CANCELLED"),
    };
    let done = job.replayed + job.skipped;
    html! {
        th scope="row" { code.id title=(job.id) data-copy=(job.id) { (talaria_core::short_id::short(&job.id)) } }
        td { (parts::time(job.started_at.as_ref())) }
        td { (state) @if job.ended_at.is_some() { " " (parts::time(job.ended_at.as_ref())) } }
        td {
            progress max=(job.matched.max(1)) value=(done.min(job.matched.max(1))) aria-label="Progress" {}
            " " (count(done)) " of " (count(job.matched))
            @if job.skipped > 0 { ", " (count(job.skipped)) " passed over" }
        }
        td.wide { (which(job.filter.as_ref())) @if !job.reason.is_empty() { p { (parts::sentence(&job.reason)) } } }
        td { (parts::text(&talaria_relay::who(&job.requested_by, &job.token_name))) }
        td.number { (job.rate_per_minute) }
        td {
            @if visitor.controls() && job.state() == ReplayJobState::Running {
                (parts::button("/act/cancel-replay", "Cancel", &[("replay", &job.id)], "/replays"))
            }
        }
    }
}

/// The filter in a few words.
fn which(filter: Option<&ReplayFilter>) -> Markup {
    let Some(filter) = filter else { return html! {} };
    html! {
        @for state in filter.states() { (parts::state(state)) " " }
        @for (name, value) in [("tenant", &filter.tenant), ("route", &filter.route), ("job", &filter.job_id), ("type", &filter.event_type), ("model", &filter.model), ("with", &filter.reason)] {
            @if !value.is_empty() { (name) " " (parts::text(value)) " " }
        }
        @if filter.since.is_some() { "since " (parts::time(filter.since.as_ref())) " " }
        @if filter.until.is_some() { "until " (parts::time(filter.until.as_ref())) }
    }
}
