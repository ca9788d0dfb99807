//! Gauges of this relay's partitions, computed for each scrape.
//!
//! A gauge with the labels of a route is shown only by the owner of the route's partition, so that sums over all relays are
//! right. A removed route is shown until it has no waiting deliveries.
//!
//! With many partitions the number of unplanned events is not exact: events of all partitions share one sequence, and a
//! partition without events stays behind. The gauge is the number of events stored after the last one that any relay planned: 0
//! while any relay plans, and rising when none does. Only the owner of the first partition shows it. With a single partition it
//! is exact.

use super::cluster::Cluster;
use crate::{
    decisions::job::{OPEN_STATES, name},
    partition::handle::{LaneGauges, PartitionGauges},
};
use jiff::Timestamp;
use metrics::gauge;
use rustix::fs::statvfs;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use talaria_bus::{Partition, StreamSize};
use talaria_core::{config::Config, time::since};
use tokio::{task::spawn_blocking, time::timeout};

/// The most due deliveries of a route that are shown: an autoscaler acts on far fewer.
const MOST_DUE: u64 = 10_000;

/// Gauges that take longer are left out, because scrapers do not wait long.
const DEADLINE: Duration = Duration::from_secs(2);

/// Takes samples. Clones share it.
#[derive(Clone)]
pub struct Gauges {
    pub(crate) cluster: Cluster,
}

/// The gauges at one time.
#[derive(Debug)]
pub struct Sample {
    routes: Vec<RouteGauges>,
    partitions: usize,
    replays: usize,
    /// By [`OPEN_STATES`].
    open_jobs: [usize; 3],
    unplanned: Option<u64>,
    behind: u64,
    /// Empty where another relay shows them, and where they are not known.
    streams: Vec<StreamSize>,
    /// Bytes that can still be written into the data directory.
    free: Option<u64>,
    /// When the last backup was made; shown by the same relay as `streams`.
    last_backup: Option<Timestamp>,
}

#[derive(Debug, Default, PartialEq)]
struct RouteGauges {
    tenant: Arc<str>,
    route: Arc<str>,
    waiting: u64,
    /// Deliveries that could be sent.
    due: u64,
    /// Of the oldest waiting delivery.
    age: Duration,
    is_shut: bool,
    is_paused: bool,
    is_down: bool,
}

impl Gauges {
    /// The gauges now, without those that cannot be computed.
    pub async fn sample(&self) -> Sample {
        let local = self.cluster.local();
        let own = local.own();
        let of_owners = async {
            let mut all = Vec::new();
            for owner in local.owners.all() {
                all.extend(owner.gauges().await);
            }
            all
        };
        let is_first = own.has_number(Partition::ONLY.number());
        let unplanned = async { if is_first { self.unplanned().await } else { None } };
        let sizes = async { if is_first { local.bus.sizes().await.ok() } else { None } };
        let last_backup =
            async { if is_first { local.bus.last_backup().await.ok().flatten() } else { None } };
        let directory = local.config().data_dir.clone();
        let free = spawn_blocking(move || statvfs(&directory));
        let (partitions, unplanned, sizes, last_backup, free) = tokio::join!(
            timeout(DEADLINE, of_owners),
            timeout(DEADLINE, unplanned),
            timeout(DEADLINE, sizes),
            timeout(DEADLINE, last_backup),
            timeout(DEADLINE, free),
        );
        let partitions = partitions.unwrap_or_default();
        let replays: BTreeSet<&str> =
            partitions.iter().flat_map(|it| &it.replays).map(|job| job.id.as_str()).collect();
        let is_own = |tenant: &str| own.has_tenant(tenant);
        Sample {
            routes: routes(&local.config(), &partitions, is_own, local.clock.now()),
            partitions: own.partitions.len(),
            replays: replays.len(),
            open_jobs: partitions.iter().fold([0; 3], |[a, b, c], it| {
                let [d, e, f] = it.open_jobs;
                [a + d, b + e, c + f]
            }),
            unplanned: unplanned.ok().flatten(),
            behind: local.behind(),
            streams: sizes.ok().flatten().map_or_else(Vec::new, Vec::from),
            free: free
                .ok()
                .and_then(|free| free.ok()?.ok())
                .map(|of| of.f_bavail.saturating_mul(of.f_frsize)),
            last_backup: last_backup.ok().flatten(),
        }
    }

    /// The number of events after the last one that was planned in any partition.
    async fn unplanned(&self) -> Option<u64> {
        let bounds = self.cluster.local().bus.bounds().await.ok()?;
        let planned = self.cluster.planned_through().await?;
        Some(bounds.last_event.saturating_sub(planned))
    }
}

/// The routes of own tenants that are configured or have waiting deliveries.
fn routes(
    config: &Config,
    partitions: &[PartitionGauges],
    is_own: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Vec<RouteGauges> {
    let mut routes: BTreeMap<(Arc<str>, Arc<str>), RouteGauges> = BTreeMap::new();
    for lane in partitions.iter().flat_map(|it| &it.lanes) {
        let route = config.route(&lane.tenant, &lane.route);
        if lane.waiting > 0 || route.is_some() {
            let is_down = route.is_some_and(|route| route.down.is_some());
            routes.insert((Arc::clone(&lane.tenant), Arc::clone(&lane.route)), of_lane(lane, is_down, now));
        }
    }
    for (tenant, route) in config.routes().filter(|(tenant, _)| is_own(&tenant.name)) {
        let is_down = route.down.is_some();
        let (tenant, route): (Arc<str>, Arc<str>) = (tenant.name.as_str().into(), route.name.as_str().into());
        routes.entry((Arc::clone(&tenant), Arc::clone(&route))).or_insert(RouteGauges {
            tenant,
            route,
            is_down,
            ..RouteGauges::default()
        });
    }
    routes.into_values().collect()
}

fn of_lane(lane: &LaneGauges, is_down: bool, now: Timestamp) -> RouteGauges {
    let LaneGauges { tenant, route, waiting, due, oldest, is_shut, is_paused } = lane;
    RouteGauges {
        tenant: Arc::clone(tenant),
        route: Arc::clone(route),
        waiting: *waiting,
        due: if *is_shut || *is_paused || is_down { 0 } else { (*due).min(MOST_DUE) },
        age: oldest.map_or(Duration::ZERO, |oldest| since(now, oldest)),
        is_shut: *is_shut,
        is_paused: *is_paused,
        is_down,
    }
}

impl Sample {
    /// Sets the gauges of the current recorder.
    #[expect(clippy::cast_precision_loss, reason = "counts of what fits on a disk are exact below 2^53")]
    pub fn show(&self) {
        for RouteGauges { tenant, route, waiting, due, age, is_shut, is_paused, is_down } in &self.routes {
            let labels = [("tenant", tenant.to_string()), ("route", route.to_string())];
            gauge!("talaria_backlog", &labels).set(*waiting as f64);
            gauge!("talaria_backlog_due", &labels).set(*due as f64);
            gauge!("talaria_oldest_waiting_seconds", &labels).set(age.as_secs_f64());
            gauge!("talaria_route_shut", &labels).set(f64::from(u8::from(*is_shut)));
            gauge!("talaria_route_paused", &labels).set(f64::from(u8::from(*is_paused)));
            gauge!("talaria_route_down", &labels).set(f64::from(u8::from(*is_down)));
        }
        gauge!("talaria_partitions_owned").set(self.partitions as f64);
        gauge!("talaria_replay_jobs").set(self.replays as f64);
        for (state, jobs) in OPEN_STATES.into_iter().zip(self.open_jobs) {
            gauge!("talaria_jobs_open", "state" => name(state)).set(jobs as f64);
        }
        gauge!("talaria_journal_lag_entries").set(self.behind as f64);
        if let Some(unplanned) = self.unplanned {
            gauge!("talaria_events_unplanned").set(unplanned as f64);
        }
        for StreamSize { stream, entries, bytes, max_bytes, replicas_behind } in &self.streams {
            gauge!("talaria_stream_entries", "stream" => *stream).set(*entries as f64);
            gauge!("talaria_stream_bytes", "stream" => *stream).set(*bytes as f64);
            gauge!("talaria_stream_max_bytes", "stream" => *stream).set(*max_bytes as f64);
            gauge!("talaria_stream_replicas_behind", "stream" => *stream).set(*replicas_behind as f64);
        }
        if let Some(free) = self.free {
            gauge!("talaria_data_free_bytes").set(free as f64);
        }
        if let Some(at) = self.last_backup {
            gauge!("talaria_last_backup_timestamp_seconds").set(at.as_second() as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lanes: &[(&str, u64, bool, bool)], is_own: bool) -> Vec<(String, u64, u64, u64, bool)> {
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let lane = |(route, waiting, is_shut, is_paused): &(&str, u64, bool, bool)| LaneGauges {
            tenant: "acme".into(),
            route: (*route).into(),
            waiting: *waiting,
            due: 7,
            oldest: (*waiting > 0).then(|| now - Duration::from_secs(90)),
            is_shut: *is_shut,
            is_paused: *is_paused,
        };
        let partition = PartitionGauges {
            lanes: lanes.iter().map(lane).collect(),
            planned_through: 0,
            replays: Vec::new(),
            open_jobs: [0; 3],
        };
        routes(&crate::test_config::config(""), &[partition], |_| is_own, now)
            .into_iter()
            .map(|it| (it.route.to_string(), it.waiting, it.due, it.age.as_secs(), it.is_paused))
            .collect()
    }

    #[test]
    fn a_configured_route_is_shown_and_a_removed_one_while_deliveries_wait() {
        let idle = ("video".to_owned(), 0, 0, 0, false);
        assert_eq!(shown(&[("video", 9, false, false)], true), [("video".to_owned(), 9, 7, 90, false)]);
        let gone = [("gone".to_owned(), 9, 7, 90, false), idle.clone()];
        assert_eq!(shown(&[("gone", 9, false, false)], true), gone);
        assert_eq!(shown(&[("gone", 0, true, false)], true), [idle]);
        assert_eq!(shown(&[], false), [], "routes of other relays are not shown");
    }

    #[test]
    fn a_route_that_is_down_has_no_due_deliveries() {
        let lane = LaneGauges {
            tenant: "acme".into(),
            route: "video".into(),
            waiting: 9,
            due: 7,
            oldest: None,
            is_shut: false,
            is_paused: false,
        };
        let shown = of_lane(&lane, true, Timestamp::UNIX_EPOCH);
        assert_eq!((shown.waiting, shown.due, shown.is_down), (9, 0, true));
    }

    #[test]
    fn a_shut_or_paused_route_has_no_due_deliveries() {
        assert_eq!(shown(&[("video", 9, true, false)], true), [("video".to_owned(), 9, 0, 90, false)]);
        assert_eq!(shown(&[("video", 9, false, true)], true), [("video".to_owned(), 9, 0, 90, true)]);
    }
}
