//! `talaria stats`: counts and latencies by hour or minute, or by route.

use crate::{
    Failure,
    args::Stats,
    client,
    print::{self, ALERT, Cell, Column, DIM, Screen, state_style},
};
use std::{io::Write as _, path::Path};
use talaria_proto::{
    time::{duration_from_proto, to_proto},
    v1::{DeliveryState, GetSeriesRequest, Series, SeriesPoint, SeriesResolution},
};

/// Behind the column of times or routes.
const COUNTS: [Column; 9] = [
    Column::new("EVENTS"),
    Column::new("UNMATCHED").rank(5),
    Column::new("DELIVERED"),
    Column::new("IGNORED").rank(4),
    Column::new("PARKED"),
    Column::new("AMBIGUOUS").rank(2),
    Column::new("CANCELLED").rank(6),
    Column::new("FAILED ATTEMPTS").rank(3),
    Column::new("P50 / P99").rank(1),
];

pub(crate) async fn run(config: &Path, args: Stats) -> Result<(), Failure> {
    let mut relay = client::status(&args.ask, config).await?;
    let of = args.of.as_deref().unwrap_or_default();
    let (tenant, route) = of.split_once('/').unwrap_or((of, ""));
    let resolution = if args.minutes { SeriesResolution::Minute } else { SeriesResolution::Hour };
    let request = GetSeriesRequest {
        tenant: tenant.to_owned(),
        route: route.to_owned(),
        since: Some(to_proto(args.since)),
        until: args.until.map(to_proto),
        resolution: resolution.into(),
        by_route: args.routes,
    };
    let answer = client::ask(relay.get_series(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    print::warn_if_incomplete(answer.incomplete)?;
    if answer.series.is_empty() {
        return Ok(writeln!(anstream::stdout(), "{DIM}Nothing happened.{DIM:#}")?);
    }
    let (first, rows) = if args.routes {
        (Column::new("ROUTE").at_least(12), by_route(&answer.series))
    } else {
        let head = if args.minutes { "MINUTE" } else { "HOUR" };
        (Column::new(head), answer.series.iter().flat_map(by_time).collect())
    };
    let columns: Vec<Column> = [first].into_iter().chain(COUNTS).collect();
    Ok(print::table(&columns, rows, Screen::stdout(args.wide))?)
}

fn by_route(series: &[Series]) -> Vec<Vec<Cell>> {
    let row = |series: &Series| {
        let name = match series.route.as_str() {
            "" => series.tenant.clone(),
            route => format!("{}/{route}", series.tenant),
        };
        row(Cell::from(name), &series.total.unwrap_or_default())
    };
    series.iter().map(row).collect()
}

/// A row for each point, and one for all.
fn by_time(series: &Series) -> Vec<Vec<Cell>> {
    let time = |point: &SeriesPoint| Cell::styled(print::time(point.start.as_ref()), DIM);
    let points = series.points.iter().map(|point| row(time(point), point));
    points.chain(series.total.iter().map(|total| row(Cell::from("all"), total))).collect()
}

fn row(first: Cell, point: &SeriesPoint) -> Vec<Cell> {
    let count = |count: u64, style| {
        if count == 0 { Cell::styled("-", DIM) } else { Cell::styled(count, style) }
    };
    let of = |state, number| count(number, state_style(state));
    let latency = point.delivery_latency.as_ref().map_or("-".to_owned(), |latency| {
        let percentile = |duration: &Option<_>| print::duration(duration_from_proto(duration.as_ref()));
        format!("{} / {}", percentile(&latency.p50), percentile(&latency.p99))
    });
    vec![
        first,
        count(point.events, anstyle::Style::new()),
        count(point.unmatched, ALERT),
        of(DeliveryState::Delivered, point.delivered),
        of(DeliveryState::Ignored, point.ignored),
        of(DeliveryState::Parked, point.parked),
        of(DeliveryState::Ambiguous, point.ambiguous),
        of(DeliveryState::Cancelled, point.cancelled),
        count(point.failed_attempts, ALERT),
        Cell::from(latency),
    ]
}
