//! How things stand, for metrics: asked for when somebody looks, and not kept up to date while nobody does.
//!
//! What is told by route is shown by the relay that works on the route and by no other, so that sums over all relays are
//! right. A route that is gone is not shown any more once nothing waits for it.

use crate::{decisions::pause::Pauses, routes::lane, view::{
        View,
        waiting::{Waiting, waiting},
    }};
use jiff::Timestamp;
use metrics::gauge;
use std::{collections::HashMap, sync::Arc, time::Duration};
use talaria_bus::{Bus, Clock, Lane, Owned, time::since};
use talaria_core::config::Config;
use talaria_proto::v1::ReplayJob;
use tokio::{sync::watch, time::timeout};

/// Of a route, no more due deliveries than this are counted: whoever needs more relays needs them by then.
const MOST_DUE: u32 = 10_000;

/// What takes longer is left out: whoever asks for metrics does not wait long.
const DEADLINE: Duration = Duration::from_secs(2);

/// Tells how things stand.
#[derive(Clone)]
pub struct Gauges {
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) bus: Bus,
    pub(crate) view: View,
    pub(crate) clock: Clock,
}

/// How things stood.
#[derive(Debug)]
pub struct Sample {
    routes: Vec<Standing>,
    partitions: usize,
    jobs: usize,
    unplanned: Option<u64>,
    lag: Option<u64>,
}

/// How one route stood.
#[derive(Debug, PartialEq)]
struct Standing {
    waiting: Waiting,
    /// How many could be sent.
    due: u64,
    /// How long the oldest waits.
    age: Duration,
    paused: bool,
}

impl Gauges {
    /// How things stand now. What cannot be known now is left out.
    pub async fn sample(&self) -> Sample {
        let (now, owned) = (self.clock.now(), self.bus.owned());
        let (waiting, due, newest, unplanned) = tokio::join!(
            within(self.view.read(waiting)),
            within(self.bus.due(now, MOST_DUE)),
            within(self.bus.journal_bounds()),
            async { if owned.plans() { within(self.bus.unplanned_events()).await } else { None } },
        );
        let (config, pauses) = (Arc::clone(&self.config.borrow()), self.view.pauses().borrow().clone());
        let due: HashMap<Lane, u64> = due.unwrap_or_default().into_iter().collect();
        let jobs: Arc<[ReplayJob]> = self.view.jobs().borrow().clone();
        let position = *self.view.position().borrow();
        Sample {
            routes: waiting
                .map(|known| standings(&config, known, &due, &owned, &pauses, now))
                .unwrap_or_default(),
            partitions: owned.shares(),
            jobs: jobs.len(),
            unplanned,
            lag: newest.map(|bounds| self.bus.entries_between(position, bounds.newest)),
        }
    }
}

async fn within<T, E>(answer: impl Future<Output = Result<T, E>>) -> Option<T> {
    timeout(DEADLINE, answer).await.ok()?.ok()
}

/// Those routes that are ours and that are configured, or for which something waits.
fn standings(
    config: &Config,
    known: Vec<Waiting>,
    due: &HashMap<Lane, u64>,
    owned: &Owned,
    pauses: &Pauses,
    now: Timestamp,
) -> Vec<Standing> {
    let mut routes: HashMap<Lane, Waiting> =
        known.into_iter().map(|waiting| (lane(&waiting.tenant, &waiting.route), waiting)).collect();
    routes.retain(|lane, waiting| waiting.count > 0 || config.route(&lane.tenant, &lane.route).is_some());
    for (tenant, route) in config.routes() {
        routes.entry(lane(&tenant.name, &route.name)).or_insert_with(|| Waiting {
            tenant: tenant.name.clone(),
            route: route.name.clone(),
            count: 0,
            oldest: None,
            shut: false,
        });
    }
    let ours = routes.into_iter().filter(|(lane, _)| owned.has(lane));
    ours.map(|(lane, waiting)| {
        let paused = pauses.hold(&lane.tenant, &lane.route);
        let due = due.get(&lane).copied().unwrap_or_default();
        Standing {
            due: if paused || waiting.shut { 0 } else { due },
            age: waiting.oldest.map_or(Duration::ZERO, |oldest| since(now, oldest)),
            paused,
            waiting,
        }
    })
    .collect()
}

impl Sample {
    /// Sets the gauges of the recorder that is in force.
    #[expect(clippy::cast_precision_loss, reason = "counts of what fits on a disk are exact below 2^53")]
    pub fn show(&self) {
        for Standing { waiting, due, age, paused } in &self.routes {
            let labels = [("tenant", waiting.tenant.clone()), ("route", waiting.route.clone())];
            gauge!("talaria_backlog", &labels).set(waiting.count as f64);
            gauge!("talaria_backlog_due", &labels).set(*due as f64);
            gauge!("talaria_oldest_waiting_seconds", &labels).set(age.as_secs_f64());
            gauge!("talaria_route_shut", &labels).set(f64::from(u8::from(waiting.shut)));
            gauge!("talaria_route_paused", &labels).set(f64::from(u8::from(*paused)));
        }
        gauge!("talaria_partitions_owned").set(self.partitions as f64);
        gauge!("talaria_replay_jobs").set(self.jobs as f64);
        if let Some(unplanned) = self.unplanned {
            gauge!("talaria_events_unplanned").set(unplanned as f64);
        }
        if let Some(lag) = self.lag {
            gauge!("talaria_journal_lag_entries").set(lag as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(route: &str, count: u64, shut: bool, pauses: &Pauses) -> Vec<(String, u64, u64, u64, bool)> {
        let config = crate::testing::config("");
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let oldest = (count > 0).then(|| now - Duration::from_secs(90));
        let known = Waiting { tenant: "acme".into(), route: route.into(), count, oldest, shut };
        let due = [(lane("acme", route), 7)].into();
        let owned = Owned::everything();
        let mut all: Vec<_> = standings(&config, vec![known], &due, &owned, pauses, now)
            .into_iter()
            .map(|it| (it.waiting.route, it.waiting.count, it.due, it.age.as_secs(), it.paused))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn what_is_configured_is_shown_and_what_is_gone_for_as_long_as_something_waits() {
        let none = Pauses::default();
        let idle = ("video".to_owned(), 0, 0, 0, false);
        assert_eq!(standing("video", 9, false, &none), [("video".to_owned(), 9, 7, 90, false)]);
        assert_eq!(standing("gone", 9, false, &none), [("gone".to_owned(), 9, 7, 90, false), idle.clone()]);
        assert_eq!(standing("gone", 0, true, &none), [idle]);
    }

    #[test]
    fn what_is_shut_or_paused_is_not_due() {
        let mut pauses = Pauses::default();
        assert_eq!(standing("video", 9, true, &pauses), [("video".to_owned(), 9, 0, 90, false)]);
        pauses.pause("acme", "");
        assert_eq!(standing("video", 9, false, &pauses), [("video".to_owned(), 9, 0, 90, true)]);
    }
}
