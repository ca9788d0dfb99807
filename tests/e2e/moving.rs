//! An embedded bus that moves to NATS with `talaria restore`, as in docs/backup.md.

use crate::jobs::{job_when, request};
use async_nats::jetstream::{self, stream};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use talaria_proto::v1::{
    ControlAction, Delivery, DeliveryState as State, GetDeliveryResponse, GetReplayJobRequest, JobState,
    ListControlActionsRequest, ListQuarantinedRequest, PauseRequest, ReplayDeliveriesRequest, ReplayFilter,
    ReplayJobState, ResumeRequest,
};
use talaria_tests::{
    binary,
    nats::{self, Cluster, Server},
    openrouter::{event_id, payload},
    openrouter_api::{End, OpenRouterApi},
    sink::{Does, Sink},
    stack::{Builder, Stack, Written, openrouter_secret, stack},
    until,
};

const TENANTS: [&str; 3] = ["acme", "bravo", "charlie"];

/// Polls soon.
const POLL: &str = "poll: {first: 1s, every: 1s, slowest: 1s, give_up: 1h}";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn prefix() -> String {
    format!("moving-{:016x}", rand::random::<u64>())
}

/// What both installations have: each tenant has a route that works, one that fails, and one to be paused.
fn configuration(bus: &str, sink: &Sink, api: &OpenRouterApi) -> Builder {
    let mut builder =
        stack().with(bus).with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com}");
    for tenant in TENANTS {
        builder = builder.tenant(tenant, |t| {
            let retry = "pace: off\nretry: {schedule: [1s, 3s, 5s, 5s, 5s, 5s, 5s, 5s, 5s, 5s]}";
            t.jobs(api, POLL)
                .route("now", &sink.url("now"), "pace: off")
                .route("later", &sink.url("later"), retry)
                .route("quiet", &sink.url("quiet"), "pace: off")
        });
    }
    builder
}

fn over_nats(urls: &[String], prefix: &str, keys: &str) -> String {
    format!("bus: {{nats: {{servers: {urls:?}, prefix: {prefix}{keys}}}}}")
}

fn restore(written: &Written, file: &Path) -> Output {
    binary::run(written.path(), &["restore", file.to_str().unwrap(), "--json"])
}

async fn streams(url: &str, prefix: &str) -> Vec<String> {
    let jetstream = jetstream::new(async_nats::connect(url).await.unwrap());
    let mut found = Vec::new();
    for name in [format!("{prefix}-events"), format!("{prefix}-journal")] {
        if jetstream.get_stream(&name).await.is_ok() {
            found.push(name);
        }
    }
    found
}

async fn actions(stack: &Stack) -> Vec<ControlAction> {
    let request = ListControlActionsRequest::default();
    stack.control().await.list_control_actions(request).await.unwrap().into_inner().actions
}

/// A delivery of an event once it waits after an attempt.
async fn waits(stack: &Stack, event: &str, route: &str) -> Delivery {
    let found = stack
        .delivery_when(event, route, |delivery| delivery.state() == State::Waiting && delivery.attempts > 0)
        .await;
    found.delivery.unwrap()
}

/// The bus of a stopped embedded installation, with what it showed.
struct Old {
    stack: Stack,
    file: PathBuf,
    sink: Sink,
    api: OpenRouterApi,
    delivered: Vec<GetDeliveryResponse>,
    actions: Vec<ControlAction>,
    replay: String,
    job: (String, String),
}

/// With so many bytes more in each second callback.
async fn old_with(padding: usize) -> Old {
    let (sink, api) = (Sink::start().await, OpenRouterApi::start().await);
    sink.set("later", Does::Answer(503, serde_json::json!({})));
    let mut stack = configuration("bus: embedded", &sink, &api).start().await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    api.lose_callbacks(true);
    for tenant in TENANTS {
        let pause = PauseRequest {
            tenant: tenant.into(),
            route: "quiet".into(),
            requested_by: "ana".into(),
            reason: "not yet".into(),
            ..PauseRequest::default()
        };
        stack.control().await.pause(pause).await.unwrap();
    }
    let mut delivered = Vec::new();
    for job in ["one", "two"] {
        for tenant in TENANTS {
            let mut callback = payload(job, "completed");
            if job == "two" {
                callback["data"]["padding"] = "x".repeat(padding).into();
            }
            stack.openrouter(tenant).send_payload(&callback).await;
            let event = event_id(tenant, job, "completed");
            delivered.push(stack.finished(&event, "now").await);
            waits(&stack, &event, "later").await;
        }
    }
    let acme = stack.openrouter("acme");
    assert_eq!(acme.send_bytes(b"{\"type\": 7}".to_vec()).await, Some(422), "kept as no event");
    // A replay that is over: one delivery of all tenants.
    let mut control = stack.control().await;
    let started = control.replay_deliveries(ReplayDeliveriesRequest {
        filter: Some(ReplayFilter {
            route: "now".into(),
            job_id: "two".into(),
            states: vec![State::Delivered.into()],
            ..ReplayFilter::default()
        }),
        rate_per_minute: 6_000,
        requested_by: "ana".into(),
        ..ReplayDeliveriesRequest::default()
    });
    let replay = started.await.unwrap().into_inner().job.unwrap().id;
    replayed(&stack, &replay).await;
    for response in &mut delivered {
        let delivery = response.delivery.clone().unwrap();
        *response = stack
            .delivery_when(&delivery.event_id, "now", |now| {
                now.state() == State::Delivered && (now.job_id != "two" || now.generation == 2)
            })
            .await;
    }
    let job = stack.jobs().await.submit_job(request("r1")).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.state(), JobState::Running);
    let actions = actions(&stack).await;
    assert_eq!(stack.terminate().await, Some(0));
    let file = stack.written.path().join("copy.db");
    let backup = binary::run(stack.written.path(), &["backup", file.to_str().unwrap()]);
    assert!(backup.status.success(), "{}", said(&backup));
    Old { stack, file, sink, api, delivered, actions, replay, job: (job.id, job.openrouter_id) }
}

async fn old() -> Old {
    old_with(0).await
}

async fn replayed(stack: &Stack, id: &str) -> u64 {
    let request = GetReplayJobRequest { job_id: id.into() };
    until("the replay to end", async || {
        let answer = stack.control().await.get_replay_job(request.clone()).await.ok()?.into_inner();
        let job = answer.job.filter(|job| job.state() == ReplayJobState::Done && !answer.incomplete)?;
        Some(job.replayed)
    })
    .await
}

/// Everything of the old installation goes on in this one.
async fn goes_on(old: &Old, new: &Stack) {
    let Old { sink, api, .. } = old;
    api.callbacks_to(new.ingress(), &openrouter_secret("acme"));
    let ran = sink.requests_to("now").len();
    // The history.
    for before in &old.delivered {
        let id = &before.delivery.as_ref().unwrap().event_id;
        let now = new.finished(id, "now").await;
        assert_eq!(&now, before, "as before");
    }
    // Lists of several partitions may be behind at first.
    until("the actions", async || (actions(new).await == old.actions).then_some(())).await;
    assert_eq!(replayed(new, &old.replay).await, 3);
    until("the callback that was no event", async || {
        let listed = new.status().await.list_quarantined(ListQuarantinedRequest::default()).await.ok()?;
        (listed.into_inner().callbacks.len() == 1).then_some(())
    })
    .await;
    let explained = binary::run(
        new.written.path(),
        &["explain", &event_id("bravo", "one", "completed"), "--relay", &new.relay()],
    );
    assert!(explained.status.success(), "{}", said(&explained));
    let shown = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(["now", "later", "quiet"].iter().all(|word| shown.contains(word)), "{shown}");

    // What waits is delivered, and goes on counting its attempts.
    sink.set("later", Does::Accept);
    for (tenant, job) in TENANTS.iter().flat_map(|tenant| ["one", "two"].map(|job| (tenant, job))) {
        let event = event_id(tenant, job, "completed");
        let found = new.finished(&event, "later").await;
        let delivery = found.delivery.unwrap();
        assert!(delivery.state() == State::Delivered && delivery.attempts >= 2, "{delivery:?}");
        let numbers: Vec<u32> = found.attempts.iter().map(|attempt| attempt.number).collect();
        assert!(numbers.iter().copied().eq(1..=delivery.attempts), "{numbers:?}");
    }
    // A known id is a repetition, and a paused route stays paused: a later event passes both.
    for tenant in TENANTS {
        let openrouter = new.openrouter(tenant);
        openrouter.send("one", "completed").await;
        let event = openrouter.send("three", "completed").await;
        assert_eq!(new.finished(&event, "now").await.delivery.unwrap().state(), State::Delivered);
    }
    assert_eq!(sink.requests_to("now").len(), ran + TENANTS.len(), "delivered ones are not delivered again");
    assert!(sink.requests_to("quiet").is_empty());
    for tenant in TENANTS {
        let resume = ResumeRequest {
            tenant: tenant.into(),
            route: "quiet".into(),
            requested_by: "ana".into(),
            ..ResumeRequest::default()
        };
        new.control().await.resume(resume).await.unwrap();
        let event = event_id(tenant, "one", "completed");
        assert_eq!(new.finished(&event, "quiet").await.delivery.unwrap().state(), State::Delivered);
    }
    // The open job is polled on, and its request id is known.
    let (id, openrouter_id) = &old.job;
    let again = new.jobs().await.submit_job(request("r1")).await.unwrap().into_inner();
    assert!(again.known && again.job.unwrap().id == *id);
    assert_eq!(api.jobs().len(), 1);
    api.end(openrouter_id, End::completed(2.0)).await;
    let job = job_when(&mut new.jobs().await, id, |job| job.state() == JobState::Completed).await;
    new.finished(&job.event_id, "now").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_moves_to_nats_with_everything_that_waits() {
    let (old, server) = (old().await, Server::start().await);
    let prefix = prefix();
    let bus = over_nats(&[server.url()], &prefix, "");
    let written = configuration(&bus, &old.sink, &old.api).write();
    let before = fs::read(&old.file).unwrap();
    let moved = restore(&written, &old.file);
    assert!(moved.status.success(), "{}", said(&moved));
    let moved: Value = serde_json::from_slice(&moved.stdout).unwrap();
    assert!(moved["events"].as_u64().unwrap() >= 7 && moved["partitions"] == 3, "{moved}");
    assert_eq!(fs::read(&old.file).unwrap(), before);
    let mut new = written.start().await;
    goes_on(&old, &new).await;

    let refused = restore(&new.written, &old.file);
    assert!(
        refused.status.code() == Some(1) && said(&refused).contains("relays are running: "),
        "{}",
        said(&refused)
    );
    new.terminate().await;
    let refused = restore(&new.written, &old.file);
    let why = "a bus moves only into streams that never had a message";
    assert!(refused.status.code() == Some(1) && said(&refused).contains(why), "{}", said(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_file_moves_to_a_cluster_after_a_move_that_was_killed() {
    let (old, cluster) = (old().await, Cluster::start(3).await);
    let (prefix, urls) = (prefix(), cluster.urls());
    let bus = over_nats(&urls, &prefix, ", replicas: 3");
    // As a move leaves the streams that is killed.
    let jetstream = jetstream::new(async_nats::connect(urls.clone()).await.unwrap());
    for (stream, subject) in [("events", "events.*.*.>"), ("journal", "journal.*")] {
        jetstream
            .create_stream(stream::Config {
                name: format!("{prefix}-{stream}"),
                subjects: vec![format!("{prefix}.moving.{subject}")],
                num_replicas: 3,
                metadata: [("talaria-partitions".to_owned(), "a bus moves in".to_owned())].into(),
                ..stream::Config::default()
            })
            .await
            .unwrap();
    }
    jetstream.publish(format!("{prefix}.moving.journal.00"), "x".into()).await.unwrap().await.unwrap();
    let written = configuration(&bus, &old.sink, &old.api).write();
    for role in ["relay", "ingress"] {
        let refused = binary::run(written.path(), &[role]);
        assert_eq!(refused.status.code(), Some(1), "{role}");
        assert!(said(&refused).contains("a bus moves into the stream"), "{role}: {}", said(&refused));
    }
    // The file of a stopped installation, as it is.
    let file = old.stack.written.path().join("talaria-data/bus.db");
    let moved = restore(&written, &file);
    assert!(moved.status.success(), "{}", said(&moved));
    let new = written.start().await;
    goes_on(&old, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_breaks_off_leaves_nothing_and_is_tried_again() {
    let (old, server) = (old_with(500_000).await, Server::start().await);
    let (prefix, url) = (prefix(), [server.url()]);
    let written = |keys: &str| configuration(&over_nats(&url, &prefix, keys), &old.sink, &old.api).write();
    // Full before the last event.
    let full = restore(&written(", max_bytes: 1MiB"), &old.file);
    assert_eq!(full.status.code(), Some(1), "{full:?}");
    assert!(said(&full).contains("nothing has moved"), "{}", said(&full));
    assert_eq!(streams(&url[0], &prefix).await, Vec::<String>::new());

    // An ingress that runs has made the events' stream, and stores in it afterwards.
    let again = written("");
    let mut ingress = binary::command(again.path(), &["ingress"]).stdout(Stdio::null()).spawn().unwrap();
    until("the stream of the ingress", async || (streams(&url[0], &prefix).await.len() == 1).then_some(()))
        .await;
    let moved = restore(&again, &old.file);
    ingress.kill().unwrap();
    ingress.wait().unwrap();
    assert!(moved.status.success(), "{}", said(&moved));
    let new = again.start().await;
    goes_on(&old, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_too_large_or_damaged_changes_nothing() {
    let (old, prefix) = (old_with(500_000).await, prefix());
    let server = nats::server().with("max_payload: 262144").start().await;
    let bus = over_nats(&[server.url()], &prefix, "");
    let written = configuration(&bus, &old.sink, &old.api).write();
    let large = restore(&written, &old.file);
    assert!(said(&large).contains("set a larger max_payload"), "{}", said(&large));
    let bytes = fs::read(&old.file).unwrap();
    fs::write(&old.file, &bytes[..bytes.len() / 2]).unwrap();
    let damaged = restore(&written, &old.file);
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    assert!(said(&damaged).contains("cannot move"), "{}", said(&damaged));
    assert_eq!(streams(&server.url(), &prefix).await, Vec::<String>::new());
}
