//! Any relay answers for all: the tenants of two relays' partitions, asked for at either of them.

use std::collections::BTreeSet;
use talaria_proto::v1::{
    CancelDeliveryRequest, ControlAction, ControlKind, Delivery, DeliveryFilter, DeliveryState as State,
    Event, ExplainRequest, GetDeliveryRequest, GetEventRequest, GetReplayJobRequest, GetSeriesRequest,
    GetSummaryRequest, ListControlActionsRequest, ListDeliveriesRequest, ListEventsRequest, ListIdsRequest,
    ListQuarantinedRequest, ListReplayJobsRequest, ListUnmatchedRequest, PauseRequest,
    ReplayDeliveriesRequest, ReplayDeliveryRequest, ReplayFilter, ReplayJob, ReplayJobState, ResumeRequest,
    UnmatchedEvent, WatchDeliveriesRequest, WatchDeliveriesResponse, WatchKind, explain_request::Subject,
    list_ids_request::BeginsWith,
};
use talaria_tests::{
    nats,
    openrouter::event_id,
    scrape::Scrape,
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};
use tonic::{Code, Streaming};

/// So many tenants that both relays own some.
const TENANTS: usize = 12;

pub(crate) fn name(tenant: usize) -> String {
    format!("tenant-{tenant}")
}

/// Two relays that share the partitions, with a route for each tenant.
pub(crate) async fn two_relays(sink: &Sink, keys: &str) -> [Stack; 2] {
    let prefix = format!("cluster-{:016x}", rand::random::<u64>());
    let server = nats::shared().await;
    let start = async || {
        let mut builder =
            stack().with(&format!("bus: {{nats: {{servers: [\"{server}\"], prefix: {prefix}}}}}"));
        for tenant in 0..TENANTS {
            builder = builder.tenant(&name(tenant), |t| t.route("r", &sink.url("r"), keys));
        }
        builder.start().await
    };
    let relays = [start().await, start().await];
    until("the partitions to be shared", async || {
        let mut owned = Vec::new();
        for relay in &relays {
            let scrape = Scrape::read(&relay.admin_get("/metrics").await.1);
            owned.push(scrape.sum("talaria_partitions_owned", None));
        }
        (owned.iter().sum::<f64>() > 63.5 && owned.iter().all(|owned| *owned > 0.5 && *owned < 63.5))
            .then_some(())
    })
    .await;
    relays
}

/// One event of each tenant, with the same job's id, sent to either ingress in turn.
async fn send_to_all(relays: &[Stack; 2], job: &str) {
    for tenant in 0..TENANTS {
        relays[tenant % 2].openrouter(&name(tenant)).send(job, "completed").await;
    }
}

/// All deliveries, read page by page, each page at the other relay.
async fn deliveries(relays: &[Stack; 2], first: usize, page_size: u32) -> Option<Vec<Delivery>> {
    let (mut all, mut page_token, mut turn) = (Vec::new(), String::new(), first);
    loop {
        let request = ListDeliveriesRequest { page_size, page_token, ..ListDeliveriesRequest::default() };
        let page = relays[turn % 2].status().await.list_deliveries(request).await.ok()?.into_inner();
        if page.incomplete {
            return None;
        }
        all.extend(page.deliveries);
        if page.next_page_token.is_empty() {
            return Some(all);
        }
        (page_token, turn) = (page.next_page_token, turn + 1);
    }
}

async fn are_all(relays: &[Stack; 2], state: State, count: usize) -> Vec<Delivery> {
    until(&format!("{count} to be {state:?}"), async || {
        let all = deliveries(relays, 0, 1000).await?;
        (all.len() == count && all.iter().all(|delivery| delivery.state() == state)).then_some(all)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_sums_are_the_same_at_every_relay_and_pages_go_on_at_any() {
    let sink = Sink::start().await;
    let relays = two_relays(&sink, "pace: off").await;
    for job in ["one", "two", "three"] {
        send_to_all(&relays, job).await;
    }
    let whole = are_all(&relays, State::Delivered, 3 * TENANTS).await;
    let tenants: BTreeSet<_> = whole.iter().map(|delivery| &delivery.tenant).collect();
    assert_eq!(tenants.len(), TENANTS);
    for (first, size) in [(0, 5), (1, 5), (0, 1), (1, 36)] {
        let paged = deliveries(&relays, first, size).await.unwrap();
        assert_eq!(paged, whole, "pages of {size}, from relay {first} on");
    }
    let mut answers = Vec::new();
    for relay in &relays {
        let mut status = relay.status().await;
        let filter = DeliveryFilter { tenant: name(7), ..DeliveryFilter::default() };
        let request = ListDeliveriesRequest { filter: Some(filter), ..ListDeliveriesRequest::default() };
        let of_one = status.list_deliveries(request).await.unwrap().into_inner();
        assert_eq!(of_one.deliveries.len(), 3);
        let request = ListEventsRequest { job_id: "two".into(), ..ListEventsRequest::default() };
        let events = status.list_events(request).await.unwrap().into_inner();
        assert_eq!((events.events.len(), events.incomplete), (TENANTS, false));
        for tenant in 0..TENANTS {
            let event_id = event_id(&name(tenant), "two", "completed");
            let request = GetEventRequest { event_id, include_payload: true };
            let found = status.get_event(request).await.unwrap().into_inner();
            assert!(!found.event.unwrap().payload.is_empty(), "the payload is there, whoever has the event");
            let request = GetDeliveryRequest { delivery_id: found.deliveries[0].id.clone() };
            let found = status.get_delivery(request).await.unwrap().into_inner();
            assert_eq!(found.attempts.len(), 1);
        }
        let unknown =
            GetEventRequest { event_id: event_id(&name(0), "never", "completed"), include_payload: false };
        assert_eq!(status.get_event(unknown).await.unwrap_err().code(), Code::NotFound);
        let sums = status.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
        assert!(!sums.incomplete && sums.routes.len() == TENANTS && sums.tenants.len() == TENANTS);
        let by_route = GetSeriesRequest { by_route: true, ..GetSeriesRequest::default() };
        let by_route = status.get_series(by_route).await.unwrap().into_inner();
        let together = status.get_series(GetSeriesRequest::default()).await.unwrap().into_inner();
        assert!(!by_route.incomplete && by_route.series.len() == 2 * TENANTS, "tenants and routes");
        let total = together.series[0].total.unwrap();
        let latency = total.delivery_latency.unwrap();
        assert_eq!((total.events, total.delivered, latency.samples), (36, 36, 36), "of both relays");
        let subject = Some(Subject::JobId("three".into()));
        let request = ExplainRequest { subject, tenant: String::new() };
        let explained = relay.control().await.explain(request).await.unwrap().into_inner();
        assert_eq!(explained.explanations.len(), TENANTS);
        let order = |event: &Event| event.id.clone();
        let explained: Vec<_> =
            explained.explanations.iter().map(|it| it.event.as_ref().map(order)).collect();
        let series = (by_route.series, together.series);
        answers.push((of_one.deliveries, events.events, sums.routes, sums.tenants, explained, series));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_given_to_one_relay_are_carried_out_by_the_owner_and_seen_at_the_other() {
    let sink = Sink::start().await;
    sink.set("r", Does::Answer(500, serde_json::json!({})));
    let relays = two_relays(&sink, "pace: off\nbreaker: off\nretry: {schedule: [1ms]}").await;
    let (requested_by, reason) = ("ana".to_owned(), String::new());
    send_to_all(&relays, "job").await;
    let parked = are_all(&relays, State::Parked, TENANTS).await;

    // One after another, each at a relay that may own it or not.
    for (turn, delivery) in parked.iter().enumerate() {
        let (one, other) = (&relays[turn % 2], &relays[(turn + 1) % 2]);
        let Delivery { id, tenant, .. } = delivery.clone();
        let (by, why) = (requested_by.clone(), reason.clone());
        let pause =
            PauseRequest { tenant: tenant.clone(), requested_by: by, reason: why, ..Default::default() };
        one.control().await.pause(pause).await.unwrap();
        let request = GetSummaryRequest { tenant: tenant.clone() };
        let sums = other.status().await.get_summary(request).await.unwrap().into_inner();
        assert!(sums.tenants[0].pause.is_some(), "once it is answered, every relay shows it");
        let (by, why) = (requested_by.clone(), reason.clone());
        let again = ReplayDeliveryRequest {
            delivery_id: id.clone(),
            requested_by: by,
            reason: why,
            ..Default::default()
        };
        let answer = other.control().await.replay_delivery(again).await.unwrap().into_inner();
        assert_eq!(answer.delivery.unwrap().state(), State::Waiting);
        let (by, why) = (requested_by.clone(), reason.clone());
        let cancel = CancelDeliveryRequest { delivery_id: id.clone(), requested_by: by, reason: why };
        let answer = one.control().await.cancel_delivery(cancel.clone()).await.unwrap().into_inner();
        assert_eq!(answer.delivery.unwrap().state(), State::Cancelled);
        let twice = other.control().await.cancel_delivery(cancel).await.unwrap_err();
        assert_eq!(twice.code(), Code::FailedPrecondition, "{twice}");
        let (by, why) = (requested_by.clone(), reason.clone());
        let resume = ResumeRequest { tenant, route: String::new(), requested_by: by, reason: why };
        let ended = other.control().await.resume(resume).await.unwrap().into_inner();
        assert!(ended.ended.is_some());
    }
    let mut listed = Vec::new();
    for relay in &relays {
        let request = ListControlActionsRequest { page_size: 1000, ..ListControlActionsRequest::default() };
        let actions = relay.control().await.list_control_actions(request).await.unwrap().into_inner();
        assert_eq!((actions.actions.len(), actions.incomplete), (4 * TENANTS, false));
        listed.push(actions.actions);
    }
    assert_eq!(listed[0], listed[1]);
    let nowhere = PauseRequest { tenant: "nobody".into(), requested_by, ..PauseRequest::default() };
    for relay in &relays {
        let refused = relay.control().await.pause(nowhere.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }
}

async fn job(relay: &Stack, id: &str) -> ReplayJob {
    let request = GetReplayJobRequest { job_id: id.into() };
    let answer = relay.control().await.get_replay_job(request).await.unwrap().into_inner();
    assert!(!answer.incomplete);
    answer.job.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_job_spans_the_partitions_and_is_one_job_everywhere() {
    let sink = Sink::start().await;
    let relays = two_relays(&sink, "pace: off").await;
    send_to_all(&relays, "job").await;
    are_all(&relays, State::Delivered, TENANTS).await;
    let filter = ReplayFilter { states: vec![State::Delivered.into()], ..ReplayFilter::default() };
    let request = ReplayDeliveriesRequest {
        filter: Some(filter),
        requested_by: "ana".into(),
        all: true,
        rate_per_minute: 6_000,
        ..ReplayDeliveriesRequest::default()
    };
    let dry_run = ReplayDeliveriesRequest { dry_run: true, ..request.clone() };
    let counted = relays[1].control().await.replay_deliveries(dry_run).await.unwrap().into_inner();
    assert_eq!((counted.matching, counted.replayable, counted.job), (TENANTS as u64, TENANTS as u64, None));
    let answer = relays[0].control().await.replay_deliveries(request).await.unwrap().into_inner();
    let begun = answer.job.unwrap();
    assert_eq!((begun.matched, begun.rate_per_minute, answer.incomplete), (TENANTS as u64, 6_000, false));
    let done = until("it to be done", async || {
        Some(job(&relays[1], &begun.id).await).filter(|job| job.state() == ReplayJobState::Done)
    })
    .await;
    assert_eq!((done.replayed, done.skipped), (TENANTS as u64, 0));
    until("each to be delivered again", async || {
        let all = deliveries(&relays, 1, 1000).await?;
        let is_again = |it: &Delivery| it.state() == State::Delivered && it.generation == 2;
        all.iter().all(is_again).then_some(())
    })
    .await;
    assert_eq!(sink.requests_to("r").len(), 2 * TENANTS);
    for relay in &relays {
        let mut control = relay.control().await;
        let jobs = control.list_replay_jobs(ListReplayJobsRequest::default()).await.unwrap().into_inner();
        assert_eq!(jobs.jobs, [job(relay, &begun.id).await], "its parts are one job");
        let actions = control.list_control_actions(ListControlActionsRequest::default()).await.unwrap();
        let kinds: Vec<_> = actions.into_inner().actions.iter().map(ControlAction::kind).collect();
        assert_eq!(kinds, [ControlKind::ReplayJobStarted], "it was asked for once");
    }
}

async fn next(stream: &mut Streaming<WatchDeliveriesResponse>) -> WatchDeliveriesResponse {
    let message = tokio::time::timeout(talaria_tests::PATIENCE, stream.message());
    message.await.expect("a message").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_all_partitions_and_goes_on_at_another_relay_after_a_kill() {
    let sink = Sink::start().await;
    let mut relays = two_relays(&sink, "pace: off").await;
    send_to_all(&relays, "before").await;
    are_all(&relays, State::Delivered, TENANTS).await;
    let mut stream = relays[0]
        .status()
        .await
        .watch_deliveries(WatchDeliveriesRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut tenants = BTreeSet::new();
    let token = loop {
        let message = next(&mut stream).await;
        if message.kind() == WatchKind::SnapshotDone {
            assert!(!message.incomplete);
            break message.token;
        }
        assert_eq!(message.kind(), WatchKind::Snapshot);
        assert!(tenants.insert(message.delivery.unwrap().tenant), "each once");
    };
    assert_eq!(tenants.len(), TENANTS);
    send_to_all(&relays, "after").await;
    are_all(&relays, State::Delivered, 2 * TENANTS).await;
    drop(stream);
    relays[0].kill_and_restart().await;
    let request = WatchDeliveriesRequest { resume_token: token, ..WatchDeliveriesRequest::default() };
    let mut stream = relays[1].status().await.watch_deliveries(request).await.unwrap().into_inner();
    let mut delivered = BTreeSet::new();
    while delivered.len() < TENANTS {
        let message = next(&mut stream).await;
        assert_eq!(message.kind(), WatchKind::Change);
        let delivery = message.delivery.unwrap();
        assert_eq!(delivery.job_id, "after");
        assert_eq!(delivery.event_type, "video.generation.completed");
        if delivery.state() == State::Delivered {
            assert!(delivered.insert(delivery.tenant), "each change comes once");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_no_route_took_are_listed_by_either_relay_page_by_page() {
    let sink = Sink::start().await;
    let relays = two_relays(&sink, "events: ['image.*']").await;
    send_to_all(&relays, "unwanted").await;
    for relay in &relays {
        let page = async |page_size, page_token| {
            let request = ListUnmatchedRequest { page_size, page_token, ..ListUnmatchedRequest::default() };
            relay.status().await.list_unmatched(request).await.unwrap().into_inner()
        };
        let ids =
            |list: Vec<UnmatchedEvent>| list.into_iter().map(|it| it.event.unwrap().id).collect::<Vec<_>>();
        let whole = until("all to be planned", async || {
            Some(page(50, String::new()).await).filter(|all| !all.incomplete && all.events.len() == TENANTS)
        })
        .await;
        assert!(whole.events.iter().all(|it| it.why == "no route's events name its type"));
        let (mut by_pages, mut token) = (Vec::new(), String::new());
        loop {
            let part = page(5, token).await;
            by_pages.extend(ids(part.events));
            token = part.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(by_pages, ids(whole.events));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_incomplete_while_a_partition_has_no_owner() {
    let sink = Sink::start().await;
    let [one, mut other] = two_relays(&sink, "pace: off").await;
    for tenant in 0..TENANTS {
        one.openrouter(&name(tenant)).send("job", "completed").await;
    }
    let list = async || {
        let request = ListDeliveriesRequest::default();
        one.status().await.list_deliveries(request).await.unwrap().into_inner()
    };
    until("all to be delivered", async || {
        let all = list().await;
        let is_done = |delivery: &Delivery| delivery.state() == State::Delivered;
        (all.deliveries.len() == TENANTS && all.deliveries.iter().all(is_done)).then_some(())
    })
    .await;
    // It neither answers nor gives anything up.
    other.signal("-STOP");
    let cut = until("it to be missed", async || Some(list().await).filter(|all| all.incomplete)).await;
    assert!(!cut.deliveries.is_empty() && cut.deliveries.len() < TENANTS, "what is there is shown");
    let mut status = one.status().await;
    let sums = status.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
    // A partition that was just taken over may not be in the view yet, and the answer says so.
    let is_known = sums.incomplete || sums.view_behind > 0 || sums.routes.len() == TENANTS;
    assert!(is_known, "{sums:#?}");
    until("the other's partitions to be taken over", async || {
        let all = list().await;
        (!all.incomplete && all.deliveries.len() == TENANTS).then_some(())
    })
    .await;
    let quarantined = status.list_quarantined(ListQuarantinedRequest::default()).await.unwrap().into_inner();
    assert_eq!((quarantined.total, quarantined.incomplete), (0, false));
    other.signal("-CONT");
    until("it to answer for all again", async || {
        let request = ListDeliveriesRequest::default();
        let all = other.status().await.list_deliveries(request).await.ok()?.into_inner();
        (!all.incomplete && all.deliveries.len() == TENANTS).then_some(())
    })
    .await;
    other.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_an_id_is_found_wherever_it_is() {
    let sink = Sink::start().await;
    let relays = two_relays(&sink, "pace: off").await;
    send_to_all(&relays, "job").await;
    for relay in &relays {
        let mut status = relay.status().await;
        let mut list = async |begins_with: BeginsWith| {
            let request = ListIdsRequest { begins_with: Some(begins_with), tenant: String::new() };
            let found = status.list_ids(request).await.unwrap().into_inner();
            let ids: Vec<_> = found.ids.into_iter().map(|known| (known.id, known.tenant)).collect();
            (ids, found.more, found.incomplete)
        };
        for tenant in 0..TENANTS {
            let (tenant, id) = (name(tenant), event_id(&name(tenant), "job", "completed"));
            let found = until("the event to be found", async || {
                let found = list(BeginsWith::EventId(id[..20].to_owned())).await;
                (!found.0.is_empty()).then_some(found)
            })
            .await;
            assert_eq!(found, (vec![(id, tenant)], false, false));
        }
        // All tenants' events of a job begin alike, and more are not listed than help to choose.
        let id = event_id(&name(0), "job", "completed");
        let (ids, more, _) = list(BeginsWith::EventId(id[..13].to_owned())).await;
        assert!(ids.len() == 10 && more && ids.is_sorted(), "{ids:?}");
        let found = list(BeginsWith::JobId("jo".into())).await;
        assert_eq!(
            found,
            (vec![("job".to_owned(), String::new())], false, false),
            "one job, of many tenants"
        );
    }
}
