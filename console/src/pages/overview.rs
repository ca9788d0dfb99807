//! How everything does.

use super::{
    chart::Day,
    frame::Page,
    parts::{self, badge, count},
    routes,
    visitor::Visitor,
};
use crate::fault::Fault;
use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, html};
use talaria_core::money::dollars;
use talaria_proto::{
    time::to_proto,
    v1::{
        DeliveryState, GetSummaryRequest, GetSummaryResponse, JobState, ListCostsRequest, ListJobsRequest,
        ListRefusalsRequest, RouteSummary,
    },
};

/// The most jobs under way that are counted.
const MOST_JOBS: u32 = 200;

pub(super) async fn page(visitor: &Visitor) -> Result<Page, Fault> {
    let summary = visitor.status().get_summary(GetSummaryRequest::default()).await?.into_inner();
    let states = [JobState::Submitting, JobState::Running, JobState::Unknown];
    let asked = ListJobsRequest {
        states: states.map(Into::into).to_vec(),
        page_size: MOST_JOBS,
        ..ListJobsRequest::default()
    };
    let jobs = visitor.jobs().list_jobs(asked).await?.into_inner();
    let today =
        Timestamp::now().to_zoned(TimeZone::UTC).start_of_day().map(|day| to_proto(day.timestamp())).ok();
    let costs = ListCostsRequest { since: today, ..ListCostsRequest::default() };
    let costs = visitor.jobs().list_costs(costs).await?.into_inner().costs;
    let refusals =
        visitor.status().list_refusals(ListRefusalsRequest::default()).await?.into_inner().refusals;

    let cost: i64 = costs.iter().map(|cost| cost.cost_micros).sum();
    let refused: u64 = refusals.iter().map(|refusal| refusal.count).sum();
    let unmatched: u64 = summary.tenants.iter().map(|tenant| tenant.unmatched_events).sum();
    let quarantined: u64 = summary.tenants.iter().map(|tenant| tenant.quarantined).sum();
    let waiting: u64 = summary.routes.iter().map(|route| route.backlog).sum();
    let parked = sum(&summary.routes, DeliveryState::Parked) + sum(&summary.routes, DeliveryState::Ambiguous);
    let running = jobs.jobs.len() as u64;
    let day = Day::of_routes(visitor).await;
    let main = html! {
        h1 { "Overview" }
        div data-live id="overview" {
            (parts::incomplete(summary.incomplete))
            (configuration(&summary))
            ul.tiles {
                (tile("/deliveries?state=waiting", "Waiting", &count(waiting), ""))
                (tile("/deliveries?state=parked&state=ambiguous", "Parked", &count(parked), if parked > 0 { "bad" } else { "" }))
                (tile("/deliveries?state=delivered&since=24h", "Delivered, 24 h", &count(day.total(|point| point.delivered)), ""))
                (tile("/inbox?show=unmatched", "Unmatched", &count(unmatched), ""))
                (tile("/inbox?show=refused", "Refused, last hour", &count(refused), if refused > 0 { "warn" } else { "" }))
                (tile("/inbox?show=quarantined", "Quarantined", &count(quarantined), if quarantined > 0 { "warn" } else { "" }))
                (tile("/jobs", "Jobs under way", &html! { (count(running)) @if !jobs.next_page_token.is_empty() { "+" } }, ""))
                (tile("/jobs", "Cost today (UTC)", &html! { (dollars(cost)) }, ""))
            }
            h2 { "Routes" }
            (routes::table(&summary.routes, visitor, &day))
            @if summary.view_behind > 1000 {
                p.warning role="status" {
                    "What happened last is missing in the sums: the view is " (count(summary.view_behind)) " commits behind."
                }
            }
        }
    };
    Ok(Page::new("Overview", "/", main))
}

fn sum(routes: &[RouteSummary], state: DeliveryState) -> u64 {
    routes.iter().map(|route| routes::in_state(route, state)).sum()
}

fn tile(href: &str, name: &str, value: &Markup, kind: &str) -> Markup {
    html! { li { a href=(href) class=(kind) { span.name { (name) } " " strong { (value) } } } }
}

/// Problems of the configuration.
fn configuration(summary: &GetSummaryResponse) -> Markup {
    let Some(configuration) = &summary.configuration else { return html! {} };
    html! {
        @if let Some(fault) = &configuration.fault {
            p.fault role="status" {
                (badge("bad", "REFUSED")) " The configuration of " (parts::time(fault.at.as_ref()))
                " is not in force: " (fault.problems.len()) @if fault.problems.len() == 1 { " problem. " } @else { " problems. " } a href="/configuration" { "What is wrong" }
            }
        }
        @if !configuration.needs_restart.is_empty() {
            p.warning role="status" {
                "A restart is needed for " (configuration.needs_restart.join(", ")) ". " a href="/configuration" { "Configuration" }
            }
        }
    }
}
