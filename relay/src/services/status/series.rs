//! Series: the check of a request, this relay's buckets, and the sums of all relays' buckets.

use super::{LONGEST_NAME, MOST_NAMES, no_such};
use crate::{
    services::{access::Caller, error::Error, local::Local, status::request},
    view::series::{self, HOUR, MINUTE, SeriesFilter},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use talaria_bus::Partition;
use talaria_core::{config::Config, time::before};
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{GetSeriesRequest, Series, SeriesCounts, SeriesPart, SeriesPoint, SeriesResolution},
};

/// The most points of a series.
const MOST_POINTS: i64 = 1_500;

/// The most points of all series in an answer, which has 4 MiB at most.
const MOST_IN_ALL: usize = 50_000;

const DEFAULT_PERIOD: Duration = Duration::from_secs(24 * 3_600);

/// The request with both times, so that all relays answer for the same period.
pub(super) fn with_times(request: GetSeriesRequest, now: Timestamp) -> GetSeriesRequest {
    let until = request.until.unwrap_or_else(|| to_proto(now));
    let since = request.since.unwrap_or_else(|| to_proto(before(from_proto(Some(&until)), DEFAULT_PERIOD)));
    GetSeriesRequest { since: Some(since), until: Some(until), ..request }
}

/// All but the partitions.
fn filter(request: GetSeriesRequest, caller: &Caller) -> Result<SeriesFilter, Error> {
    let tenant = caller.narrow(&request.tenant)?;
    let width = match SeriesResolution::try_from(request.resolution) {
        Ok(SeriesResolution::Minute) => MINUTE,
        Ok(SeriesResolution::Hour | SeriesResolution::Unspecified) => HOUR,
        Err(_) => return Err(Error::Invalid(format!("{} is not a resolution", request.resolution))),
    };
    let route = request::given(request.route);
    if route.is_some() && tenant.is_none() {
        return Err(Error::Invalid("a route needs its tenant".to_owned()));
    }
    let period = request::period(request.since, request.until)?;
    let (since, until) = (period.since.unwrap_or_default(), period.until.unwrap_or_default());
    let first = series::start(since.as_second(), width);
    let end = until.as_second() + i64::from(until.subsec_nanosecond() > 0);
    let points = (end - first + width - 1) / width;
    if until < since {
        return Err(Error::Invalid("until is before since".to_owned()));
    }
    if points > MOST_POINTS {
        return Err(Error::Invalid(format!(
            "the period has {points} points, and at most {MOST_POINTS} are given: ask for a shorter period or for hours"
        )));
    }
    Ok(SeriesFilter { partitions: Vec::new(), tenant, route, by_route: request.by_route, width, first, end })
}

impl Local {
    pub(in crate::services) async fn series(
        &self,
        caller: &Caller,
        request: GetSeriesRequest,
    ) -> Result<SeriesPart, Error> {
        let mut filter = filter(request, caller)?;
        let of_tenant = filter.tenant.as_deref().map(|tenant| self.partition_of(tenant));
        let own = self.own().partitions.into_iter();
        filter.partitions = own
            .filter(|own| of_tenant.is_none_or(|partition| partition == *own))
            .map(Partition::number)
            .collect();
        // One that has too many is refused by the relay that was asked.
        let buckets = self.read(move |connection| series::series(connection, &filter, MOST_IN_ALL)).await?;
        Ok(SeriesPart { buckets })
    }
}

/// The sums of all relays' buckets. If two relays have the same partition, while it moves, the first one counts.
pub(super) fn merged(parts: impl IntoIterator<Item = SeriesPart>) -> Result<Vec<Series>, Error> {
    let mut seen = BTreeSet::new();
    let mut sums: BTreeMap<(String, String), BTreeMap<i64, SeriesCounts>> = BTreeMap::new();
    for SeriesPart { buckets } in parts {
        let partitions: BTreeSet<u32> = buckets.iter().map(|bucket| bucket.partition).collect();
        for bucket in buckets.into_iter().filter(|bucket| !seen.contains(&bucket.partition)) {
            let of = sums.entry((bucket.tenant, bucket.route)).or_default();
            series::add(of.entry(bucket.start).or_default(), &bucket.counts.unwrap_or_default());
        }
        seen.extend(partitions);
    }
    if sums.values().map(BTreeMap::len).sum::<usize>() > MOST_IN_ALL {
        return Err(Error::Invalid(format!(
            "the series have more than {MOST_IN_ALL} points: ask for one tenant, for a shorter period or for hours"
        )));
    }
    let series = sums.into_iter().map(|((tenant, route), points)| {
        let mut total = SeriesCounts::default();
        for counts in points.values() {
            series::add(&mut total, counts);
        }
        let total = points.keys().next().map(|first| point(*first, &total));
        let points = points.iter().map(|(start, counts)| point(*start, counts)).collect();
        Series { tenant, route, points, total }
    });
    Ok(series.collect())
}

fn point(start: i64, counts: &SeriesCounts) -> SeriesPoint {
    SeriesPoint {
        start: Timestamp::from_second(start).ok().map(to_proto),
        events: counts.events,
        unmatched: counts.unmatched,
        delivered: counts.delivered,
        ignored: counts.ignored,
        parked: counts.parked,
        ambiguous: counts.ambiguous,
        cancelled: counts.cancelled,
        failed_attempts: counts.failed_attempts,
        delivery_latency: series::latency(counts),
    }
}

/// The error for a tenant or a route without points, if the configuration does not have it.
pub(super) fn check_exists(tenant: &str, route: &str, config: &Config, caller: &Caller) -> Result<(), Error> {
    let Some(known) = config.tenants.get(tenant) else {
        return Err(Error::NoSuchTenant(no_such(tenant, config, caller)));
    };
    if route.is_empty() || known.routes.contains_key(route) {
        return Ok(());
    }
    let route: String = route.chars().take(LONGEST_NAME).collect();
    let names: Vec<&str> = known.routes.keys().take(MOST_NAMES).map(String::as_str).collect();
    Err(Error::NoSuchRoute(format!("the tenant {tenant} has no route {route}; it has {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::SeriesBucket;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn asked(since: &str, until: &str, resolution: SeriesResolution) -> Result<SeriesFilter, String> {
        let (since, until) = (Some(to_proto(at(since))), Some(to_proto(at(until))));
        let request =
            GetSeriesRequest { since, until, resolution: resolution.into(), ..GetSeriesRequest::default() };
        filter(request, &Caller::unrestricted()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_period_has_whole_points_and_not_too_many() {
        let hours = asked("2026-04-24T10:30:00Z", "2026-04-24T12:00:00Z", SeriesResolution::Hour).unwrap();
        assert_eq!(
            (hours.first, hours.end),
            (at("2026-04-24T10:00:00Z").as_second(), at("2026-04-24T12:00:00Z").as_second())
        );
        let until = "2026-04-24T12:00:00.5Z";
        let hours = asked("2026-04-24T10:30:00Z", until, SeriesResolution::Unspecified).unwrap();
        assert_eq!((hours.width, hours.end), (3_600, at("2026-04-24T12:00:01Z").as_second()));
        let minutes =
            asked("2026-04-24T00:00:00Z", "2026-04-25T00:00:30Z", SeriesResolution::Minute).unwrap();
        assert_eq!(minutes.width, 60);
        let longer = asked("2026-04-24T00:00:00Z", "2026-04-25T01:00:01Z", SeriesResolution::Minute);
        assert!(longer.unwrap_err().contains("1501 points, and at most 1500"));
        assert!(asked("2026-04-25T00:00:00Z", "2026-04-24T00:00:00Z", SeriesResolution::Hour).is_err());
    }

    #[test]
    fn a_request_means_the_last_day_and_a_tenants_token_its_tenant() {
        let now = at("2026-04-24T12:10:00Z");
        let request = with_times(GetSeriesRequest::default(), now);
        assert_eq!(from_proto(request.since.as_ref()), at("2026-04-23T12:10:00Z"));
        let own = Caller { tenant: Some("acme".into()), ..Caller::unrestricted() };
        assert_eq!(filter(request.clone(), &own).unwrap().tenant.as_deref(), Some("acme"));
        let of_route = GetSeriesRequest { route: "a".into(), ..request.clone() };
        assert_eq!(filter(of_route.clone(), &own).unwrap().route.as_deref(), Some("a"));
        assert!(
            filter(of_route, &Caller::unrestricted()).unwrap_err().to_string().contains("needs its tenant")
        );
        let other = GetSeriesRequest { tenant: "globex".into(), ..request.clone() };
        assert!(filter(other, &own).is_err());
        assert!(filter(GetSeriesRequest { resolution: 9, ..request }, &own).is_err());
    }

    fn bucket(partition: u32, route: &str, start: i64, micros: u32) -> SeriesBucket {
        let counts = SeriesCounts {
            events: 1,
            delivered: 1,
            latencies: [(micros, 1)].into(),
            ..SeriesCounts::default()
        };
        SeriesBucket { partition, tenant: "acme".into(), route: route.into(), start, counts: Some(counts) }
    }

    #[test]
    fn buckets_of_all_relays_are_added_and_percentiles_are_of_their_sum() {
        let one = SeriesPart { buckets: vec![bucket(1, "a", 60, 3), bucket(1, "a", 0, 5)] };
        let other =
            SeriesPart { buckets: vec![bucket(2, "a", 60, 9), bucket(1, "a", 60, 7), bucket(2, "b", 0, 4)] };
        let series = merged([one, other]).unwrap();
        let found: Vec<_> = series.iter().map(|it| (it.route.as_str(), it.points.len())).collect();
        assert_eq!(found, [("a", 2), ("b", 1)]);
        let last = &series[0].points[1];
        assert_eq!(
            (last.start, last.delivered),
            (Some(to_proto(Timestamp::from_second(60).unwrap())), 2),
            "partition 1 counts once"
        );
        let latency = |point: &SeriesPoint| {
            let latency = point.delivery_latency.unwrap();
            (latency.samples, latency.p50.unwrap().nanos, latency.p99.unwrap().nanos)
        };
        assert_eq!(latency(last), (2, 3_000, 9_000));
        let total = series[0].total.as_ref().unwrap();
        assert_eq!((total.start, total.events), (series[0].points[0].start, 3));
        assert_eq!(latency(total), (3, 5_000, 9_000));
    }

    #[test]
    fn too_many_points_are_refused() {
        let many =
            |count: i64| SeriesPart { buckets: (0..count).map(|start| bucket(1, "a", start, 1)).collect() };
        assert_eq!(merged([many(50_000)]).unwrap()[0].points.len(), 50_000);
        assert!(merged([many(50_001)]).unwrap_err().to_string().contains("more than 50000 points"));
    }
}
