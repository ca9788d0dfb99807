//! Deliveries, by a filter.

use super::{
    form::Fields,
    frame::Page,
    parts::{self, pager},
    visitor::Visitor,
};
use crate::fault::Fault;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use maud::{Markup, html};
use std::collections::BTreeSet;
use talaria_core::time::{before, parse_duration};
use talaria_proto::{
    time::to_proto,
    v1::{
        AttemptOutcome, Delivery, DeliveryFilter, DeliveryState, ListDeliveriesRequest,
        ListDeliveriesResponse, ReplayFilter, RunOutcome,
    },
};
use talaria_relay::describe_run_of;

/// The fields of the filter.
pub(super) const FILTERS: &[&str] =
    &["tenant", "route", "state", "since", "until", "type", "model", "job", "outcome", "http", "why", "run"];

/// Those of them that are used rarely.
const MORE: [&str; 7] = ["type", "model", "job", "outcome", "http", "why", "run"];

const PAGE_SIZE: u32 = 50;

pub(super) async fn page(visitor: &Visitor, fields: &Fields) -> Result<Page, Fault> {
    let answer = match list(visitor, fields).await {
        Ok(answer) => answer,
        Err(fault) => {
            return Page::refused(fault, "Deliveries", "/deliveries", &filter_form(visitor, fields));
        }
    };
    let here = super::form::url("/deliveries", &fields.kept(FILTERS));
    let columns = if visitor.controls() { Columns::Selected } else { Columns::All };
    let list = html! {
        div data-live id="deliveries" {
            (parts::incomplete(answer.incomplete))
            (table(&answer.deliveries, columns))
            (parts::goes_on(answer.deliveries.len(), &answer.next_page_token))
        }
    };
    let main = html! {
        h1 { "Deliveries" }
        (filter_form(visitor, fields))
        @if visitor.controls() && !answer.deliveries.is_empty() {
            form method="post" action="/act/replay-selected" {
                input type="hidden" name="back" value=(here);
                (list)
                div.row.actions {
                    label for="selected-reason" { "Why" }
                    input id="selected-reason" name="reason" maxlength="500";
                    // First, because Enter presses the first: this one asks once more.
                    button formaction="/act/replay-all" { "Replay all that match…" }
                    button { "Replay the selected" }
                    @for (name, value) in fields.kept(FILTERS) { input type="hidden" name=(name) value=(value); }
                }
            }
        } @else { (list) }
        (pager("/deliveries", fields, FILTERS, &answer.next_page_token))
    };
    Ok(Page::new("Deliveries", "/deliveries", main))
}

async fn list(visitor: &Visitor, fields: &Fields) -> Result<ListDeliveriesResponse, Fault> {
    let request = ListDeliveriesRequest {
        filter: Some(filter(fields)?),
        page_size: PAGE_SIZE,
        page_token: fields.text("page").to_owned(),
    };
    Ok(visitor.status().list_deliveries(request).await?.into_inner())
}

fn filter(fields: &Fields) -> Result<DeliveryFilter, Fault> {
    Ok(DeliveryFilter {
        tenant: fields.text("tenant").to_owned(),
        route: fields.text("route").to_owned(),
        job_id: fields.text("job").to_owned(),
        states: states(fields)?,
        since: moment(fields, "since")?,
        until: moment(fields, "until")?,
        event_type: fields.text("type").to_owned(),
        model: fields.text("model").to_owned(),
        outcomes: outcomes(fields)?,
        http_statuses: fields.all("http").map(str::to_owned).collect(),
        reason: fields.text("why").to_owned(),
        runs: runs(fields)?,
    })
}

/// The same deliveries, for a replay.
pub(super) fn replay_filter(fields: &Fields) -> Result<ReplayFilter, Fault> {
    let filter = filter(fields)?;
    Ok(ReplayFilter {
        tenant: filter.tenant,
        route: filter.route,
        job_id: filter.job_id,
        states: filter.states,
        since: filter.since,
        until: filter.until,
        event_type: filter.event_type,
        model: filter.model,
        outcomes: filter.outcomes,
        http_statuses: filter.http_statuses,
        reason: filter.reason,
        runs: filter.runs,
    })
}

fn states(fields: &Fields) -> Result<Vec<i32>, Fault> {
    let state = |name: &str| {
        let known = DeliveryState::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(name));
        known.map(i32::from).ok_or_else(|| Fault::invalid(format!("there is no state {name}")))
    };
    fields.all("state").map(state).collect()
}

fn outcomes(fields: &Fields) -> Result<Vec<i32>, Fault> {
    let outcome = |name: &str| {
        let known = AttemptOutcome::ALL.into_iter().find(|outcome| outcome.name().eq_ignore_ascii_case(name));
        known.map(i32::from).ok_or_else(|| Fault::invalid(format!("there is no outcome {name}")))
    };
    fields.all("outcome").map(outcome).collect()
}

fn runs(fields: &Fields) -> Result<Vec<i32>, Fault> {
    let outcome = |name: &str| {
        let known = RunOutcome::ALL.into_iter().find(|outcome| outcome.name().eq_ignore_ascii_case(name));
        known.map(i32::from).ok_or_else(|| Fault::invalid(format!("there is no outcome {name} of a run")))
    };
    fields.all("run").map(outcome).collect()
}

/// A time, in UTC where it names no zone; a day begins at midnight.
fn time(text: &str) -> Option<Timestamp> {
    let civil = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp());
    text.parse().ok().or_else(civil)
}

/// A time, or how long ago.
pub(super) fn moment(fields: &Fields, name: &str) -> Result<Option<prost_types::Timestamp>, Fault> {
    let Some(text) = fields.get(name) else { return Ok(None) };
    let time = match parse_duration(text) {
        Some(ago) => before(Timestamp::now(), ago),
        None => time(text).ok_or_else(|| {
            Fault::invalid(format!(
                "{name} is a time such as 2026-04-24 12:00 (UTC), or how long ago, such as 2h; it is {text}"
            ))
        })?,
    };
    Ok(Some(to_proto(time)))
}

fn filter_form(visitor: &Visitor, fields: &Fields) -> Markup {
    let tenants: Vec<&str> =
        visitor.config.tenants.keys().map(String::as_str).filter(|name| visitor.sees(name)).collect();
    let routes: BTreeSet<&str> = visitor
        .config
        .routes()
        .filter(|(tenant, _)| visitor.sees(&tenant.name))
        .map(|(_, route)| route.name.as_str())
        .collect();
    let states = DeliveryState::ALL.map(DeliveryState::name);
    let chosen: Vec<&str> = fields.all("state").collect();
    html! {
        form.filter method="get" action="/deliveries" role="search" aria-label="Filter" {
            (select("tenant", "Tenant", tenants, fields))
            (select("route", "Route", routes, fields))
            fieldset {
                legend { "State" }
                @for state in states {
                    label { input type="checkbox" name="state" value=(state) checked[chosen.contains(&state)]; " " (state) }
                }
            }
            (input("since", "Since", "2h, or a time in UTC", fields))
            (input("until", "Until", "1h, or a time in UTC", fields))
            details id="more" open[MORE.iter().any(|name| fields.get(name).is_some())] {
                summary { "More" }
                div.row {
                    (input("type", "Type", "video.generation.*", fields))
                    (input("model", "Model", "google/veo-3.1", fields))
                    (input("job", "Job", "OpenRouter's id", fields))
                    (select("outcome", "Last attempt", AttemptOutcome::ALL.map(AttemptOutcome::name), fields))
                    (input("http", "HTTP status", "503, or 5xx", fields))
                    (input("why", "Text in why", "no room", fields))
                    (select("run", "Run", RunOutcome::ALL.map(RunOutcome::name), fields))
                }
            }
            div.row { button { "Filter" } a href="/deliveries" { "Clear" } }
        }
    }
}

pub(super) fn input(name: &str, label: &str, placeholder: &str, fields: &Fields) -> Markup {
    html! {
        div.field {
            label for={ "filter-" (name) } { (label) }
            input id={ "filter-" (name) } name=(name) value=(fields.text(name)) maxlength="200" placeholder=(placeholder) autocomplete="off";
        }
    }
}

pub(super) fn select<'a>(
    name: &str,
    label: &str,
    options: impl IntoIterator<Item = &'a str>,
    fields: &Fields,
) -> Markup {
    let chosen = fields.text(name);
    let mut options: Vec<&str> = options.into_iter().collect();
    // One that is not configured any more.
    if !chosen.is_empty() && !options.contains(&chosen) {
        options.push(chosen);
    }
    html! {
        div.field {
            label for={ "filter-" (name) } { (label) }
            select id={ "filter-" (name) } name=(name) {
                option value="" { "all" }
                @for option in options { option value=(option) selected[option == chosen] { (parts::text(option)) } }
            }
        }
    }
}

/// Which columns a table of deliveries has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    All,
    /// And a box to select each.
    Selected,
    /// Without route.
    OfRoute,
    /// The same, with the time of the next attempt.
    Waiting,
}

pub(super) fn table(deliveries: &[Delivery], columns: Columns) -> Markup {
    let mut heads = match columns {
        Columns::All | Columns::Selected => {
            vec!["Delivery", "Received", "State", "Route", "Type and job", "#Tries", "Why"]
        }
        Columns::OfRoute => vec!["Delivery", "Received", "State", "Type and job", "#Tries", "Why"],
        Columns::Waiting => vec!["Delivery", "Received", "Next attempt", "Type and job", "#Tries", "Why"],
    };
    if columns == Columns::Selected {
        heads.insert(0, parts::SELECT);
    }
    let rows: Vec<Markup> = deliveries.iter().map(|delivery| row(delivery, columns)).collect();
    parts::table("Deliveries", &heads, &rows, "There is no such delivery.")
}

fn row(delivery: &Delivery, columns: Columns) -> Markup {
    html! {
        @if columns == Columns::Selected {
            td { input type="checkbox" name="delivery" value={ (delivery.id) "@" (delivery.generation) } aria-label={ "Select " (delivery.id) }; }
        }
        th scope="row" { a.id data-row href={ "/deliveries/" (delivery.id) } title=(delivery.id) { (talaria_core::short_id::short(&delivery.id)) } }
        td { (parts::time(delivery.received_at.as_ref())) }
        td { @if columns == Columns::Waiting { (parts::time(delivery.next_attempt_at.as_ref())) } @else { (parts::state(delivery.state())) } }
        @if matches!(columns, Columns::All | Columns::Selected) {
            td { a href={ "/routes/" (delivery.tenant) "/" (delivery.route) } { (delivery.tenant) "/" (delivery.route) } }
        }
        td.clip title=(delivery.job_id) { (parts::text(&delivery.event_type)) br; span.none { (parts::text(&delivery.job_id)) @if let Some(model) = &delivery.model { " · " (parts::text(model)) } } }
        td.number { (delivery.attempts) }
        td.wide { (parts::text(&delivery.reason)) @if let Some(run) = describe_run_of(delivery) { br; (parts::text(&run)) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_says_what_is_expected() {
        let fault = |query: &str| filter(&Fields::of_body(query.as_bytes())).unwrap_err().message;
        assert_eq!(fault("state=lost"), "there is no state lost");
        assert_eq!(fault("run=lost"), "there is no outcome lost of a run");
        assert!(fault("since=yesterday").contains("such as 2h; it is yesterday"));
        let filter =
            filter(&Fields::of_body(b"state=parked&state=WAITING&since=2026-04-24+12:00:00Z&route=video"))
                .unwrap();
        assert_eq!(filter.states, [i32::from(DeliveryState::Parked), DeliveryState::Waiting.into()]);
        assert_eq!(filter.since.unwrap().seconds, 1_777_032_000);
        assert_eq!(time("2026-04-24 12:00").unwrap().as_second(), 1_777_032_000);
        assert_eq!(time("2026-04-24").unwrap().as_second(), 1_776_988_800);
    }
}
