use super::{
    query::{DeliveryFilter, EventFilter, Period, TOP},
    replayable::{BOTTOM, ReplayFilter},
    *,
};
use crate::decisions::breaker::{Cause, Shut};
use crate::decisions::classify::{IdAfter, Next, Verdict};
use crate::decisions::conclude::{self, Ended, Timing};
use crate::decisions::replay::{self, Wish};
use jiff::Timestamp;
use proptest::prelude::*;
use std::time::Duration;
use talaria_bus::time::{after, to_proto};
use talaria_core::{config::EventPattern, config::Retry, id::DeliveryId, id::EventId};
use talaria_proto::v1::{
    AttemptOutcome, BreakerCause, BreakerState, ControlKind, DeliveryState, DeliveryTask, Event,
    EventConflict, EventPlanned, Record, Pause, PauseChanged, QuarantinedCallback, ReplayJobState,
    RouteChanged, record::What,
};
use tempfile::TempDir;

const ANY_TIME: Period = Period { since: None, until: None };

fn at(seconds: u64) -> Timestamp {
    after(Timestamp::from_second(1_777_000_000).unwrap(), Duration::from_secs(seconds))
}

/// Records as the services write them, one event after another.
#[derive(Default)]
struct History {
    records: Vec<Record>,
    events: u64,
}

impl History {
    fn record(&mut self, time: Timestamp, event_seq: u64, what: What) {
        self.records.push(Record { at: Some(to_proto(time)), event_seq, what: Some(what) });
    }

    /// An event of job "job <n>", received in second n, and its deliveries' tasks.
    fn event(&mut self, tenant: &str, routes: &[&str]) -> (EventId, Vec<DeliveryTask>) {
        self.events += 1;
        let (seq, job) = (self.events, format!("job {}", self.events));
        let id = EventId::new(tenant, &job, "video.done");
        let received_at = Some(to_proto(at(seq)));
        let event = Event {
            id: id.to_string(),
            tenant: tenant.into(),
            r#type: "video.done".into(),
            job_id: job,
            received_at,
            ..Event::default()
        };
        let routes: Vec<String> = routes.iter().map(|route| (*route).to_owned()).collect();
        let task = |route: &String| DeliveryTask {
            delivery_id: DeliveryId::new(id, route).to_string(),
            event_seq: seq,
            tenant: tenant.into(),
            route: route.clone(),
            received_at,
            due_at: received_at,
            generation: 1,
            ..DeliveryTask::default()
        };
        let tasks = routes.iter().map(task).collect();
        self.record(at(seq), seq, What::EventPlanned(EventPlanned { event: Some(event), routes }));
        (id, tasks)
    }

    /// An attempt with this outcome, one second after the last record; the task as it goes on.
    fn attempt(&mut self, task: &DeliveryTask, next: Next) -> Option<DeliveryTask> {
        let now = at(self.records.len() as u64 + 1_000);
        let outcome = match next {
            Next::Delivered => AttemptOutcome::Accepted,
            Next::Ignored => AttemptOutcome::Ignored,
            Next::Ambiguous => AttemptOutcome::NotUnderstood,
            Next::Slower { .. } => AttemptOutcome::RateLimited,
            Next::RouteFault | Next::OtherSecret => AttemptOutcome::RouteFault,
            Next::Retry { .. } => AttemptOutcome::Failed,
        };
        let ended = Ended {
            started_at: now,
            took: Some(Duration::from_millis(3)),
            http_status: Some(200),
            timings: None,
            guarded: vec![],
            verdict: Verdict { outcome, detail: format!("{outcome:?}"), next },
        };
        let retry = Retry {
            schedule: vec![Duration::from_secs(1); 2],
            jitter: 0.0,
            max_age: Duration::from_secs(9_999),
        };
        let timing = Timing {
            now,
            retry: &retry,
            random: 0.5,
            not_before: after(now, Duration::from_secs(5)),
            age_from: now,
        };
        let conclusion = conclude::attempt(task, task.delivery_id.parse().unwrap(), ended, timing);
        self.records.push(conclusion.record);
        conclusion.task
    }

    /// A pause or a resumption that somebody asked for.
    fn pause(&mut self, time: Timestamp, tenant: &str, route: &str, paused: bool) {
        let pause = Pause {
            tenant: tenant.into(),
            route: route.into(),
            since: Some(to_proto(time)),
            requested_by: "ana".into(),
            ..Pause::default()
        };
        self.record(time, 0, What::PauseChanged(PauseChanged { pause: Some(pause), paused }));
        let wish = Wish { now: time, by: "ana", token: "", reason: "", job: "" };
        let kind = if paused { ControlKind::Paused } else { ControlKind::Resumed };
        self.record(time, 0, What::Acted(wish.action(kind, tenant, route)));
    }

    /// Something that ended is sent again, by hand or by a job.
    fn again(&mut self, task: &DeliveryTask, job: &str) -> DeliveryTask {
        let now = at(self.records.len() as u64 + 1_000);
        let again = replay::again(task, Wish { now, by: "ana", token: "", reason: "", job });
        self.records.push(again.record);
        again.task.unwrap()
    }

    /// A replay job as it stands.
    fn job(&mut self, id: &str, started: u64, replayed: u64, state: ReplayJobState) {
        let job = ReplayJob {
            id: id.into(),
            state: state.into(),
            replayed,
            started_at: Some(to_proto(at(started))),
            updated_at: Some(to_proto(at(started + replayed))),
            ..ReplayJob::default()
        };
        self.record(at(started + replayed), 0, What::ReplayJob(job));
    }

    fn placed(&self) -> Vec<(u64, Arc<Record>)> {
        (1..).zip(self.records.iter().cloned().map(Arc::new)).collect()
    }
}

fn journal(newest: u64) -> Bounds {
    Bounds { source: "bus.db".into(), oldest: 1, newest }
}

fn page(records: Vec<(u64, Arc<Record>)>) -> Records {
    let through = records.last().map_or(0, |(place, _)| *place);
    Records { records, through }
}

async fn view_of(records: Vec<(u64, Arc<Record>)>) -> (TempDir, View) {
    let directory = tempfile::tempdir().unwrap();
    let view = View::open(directory.path(), &journal(u64::MAX)).unwrap();
    view.apply(page(records)).await.unwrap();
    (directory, view)
}

/// Every row of every table, with lanes by name.
async fn dump(view: &View) -> Vec<String> {
    let queries = [
        "SELECT 'event', seq, id, tenant, received_at, event FROM events ORDER BY 2",
        "SELECT 'delivery', event_seq, d.route, l.tenant, l.route, state, step, latency, delivery
         FROM deliveries d JOIN lanes l USING (lane) ORDER BY 2, 3",
        "SELECT 'attempt', * FROM attempts ORDER BY 2, 3, 4",
        "SELECT 'conflict', * FROM conflicts ORDER BY 2, 3",
        "SELECT 'quarantined', * FROM quarantined ORDER BY 2",
        "SELECT 'lane', tenant, route, changed_at, held_because, held_until FROM lanes ORDER BY 2, 3",
        "SELECT 'count', tenant, route, state, count FROM delivery_counts JOIN lanes USING (lane) WHERE count != 0 ORDER BY 2, 3, 4",
        "SELECT 'pause', * FROM pauses ORDER BY 2, 3",
        "SELECT 'action', * FROM actions ORDER BY 2",
        "SELECT 'job', * FROM replay_jobs ORDER BY 2",
        "SELECT 'events', * FROM event_counts WHERE events != 0 ORDER BY 2",
    ];
    let read = move |connection: &Connection| {
        let mut lines = Vec::new();
        for query in queries {
            let mut statement = connection.prepare(query)?;
            let columns = statement.column_count();
            let mut rows = statement.query(())?;
            while let Some(row) = rows.next()? {
                let line: Vec<_> =
                    (0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap())).collect();
                lines.push(line.join(" "));
            }
        }
        Ok(lines)
    };
    view.read(read).await.unwrap()
}

fn next(kind: u8) -> Next {
    match kind % 7 {
        0 => Next::Delivered,
        1 => Next::Ignored,
        2 => Next::Ambiguous,
        3 => Next::Slower { retry_after: None },
        4 => Next::RouteFault,
        5 => Next::Retry { retry_after: None, id: IdAfter::Unknown },
        _ => Next::Retry { retry_after: None, id: IdAfter::UsedUp },
    }
}

/// A history of some events on up to three routes, with attempts as the numbers say, and with what else happens.
fn history(choices: &[u8]) -> History {
    let mut history = History::default();
    for choice in choices.chunks(4) {
        let routes = &["a", "b", "c"][..usize::from(choice[0] % 4)];
        let (id, tasks) = history.event(if choice[0] < 128 { "acme" } else { "other" }, routes);
        for (mut task, kind) in tasks.into_iter().zip(choice.iter().cycle()) {
            for step in 0..4 {
                match history.attempt(&task, next(kind.wrapping_add(step * 3))) {
                    Some(next) => task = next,
                    None if kind.is_multiple_of(3) => {
                        task = history.again(&task, ["", "rpl_1"][step as usize % 2]);
                    }
                    None => break,
                }
            }
            // Clocks that differ: what came last is told by the journal.
            if kind.is_multiple_of(5) {
                let (time, route) = (at(u64::from(*kind)), ["", "a"][usize::from(kind % 2)]);
                history.pause(time, "acme", route, kind % 3 == 0);
                let state = [ReplayJobState::Running, ReplayJobState::Done][usize::from(kind % 2)];
                history.job(&format!("rpl_{}", kind % 4), 5, u64::from(*kind), state);
            }
        }
        if choice[0] % 3 == 0 {
            let seq = history.events;
            for received in [50, 40] {
                let conflict = EventConflict {
                    event_id: id.to_string(),
                    received_at: Some(to_proto(at(received))),
                    payload_sha256: vec![choice[0]].into(),
                    payload: "x".into(),
                };
                history.record(at(received), seq, What::EventConflict(conflict));
            }
            let callback = QuarantinedCallback {
                id: format!("qrt_{}", choice[0]),
                tenant: "acme".into(),
                received_at: Some(to_proto(at(seq))),
                ..QuarantinedCallback::default()
            };
            history.record(at(seq), 0, What::CallbackQuarantined(callback));
            let held = RouteChanged {
                tenant: "acme".into(),
                route: "a".into(),
                held_because: format!("{seq}"),
                ..RouteChanged::default()
            };
            history.record(at(u64::from(choice[0] % 5)), 0, What::RouteChanged(held));
        }
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Records in any order, any of them twice, in batches of any size, give the same view.
    #[test]
    fn any_order_of_duplicated_facts_gives_the_same_view(
        choices in prop::collection::vec(any::<u8>(), 1..24),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        batch in 1_usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let records = history(&choices).placed();
            let (_kept, straight) = view_of(records.clone()).await;
            // Every record at least once, some again, shuffled by drawing places.
            let mut shuffled: Vec<(u64, Arc<Record>)> = records.clone();
            for index in &order {
                shuffled.push(records[index.index(records.len())].clone());
                let other = index.index(shuffled.len());
                let last = shuffled.len() - 1;
                shuffled.swap(other, last);
            }
            shuffled.reverse();
            let (_kept, crooked) = view_of(vec![]).await;
            for batch in shuffled.chunks(batch) {
                crooked.apply(page(batch.to_vec())).await.unwrap();
            }
            assert_eq!(dump(&straight).await, dump(&crooked).await);
        });
    }

    /// The counts that are kept beside the rows are those of the rows, also after some have expired.
    #[test]
    fn counts_are_those_of_the_rows(choices in prop::collection::vec(any::<u8>(), 1..40), before in 0_u64..12) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_kept, view) = view_of(history(&choices).placed()).await;
            view.expire(at(before)).await.unwrap();
            let wrong = view.read(|connection| {
                connection.query_row(
                    "SELECT (SELECT count(*) FROM (SELECT lane, state, count(*) AS n FROM deliveries GROUP BY lane, state)
                             NATURAL FULL JOIN (SELECT lane, state, count FROM delivery_counts WHERE count != 0)
                             WHERE n IS NOT count)
                          + (SELECT count(*) FROM (SELECT tenant, count(*) AS n FROM events GROUP BY tenant)
                             NATURAL FULL JOIN (SELECT tenant, events FROM event_counts WHERE events != 0)
                             WHERE n IS NOT events)
                          + (SELECT count(*) FROM attempts WHERE event_seq NOT IN (SELECT seq FROM events))",
                    (),
                    |row| row.get::<_, i64>(0),
                )
            });
            assert_eq!(wrong.await.unwrap(), 0);
        });
    }
}

fn filter() -> DeliveryFilter {
    DeliveryFilter { tenant: None, route: None, job_id: None, states: vec![], period: ANY_TIME }
}

/// Two hundred events: every third to route a of acme, the others to a and b of other; some delivered.
fn crowd() -> History {
    let mut history = History::default();
    for index in 0..200 {
        let (tenant, routes): (_, &[&str]) =
            if index % 3 == 0 { ("acme", &["a"]) } else { ("other", &["a", "b"]) };
        for task in history.event(tenant, routes).1 {
            if index % 2 == 0 {
                history.attempt(&task, Next::Delivered);
            }
        }
    }
    history
}

/// Pages through a list and gives all of it.
async fn all_pages(view: &View, filter: DeliveryFilter, size: usize) -> Vec<String> {
    let (mut below, mut ids) = (TOP, Vec::new());
    loop {
        let asked = filter.clone();
        let (page, more) = view.read(move |c| query::deliveries(c, &asked, below, size)).await.unwrap();
        assert!(page.len() == size || !more);
        ids.extend(page.iter().map(|(_, delivery)| format!("{} {}", delivery.job_id, delivery.route)));
        match page.last() {
            Some((place, _)) if more => below = *place,
            _ => return ids,
        }
    }
}

#[tokio::test]
async fn lists_are_complete_newest_first_and_without_repeats_on_any_page_size() {
    let (_kept, view) = view_of(crowd().placed()).await;
    for (filter, expected) in [
        (filter(), 67 + 133 * 2),
        (DeliveryFilter { tenant: Some("other".into()), ..filter() }, 133 * 2),
        (DeliveryFilter { tenant: Some("other".into()), route: Some("b".into()), ..filter() }, 133),
        (DeliveryFilter { route: Some("a".into()), ..filter() }, 200),
        (DeliveryFilter { states: vec![DeliveryState::Waiting], ..filter() }, 33 + 67 * 2),
        (DeliveryFilter { states: vec![DeliveryState::Parked], ..filter() }, 0),
        (
            DeliveryFilter {
                tenant: Some("acme".into()),
                states: vec![DeliveryState::Delivered, DeliveryState::Waiting],
                ..filter()
            },
            67,
        ),
        (DeliveryFilter { job_id: Some("job 2".into()), ..filter() }, 2),
        (DeliveryFilter { job_id: Some("job 2".into()), route: Some("b".into()), ..filter() }, 1),
        (DeliveryFilter { job_id: Some("job".into()), ..filter() }, 0),
        (DeliveryFilter { tenant: Some("nobody".into()), ..filter() }, 0),
        (
            DeliveryFilter {
                period: Period { since: Some(at(101)), until: Some(at(111)) },
                tenant: Some("acme".into()),
                ..filter()
            },
            3,
        ),
        (DeliveryFilter { period: Period { since: Some(at(199)), until: None }, ..filter() }, 3),
        (DeliveryFilter { period: Period { since: Some(at(9999)), until: None }, ..filter() }, 0),
        (DeliveryFilter { period: Period { since: None, until: Some(at(1)) }, ..filter() }, 0),
    ] {
        let whole = all_pages(&view, filter.clone(), 1000).await;
        assert_eq!(whole.len(), expected, "{filter:?}");
        assert_eq!(all_pages(&view, filter.clone(), 7).await, whole, "{filter:?}");
        assert!(
            whole
                .iter()
                .map(|name| name.split(' ').nth(1).unwrap().parse::<u32>().unwrap())
                .rev()
                .is_sorted()
        );
    }
}

#[tokio::test]
async fn events_are_listed_by_tenant_job_and_time() {
    let (_kept, view) = view_of(crowd().placed()).await;
    let list = async |tenant: Option<&str>, job: Option<&str>, period: Period, below: i64, max: usize| {
        let filter =
            EventFilter { tenant: tenant.map(str::to_owned), job_id: job.map(str::to_owned), period };
        let (events, more) = view.read(move |c| query::events(c, &filter, below, max)).await.unwrap();
        (events.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(), more)
    };
    assert_eq!(list(None, None, ANY_TIME, i64::MAX, 3).await, (vec![200, 199, 198], true));
    assert_eq!(list(None, None, ANY_TIME, 3, 3).await, (vec![2, 1], false));
    assert_eq!(list(Some("acme"), None, ANY_TIME, i64::MAX, 2).await, (vec![199, 196], true));
    assert_eq!(list(None, Some("job 7"), ANY_TIME, i64::MAX, 5).await, (vec![7], false));
    assert_eq!(list(Some("other"), Some("job 7"), ANY_TIME, i64::MAX, 5).await, (vec![], false));
    let period = Period { since: Some(at(10)), until: Some(at(12)) };
    assert_eq!(list(None, None, period, i64::MAX, 5).await, (vec![11, 10], false));
}

#[tokio::test]
async fn summaries_count_and_measure() {
    let mut history = crowd();
    let held = RouteChanged {
        tenant: "other".into(),
        route: "b".into(),
        held_because: "401".into(),
        held_until: Some(to_proto(at(77))),
        cause: BreakerCause::Failures.into(),
        tries: 3,
    };
    history.record(at(5), 0, What::RouteChanged(held));
    history.event("acme", &[]);
    let (_kept, view) = view_of(history.placed()).await;
    let routes = view.read(|c| summary::route_summaries(c, None, at(60))).await.unwrap();
    let names: Vec<_> = routes.iter().map(|route| format!("{}/{}", route.tenant, route.route)).collect();
    assert_eq!(names, ["acme/a", "other/a", "other/b"]);
    assert_eq!(routes[2].backlog, 67);
    assert_eq!(routes[2].held_because, "401");
    assert_eq!(routes[2].held_until, Some(to_proto(at(77))));
    assert_eq!(
        (routes[2].breaker(), routes[2].breaker_cause()),
        (BreakerState::Shut, BreakerCause::Failures)
    );
    assert_eq!(routes[0].breaker(), BreakerState::Admitting);
    let later = view.read(|c| summary::route_summaries(c, None, at(77))).await.unwrap();
    assert_eq!(later[2].breaker(), BreakerState::Probing);
    let (tenant, route) = (routes[2].tenant.clone(), routes[2].route.clone());
    let recalled = view.read(move |c| recall::recall(c, &tenant, &route, at(0))).await.unwrap();
    let expected = Shut { until: at(77), cause: Cause::Failures, tries: 3, why: "401".into() };
    assert_eq!(recalled.shut, Some(expected));
    assert_eq!(routes[2].oldest_waiting_received_at, Some(to_proto(at(2))));
    assert_eq!(routes[2].success_share, Some(1.0));
    assert_eq!(routes[2].delivery_latency.as_ref().unwrap().samples, 66);
    let tenants = view.read(|c| summary::tenant_summaries(c, Some("acme"))).await.unwrap();
    assert_eq!((tenants[0].events, tenants[0].unmatched_events), (68, 1));
    assert_eq!(tenants.len(), 1);
}

#[tokio::test]
async fn pauses_are_what_the_journal_said_last_whatever_the_clocks_say() {
    let mut history = History::default();
    history.pause(at(500), "acme", "a", true);
    history.pause(at(100), "acme", "a", false);
    history.pause(at(50), "acme", "", true);
    history.pause(at(600), "other", "b", false);
    history.pause(at(40), "other", "b", true);
    let (kept, view) = view_of(history.placed()).await;
    let pauses = view.pauses().borrow().clone();
    assert!(pauses.hold("acme", "a") && pauses.hold("acme", "x") && pauses.hold("other", "b"));
    assert!(!pauses.hold("other", "a"));
    let routes = view.read(|c| summary::route_summaries(c, None, at(60))).await.unwrap();
    let shown: Vec<_> = routes
        .iter()
        .map(|route| {
            let pause = route.pause.clone().unwrap();
            format!("{}/{} by {}/{}", route.tenant, route.route, pause.tenant, pause.route)
        })
        .collect();
    assert_eq!(shown, ["acme/a by acme/", "other/b by other/b"], "though nothing was ever sent there");
    let tenants = view.read(|c| summary::tenant_summaries(c, None)).await.unwrap();
    assert_eq!((tenants.len(), tenants[0].pause.is_some()), (1, true));
    // Only what the journal said long ago, and only what holds.
    let old = view.read(|c| control::pauses_before(c, at(45))).await.unwrap();
    assert_eq!(old.into_iter().map(|old| old.pause.unwrap().tenant).collect::<Vec<_>>(), ["other"]);
    // It goes on when the file is opened again, and does not expire.
    view.expire(at(9_999)).await.unwrap();
    let again = View::open(kept.path(), &journal(u64::MAX)).unwrap();
    assert!(again.pauses().borrow().hold("other", "b"));
    assert!(again.pauses().borrow().hold("acme", "a"));
}

#[tokio::test]
async fn actions_and_jobs_are_listed_newest_first_and_those_of_a_job_with_their_delivery_alone() {
    let mut history = History::default();
    let (id, tasks) = history.event("acme", &["a"]);
    history.attempt(&tasks[0], Next::Delivered);
    let task = history.again(&DeliveryTask { step: 1, ..tasks[0].clone() }, "rpl_1");
    history.again(&task, "");
    history.pause(at(1), "other", "b", true);
    history.job("rpl_1", 10, 0, ReplayJobState::Running);
    history.job("rpl_2", 20, 0, ReplayJobState::Running);
    history.job("rpl_1", 10, 5, ReplayJobState::Done);
    let (_kept, view) = view_of(history.placed()).await;
    let list = async |tenant: Option<&'static str>, below: i64, max: usize| {
        let (found, more) = view.read(move |c| control::actions(c, tenant, None, below, max)).await.unwrap();
        let kinds: Vec<_> = found.iter().map(|(_, action)| action.kind()).collect();
        (kinds, found.last().map(|(place, _)| *place), more)
    };
    let (kinds, place, more) = list(None, i64::MAX, 1).await;
    assert_eq!((kinds, more), (vec![ControlKind::Paused], true));
    assert_eq!(list(None, place.unwrap(), 9).await.0, [ControlKind::Replayed]);
    assert_eq!(list(Some("acme"), i64::MAX, 9).await.0, [ControlKind::Replayed]);
    let delivery = DeliveryId::new(id, "a");
    let done = view.read(move |c| control::actions_of(c, delivery)).await.unwrap();
    assert_eq!(done.iter().map(|action| action.replay_job_id.as_str()).collect::<Vec<_>>(), ["rpl_1", ""]);
    let (jobs, more) = view.read(|c| control::jobs(c, None, (i64::MAX, ""), 9)).await.unwrap();
    let jobs: Vec<_> = jobs.iter().map(|job| (job.id.as_str(), job.replayed)).collect();
    assert_eq!((jobs, more), (vec![("rpl_2", 0), ("rpl_1", 5)], false));
    let running: Vec<_> = view.jobs().borrow().iter().map(|job| job.id.clone()).collect();
    assert_eq!(running, ["rpl_2"]);
    // What still goes on stays.
    view.expire(at(99_999)).await.unwrap();
    let (jobs, _) = view.read(|c| control::jobs(c, None, (i64::MAX, ""), 9)).await.unwrap();
    assert_eq!((jobs.len(), list(None, i64::MAX, 9).await.0.len()), (1, 0));
}

#[tokio::test]
async fn what_a_replay_means_comes_oldest_first_and_once_on_any_page_size() {
    let (_kept, view) = view_of(crowd().placed()).await;
    let meant =
        |tenant: Option<&str>, route: Option<&str>, job: Option<&str>, kind: Option<&str>| ReplayFilter {
            deliveries: DeliveryFilter {
                tenant: tenant.map(Into::into),
                route: route.map(Into::into),
                job_id: job.map(Into::into),
                states: vec![DeliveryState::Delivered],
                period: ANY_TIME,
            },
            event_type: kind.map(|kind| EventPattern::Exactly(kind.into())),
        };
    for (filter, last, expected) in [
        (meant(None, None, None, None), 200, 34 + 66 * 2),
        (meant(Some("other"), None, None, None), 200, 66 * 2),
        (meant(Some("other"), Some("b"), None, Some("video.done")), 200, 66),
        (meant(None, None, None, Some("video.other")), 200, 0),
        (meant(None, None, Some("job 3"), None), 200, 2),
        (meant(None, None, Some("job 3"), None), 2, 0),
        (meant(None, None, None, None), 3, 3),
    ] {
        for size in [1, 7, 1_000] {
            let (mut behind, mut places) = (BOTTOM, Vec::new());
            loop {
                let asked = filter.clone();
                let page =
                    view.read(move |c| replayable::deliveries(c, &asked, behind, last, size)).await.unwrap();
                places.extend(page.iter().map(|(place, _)| *place));
                match page.last() {
                    Some((place, _)) if page.len() == size => behind = *place,
                    _ => break,
                }
            }
            assert_eq!(places.len(), expected, "{filter:?}");
            let asked = filter.clone();
            let counted = view.read(move |c| replayable::events(c, &asked, last)).await.unwrap();
            assert_eq!(counted.values().map(Vec::len).sum::<usize>(), expected, "{filter:?}");
            assert!(places.is_sorted_by(|a, b| a < b), "{filter:?}");
        }
    }
}

#[tokio::test]
async fn percentiles_are_by_nearest_rank() {
    let mut history = History::default();
    for _ in 0..10 {
        let (_, tasks) = history.event("acme", &["a"]);
        history.attempt(&tasks[0], Next::Delivered);
    }
    let (_kept, view) = view_of(history.placed()).await;
    let routes = view.read(|c| summary::route_summaries(c, None, at(60))).await.unwrap();
    let latency = routes[0].delivery_latency.as_ref().unwrap();
    // The nth was received in second n and delivered in second 999 + 2 n.
    let seconds = |duration: &Option<prost_types::Duration>| duration.as_ref().unwrap().seconds;
    assert_eq!((seconds(&latency.p50), seconds(&latency.p90), seconds(&latency.p99)), (1004, 1008, 1009));
}

#[tokio::test]
async fn old_and_finished_goes_and_waiting_stays() {
    let mut history = History::default();
    let (done, tasks) = history.event("acme", &["a"]);
    history.attempt(&tasks[0], Next::Retry { retry_after: None, id: IdAfter::Unused });
    history.attempt(&tasks[0], Next::Delivered);
    let (waits, tasks) = history.event("acme", &["a", "b"]);
    history.attempt(&tasks[0], Next::Delivered);
    let (young, _) = history.event("acme", &[]);
    let (_kept, view) = view_of(history.placed()).await;
    assert_eq!(view.expire(at(3)).await.unwrap(), 1);
    for (id, is_there) in [(done, false), (waits, true), (young, true)] {
        assert_eq!(view.read(move |c| query::event(c, id)).await.unwrap().is_some(), is_there);
    }
    assert_eq!(all_pages(&view, filter(), 10).await.len(), 2);
}

#[tokio::test]
async fn a_view_goes_on_where_it_was_and_is_made_anew_when_it_cannot() {
    let records = crowd().placed();
    let newest = records.last().unwrap().0;
    let (kept, view) = view_of(records).await;
    drop(view);
    let open = |newest| View::open(kept.path(), &journal(newest)).unwrap();
    assert_eq!(*open(newest).position().borrow(), newest);
    assert_eq!(
        *open(newest - 1).position().borrow(),
        0,
        "it knows more than the journal: it is another journal's"
    );
    // Whoever wrote last has the say: the process of this boot, one of another boot, one that closed it.
    for (close, keeper, position) in [(false, "another boot", 0), (true, "closed", newest)] {
        let (kept, view) = view_of(crowd().placed()).await;
        let file = Connection::open(kept.path().join(FILE)).unwrap();
        if close {
            view.close().await.unwrap();
        } else {
            file.execute("UPDATE derived SET keeper = ?", [keeper]).unwrap();
        }
        let kept_by: String = file.query_row("SELECT keeper FROM derived", (), |row| row.get(0)).unwrap();
        assert_eq!(kept_by, keeper);
        drop((view, file));
        assert_eq!(
            *View::open(kept.path(), &journal(newest)).unwrap().position().borrow(),
            position,
            "{keeper}"
        );
    }
    let (kept, _) = view_of(crowd().placed()).await;
    Connection::open(kept.path().join(FILE)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(*View::open(kept.path(), &journal(newest)).unwrap().position().borrow(), 0, "another version");
    // Damaged where opening does not look: found by whoever comes across it, and mended at the next start.
    let (kept, view) = view_of(crowd().placed()).await;
    view.close().await.unwrap();
    drop(view);
    let page = Connection::open(kept.path().join(FILE)).unwrap();
    let select =
        "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'event_counts'";
    let (page, size): (usize, usize) = page.query_row(select, (), |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    let mut bytes = fs::read(kept.path().join(FILE)).unwrap();
    bytes[(page - 1) * size..page * size].fill(0xFF);
    fs::write(kept.path().join(FILE), bytes).unwrap();
    let view = View::open(kept.path(), &journal(newest)).unwrap();
    assert_eq!((*view.position().borrow(), view.damage().was_found()), (newest, false));
    assert!(view.read(|c| summary::tenant_summaries(c, None)).await.is_err());
    assert!(view.damage().was_found());
    drop(view);
    assert_eq!(
        *View::open(kept.path(), &journal(newest)).unwrap().position().borrow(),
        0,
        "found to be damaged"
    );
    fs::write(kept.path().join(FILE), "this is no database, but it is long enough to be looked at").unwrap();
    assert_eq!(*View::open(kept.path(), &journal(newest)).unwrap().position().borrow(), 0, "damaged");
}
