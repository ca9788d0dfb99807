//! `talaria status --routes`: the state of each route, and why it is blocked.

use crate::{
    Failure,
    args::Status,
    client::{StatusClient, ask},
    print::{
        self, ALERT, Cell, Column, DIM, Screen,
        route::{block, oldest},
        state_style,
    },
};
use std::io::Write as _;
use talaria_proto::v1::{BreakerState, DeliveryState, GetSummaryRequest, RouteSummary};

const COLUMNS: [Column; 5] = [
    Column::new("ROUTE").at_least(12),
    Column::new("STATE"),
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
    let row = |route: &RouteSummary| {
        let waiting = match route.backlog {
            0 => Cell::styled("-", DIM),
            backlog => Cell::styled(backlog, state_style(DeliveryState::Waiting)),
        };
        vec![
            Cell::from(format!("{}/{}", route.tenant, route.route)),
            state(route),
            waiting,
            Cell::from(oldest(route)),
            Cell::styled(block(route), ALERT),
        ]
    };
    let rows = summary.routes.iter().map(row).collect();
    Ok(print::table(&COLUMNS, rows, Screen::stdout(args.list.wide))?)
}

/// In the order of [`block`].
fn state(route: &RouteSummary) -> Cell {
    let state = match route.breaker() {
        _ if route.pause.is_some() => "paused",
        _ if !route.down_because.is_empty() => "down",
        BreakerState::Shut => "shut",
        BreakerState::Probing => "probing",
        // Older relays do not send the breaker field.
        BreakerState::Admitting | BreakerState::Unspecified => return Cell::from("admitting"),
    };
    Cell::styled(state, ALERT)
}
