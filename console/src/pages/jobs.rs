//! Jobs at OpenRouter.

use super::{
    deliveries::select,
    form::Fields,
    frame::Page,
    parts::{self, pager},
    visitor::Visitor,
};
use crate::fault::Fault;
use maud::{Markup, html};
use std::collections::BTreeMap;
use talaria_core::money::dollars;
use talaria_proto::v1::{Job, JobState, ListCostsRequest, ListJobsRequest};

const PAGE_SIZE: u32 = 50;

/// Days of costs that are shown.
const DAYS: usize = 14;

const FILTERS: &[&str] = &["tenant", "state"];

pub(super) async fn page(visitor: &Visitor, fields: &Fields) -> Result<Page, Fault> {
    let state = |name: &str| {
        let known = JobState::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(name));
        known.map(i32::from).ok_or_else(|| Fault::invalid(format!("there is no state {name}")))
    };
    let request = ListJobsRequest {
        tenant: fields.text("tenant").to_owned(),
        states: fields.all("state").map(state).collect::<Result<_, _>>()?,
        page_size: PAGE_SIZE,
        page_token: fields.text("page").to_owned(),
    };
    let answer = visitor.jobs().list_jobs(request).await?.into_inner();
    let request =
        ListCostsRequest { tenant: fields.text("tenant").to_owned(), ..ListCostsRequest::default() };
    let costs = visitor.jobs().list_costs(request).await?.into_inner();
    let mut days: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
    for cost in &costs.costs {
        let (events, micros) = days.entry(&cost.day).or_default();
        (*events, *micros) = (*events + cost.events, *micros + cost.cost_micros);
    }
    let days: Vec<Markup> = days.iter().rev().take(DAYS).map(|(day, (events, micros))| {
        html! { th scope="row" { (day) } td.number { (parts::count(*events)) } td.number { (dollars(*micros)) } }
    }).collect();
    let tenants = visitor.config.tenants.keys().map(String::as_str).filter(|name| visitor.sees(name));
    let rows: Vec<Markup> = answer.jobs.iter().map(row).collect();
    let heads = ["Job", "Created", "State", "Tenant", "Model", "#Cost", "By", "Why"];
    let main = html! {
        h1 { "Jobs" }
        form.filter method="get" action="/jobs" role="search" aria-label="Filter" {
            (select("tenant", "Tenant", tenants, fields))
            (select("state", "State", JobState::ALL.map(JobState::name), fields))
            div.row { button { "Filter" } a href="/jobs" { "Clear" } }
        }
        div data-live id="jobs" {
            (parts::incomplete(answer.incomplete || costs.incomplete))
            (parts::table("Jobs", &heads, &rows, "No job was submitted or tracked here."))
        }
        (pager("/jobs", fields, FILTERS, &answer.next_page_token))
        h2 { "Costs" }
        p.hint { "By day in UTC, as OpenRouter said them with the events." }
        (parts::table("Costs", &["Day", "#Events", "#Cost"], &days, "No event said a cost."))
    };
    Ok(Page::new("Jobs", "/jobs", main))
}

fn row(job: &Job) -> Markup {
    html! {
        th scope="row" { a.id data-row href={ "/jobs/" (job.id) } title=(job.id) { (talaria_core::short_id::short(&job.id)) } }
        td { (parts::time(job.created_at.as_ref())) }
        td { (parts::job_state(job.state())) }
        td { (job.tenant) }
        td { (parts::or_none(&job.model)) }
        td.number { (cost(job)) }
        td { (parts::text(&talaria_relay::who(&job.requested_by, &job.token_name))) }
        td.wide { (parts::text(&job.reason)) }
    }
}

/// What it cost, or the estimate.
pub(super) fn cost(job: &Job) -> Markup {
    match (job.cost_micros, job.estimate_micros) {
        (Some(cost), _) => html! { (dollars(cost)) },
        (None, Some(estimate)) => html! { "~" (dollars(estimate)) },
        (None, None) => html! { span.none { "–" } },
    }
}
