//! The tables of tenants, routes, events, deliveries and quarantined callbacks.

use crate::print::{
    self, ALERT, Cell, Column, DIM, Screen,
    delivery::why,
    one_line,
    route::{block, oldest, paused},
    state_style, visible,
};
use std::io::{self, Write as _};
use talaria_proto::{
    time::duration_from_proto,
    v1::{
        Configuration, Delivery, DeliveryState, Event, ListDeliveriesResponse, ListQuarantinedResponse,
        QuarantinedCallback, RouteSummary, TenantSummary,
    },
};

const TENANTS: [Column; 6] = [
    Column::new("TENANT").at_least(12),
    Column::new("EVENTS"),
    Column::new("UNMATCHED"),
    Column::new("CONFLICTS").rank(1),
    Column::new("QUARANTINED").rank(2),
    Column::new("").at_least(20),
];

const ROUTES: [Column; 10] = [
    Column::new("ROUTE").at_least(12),
    Column::new("WAITING"),
    Column::new("DELIVERED"),
    Column::new("IGNORED").rank(4),
    Column::new("PARKED"),
    Column::new("AMBIGUOUS").rank(1),
    Column::new("SUCCESS").rank(5),
    Column::new("P50 / P99").rank(6),
    Column::new("OLDEST").rank(3),
    Column::new("").rank(2).at_least(24),
];

const EVENTS: [Column; 4] = [
    Column::new("RECEIVED"),
    Column::new("TENANT").at_least(8),
    Column::new("TYPE").at_least(10).keeps_end(),
    Column::new("EVENT"),
];

const DELIVERIES: [Column; 8] = [
    Column::new("RECEIVED"),
    Column::new("STATE"),
    Column::new("ROUTE").at_least(10),
    Column::new("JOB").rank(1).at_least(10),
    Column::new("TYPE").rank(3).at_least(10).keeps_end(),
    Column::new("ATTEMPTS").rank(4),
    Column::new("DELIVERY"),
    Column::new("WHY").rank(2).at_least(10),
];

const QUARANTINED: [Column; 5] = [
    Column::new("RECEIVED"),
    Column::new("TENANT").at_least(8),
    Column::new("ID"),
    Column::new("BYTES").rank(1),
    Column::new("WHY").at_least(16),
];

/// The configuration in force; in red, settings that are not.
pub(super) fn configuration(configuration: &Configuration) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let loaded = print::time(configuration.loaded_at.as_ref());
    let Configuration { generation, needs_restart, fault, .. } = configuration;
    writeln!(out, "{DIM}configuration {generation}, read at {loaded}{DIM:#}")?;
    if !needs_restart.is_empty() {
        writeln!(out, "{ALERT}needs a restart: {}{ALERT:#}", needs_restart.join(", "))?;
    }
    if let Some(fault) = fault {
        let at = print::time(fault.at.as_ref());
        writeln!(out, "{ALERT}the file that was read at {at} is not valid and not in force:{ALERT:#}")?;
        for problem in &fault.problems {
            let location = match problem.line {
                0 => String::new(),
                line => format!("{line}:{}: ", problem.column),
            };
            writeln!(out, "  {location}{}\n    help: {}", one_line(&problem.what), one_line(&problem.help))?;
        }
    }
    writeln!(out)
}

pub(super) fn tenants(tenants: &[TenantSummary], screen: Screen) -> io::Result<()> {
    let rows = tenants.iter().map(|tenant| {
        vec![
            tenant.tenant.as_str().into(),
            tenant.events.into(),
            tenant.unmatched_events.into(),
            tenant.conflicts.into(),
            tenant.quarantined.into(),
            Cell::styled(tenant.pause.as_ref().map_or(String::new(), paused), ALERT),
        ]
    });
    print::table(&TENANTS, rows.collect(), screen)?;
    writeln!(io::stdout())
}

pub(super) fn route_sums(routes: &[RouteSummary], screen: Screen) -> io::Result<()> {
    let row = |route: &RouteSummary| {
        let count = |state: DeliveryState| {
            let count = route
                .counts
                .iter()
                .find(|counted| counted.state() == state)
                .map_or(0, |counted| counted.count);
            if count == 0 { Cell::styled("-", DIM) } else { Cell::styled(count, state_style(state)) }
        };
        let latency = route.delivery_latency.as_ref().map_or("-".to_owned(), |latency| {
            let percentile = |duration: &Option<_>| print::duration(duration_from_proto(duration.as_ref()));
            format!("{} / {}", percentile(&latency.p50), percentile(&latency.p99))
        });
        vec![
            Cell::from(format!("{}/{}", route.tenant, route.route)),
            count(DeliveryState::Waiting),
            count(DeliveryState::Delivered),
            count(DeliveryState::Ignored),
            count(DeliveryState::Parked),
            count(DeliveryState::Ambiguous),
            Cell::from(route.success_share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))),
            Cell::from(latency),
            Cell::from(oldest(route)),
            Cell::styled(block(route), ALERT),
        ]
    };
    print::table(&ROUTES, routes.iter().map(row).collect(), screen)?;
    writeln!(io::stdout())
}

pub(super) fn events(events: &[Event], screen: Screen) -> io::Result<()> {
    let row = |event: &Event| {
        vec![
            Cell::styled(print::time(event.received_at.as_ref()), DIM),
            Cell::from(&event.tenant),
            Cell::from(&event.r#type),
            Cell::styled(screen.id(&event.id), DIM),
        ]
    };
    print::table(&EVENTS, events.iter().map(row).collect(), screen)
}

pub(super) fn deliveries(list: &ListDeliveriesResponse, screen: Screen) -> io::Result<()> {
    if list.deliveries.is_empty() {
        return writeln!(anstream::stdout(), "{DIM}No deliveries.{DIM:#}");
    }
    let row = |delivery: &Delivery| {
        vec![
            Cell::styled(print::time(delivery.received_at.as_ref()), DIM),
            Cell::state(delivery.state()),
            Cell::from(format!("{}/{}", delivery.tenant, delivery.route)),
            Cell::from(&delivery.job_id),
            Cell::from(&delivery.event_type),
            Cell::from(delivery.attempts),
            Cell::styled(screen.id(&delivery.id), DIM),
            Cell::from(why(delivery)),
        ]
    };
    print::table(&DELIVERIES, list.deliveries.iter().map(row).collect(), screen)?;
    print::note_next_page(&list.next_page_token)
}

/// With payloads there is no table.
pub(super) fn quarantined(list: &ListQuarantinedResponse, payload: bool, screen: Screen) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match list.total {
        1 => writeln!(out, "1 signed callback was not an event.")?,
        n => writeln!(out, "{n} signed callbacks were not events.")?,
    }
    if !payload && !list.callbacks.is_empty() {
        let row = |callback: &QuarantinedCallback| {
            vec![
                Cell::styled(print::time(callback.received_at.as_ref()), DIM),
                Cell::from(&callback.tenant),
                Cell::styled(screen.id(&callback.id), DIM),
                Cell::from(callback.payload_size),
                Cell::from(&callback.reason),
            ]
        };
        drop(out);
        return print::table(&QUARANTINED, list.callbacks.iter().map(row).collect(), screen);
    }
    for callback in &list.callbacks {
        writeln!(
            out,
            "{DIM}{}{DIM:#}  {}  {}  {} bytes  {}",
            print::time(callback.received_at.as_ref()),
            callback.tenant,
            screen.id(&callback.id),
            callback.payload_size,
            one_line(&callback.reason)
        )?;
        writeln!(out, "{}", visible(&String::from_utf8_lossy(&callback.payload)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_but_cancelled_has_a_column() {
        for state in DeliveryState::ALL {
            let has_column = ROUTES.iter().any(|column| column.head == print::state_name(state));
            assert_eq!(has_column, state != DeliveryState::Cancelled, "{state:?}");
        }
    }
}
