//! `talaria status --unmatched`: events that no route took, for which nothing is sent.

use super::status::Relay;
use crate::{
    Failure,
    args::Status,
    print::{self, Cell, DIM, one_line, state_style},
};
use jiff::Timestamp;
use std::io::{self, Write as _};
use talaria_bus::time::to_proto;
use talaria_proto::v1::{DeliveryState, Event, ListUnmatchedRequest, TenantSummary, UnmatchedEvent};

pub(super) async fn show(relay: &mut Relay, args: &Status) -> Result<(), Failure> {
    let request = ListUnmatchedRequest {
        tenant: args.filter.tenant.clone().unwrap_or_default(),
        since: args.filter.since.map(to_proto),
        until: args.filter.until.map(to_proto),
        page_size: args.limit,
        page_token: String::new(),
    };
    let list = relay.list_unmatched(request).await?.into_inner();
    if args.ask.json {
        return Ok(print::json_document(&list)?);
    }
    print::warn_if_incomplete(list.incomplete)?;
    let Some(first) = list.events.first().and_then(|unmatched| unmatched.event.as_ref()) else {
        return Ok(writeln!(anstream::stdout(), "{DIM}There is no event that no route took.{DIM:#}")?);
    };
    let (help, now) = (help(&first.id), Timestamp::now());
    let row = |unmatched: &UnmatchedEvent| {
        let event = unmatched.event.clone().unwrap_or_default();
        vec![
            Cell::styled(print::clock_time(event.received_at.as_ref(), now), DIM),
            Cell::from(&event.tenant),
            Cell::from(&event.job_id),
            Cell::from(&event.r#type),
            Cell::styled(&event.id, DIM),
            Cell::from(&unmatched.why),
        ]
    };
    let heads = ["RECEIVED", "TENANT", "JOB", "TYPE", "EVENT", "WHY"];
    print::table(&heads, list.events.iter().map(row).collect())?;
    let mut out = anstream::stdout().lock();
    if !list.next_page_token.is_empty() {
        writeln!(out, "{DIM}There are more: --limit shows up to 1000, --since and --until narrow.{DIM:#}")?;
    }
    Ok(writeln!(out, "{DIM}{help}{DIM:#}")?)
}

/// What to do about one.
fn help(id: &str) -> String {
    format!(
        "`talaria explain {id}` says more; once a route takes it, `talaria replay {id} --route ROUTE` hands it over"
    )
}

/// How many events of each tenant no route took, a line each, for those who look at everything.
pub(super) fn in_short(tenants: &[TenantSummary]) -> io::Result<()> {
    let (mut out, style) = (anstream::stdout().lock(), state_style(DeliveryState::Parked));
    let mut some = tenants.iter().filter(|tenant| tenant.unmatched_events > 0).peekable();
    if some.peek().is_none() {
        return Ok(());
    }
    for TenantSummary { tenant, unmatched_events, .. } in some {
        let events = if *unmatched_events == 1 { "event" } else { "events" };
        writeln!(out, "{style}{tenant}: {unmatched_events} {events} that no route took{style:#}")?;
    }
    writeln!(out, "  {DIM}talaria status --unmatched lists them{DIM:#}\n")
}

/// An event that came and that no route takes, in one line, as `watch` shows it.
pub(super) fn line(event: &Event) -> String {
    let style = state_style(DeliveryState::Parked);
    let at = print::clock_time(event.received_at.as_ref(), Timestamp::now());
    let (job, kind) = (one_line(&event.job_id), one_line(&event.r#type));
    format!(
        "{DIM}{at}{DIM:#}  {style}{:<9}{style:#}  {}  {job}  {kind}: no route takes it ({})",
        "UNMATCHED", event.tenant, event.id
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_event_and_nothing_in_it_steers_the_terminal() {
        let event = Event {
            id: "evt_x".into(),
            tenant: "acme".into(),
            job_id: "job\u{1b}[2J".into(),
            r#type: "image.done".into(),
            ..Event::default()
        };
        let said = line(&event);
        assert!(said.ends_with("  acme  job\\u{1b}[2J  image.done: no route takes it (evt_x)"), "{said}");
    }
}
