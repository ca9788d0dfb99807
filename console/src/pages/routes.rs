//! All routes.

use super::{
    chart::Day,
    frame::Page,
    parts::{self, badge, count},
    visitor::Visitor,
};
use crate::fault::Fault;
use maud::{Markup, html};
use std::collections::BTreeSet;
use talaria_proto::v1::{BreakerState, DeliveryState, GetSummaryRequest, RouteSummary};

pub(super) async fn page(visitor: &Visitor) -> Result<Page, Fault> {
    let summary = visitor.status().get_summary(GetSummaryRequest::default()).await?.into_inner();
    let day = Day::of_routes(visitor).await;
    let main = html! {
        h1 { "Routes" }
        div data-live id="routes" {
            (parts::incomplete(summary.incomplete))
            (table(&summary.routes, visitor, &day))
            @for tenant in summary.tenants.iter().filter(|tenant| tenant.pause.is_some()) {
                p.warning { "The whole tenant " (tenant.tenant) " is paused. " (resume(visitor, &tenant.tenant, "", "/routes")) }
            }
            @if visitor.controls() {
                details id="tenants" {
                    summary { "Pause a whole tenant" }
                    @for tenant in visitor.config.tenants.keys().filter(|tenant| visitor.sees(tenant)) {
                        (pause(tenant, "", "/routes"))
                    }
                }
            }
        }
    };
    Ok(Page::new("Routes", "/routes", main))
}

/// Routes that had deliveries, and those that are configured and had none.
pub(super) fn table(summaries: &[RouteSummary], visitor: &Visitor, day: &Day) -> Markup {
    let known: BTreeSet<(&str, &str)> =
        summaries.iter().map(|route| (route.tenant.as_str(), route.route.as_str())).collect();
    let unused = visitor.config.routes().map(|(tenant, route)| (tenant.name.as_str(), route.name.as_str()));
    let unused = unused.filter(|(tenant, route)| visitor.sees(tenant) && !known.contains(&(*tenant, *route)));
    let unused = unused.map(|(tenant, route)| RouteSummary {
        tenant: tenant.to_owned(),
        route: route.to_owned(),
        breaker: BreakerState::Admitting.into(),
        ..RouteSummary::default()
    });
    let mut all: Vec<RouteSummary> = summaries.iter().cloned().chain(unused).collect();
    all.sort_by(|a, b| (&a.tenant, &a.route).cmp(&(&b.tenant, &b.route)));
    let rows: Vec<Markup> = all.iter().map(|route| row(route, day)).collect();
    let heads =
        ["Route", "State", "#Waiting", "Oldest", "#Delivered", "24 h", "#Parked", "#p50", "#p99", "Why"];
    parts::table("Routes", &heads, &rows, "No route is configured.")
}

fn row(route: &RouteSummary, day: &Day) -> Markup {
    let latency = route.delivery_latency.as_ref();
    let parked = in_state(route, DeliveryState::Parked) + in_state(route, DeliveryState::Ambiguous);
    html! {
        th scope="row" { a data-row href={ "/routes/" (route.tenant) "/" (route.route) } { (route.tenant) "/" (route.route) } }
        td { (state(route)) }
        td.number { (count(route.backlog)) }
        td { (parts::time(route.oldest_waiting_received_at.as_ref())) }
        td.number { (count(in_state(route, DeliveryState::Delivered))) }
        td { (day.spark(&route.tenant, &route.route)) }
        td.number { (count(parked)) }
        td.number { (parts::duration(latency.and_then(|latency| latency.p50.as_ref()))) }
        td.number { (parts::duration(latency.and_then(|latency| latency.p99.as_ref()))) }
        td.wide { (why(route)) }
    }
}

pub(super) fn in_state(route: &RouteSummary, state: DeliveryState) -> u64 {
    route.counts.iter().filter(|counted| counted.state() == state).map(|counted| counted.count).sum()
}

pub(super) fn state(route: &RouteSummary) -> Markup {
    if route.not_configured {
        return badge("still", "NOT CONFIGURED");
    }
    if !route.down_because.is_empty() {
        return badge("bad", "DOWN");
    }
    if route.pause.is_some() {
        return badge("busy", "PAUSED");
    }
    match route.breaker() {
        BreakerState::Shut => badge("bad", "SHUT"),
        BreakerState::Probing => badge("busy", "PROBING"),
        BreakerState::Admitting | BreakerState::Unspecified => badge("good", "ADMITTING"),
    }
}

/// Why a route does not send, and until when.
pub(super) fn why(route: &RouteSummary) -> Markup {
    html! {
        @if !route.down_because.is_empty() { p { (parts::text(&route.down_because)) } }
        @if let Some(pause) = &route.pause {
            p {
                "Paused by " (parts::text(&talaria_relay::who(&pause.requested_by, &pause.token_name)))
                " since " (parts::time(pause.since.as_ref()))
                @if let Some(until) = &pause.until { " until " (parts::time(Some(until))) }
                @if !pause.reason.is_empty() { ": " (parts::text(&pause.reason)) }
            }
        }
        @if !route.held_because.is_empty() {
            p {
                (parts::text(&route.held_because))
                @if let Some(until) = &route.held_until { "; probed at " (parts::time(Some(until))) }
            }
        }
    }
}

/// A button that ends a pause, for those who may.
pub(super) fn resume(visitor: &Visitor, tenant: &str, route: &str, back: &str) -> Markup {
    html! {
        @if visitor.controls() {
            (parts::button("/act/resume", "Resume", &[("tenant", tenant), ("route", route)], back))
        }
    }
}

/// A form that pauses a route, or a whole tenant.
pub(super) fn pause(tenant: &str, route: &str, back: &str) -> Markup {
    let id = format!("pause-{tenant}-{route}");
    html! {
        form.row method="post" action="/act/pause" {
            input type="hidden" name="tenant" value=(tenant);
            input type="hidden" name="route" value=(route);
            input type="hidden" name="back" value=(back);
            @if route.is_empty() { strong { (tenant) } }
            label for={ (id) "-for" } { "For" }
            input id={ (id) "-for" } name="for" size="13" maxlength="20" placeholder="until resumed" list="durations";
            label for={ (id) "-reason" } { "Why" }
            input id={ (id) "-reason" } name="reason" maxlength="500";
            button { "Pause" }
            datalist id="durations" { option value="15m"; option value="1h"; option value="8h"; option value="1d"; }
        }
    }
}
