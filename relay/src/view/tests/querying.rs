//! Queries.

use super::{folding::shut, *};
use crate::decisions::classify::Next;
use ids::{Beginning, Visible, ids};
use query::TOP;
use replayable::BOTTOM;
use talaria_core::{
    config::EventPattern,
    id::{DeliveryId, EventId},
    short_id::{IdBeginning, short},
};
use talaria_proto::{
    time::to_proto,
    v1::{
        BreakerCause, BreakerState, ControlKind, DeliveryMoved, DeliveryRef, DeliveryStatus, DeliveryTask,
        Job, ReplayJob, ReplayJobState, record::What,
    },
};

/// Pages through a list and gives all of it.
async fn all_pages(view: &View, filter: DeliveryFilter, size: usize) -> Vec<String> {
    let (mut below, mut ids) = (TOP, Vec::new());
    loop {
        let asked = filter.clone();
        let (page, more) = view.read(move |c| deliveries(c, &asked, below, size)).await.unwrap();
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
    let (_kept, view) = view_of(&crowd()).await;
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
    let (_kept, view) = view_of(&crowd()).await;
    let list = async |tenant: Option<&str>, job: Option<&str>, period: Period, below: i64, max: usize| {
        let (tenant, job_id) = (tenant.map(str::to_owned), job.map(str::to_owned));
        let filter = EventFilter { tenant, job_id, period, ..EventFilter::default() };
        let most = Most::page(max);
        let (events, end) = view.read(move |c| query::events(c, &filter, below, most)).await.unwrap();
        (events.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(), end.is_some())
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
async fn ids_are_found_by_their_beginnings() {
    let mut history = crowd();
    history.job("acme", "rpl_12", 50, 3, ReplayJobState::Running);
    history.job("other", "rpl_13", 50, 3, ReplayJobState::Done);
    for (tenant, id) in [("acme", "job_ab2"), ("other", "job_ab3"), ("acme", "job_b")] {
        let job = Job { id: id.into(), tenant: tenant.into(), ..Job::default() };
        history.record(tenant, at(50), 0, What::Job(job));
    }
    let (_kept, view) = view_of(&history).await;
    let list = async |beginning: Beginning, tenant: &'static str, max: usize| {
        let question = move |connection: &Connection| {
            let is_wanted = |of: &str| tenant.is_empty() || tenant == of;
            let of_job = |job: &ReplayJob| tenant.is_empty() || job.id == "rpl_12";
            let visible = Visible { tenant: &is_wanted, job: &of_job, partitions: &everything() };
            ids(connection, &beginning, &visible, max)
        };
        let (found, more) = view.read(question).await.unwrap();
        (found.into_iter().map(|known| known.id).collect::<Vec<_>>(), more)
    };
    let event = |text: &str| Beginning::Event(IdBeginning::of_event(text).unwrap());
    let delivery = |text: &str| Beginning::Delivery(IdBeginning::of_delivery(text).unwrap());

    // "job 2" is other's, with deliveries to a and b.
    let id = EventId::new("other", "job 2", "video.done");
    let (a, b) = (DeliveryId::new(id, "a").to_string(), DeliveryId::new(id, "b").to_string());
    let id = id.to_string();
    for length in [16, 20, 36] {
        assert_eq!(list(event(&id[..length]), "", 9).await, (vec![id.clone()], false), "{length}");
        let mut both = vec![a.clone(), b.clone()];
        both.sort();
        assert_eq!(list(delivery(&a[..length]), "", 9).await, (both, false), "{length}");
    }
    for one in [a.clone(), short(&a), a[..43].to_owned()] {
        assert_eq!(list(delivery(&one), "", 9).await, (vec![a.clone()], false), "{one}");
    }
    assert_eq!(list(event(&id), "acme", 9).await, (vec![], false), "it is another tenant's");
    assert_eq!(list(delivery(&a), "acme", 9).await, (vec![], false));
    let every = list(event("evt_"), "", 1_000).await;
    assert_eq!((every.0.len(), every.1), (200, false));
    assert_eq!(list(event("evt_"), "acme", 1_000).await.0.len(), 67);
    let first = id.chars().nth(4).unwrap();
    let begin_so = every.0.iter().filter(|id| id.chars().nth(4) == Some(first)).count();
    assert_eq!(list(event(&id[..5]), "", 1_000).await.0.len(), begin_so);
    let some = list(event("evt_"), "", 7).await;
    assert_eq!((some.0.len(), some.1), (7, true));

    let job = |text: &str| Beginning::Job(text.to_owned());
    assert_eq!(list(job("job 2"), "", 9).await, (vec!["job 2".to_owned()], false), "there is one of this id");
    assert_eq!(list(job("job 19"), "acme", 9).await.0, ["job 19"]);
    let others = ["job 191", "job 192", "job 194", "job 195", "job 197", "job 198"];
    assert_eq!(list(job("job 19"), "other", 9).await.0, others, "job 19 is acme's");
    assert_eq!(
        list(job("job 20"), "acme", 9).await.0,
        Vec::<String>::new(),
        "job 20 and job 200 are other's"
    );
    assert_eq!(list(job("ob 19"), "", 9).await.0, Vec::<String>::new(), "it is a beginning");
    assert!(list(job("job"), "", 3).await.1, "there are more");

    let submitted = |text: &str| Beginning::SubmittedJob(text.to_owned());
    assert_eq!(list(submitted("job_ab"), "", 9).await, (vec!["job_ab2".into(), "job_ab3".into()], false));
    assert_eq!(list(submitted("job_ab"), "other", 9).await.0, ["job_ab3"]);
    assert_eq!(list(submitted("job_b"), "", 9).await.0, ["job_b"], "also a whole one");
    assert_eq!(list(submitted("job_"), "", 1).await, (vec!["job_ab2".into()], true));
    assert_eq!(list(submitted("job_c"), "", 9).await.0, Vec::<String>::new());

    let replay = |text: &str| Beginning::ReplayJob(text.to_owned());
    assert_eq!(list(replay("rpl_1"), "", 9).await.0, ["rpl_12", "rpl_13"]);
    assert_eq!(list(replay("rpl_1"), "acme", 9).await.0, ["rpl_12"]);
    assert_eq!(list(replay("rpl_13"), "", 9).await.0, ["rpl_13"]);
}

#[tokio::test]
async fn an_event_that_no_route_took_is_listed_until_an_operator_has_it_planned() {
    let mut history = crowd();
    let (unwanted, _) = history.event("acme", &[]);
    history.event("other", &[]);
    let list = async |view: &View, tenant: Option<&str>, below: i64| {
        let tenant = tenant.map(str::to_owned);
        let filter = EventFilter { tenant, unmatched: true, ..EventFilter::default() };
        let most = Most::page(1);
        let (events, end) = view.read(move |c| query::events(c, &filter, below, most)).await.unwrap();
        (events.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(), end.is_some())
    };
    let (_kept, view) = view_of(&history).await;
    assert_eq!(list(&view, None, i64::MAX).await, (vec![202], true));
    assert_eq!(list(&view, None, 202).await, (vec![201], false));
    assert_eq!(list(&view, Some("acme"), i64::MAX).await, (vec![201], false));
    let moved = DeliveryMoved {
        delivery: Some(DeliveryRef {
            id: DeliveryId::new(unwanted, "a").to_string(),
            tenant: "acme".into(),
            route: "a".into(),
        }),
        status: Some(DeliveryStatus { step: 1, ..DeliveryStatus::default() }),
        ..DeliveryMoved::default()
    };
    history.record("acme", at(300), 201, What::DeliveryMoved(moved));
    let (_kept, view) = view_of(&history).await;
    assert_eq!(list(&view, Some("acme"), i64::MAX).await, (vec![], false));
}

#[tokio::test]
async fn an_event_is_found_by_the_time_of_its_receipt_whatever_came_before_it() {
    let mut history = TestHistory::default();
    // The clock of the ingress that stored the second one is an hour ahead.
    for (seq, received) in [(1, 100), (2, 3_700), (3, 101), (4, 102)] {
        history.events = received - 1;
        history.event("acme", &["a"]);
        let record = &mut Arc::make_mut(&mut history.commits[seq - 1].commit).records[0];
        record.event_seq = seq as u64;
    }
    let (_kept, view) = view_of(&history).await;
    for (since, until, expected) in [
        (Some(101), None, vec![4, 3, 2]),
        (Some(101), Some(103), vec![4, 3]),
        (None, Some(101), vec![1]),
        (Some(3_000), None, vec![2]),
    ] {
        let period = Period { since: since.map(at), until: until.map(at) };
        let filter = DeliveryFilter { period, ..filter() };
        let (found, _) = view.read(move |c| deliveries(c, &filter, TOP, 9)).await.unwrap();
        assert_eq!(found.into_iter().map(|((seq, _), _)| seq).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn summaries_count_and_measure() {
    let mut history = crowd();
    history.record("other", at(5), 0, shut("other", "b", "401"));
    history.event("acme", &[]);
    let (_kept, view) = view_of(&history).await;
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
    assert_eq!(routes[2].oldest_waiting_received_at, Some(to_proto(at(2))));
    assert_eq!(routes[2].success_share, Some(1.0));
    assert_eq!(routes[2].delivery_latency.as_ref().unwrap().samples, 66);
    let tenants = view.read(|c| summary::tenant_summaries(c, Some("acme"))).await.unwrap();
    assert_eq!((tenants[0].events, tenants[0].unmatched_events), (68, 1));
    assert_eq!(tenants.len(), 1);
}

#[tokio::test]
async fn the_last_record_of_a_pause_counts_whatever_its_time_is() {
    let mut history = TestHistory::default();
    history.pause(at(500), "acme", "a", true);
    history.pause(at(100), "acme", "a", false);
    history.pause(at(50), "acme", "", true);
    history.pause(at(600), "other", "b", false);
    history.pause(at(40), "other", "b", true);
    let (_kept, view) = view_of(&history).await;
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
    let pause = async |tenant, route| view.read(move |c| control::pause(c, tenant, route)).await.unwrap();
    assert_eq!(pause("acme", "a").await, None);
    assert_eq!(pause("acme", "").await.unwrap().since, Some(to_proto(at(50))));
    let routes = view.read(control::routes).await.unwrap();
    assert_eq!(routes.into_iter().map(|(tenant, _)| tenant).collect::<Vec<_>>(), ["acme", "other"]);
}

#[tokio::test]
async fn a_waiting_delivery_behind_a_block_has_it_as_its_reason() {
    let mut history = TestHistory { elsewhere: "other", ..TestHistory::default() };
    history.event("acme", &["a"]);
    history.event("other", &["a"]);
    history.pause(at(5), "acme", "", true);
    history.record("other", at(5), 0, shut("other", "a", "401"));
    let (_kept, view) = view_of(&history).await;
    let explained = view.read(|c| {
        let (found, _) = deliveries(c, &filter(), TOP, 9)?;
        let mut deliveries: Vec<_> = found.into_iter().map(|(_, delivery)| delivery).collect();
        blocks::explain_all(c, &mut deliveries, &crate::test_config::config(""), Timestamp::UNIX_EPOCH)?;
        Ok(deliveries)
    });
    let explained = explained.await.unwrap();
    assert_eq!(explained[0].reason, "the route is shut: 401");
    assert_eq!(explained[0].next_attempt_at, Some(to_proto(at(77))));
    assert!(explained[1].reason.starts_with("the tenant is paused by ana since"));
    assert_eq!(explained[1].next_attempt_at, None);
}

#[tokio::test]
async fn actions_are_listed_newest_first_and_those_of_a_job_with_their_delivery_alone() {
    let mut history = TestHistory { elsewhere: "other", ..TestHistory::default() };
    let (id, tasks) = history.event("acme", &["a"]);
    history.attempt(&tasks[0], Next::Delivered);
    let task = history.again(&DeliveryTask { step: 1, ..tasks[0].clone() }, "rpl_1");
    history.again(&task, "");
    history.join(2);
    history.pause(at(1), "other", "b", true);
    let (_kept, view) = view_of(&history).await;
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
}

#[tokio::test]
async fn the_parts_of_a_replay_job_are_shown_as_one() {
    use ReplayJobState::{Cancelled, Done, Running};
    let mut history = TestHistory { elsewhere: "other", ..TestHistory::default() };
    history.job("acme", "rpl_1", 10, 0, Running);
    history.job("acme", "rpl_2", 20, 0, Running);
    history.job("acme", "rpl_3", 15, 2, Done);
    history.job("other", "rpl_3", 14, 3, Cancelled);
    history.job("acme", "rpl_1", 10, 5, Done);
    history.job("other", "rpl_1", 12, 2, Running);
    let (_kept, view) = view_of(&history).await;
    let list = async |below: (i64, &'static str), max: usize| {
        let (jobs, more) =
            view.read(move |c| control::jobs(c, &everything(), None, below, max)).await.unwrap();
        (jobs.into_iter().map(|job| (job.id.clone(), job.replayed)).collect::<Vec<_>>(), more)
    };
    let job = |id: &str, replayed| (id.to_owned(), replayed);
    let all = vec![job("rpl_2", 0), job("rpl_3", 5), job("rpl_1", 7)];
    assert_eq!(list((i64::MAX, ""), 9).await, (all.clone(), false));
    assert_eq!(list((i64::MAX, ""), 2).await, (all[..2].to_vec(), true));
    assert_eq!(list((at(14).as_microsecond(), "rpl_3"), 9).await, (all[2..].to_vec(), false));
    let get = async |id: &'static str| view.read(move |c| control::job(c, &everything(), id)).await.unwrap();
    let runs = get("rpl_1").await.unwrap();
    assert_eq!((runs.state(), runs.matched, runs.ended_at), (Running, 20, None));
    assert_eq!((runs.started_at, runs.updated_at), (Some(to_proto(at(10))), Some(to_proto(at(15)))));
    let ended = get("rpl_3").await.unwrap();
    assert_eq!((ended.state(), ended.ended_at), (Cancelled, Some(to_proto(at(17)))));
    assert_eq!(get("rpl_4").await, None);
    let running = view.read(running_jobs).await.unwrap();
    assert_eq!(running.into_iter().map(|job| job.id).collect::<Vec<_>>(), ["rpl_1", "rpl_2"]);
}

#[tokio::test]
async fn a_replay_selects_deliveries_oldest_first_and_once_on_any_page_size() {
    let mut history = crowd();
    for commit in &mut history.commits {
        commit.partition = partition(1);
    }
    history.event("third", &["a"]);
    let (_kept, view) = view_of(&history).await;
    let here = partition(1);
    let meant =
        |tenant: Option<&str>, route: Option<&str>, job: Option<&str>, kind: Option<&str>| DeliveryFilter {
            tenant: tenant.map(Into::into),
            route: route.map(Into::into),
            job_id: job.map(Into::into),
            event_type: kind.map(|kind| EventPattern::Exactly(kind.into())),
            states: vec![DeliveryState::Delivered],
            ..filter()
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
                let page = view
                    .read(move |c| replayable::deliveries(c, here, &asked, behind, last, size))
                    .await
                    .unwrap();
                places.extend(page.iter().map(|(place, _)| *place));
                match page.last() {
                    Some((place, _)) if page.len() == size => behind = *place,
                    _ => break,
                }
            }
            assert_eq!(places.len(), expected, "{filter:?}");
            let asked = filter.clone();
            let counted = view.read(move |c| replayable::events(c, here, &asked, last)).await.unwrap();
            assert_eq!(counted.values().map(Vec::len).sum::<usize>(), expected, "{filter:?}");
            assert!(places.is_sorted_by(|a, b| a < b), "{filter:?}");
        }
    }
    // Another partition's are another part of the job.
    let everything = meant(None, None, None, None);
    let elsewhere = view.read(move |c| replayable::deliveries(c, partition(0), &everything, BOTTOM, 999, 9));
    assert_eq!(elsewhere.await.unwrap(), []);
    let newest =
        async |number| view.read(move |c| replayable::newest_event(c, partition(number))).await.unwrap();
    assert_eq!((newest(0).await, newest(1).await), (201, 200));
}

#[tokio::test]
async fn percentiles_are_by_nearest_rank() {
    let mut history = TestHistory::default();
    for _ in 0..10 {
        let (_, tasks) = history.event("acme", &["a"]);
        history.attempt(&tasks[0], Next::Delivered);
    }
    let (_kept, view) = view_of(&history).await;
    let routes = view.read(|c| summary::route_summaries(c, None, at(60))).await.unwrap();
    let latency = routes[0].delivery_latency.as_ref().unwrap();
    // The nth was received in second n and delivered in second 999 + 2 n.
    let seconds = |duration: &Option<prost_types::Duration>| duration.as_ref().unwrap().seconds;
    assert_eq!((seconds(&latency.p50), seconds(&latency.p90), seconds(&latency.p99)), (1004, 1008, 1009));
}
