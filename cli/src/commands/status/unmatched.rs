//! `talaria status --unmatched`: events that no route takes.

use super::left;
use crate::{
    Failure,
    args::Status,
    client::{StatusClient, ask},
    print::{self, ALERT, Cell, Column, DIM, Screen},
};
use std::io::{self, Write as _};
use talaria_proto::{
    time::to_proto,
    v1::{ListUnmatchedRequest, TenantSummary, UnmatchedEvent},
};

const COLUMNS: [Column; 6] = [
    Column::new("RECEIVED"),
    Column::new("TENANT").rank(2),
    Column::new("JOB").rank(3).at_least(8),
    Column::new("TYPE").rank(1).at_least(10).keeps_end(),
    Column::new("EVENT"),
    Column::new("WHY").at_least(20),
];

pub(super) async fn show(relay: &mut StatusClient, args: &Status) -> Result<(), Failure> {
    let mut request = ListUnmatchedRequest {
        tenant: args.filter.tenant.clone().unwrap_or_default(),
        since: args.filter.since.map(to_proto),
        until: args.filter.until.map(to_proto),
        page_size: args.list.limit,
        page_token: args.list.page.clone(),
        event_type: args.filter.event_type.clone().unwrap_or_default(),
        model: args.filter.model.clone().unwrap_or_default(),
    };
    let mut list = ask(relay.list_unmatched(request.clone())).await?;
    // As with deliveries.
    while !list.next_page_token.is_empty()
        && let Some(missing) = left(args.list.limit, list.events.len())
    {
        (request.page_size, request.page_token) = (missing, list.next_page_token);
        let more = ask(relay.list_unmatched(request.clone())).await?;
        list.events.extend(more.events);
        list.next_page_token = more.next_page_token;
        list.incomplete |= more.incomplete;
    }
    if args.ask.json {
        return Ok(print::json_document(&list)?);
    }
    print::warn_if_incomplete(list.incomplete)?;
    let Some(first) = list.events.first().and_then(|unmatched| unmatched.event.as_ref()) else {
        return Ok(writeln!(anstream::stdout(), "{DIM}There is no event that no route took.{DIM:#}")?);
    };
    let (help, screen) = (help(&first.id), Screen::stdout(args.list.wide));
    let row = |unmatched: &UnmatchedEvent| {
        let event = unmatched.event.clone().unwrap_or_default();
        vec![
            Cell::styled(print::time(event.received_at.as_ref()), DIM),
            Cell::from(&event.tenant),
            Cell::from(&event.job_id),
            Cell::from(&event.r#type),
            Cell::styled(screen.id(&event.id), DIM),
            Cell::from(&unmatched.why),
        ]
    };
    print::table(&COLUMNS, list.events.iter().map(row).collect(), screen)?;
    print::note_next_page(&list.next_page_token)?;
    Ok(writeln!(anstream::stdout(), "{DIM}{help}{DIM:#}")?)
}

fn help(id: &str) -> String {
    format!(
        "`talaria explain {id}` says more; once a route takes it, `talaria replay {id} --route ROUTE` hands it over"
    )
}

/// The number of such events of each tenant, for the overview.
pub(super) fn summary(tenants: &[TenantSummary]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let mut some = tenants.iter().filter(|tenant| tenant.unmatched_events > 0).peekable();
    if some.peek().is_none() {
        return Ok(());
    }
    for TenantSummary { tenant, unmatched_events, .. } in some {
        let events = if *unmatched_events == 1 { "event" } else { "events" };
        writeln!(out, "{ALERT}{tenant}: {unmatched_events} {events} that no route took{ALERT:#}")?;
    }
    writeln!(out, "  {DIM}talaria status --unmatched lists them{DIM:#}\n")
}
