//! `talaria status --routes`: the state of each route, and its block.

use crate::{
    Failure,
    args::Status,
    client::{StatusClient, ask},
    print::{self, Cell, Column, DIM, Screen, route::block, state_style},
};
use jiff::Timestamp;
use std::io::Write as _;
use talaria_core::time::since;
use talaria_proto::{
    time::from_proto,
    v1::{BreakerState, DeliveryState, GetSummaryRequest, RouteSummary},
};

const COLUMNS: [Column; 5] = [
    Column::new("ROUTE").at_least(12),
    Column::new("BREAKER"),
    Column::new("WAITING"),
    Column::new("OLDEST").rank(1),
    Column::new("WHY").at_least(20),
];

pub(super) async fn show(relay: &mut StatusClient, args: &Status) -> Result<(), Failure> {
    let request = GetSummaryRequest { tenant: args.filter.tenant.clone().unwrap_or_default() };
    let summary = ask(relay.get_summary(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&summary)?);
    }
    super::warn_if_partial(&summary)?;
    if summary.routes.is_empty() {
        return Ok(writeln!(anstream::stdout(), "{DIM}No route has had a delivery yet.{DIM:#}")?);
    }
    let now = Timestamp::now();
    let row = |route: &RouteSummary| {
        let oldest = route.oldest_waiting_received_at.as_ref();
        let oldest = oldest.map_or("-".to_owned(), |at| print::duration(since(now, from_proto(Some(at)))));
        let waiting = match route.backlog {
            0 => Cell::styled("-", DIM),
            backlog => Cell::styled(backlog, state_style(DeliveryState::Waiting)),
        };
        vec![
            Cell::from(format!("{}/{}", route.tenant, route.route)),
            breaker(route),
            waiting,
            Cell::from(oldest),
            Cell::styled(block(route), state_style(DeliveryState::Parked)),
        ]
    };
    let rows = summary.routes.iter().map(row).collect();
    Ok(print::table(&COLUMNS, rows, Screen::stdout(args.list.wide))?)
}

fn breaker(route: &RouteSummary) -> Cell {
    let bad = state_style(DeliveryState::Parked);
    match route.breaker() {
        _ if !route.down_because.is_empty() => Cell::styled("down", bad),
        BreakerState::Shut => Cell::styled("shut", bad),
        BreakerState::Probing => Cell::styled("probing", bad),
        // Older relays do not send it.
        BreakerState::Admitting | BreakerState::Unspecified => Cell::from("admitting"),
    }
}
