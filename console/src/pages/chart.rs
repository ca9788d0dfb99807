//! Counts over the last 24 hours, as lines and bars.

#![expect(clippy::cast_precision_loss, reason = "a drawing needs few digits")]

use super::{parts::count, visitor::Visitor};
use crate::fault::Fault;
use jiff::Timestamp;
use maud::{Markup, html};
use std::{collections::HashMap, time::Duration};
use talaria_core::time::before;
use talaria_proto::{
    time::to_proto,
    v1::{GetSeriesRequest, Series, SeriesPoint, SeriesResolution},
};

const HOURS: usize = 24;
const HOUR: i64 = 3600;

/// The sizes of the drawings, in their own units.
const SPARK: (f64, f64) = (96.0, 20.0);
const CHART: (f64, f64) = (720.0, 100.0);

/// The series of tenants and routes, over the last 24 hours by hour.
#[derive(Default)]
pub(super) struct Day {
    /// The first hour, in seconds since 1970.
    first: i64,
    series: HashMap<(String, String), Series>,
}

impl Day {
    /// Of all tenants that the visitor sees, each of their routes, or nothing where they are too many.
    pub(super) async fn of_routes(visitor: &Visitor) -> Self {
        let request = GetSeriesRequest { by_route: true, ..GetSeriesRequest::default() };
        Self::get(visitor, request).await.unwrap_or_default()
    }

    /// Of one route.
    pub(super) async fn of_route(visitor: &Visitor, tenant: &str, route: &str) -> Result<Self, Fault> {
        let request =
            GetSeriesRequest { tenant: tenant.into(), route: route.into(), ..GetSeriesRequest::default() };
        Self::get(visitor, request).await
    }

    async fn get(visitor: &Visitor, request: GetSeriesRequest) -> Result<Self, Fault> {
        let now = Timestamp::now();
        let since = before(now, Duration::from_secs((HOURS as u64 - 1) * HOUR.unsigned_abs()));
        let request = GetSeriesRequest {
            since: Some(to_proto(since)),
            until: Some(to_proto(now)),
            resolution: SeriesResolution::Hour.into(),
            ..request
        };
        let series = visitor.status().get_series(request).await?.into_inner().series;
        let first = since.as_second().div_euclid(HOUR) * HOUR;
        let series = series
            .into_iter()
            .map(|series| ((series.tenant.clone(), series.route.clone()), series))
            .collect();
        Ok(Self { first, series })
    }

    /// A number of each hour, those in which nothing happened too.
    fn hours(&self, tenant: &str, route: &str, number: impl Fn(&SeriesPoint) -> u64) -> [u64; HOURS] {
        let mut hours = [0; HOURS];
        let series = self.series.get(&(tenant.to_owned(), route.to_owned()));
        for point in series.into_iter().flat_map(|series| &series.points) {
            let at = point.start.as_ref().map_or(-1, |start| (start.seconds - self.first).div_euclid(HOUR));
            if let Some(hour) = usize::try_from(at).ok().and_then(|at| hours.get_mut(at)) {
                *hour = number(point);
            }
        }
        hours
    }

    /// The sum over all tenants.
    pub(super) fn total(&self, number: impl Fn(&SeriesPoint) -> u64) -> u64 {
        let of_tenants = self.series.iter().filter(|((_, route), _)| route.is_empty());
        of_tenants.filter_map(|(_, series)| series.total.as_ref()).map(number).sum()
    }

    /// The deliveries of a route as a line, with their number.
    pub(super) fn spark(&self, tenant: &str, route: &str) -> Markup {
        let hours = self.hours(tenant, route, |point| point.delivered);
        let delivered: u64 = hours.iter().sum();
        html! {
            @if delivered > 0 {
                svg.spark viewBox={ "0 0 " (SPARK.0) " " (SPARK.1) } preserveAspectRatio="none" role="img"
                    aria-label={ (count(delivered)) " delivered in 24 hours" } { path d=(line(&hours)) {} }
            } @else { span.none { "–" } }
        }
    }

    /// A route's deliveries and failed attempts as bars, and the same in a table for those who do not see them.
    pub(super) fn bars(&self, tenant: &str, route: &str) -> Markup {
        let delivered = self.hours(tenant, route, |point| point.delivered);
        let failed = self.hours(tenant, route, |point| point.failed_attempts);
        let most = delivered.iter().chain(&failed).copied().max().unwrap_or_default();
        if most == 0 {
            return html! { p.empty { "Nothing happened in the last 24 hours." } };
        }
        let width = CHART.0 / HOURS as f64;
        let bar = |hour: usize, number: u64, shift: f64, class: &str| {
            let height = number as f64 / most as f64 * CHART.1;
            let x = hour as f64 * width + shift * width;
            html! {
                @if number > 0 {
                    rect class=(class) x={ (format!("{x:.1}")) } y={ (format!("{:.1}", CHART.1 - height)) }
                        width={ (format!("{:.1}", width * 0.38)) } height={ (format!("{height:.1}")) } {
                        title { (count(number)) " " (class) }
                    }
                }
            }
        };
        let sum = |hours: &[u64; HOURS]| hours.iter().sum::<u64>();
        html! {
            figure {
                figcaption {
                    "Last 24 hours, by hour: " span.swatch.delivered { (count(sum(&delivered))) " delivered" } ", "
                    span.swatch.failed { (count(sum(&failed))) " failed attempts" } "; the highest bar is " (count(most)) "."
                }
                svg.chart viewBox={ "0 0 " (CHART.0) " " (CHART.1) } preserveAspectRatio="none" aria-hidden="true" {
                    @for hour in 0..HOURS {
                        (bar(hour, delivered.get(hour).copied().unwrap_or_default(), 0.1, "delivered"))
                        (bar(hour, failed.get(hour).copied().unwrap_or_default(), 0.5, "failed"))
                    }
                }
            }
        }
    }
}

/// A line through the hours, from the left edge to the right one.
fn line(hours: &[u64; HOURS]) -> String {
    let most = hours.iter().copied().max().unwrap_or_default().max(1);
    let point = |(at, number): (usize, &u64)| {
        let x = at as f64 / (HOURS - 1) as f64 * SPARK.0;
        // Half a line's width stays free at both edges.
        let y = SPARK.1 - 1.0 - *number as f64 / most as f64 * (SPARK.1 - 2.0);
        format!("{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" })
    };
    hours.iter().enumerate().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp as Start;

    #[test]
    fn hours_without_anything_are_there() {
        let point = |hour: i64, delivered| SeriesPoint {
            start: Some(Start { seconds: 7 * 24 * HOUR + hour * HOUR, nanos: 0 }),
            delivered,
            ..SeriesPoint::default()
        };
        let series = Series {
            points: vec![point(-1, 5), point(0, 1), point(23, 2), point(24, 9)],
            ..Series::default()
        };
        let day = Day { first: 7 * 24 * HOUR, series: [(("a".into(), "r".into()), series)].into() };
        let hours = day.hours("a", "r", |point| point.delivered);
        assert_eq!((hours[0], hours[1], hours[23], hours.iter().sum::<u64>()), (1, 0, 2, 3));
        let line = line(&hours);
        assert!(line.starts_with("M0.0 10.0L4.2 19.0") && line.ends_with("L96.0 1.0"), "{line}");
        assert!(day.bars("a", "r").into_string().contains("3 delivered"));
        assert!(day.bars("a", "none").into_string().contains("Nothing happened"));
    }
}
