//! Folding: from commits to rows.

use super::*;
use crate::decisions::classify::{IdAfter, Next};
use proptest::prelude::*;
use query::UnderWay;
use talaria_core::id::DeliveryId;
use talaria_proto::{
    time::to_proto,
    v1::{
        BreakerCause, CarriedDelivery, DeliveryMoved, DeliveryRef, DeliveryStatus, DeliveryTask, Event,
        EventCarried, Opened, Pause, PauseChanged, ReplayJob, ReplayJobState, RouteChanged, RouteMemory, Run,
        record::What,
    },
};

pub(super) const RETRY: Next = Next::Retry { retry_after: None, id: IdAfter::Unused };

fn next(kind: u8) -> Next {
    match kind % 7 {
        0 => Next::Delivered,
        1 => Next::Ignored,
        2 => Next::Ambiguous,
        3 => Next::Slower { retry_after: None },
        4 => Next::RouteFault { id: IdAfter::Unused },
        5 => Next::Retry { retry_after: None, id: IdAfter::Unknown },
        _ => Next::Retry { retry_after: None, id: IdAfter::UsedUp },
    }
}

/// Events of two partitions on up to three routes, with attempts and other records by `choices`.
pub(super) fn random(choices: &[u8]) -> TestHistory {
    let mut history = TestHistory { elsewhere: "other", ..TestHistory::default() };
    for choice in choices.chunks(4) {
        let tenant = if choice[0] < 128 { "acme" } else { "other" };
        let routes = &["a", "b", "c"][..usize::from(choice[0] % 4)];
        let (id, tasks) = history.event(tenant, routes);
        for (mut task, kind) in tasks.into_iter().zip(choice.iter().cycle()) {
            for step in 0..4 {
                history.start(&task);
                if kind.is_multiple_of(11) {
                    break;
                }
                match history.attempt(&task, next(kind.wrapping_add(step * 3))) {
                    Some(next) => task = next,
                    None if kind.is_multiple_of(3) => {
                        task = history.again(&task, ["", "rpl_1"][step as usize % 2]);
                    }
                    None => break,
                }
                if kind.is_multiple_of(2) {
                    history.join(2);
                }
            }
            // Times of different clocks: the journal's order counts.
            if kind.is_multiple_of(5) {
                let (time, route) = (at(u64::from(*kind)), ["", "a"][usize::from(kind % 2)]);
                history.pause(time, "acme", route, kind % 3 == 0);
                let state = [ReplayJobState::Running, ReplayJobState::Done][usize::from(kind % 2)];
                history.job(tenant, &format!("rpl_{}", kind % 4), 5, u64::from(*kind), state);
            }
        }
        if choice[0] % 3 == 0 {
            let seq = history.events;
            for received in [50, 40] {
                history.conflict(tenant, seq, conflict(&id.to_string(), choice[0], received));
            }
            let callback = quarantined(&format!("qrt_{}", choice[0]), seq);
            history.record("acme", at(seq), 0, What::CallbackQuarantined(callback));
            history.record("acme", at(u64::from(choice[0] % 5)), 0, shut("acme", "a", &format!("{seq}")));
        }
        if choice[0] % 7 == 0 {
            let before = u64::from(choice[0]) % (history.commits.len() as u64 + 1);
            history.forget(tenant, before);
        }
    }
    history
}

pub(super) fn shut(tenant: &str, route: &str, held_because: &str) -> What {
    What::RouteChanged(RouteChanged {
        tenant: tenant.into(),
        route: route.into(),
        held_because: held_because.into(),
        held_until: Some(to_proto(at(77))),
        cause: BreakerCause::Failures.into(),
        tries: 3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Commits in batches of any size, any of them again, give the same rows.
    #[test]
    fn batches_of_any_size_give_the_same_rows(
        choices in prop::collection::vec(any::<u8>(), 1..24),
        batch in 1_usize..20,
        back in 0_usize..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let history = random(&choices);
            let (_kept, at_once) = view_of(&history).await;
            let (_kept, in_batches) = view_in(&[], 1).await;
            for first in (0..history.commits.len()).step_by(batch) {
                let end = (first + batch).min(history.commits.len());
                let again = first.saturating_sub(back);
                in_batches.apply(&history.commits[again..end].into()).await.unwrap();
            }
            assert_eq!(dump(&at_once).await, dump(&in_batches).await);
            for number in [0, 1] {
                remove_forgotten(&at_once, partition(number)).await;
                remove_forgotten(&in_batches, partition(number)).await;
            }
            assert_eq!(dump(&at_once).await, dump(&in_batches).await);
        });
    }

    /// The stored counts agree with the rows, also after some were removed.
    #[test]
    fn counts_are_those_of_the_rows(choices in prop::collection::vec(any::<u8>(), 1..40), before in 0_u64..99) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut history = random(&choices);
            history.forget("acme", before);
            let (_kept, view) = view_in(&history.commits, 3).await;
            remove_forgotten(&view, partition(0)).await;
            let wrong = view.read(|connection| {
                connection.query_row(
                    "SELECT (SELECT count(*) FROM (SELECT lane, state, count(*) AS n FROM deliveries GROUP BY lane, state)
                             NATURAL FULL JOIN (SELECT lane, state, count FROM delivery_counts WHERE count != 0)
                             WHERE n IS NOT count)
                          + (SELECT count(*) FROM (SELECT tenant, count(*) AS n FROM events GROUP BY tenant)
                             NATURAL FULL JOIN (SELECT tenant, events FROM event_counts WHERE events != 0)
                             WHERE n IS NOT events)
                          + (SELECT count(*) FROM deliveries WHERE event_seq NOT IN (SELECT seq FROM events))
                          + (SELECT count(*) FROM conflicts WHERE event_seq NOT IN (SELECT seq FROM events))
                          + (SELECT count(*) FROM deliveries LEFT JOIN events ON event_seq = seq
                                             LEFT JOIN lanes USING (lane) WHERE events.partition != lanes.partition)",
                    (),
                    |row| row.get::<_, i64>(0),
                )
            });
            assert_eq!(wrong.await.unwrap(), 0);
        });
    }
}

#[tokio::test]
async fn a_delivery_within_a_batch_is_one_row_with_its_attempts() {
    let mut history = TestHistory::default();
    let (id, tasks) = history.event("acme", &["a"]);
    history.start(&tasks[0]);
    let task = history.attempt(&tasks[0], RETRY).unwrap();
    history.start(&task);
    history.attempt(&task, Next::Delivered);
    let id = DeliveryId::new(id, "a");
    for batch in [9, 2, 1] {
        let (_kept, view) = view_in(&history.commits, batch).await;
        let (seq, history) = view.read(move |c| query::history(c, id)).await.unwrap().unwrap();
        assert_eq!((seq, history.step, history.delivery.attempts), (1, 2, 2));
        assert_eq!(history.delivery.id, id.to_string());
        assert_eq!(history.attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((history.delivery.state(), history.under_way), (DeliveryState::Delivered, None));
        assert_eq!(view.read(move |c| query::delivery(c, id)).await.unwrap(), Some(history.delivery));
        assert_eq!(view.read(move |c| query::attempts(c, id)).await.unwrap(), history.attempts);
    }
}

#[tokio::test]
async fn an_attempt_is_under_way_until_the_next_record_about_its_delivery() {
    let mut history = TestHistory::default();
    let (id, tasks) = history.event("acme", &["a", "b"]);
    history.start(&tasks[0]);
    let (_kept, view) = view_of(&history).await;
    let under_way = async || -> Vec<_> {
        let histories = view.read(|c| query::histories_of(c, 1)).await.unwrap();
        histories.into_iter().map(|history| history.under_way).collect()
    };
    assert_eq!(under_way().await, [Some(UnderWay { number: 1, started_at: at(1_001) }), None]);
    history.again(&tasks[0], "");
    view.apply(&history.commits.as_slice().into()).await.unwrap();
    assert_eq!(under_way().await, [None, None]);
    assert!(view.read(move |c| query::event(c, id)).await.unwrap().is_some());
}

fn earlier(task: &DeliveryTask) -> What {
    let delivery =
        DeliveryRef { id: task.delivery_id.clone(), tenant: task.tenant.clone(), route: task.route.clone() };
    let status = DeliveryStatus { state: DeliveryState::Parked.into(), ..DeliveryStatus::default() };
    What::DeliveryMoved(DeliveryMoved {
        delivery: Some(delivery),
        status: Some(status),
        ..DeliveryMoved::default()
    })
}

#[tokio::test]
async fn the_last_record_counts_whatever_its_time_is() {
    let mut history = TestHistory::default();
    history.record("acme", at(500), 0, shut("acme", "a", "first"));
    history.record("acme", at(100), 0, shut("acme", "a", "second"));
    history.job("acme", "rpl_1", 50, 9, ReplayJobState::Done);
    history.job("acme", "rpl_1", 50, 3, ReplayJobState::Running);
    let (_, tasks) = history.event("acme", &["a"]);
    history.attempt(&tasks[0], Next::Delivered);
    // Earlier by its time and its step.
    history.record("acme", at(0), 1, earlier(&tasks[0]));
    let (_kept, view) = view_of(&history).await;
    assert_eq!(states(&view).await, [DeliveryState::Parked]);
    let routes = view.read(|c| summary::route_summaries(c, None, at(0))).await.unwrap();
    assert_eq!(routes[0].held_because, "second");
    let jobs = view.read(running_jobs).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.replayed).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn a_record_about_an_unknown_event_leaves_no_row() {
    let mut history = TestHistory::default();
    let (_, tasks) = history.event("acme", &["a"]);
    history.start(&tasks[0]);
    history.attempt(&tasks[0], Next::Delivered);
    history.conflict("acme", 1, conflict("evt_1", 1, 1));
    let (_kept, view) = view_in(&history.commits[1..], 9).await;
    assert_eq!((rows(&view, "deliveries").await, rows(&view, "conflicts").await), (0, 0));
    assert_eq!(view.cursor(partition(0)), Some(4));
}

/// A carried event: one waiting delivery is in the view, another one only in the state, and one is done.
pub(super) fn carried() -> (TestHistory, EventCarried) {
    let mut history = TestHistory::default();
    let (id, tasks) = history.event("acme", &["a", "b", "c"]);
    let waits = history.attempt(&tasks[0], RETRY).unwrap();
    history.attempt(&tasks[2], Next::Delivered);
    let shown = |route: &str| Delivery {
        id: DeliveryId::new(id, route).to_string(),
        tenant: "acme".into(),
        route: route.into(),
        attempts: 1,
        state: if route == "a" { DeliveryState::Waiting } else { DeliveryState::Delivered }.into(),
        received_at: Some(to_proto(at(1))),
        updated_at: Some(to_proto(at(9))),
        ..Default::default()
    };
    let attempt = talaria_proto::v1::Attempt { number: 1, ..Default::default() };
    let done = Delivery { run: Some(Run { report_id: "r-1".into(), ..Run::default() }), ..shown("c") };
    let event = Event {
        id: id.to_string(),
        tenant: "acme".into(),
        job_id: "job 1".into(),
        received_at: Some(to_proto(at(1))),
        payload: "the body".into(),
        ..Event::default()
    };
    let waiting = [
        CarriedDelivery { task: Some(waits), delivery: Some(shown("a")), attempts: vec![attempt] },
        CarriedDelivery { task: Some(tasks[1].clone()), ..CarriedDelivery::default() },
    ];
    (history, EventCarried { event: Some(event), waiting: waiting.into(), done: vec![done] })
}

#[tokio::test]
async fn a_carried_event_that_is_unknown_gets_all_its_rows() {
    let (_, carried) = carried();
    let id = carried.event.as_ref().unwrap().id.parse().unwrap();
    let mut history = TestHistory::default();
    history.record("acme", at(99), 1, What::EventCarried(carried));
    history.forget("acme", 1);
    let (_kept, view) = view_of(&history).await;
    remove_forgotten(&view, partition(0)).await;
    let (seq, event) = view.read(move |c| query::event(c, id)).await.unwrap().unwrap();
    assert_eq!((seq, event.payload.len(), event.job_id.as_str()), (1, 0, "job 1"));
    let found = view.read(|c| query::histories_of(c, 1)).await.unwrap();
    assert_eq!(found[2].delivery.run.as_ref().unwrap().report_id, "r-1");
    let found: Vec<_> = found
        .iter()
        .map(|it| (it.delivery.route.as_str(), it.delivery.state(), it.attempts.len(), it.step))
        .collect();
    let (waits, done) = (DeliveryState::Waiting, DeliveryState::Delivered);
    assert_eq!(found, [("a", waits, 1, 1), ("b", waits, 0, 0), ("c", done, 0, 1)]);
    let routes = view.read(|c| summary::route_summaries(c, None, at(0))).await.unwrap();
    assert_eq!(routes.iter().map(|route| route.backlog).collect::<Vec<_>>(), [1, 1, 0]);
}

#[tokio::test]
async fn a_carried_event_that_is_known_stays_as_it_is_for_longer() {
    let (mut history, carried) = carried();
    let (_kept, view) = view_of(&history).await;
    let before = view.read(|c| query::histories_of(c, 1)).await.unwrap();
    history.record("acme", at(99), 1, What::EventCarried(carried));
    history.event("acme", &["a"]);
    history.forget("acme", 4);
    view.apply(&history.commits.as_slice().into()).await.unwrap();
    remove_forgotten(&view, partition(0)).await;
    assert_eq!(view.read(|c| query::histories_of(c, 1)).await.unwrap(), before);
    history.forget("acme", 5);
    view.apply(&history.commits.as_slice().into()).await.unwrap();
    remove_forgotten(&view, partition(0)).await;
    assert_eq!((rows(&view, "events").await, rows(&view, "deliveries").await), (1, 1));
}

#[tokio::test]
async fn opened_replaces_pauses_breakers_and_jobs() {
    let mut history = TestHistory { elsewhere: "other", ..TestHistory::default() };
    history.pause(at(1), "acme", "a", true);
    history.pause(at(1), "other", "a", true);
    history.record("acme", at(1), 0, shut("acme", "a", "401"));
    let pause = Pause { tenant: "acme".into(), route: "b".into(), ..Pause::default() };
    let What::RouteChanged(shut) = shut("acme", "b", "500") else { unreachable!() };
    let route =
        RouteMemory { tenant: "acme".into(), route: "b".into(), shut: Some(shut), ..RouteMemory::default() };
    let opened = Opened {
        pauses: vec![
            PauseChanged { pause: Some(pause.clone()), paused: true },
            PauseChanged { pause: Some(Pause { route: "c".into(), ..pause }), paused: false },
        ],
        routes: vec![route, RouteMemory { tenant: "acme".into(), ..RouteMemory::default() }],
        jobs: vec![ReplayJob {
            id: "rpl_1".into(),
            state: ReplayJobState::Running.into(),
            ..ReplayJob::default()
        }],
        ..Opened::default()
    };
    history.record("acme", at(9), 0, What::Opened(opened));
    let (_kept, view) = view_of(&history).await;
    let paused = view.read(control::paused).await.unwrap();
    let paused: Vec<_> = paused.keys().map(|(tenant, route)| format!("{tenant}/{route}")).collect();
    assert_eq!(paused, ["acme/b", "other/a"]);
    let routes = view.read(|c| summary::route_summaries(c, Some("acme"), at(0))).await.unwrap();
    let held: Vec<_> = routes.iter().map(|route| route.held_because.as_str()).collect();
    assert_eq!(held, ["", "500"]);
    assert_eq!(view.read(running_jobs).await.unwrap().len(), 1);
}
