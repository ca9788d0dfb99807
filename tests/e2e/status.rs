//! The gRPC services, as a client that knows only the contracts uses them.

use std::{path::Path, time::Duration};
use talaria_proto::v1::{
    AttemptOutcome, DeliveryFilter, DeliveryState as State, GetDeliveryRequest, GetEventRequest,
    GetSummaryRequest, ListDeliveriesRequest, ListEventsRequest, ListQuarantinedRequest,
    WatchDeliveriesRequest, WatchDeliveriesResponse, WatchKind,
};
use talaria_tests::{
    binary,
    openrouter::{event_id, payload},
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};
use tonic::{Code, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

async fn with_two_tenants(sink: &Sink) -> Stack {
    stack()
        .tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off").route("b", &sink.url("b"), "pace: off"))
        .tenant("other", |t| t.route("a", &sink.url("c"), "pace: off"))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_deliveries_are_found_by_everything_that_the_contract_names() {
    let sink = Sink::start().await;
    let stack = with_two_tenants(&sink).await;
    let (acme, other) = (stack.openrouter("acme"), stack.openrouter("other"));
    for index in 0..5 {
        acme.send(&format!("job {index}"), "completed").await;
        other.send(&format!("job {index}"), "failed").await;
    }
    until("all to be delivered", async || {
        let deliveries = stack.deliveries().await;
        (deliveries.iter().filter(|delivery| delivery.state() == State::Delivered).count() == 15)
            .then_some(())
    })
    .await;
    let mut status = stack.status().await;
    let event = status
        .get_event(GetEventRequest {
            event_id: event_id("acme", "job 3", "completed"),
            include_payload: true,
        })
        .await
        .unwrap()
        .into_inner();
    let found = event.event.unwrap();
    assert_eq!(
        (found.tenant.as_str(), found.job_id.as_str(), found.status.as_str()),
        ("acme", "job 3", "completed")
    );
    assert_eq!(
        (found.model.as_deref(), found.generation_id.as_deref()),
        (Some("google/veo-3.1"), Some("gen-xyz789"))
    );
    assert_eq!(found.payload, payload("job 3", "completed").to_string());
    assert_eq!(
        (found.idempotency_key.as_deref(), found.idempotency_key_matches),
        (Some("recorded-not-trusted"), false)
    );
    let routes: Vec<_> = event.deliveries.iter().map(|delivery| delivery.route.as_str()).collect();
    assert_eq!(routes, ["a", "b"]);

    let mut count = async |filter: DeliveryFilter| {
        let request = ListDeliveriesRequest { filter: Some(filter), ..ListDeliveriesRequest::default() };
        status.list_deliveries(request).await.unwrap().into_inner().deliveries.len()
    };
    let any = DeliveryFilter::default();
    assert_eq!(count(DeliveryFilter { tenant: "acme".into(), ..any.clone() }).await, 10);
    assert_eq!(count(DeliveryFilter { route: "a".into(), ..any.clone() }).await, 10);
    assert_eq!(count(DeliveryFilter { job_id: "job 3".into(), ..any.clone() }).await, 3);
    assert_eq!(count(DeliveryFilter { states: vec![State::Delivered.into()], ..any.clone() }).await, 15);
    assert_eq!(count(DeliveryFilter { states: vec![State::Parked.into()], ..any.clone() }).await, 0);
    let soon = prost_types(jiff::Timestamp::now() + Duration::from_secs(60));
    let before = prost_types(jiff::Timestamp::now() - Duration::from_secs(3_600));
    assert_eq!(count(DeliveryFilter { since: Some(before), until: Some(soon), ..any.clone() }).await, 15);
    assert_eq!(count(DeliveryFilter { since: Some(soon), ..any.clone() }).await, 0);
    assert_eq!(count(DeliveryFilter { until: Some(before), ..any.clone() }).await, 0);
    for (filter, expected) in [
        (DeliveryFilter { event_type: "video.generation.failed".into(), ..any.clone() }, 5),
        (DeliveryFilter { event_type: "video.*".into(), ..any.clone() }, 15),
        (DeliveryFilter { model: "google/veo-3.1".into(), tenant: "acme".into(), ..any.clone() }, 10),
        (DeliveryFilter { model: "google".into(), ..any.clone() }, 0),
        (DeliveryFilter { outcomes: vec![AttemptOutcome::Accepted.into()], ..any.clone() }, 15),
        (DeliveryFilter { outcomes: vec![AttemptOutcome::Failed.into()], ..any.clone() }, 0),
        (DeliveryFilter { http_statuses: vec!["202".into()], route: "a".into(), ..any.clone() }, 10),
        (DeliveryFilter { http_statuses: vec!["5xx".into(), "404".into()], ..any.clone() }, 0),
        (DeliveryFilter { reason: "no such reason".into(), ..any.clone() }, 0),
    ] {
        assert_eq!(count(filter.clone()).await, expected, "{filter:?}");
    }
    let mut count = async |request: ListEventsRequest| {
        status.list_events(request).await.unwrap().into_inner().events.len()
    };
    let any = ListEventsRequest::default();
    assert_eq!(
        count(ListEventsRequest { event_type: "video.generation.failed".into(), ..any.clone() }).await,
        5
    );
    assert_eq!(count(ListEventsRequest { model: "google/veo-3.1".into(), ..any.clone() }).await, 10);
    assert_eq!(count(ListEventsRequest { unmatched: true, ..any }).await, 0);

    // Pages of any size give the same list.
    let (mut paged, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = status
            .list_events(ListEventsRequest { page_size: 3, page_token, ..ListEventsRequest::default() })
            .await
            .unwrap()
            .into_inner();
        assert!(page.events.iter().all(|event| event.payload.is_empty()), "lists have no payloads");
        paged.extend(page.events.into_iter().map(|event| event.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let whole = status.list_events(ListEventsRequest::default()).await.unwrap().into_inner();
    assert_eq!(paged, whole.events.into_iter().map(|event| event.id).collect::<Vec<_>>());
    assert_eq!(paged.len(), 10);

    let summary = status.get_summary(GetSummaryRequest { tenant: "acme".into() }).await.unwrap().into_inner();
    let names: Vec<_> = summary.routes.iter().map(|route| route.route.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let route = &summary.routes[0];
    assert_eq!((route.backlog, route.success_share), (0, Some(1.0)));
    assert_eq!(route.delivery_latency.as_ref().unwrap().samples, 5);
    assert_eq!(summary.tenants[0].events, 5);
}

fn prost_types(time: jiff::Timestamp) -> prost_types::Timestamp {
    talaria_proto::time::to_proto(time)
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_have_a_status_with_a_reason() {
    let sink = Sink::start().await;
    let stack = with_two_tenants(&sink).await;
    let mut status = stack.status().await;
    let unknown =
        status.get_event(GetEventRequest { event_id: event_id("acme", "x", "failed"), ..Default::default() });
    assert_eq!(unknown.await.unwrap_err().code(), Code::NotFound);
    for id in ["", "evt_x", "dlv_x", "'; DROP TABLE events"] {
        let error = status
            .get_event(GetEventRequest { event_id: id.into(), ..Default::default() })
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{id}");
        let error = status.get_delivery(GetDeliveryRequest { delivery_id: id.into() }).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{id}");
    }
    let request = ListDeliveriesRequest { page_size: 1001, ..Default::default() };
    assert!(status.list_deliveries(request).await.unwrap_err().message().contains("at most 1000"));
    let request = ListDeliveriesRequest { page_token: "rubbish".into(), ..Default::default() };
    assert_eq!(status.list_deliveries(request).await.unwrap_err().code(), Code::InvalidArgument);
    let nonsense = DeliveryFilter { http_statuses: vec!["9xx".into()], ..DeliveryFilter::default() };
    let request = ListDeliveriesRequest { filter: Some(nonsense.clone()), ..Default::default() };
    assert_eq!(status.list_deliveries(request).await.unwrap_err().code(), Code::InvalidArgument);
    let request = WatchDeliveriesRequest { filter: Some(nonsense), ..Default::default() };
    assert_eq!(status.watch_deliveries(request).await.unwrap_err().code(), Code::InvalidArgument);
    let watch = |token: &str| WatchDeliveriesRequest { resume_token: token.into(), ..Default::default() };
    assert_eq!(status.watch_deliveries(watch("rubbish")).await.unwrap_err().code(), Code::InvalidArgument);
}

async fn next(stream: &mut Streaming<WatchDeliveriesResponse>) -> WatchDeliveriesResponse {
    tokio::time::timeout(talaria_tests::PATIENCE, stream.message())
        .await
        .expect("a message")
        .unwrap()
        .unwrap()
}

/// A change in short: the job, its state and the attempt that brought it.
fn short(message: &WatchDeliveriesResponse) -> (String, State, Option<u32>) {
    let delivery = message.delivery.as_ref().unwrap();
    (delivery.job_id.clone(), delivery.state(), message.attempt.as_ref().map(|attempt| attempt.number))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_the_present_then_every_change_and_can_be_resumed() {
    let sink = Sink::start().await;
    sink.set("a", Does::Answer(500, serde_json::json!({})));
    let keys = "retry: {schedule: [200ms, 200ms, 200ms, 200ms, 200ms, 200ms]}";
    let mut stack = stack()
        .tenant("acme", |t| t.route("a", &sink.url("a"), keys).route("other", &sink.url("other"), ""))
        .start()
        .await;
    let first = stack.openrouter("acme").send("first", "completed").await;
    stack.delivery_when(&first, "a", |delivery| delivery.attempts == 1).await;
    stack.finished(&first, "other").await;

    let filter = DeliveryFilter { route: "a".into(), ..DeliveryFilter::default() };
    let request = WatchDeliveriesRequest { filter: Some(filter), ..WatchDeliveriesRequest::default() };
    let mut status = stack.status().await;
    let mut stream = status.watch_deliveries(request.clone()).await.unwrap().into_inner();
    let snapshot = next(&mut stream).await;
    assert_eq!((snapshot.kind(), snapshot.token.as_str()), (WatchKind::Snapshot, ""));
    assert_eq!(short(&snapshot).0, "first");
    let done = next(&mut stream).await;
    assert_eq!(done.kind(), WatchKind::SnapshotDone);
    assert!(done.delivery.is_none() && !done.token.is_empty());

    // Every change, each as it stood then, though the view may know more by now.
    sink.set("a", Does::Accept);
    let mut changes = Vec::new();
    loop {
        let change = next(&mut stream).await;
        assert_eq!(change.kind(), WatchKind::Change);
        changes.push(change.clone());
        if short(&change).1 == State::Delivered {
            break;
        }
    }
    let attempts: Vec<_> = changes.iter().filter_map(|change| short(change).2).collect();
    assert!(attempts.is_sorted() && attempts.windows(2).all(|pair| pair[1] == pair[0] + 1), "{attempts:?}");
    let (last, before) = changes.split_last().unwrap();
    assert!(before.iter().all(|change| short(change).1 == State::Waiting));

    // By the attempt that brought the change.
    let failed = DeliveryFilter {
        http_statuses: vec!["5xx".into()],
        model: "google/veo-3.1".into(),
        ..request.filter.clone().unwrap()
    };
    let resumed =
        WatchDeliveriesRequest { resume_token: done.token.clone(), filter: Some(failed), ..request.clone() };
    let mut filtered = status.watch_deliveries(resumed).await.unwrap().into_inner();
    for change in before.iter().filter(|change| change.attempt.is_some()) {
        assert_eq!(short(&next(&mut filtered).await), short(change));
    }
    drop(filtered);

    // Resumed behind the first change it gives the others again, the same ones, also after a restart.
    drop(stream);
    stack.openrouter("acme").send("second", "completed").await;
    stack.kill_and_restart().await;
    let mut status = stack.status().await;
    let resumed = WatchDeliveriesRequest { resume_token: done.token, ..request };
    let mut stream = status.watch_deliveries(resumed).await.unwrap().into_inner();
    for change in &changes {
        assert_eq!(short(&next(&mut stream).await), short(change));
    }
    assert_eq!(last.delivery.as_ref().unwrap().state(), State::Delivered);
    loop {
        let (job, state, _) = short(&next(&mut stream).await);
        assert_eq!(job, "second");
        if state == State::Delivered {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_and_quarantined_callbacks_are_kept_counted_and_listed() {
    let sink = Sink::start().await;
    let stack = with_two_tenants(&sink).await;
    let acme = stack.openrouter("acme");
    let event = acme.send("job", "completed").await;
    let mut other = payload("job", "completed");
    other["data"]["usage"]["cost"] = serde_json::json!(9.99);
    for _ in 0..2 {
        acme.send_payload(&other).await;
    }
    for body in ["no event", "[1, 2]", "no event"] {
        assert_eq!(acme.send_bytes(body.into()).await, Some(422));
    }
    let mut status = stack.status().await;
    let listed = until("two to be quarantined", async || {
        let request = ListQuarantinedRequest { include_payload: true, ..Default::default() };
        let list = status.list_quarantined(request).await.unwrap().into_inner();
        (list.total == 2).then_some(list)
    })
    .await;
    let mut kept: Vec<_> = listed
        .callbacks
        .iter()
        .map(|callback| (callback.payload.as_ref(), callback.reason.as_str()))
        .collect();
    kept.sort();
    assert_eq!(kept[0], (&b"[1, 2]"[..], "the body is not a JSON object"));
    assert_eq!(kept[1].0, b"no event");
    let page = |page_token: String| ListQuarantinedRequest { page_size: 1, page_token, ..Default::default() };
    let first = status.list_quarantined(page(String::new())).await.unwrap().into_inner();
    let second = status.list_quarantined(page(first.next_page_token)).await.unwrap().into_inner();
    assert_ne!(first.callbacks[0].id, second.callbacks[0].id);
    assert!(second.next_page_token.is_empty() && second.callbacks[0].payload.is_empty());

    let found = stack.event(&event).await;
    assert_eq!(found.conflicts.len(), 1, "the same body counts once");
    assert_eq!(found.conflicts[0].payload, other.to_string());
    assert_eq!(found.event.unwrap().payload, payload("job", "completed").to_string(), "the first one stands");
    let summary = status.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
    assert_eq!((summary.tenants[0].conflicts, summary.tenants[0].quarantined), (1, 2));
    assert_eq!(sink.requests_to("a").len(), 1);
    // Commands show them for a job, an event and a delivery.
    let asked = |args: &[&str]| {
        let output = binary::run(Path::new("."), &[&["status", "--relay", &stack.relay()], args].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for id in ["job", &event, &found.deliveries[0].id] {
        assert_eq!(asked(&[id]).matches("conflict: came again at").count(), 1, "{id}");
    }
    let document: serde_json::Value = serde_json::from_str(&asked(&["job", "--json"])).unwrap();
    assert_eq!(document["conflicts"][0]["eventId"], event.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_there_for_grpcurl() {
    let sink = Sink::start().await;
    let stack = with_two_tenants(&sink).await;
    let channel = tonic::transport::Endpoint::from_shared(stack.relay()).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "talaria.v1.StatusService", "talaria.v1.ControlService"] {
        until("the service to be healthy", async || {
            let request = HealthCheckRequest { service: service.into() };
            let answer = health.check(request).await.unwrap().into_inner();
            (answer.status() == ServingStatus::Serving).then_some(())
        })
        .await;
    }
    let mut reflection = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    let services: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["talaria.v1.StatusService", "talaria.v1.ControlService"] {
        assert!(services.contains(&service), "{services:?}");
    }

    assert_eq!(stack.admin_get("/healthz").await, (200, "ok\n".into()));
    until("it to be ready", async || {
        (stack.admin_get("/readyz").await == (200, "ready\n".into())).then_some(())
    })
    .await;
    let (status, metrics) = stack.admin_get("/metrics").await;
    assert_eq!(status, 200);
    assert!(!metrics.contains("NaN"), "{metrics}");
}
