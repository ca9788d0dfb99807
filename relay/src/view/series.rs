//! Series: what happened in each minute and in each hour, for charts.
//!
//! A **bucket** is a row of the table `series`: of a route, of a tenant, or of a whole partition, each with its own, so that a sum over
//! many routes is read as fast as one. A batch of many routes would change several rows of each, so it appends a single row to
//! `series_added`; the last batches are merged into the buckets together, and queries read both. A bucket's latencies are a histogram
//! with 8 bins for each doubling: a percentile is the middle of a bin, and at most 1/16 off.
//!
//! A bucket has 50 bytes and 6 to 8 more for each bin that is used: with 175 bins from a millisecond to an hour, at most 1.5 KB. There
//! are at most 1,440 minutes and the retention's hours (168 in 7 days) of each route, each tenant and each partition. One exists only if
//! something happened in it, so that they are few beside the events and deliveries that made them.

use crate::view::schema::message;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use talaria_proto::{
    time::duration_to_proto,
    v1::{Latency, SeriesBucket, SeriesCounts, SeriesPart},
};

/// The widths of buckets, in seconds.
pub(crate) const MINUTE: i64 = 60;
pub(crate) const HOUR: i64 = 3_600;

/// How long minutes are kept.
pub(super) const MINUTES_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// The start of the bucket of a time, both in seconds.
pub(crate) fn start(second: i64, width: i64) -> i64 {
    second - second.rem_euclid(width)
}

/// Bins of a doubling, as a power of two.
const BIN_BITS: u32 = 3;

/// The bin of a latency.
pub(super) fn bin(micros: u64) -> u32 {
    let doubling = micros.checked_ilog2().unwrap_or(0).saturating_sub(BIN_BITS);
    // At most 15.
    let within = u32::try_from(micros >> doubling).unwrap_or_default();
    (doubling << BIN_BITS) + within
}

/// The latency in the middle of a bin.
fn middle(bin: u32) -> u64 {
    let doubling = (bin >> BIN_BITS).saturating_sub(1);
    let lowest = u64::from(bin - (doubling << BIN_BITS)).checked_shl(doubling).unwrap_or(u64::MAX);
    lowest.saturating_add(1_u64.checked_shl(doubling).unwrap_or(u64::MAX) / 2)
}

/// The percentiles of a histogram, by nearest rank; `None` if it is empty.
pub(crate) fn latency(counts: &SeriesCounts) -> Option<Latency> {
    let samples: u64 = counts.latencies.values().sum();
    let percentile = |percent: u64| {
        let rank = u64::try_from((u128::from(samples) * u128::from(percent)).div_ceil(100)).ok()?;
        let mut below = 0;
        let reached = counts.latencies.iter().find(|(_, count)| {
            below += **count;
            below >= rank
        });
        reached.map(|(bin, _)| duration_to_proto(Duration::from_micros(middle(*bin))))
    };
    (samples > 0).then(|| Latency {
        samples: u32::try_from(samples).unwrap_or(u32::MAX),
        p50: percentile(50),
        p90: percentile(90),
        p99: percentile(99),
    })
}

pub(crate) fn add(sum: &mut SeriesCounts, more: &SeriesCounts) {
    sum.events += more.events;
    sum.unmatched += more.unmatched;
    sum.delivered += more.delivered;
    sum.ignored += more.ignored;
    sum.parked += more.parked;
    sum.ambiguous += more.ambiguous;
    sum.cancelled += more.cancelled;
    sum.failed_attempts += more.failed_attempts;
    for (bin, count) in &more.latencies {
        *sum.latencies.entry(*bin).or_default() += count;
    }
}

/// The most rows of `series_added`, and the most minutes in them.
const MOST_ADDED: (usize, usize) = (64, 20_000);

/// Appends an encoded `SeriesPart` of so many minutes.
pub(super) fn append(connection: &Connection, count: usize, part: &[u8]) -> rusqlite::Result<()> {
    let insert = "INSERT INTO series_added (count, minutes) VALUES (?, ?)";
    connection.prepare_cached(insert)?.execute((count, part))?;
    let select = "SELECT count(*), sum(count) FROM series_added";
    let added = connection.prepare_cached(select)?.query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (rows, minutes): (usize, usize) = added;
    if rows < MOST_ADDED.0 && minutes < MOST_ADDED.1 { Ok(()) } else { merge(connection) }
}

/// Merges the last batches into the buckets, within the caller's transaction.
pub(super) fn merge(connection: &Connection) -> rusqlite::Result<()> {
    let parts = added(connection)?;
    if parts.is_empty() {
        return Ok(());
    }
    let mut select = connection.prepare_cached(
        "SELECT counts FROM series WHERE partition = ? AND width = ? AND start = ? AND tenant = ? AND route = ?",
    )?;
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?, ?, ?)")?;
    for ((partition, width, start, tenant, route), more) in rolled_up(&parts) {
        let stored = select.query_row((partition, width, start, tenant, route), |row| message(row, 0));
        let mut counts: SeriesCounts = stored.optional()?.unwrap_or_default();
        add(&mut counts, &more);
        insert.execute((partition, width, start, tenant, route, counts.encode_to_vec()))?;
    }
    connection.prepare_cached("DELETE FROM series_added")?.execute(()).map(drop)
}

fn added(connection: &Connection) -> rusqlite::Result<Vec<SeriesPart>> {
    let mut statement = connection.prepare_cached("SELECT minutes FROM series_added")?;
    statement.query_map((), |row| message(row, 0))?.collect()
}

/// The partition, the width, the start, the tenant and the route.
type Key<'a> = (u32, i64, i64, &'a str, &'a str);

/// Minutes and hours of routes, tenants and partitions, in the order of the table.
fn rolled_up(parts: &[SeriesPart]) -> BTreeMap<Key<'_>, SeriesCounts> {
    let mut minutes: HashMap<_, SeriesCounts> = HashMap::new();
    for bucket in parts.iter().flat_map(|part| &part.buckets) {
        let key = (bucket.partition, bucket.start, bucket.tenant.as_str(), bucket.route.as_str());
        if let Some(counts) = &bucket.counts {
            add(minutes.entry(key).or_default(), counts);
        }
    }
    let mut buckets: BTreeMap<Key<'_>, SeriesCounts> = BTreeMap::new();
    for ((partition, minute, tenant, route), mut counts) in minutes {
        let mut add_to = |tenant, route, counts: &SeriesCounts| {
            for width in [MINUTE, HOUR] {
                let key = (partition, width, start(minute, width), tenant, route);
                add(buckets.entry(key).or_default(), counts);
            }
        };
        if !route.is_empty() {
            add_to(tenant, route, &counts);
            // An event counts once, and may have several routes.
            counts.events = 0;
        }
        if counts != SeriesCounts::default() {
            add_to(tenant, "", &counts);
            add_to("", "", &counts);
        }
    }
    buckets
}

/// Which buckets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeriesFilter {
    pub partitions: Vec<u16>,
    /// `None` for all.
    pub tenant: Option<String>,
    /// `None` for the whole tenant.
    pub route: Option<String>,
    /// Those of each tenant and each route, and not those of all together.
    pub by_route: bool,
    pub width: i64,
    /// The first start, and the end of the starts, which is excluded.
    pub first: i64,
    pub end: i64,
}

impl SeriesFilter {
    fn matches(&self, (partition, width, start, tenant, route): Key<'_>) -> bool {
        let all = self.by_route && self.tenant.is_none();
        self.partitions.iter().any(|own| u32::from(*own) == partition)
            && width == self.width
            && (self.first..self.end).contains(&start)
            && if all { !tenant.is_empty() } else { tenant == self.tenant() }
            && self.route().is_none_or(|wanted| route == wanted)
    }

    fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or_default()
    }

    /// `None` for any.
    fn route(&self) -> Option<&str> {
        self.route.as_deref().or((!self.by_route).then_some(""))
    }
}

/// Buckets of each partition by their starts, and those of the last batches, which are to be added; with `by_route` not many more than
/// `most`.
pub(crate) fn series(
    connection: &Connection,
    filter: &SeriesFilter,
    most: usize,
) -> rusqlite::Result<Vec<SeriesBucket>> {
    // One snapshot, because a batch that is merged between two queries would be read twice or not at all.
    let connection = &connection.unchecked_transaction()?;
    let mut found = Vec::new();
    for partition in &filter.partitions {
        let bucket = |row: &Row<'_>| {
            Ok(SeriesBucket {
                partition: (*partition).into(),
                start: row.get(0)?,
                tenant: row.get(1)?,
                route: row.get(2)?,
                counts: Some(message(row, 3)?),
            })
        };
        if filter.by_route && filter.tenant.is_none() {
            let mut statement = connection.prepare_cached(
                "SELECT start, tenant, route, counts FROM series
                 WHERE partition = ? AND width = ? AND start >= ? AND start < ? AND tenant != '' LIMIT ?",
            )?;
            let left = most.saturating_sub(found.len()).saturating_add(1);
            let rows =
                statement.query_map((partition, filter.width, filter.first, filter.end, left), bucket)?;
            found.extend(rows.collect::<Result<Vec<_>, _>>()?);
            continue;
        }
        // A seek for each start, because the buckets of other tenants are between them.
        let mut statement = connection.prepare_cached(
            "SELECT start, tenant, route, counts FROM series
             WHERE partition = ?1 AND width = ?2 AND start = ?3 AND tenant = ?4 AND (?5 IS NULL OR route = ?5)",
        )?;
        let mut start = filter.first;
        while start < filter.end && (found.len() <= most || !filter.by_route) {
            let rows = statement
                .query_map((partition, filter.width, start, filter.tenant(), filter.route()), bucket)?;
            found.extend(rows.collect::<Result<Vec<_>, _>>()?);
            start += filter.width;
        }
    }
    let parts = added(connection)?;
    let added = rolled_up(&parts).into_iter().filter(|(key, _)| filter.matches(*key));
    found.extend(added.map(|((partition, _, start, tenant, route), counts)| {
        let counts = Some(counts);
        SeriesBucket { partition, tenant: tenant.to_owned(), route: route.to_owned(), start, counts }
    }));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use talaria_proto::time::duration_from_proto;

    fn of(latencies: &[u64]) -> SeriesCounts {
        let mut counts = SeriesCounts::default();
        for micros in latencies {
            *counts.latencies.entry(bin(*micros)).or_default() += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn the_middle_of_a_bin_is_at_most_a_sixteenth_off(micros in any::<u64>(), shift in 0_u32..64) {
            let micros = micros >> shift;
            let off = middle(bin(micros)).abs_diff(micros);
            prop_assert!(u128::from(off) * 16 <= u128::from(micros), "{micros}: {off}");
            prop_assert!(micros >= 16 || off == 0);
            prop_assert!(bin(micros) <= bin(micros.saturating_add(1)), "bins are in order");
        }

        #[test]
        fn percentiles_of_added_histograms_are_those_of_all(mut one in samples(), other in samples()) {
            let mut sum = of(&one);
            add(&mut sum, &of(&other));
            one.extend(other);
            one.sort_unstable();
            prop_assert_eq!(&sum, &of(&one));
            prop_assert_eq!(latency(&sum).is_none(), one.is_empty());
            let Some(latency) = latency(&sum) else { return Ok(()) };
            prop_assert_eq!(latency.samples as usize, one.len());
            for (percent, found) in [(50, latency.p50), (90, latency.p90), (99, latency.p99)] {
                let exact = one[(one.len() * percent).div_ceil(100) - 1];
                prop_assert_eq!(duration_from_proto(found.as_ref()).as_micros(), middle(bin(exact)).into());
            }
        }
    }

    fn samples() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0_u64..1 << 40, 0..50)
    }

    #[test]
    fn from_a_millisecond_to_an_hour_there_are_few_bins() {
        assert_eq!(bin(3_600_000_000) - bin(1_000), 174);
        let full = SeriesCounts {
            events: 16_000,
            delivered: 16_000,
            latencies: (bin(1_000)..=bin(3_600_000_000)).map(|bin| (bin, 16_000)).collect(),
            ..SeriesCounts::default()
        };
        assert!(prost::Message::encoded_len(&full) < 1_500);
        assert_eq!((bin(0), bin(15), bin(16), bin(17), bin(18)), (0, 15, 16, 16, 17));
    }
}
