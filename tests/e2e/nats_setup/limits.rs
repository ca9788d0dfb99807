//! A stream that is full, repeats, and messages that are too large.

use super::{jetstream, on_nats, prefix, process::Process, state, streams};
use async_nats::HeaderMap;
use jiff::Timestamp;
use prost::Message as _;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use talaria_core::openrouter::signature;
use talaria_proto::v1::{DeliveryState, Event};
use talaria_tests::{
    http,
    nats::{self, Server},
    openrouter::{event_id, payload},
    sink::Sink,
    stack::{Builder, openrouter_secret},
    until,
};
use tokio::task::JoinSet;

fn configuration(url: &str, prefix: &str, sink: &Sink, keys: &str) -> Builder {
    on_nats(url, &format!("prefix: {prefix}\n{keys}"))
        .tenant("acme", |tenant| tenant.route("r", &sink.url("r"), "pace: off"))
}

/// A callback of about this many bytes.
fn large(job: &str, bytes: usize) -> Vec<u8> {
    let mut payload = payload(job, "completed");
    payload["data"]["padding"] = json!("x".repeat(bytes));
    payload.to_string().into_bytes()
}

async fn send(ingress: &Process, body: Vec<u8>) -> reqwest::Response {
    let signature = signature::sign(&openrouter_secret("acme").as_str().into(), Timestamp::now(), &body);
    let url = format!("http://{}/callbacks/acme", ingress.ingress());
    http().post(url).header(signature::HEADER, signature).body(body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_refuses_callbacks_until_there_is_room_and_loses_none() {
    let (sink, server, prefix) = (Sink::start().await, Server::start().await, prefix("full"));
    let events = &streams(&prefix)[0];
    let jetstream = jetstream(&server.url()).await;
    let written = configuration(&server.url(), &prefix, &sink, "max_bytes: 1MiB").write();
    let ingress = Process::start("ingress", written).await;
    let mut accepted = Vec::new();
    let refused = loop {
        let job = format!("j{}", accepted.len());
        let answer = send(&ingress, large(&job, 100_000)).await;
        if answer.status() != 204 {
            break answer;
        }
        accepted.push(event_id("acme", &job, "completed"));
        assert!(accepted.len() < 20, "1 MiB is full by now");
    };
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("Retry-After"));
    let problem: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["status"], 503, "{problem}");
    // Several at once go in a batch, which is refused as well.
    let mut together = JoinSet::new();
    let ingress = Arc::new(ingress);
    for index in 0..16 {
        let ingress = Arc::clone(&ingress);
        together.spawn(async move { send(&ingress, large(&format!("b{index}"), 100_000)).await.status() });
    }
    assert!(together.join_all().await.iter().all(|status| *status == 503));
    let said =
        async || ingress.log().iter().any(|line| line.contains("maximum bytes exceeded")).then_some(());
    until("the reason to be logged", said).await;
    // However many there are, a line a second at most.
    let lines: Vec<Value> = ingress.log().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let times: Vec<Timestamp> = lines
        .iter()
        .filter(|line| line["message"] == "callback not stored")
        .map(|line| line["timestamp"].as_str().unwrap().parse().unwrap())
        .collect();
    let apart = |pair: &[Timestamp]| pair[1].duration_since(pair[0]).as_millis() >= 990;
    assert!(!times.is_empty() && times.windows(2).all(apart), "{times:?}");

    // A relay that starts now has the accepted events and no others.
    assert_eq!(state(&jetstream, events).await.messages, accepted.len() as u64);
    let relay = configuration(&server.url(), &prefix, &sink, "max_bytes: 1MiB").write();
    let relay = Process::start("relay", relay).await;
    for event in &accepted {
        assert_eq!(relay.delivered(event).await.len(), 1);
    }
    assert_eq!(sink.requests().len(), accepted.len());
    jetstream.get_stream(events).await.unwrap().purge().keep(2).await.unwrap();
    until("callbacks to be accepted again", async || {
        (send(&ingress, large("after", 100_000)).await.status() == 204).then_some(())
    })
    .await;
    assert_eq!(ingress.readiness().await, (200, "ready\n".into()));
    relay.delivered(&event_id("acme", "after", "completed")).await;
    assert_eq!(sink.requests().len(), accepted.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_is_not_ready_while_the_stream_is_full() {
    let (sink, server, prefix) = (Sink::start().await, Server::start().await, prefix("full"));
    let events = &streams(&prefix)[0];
    let written = configuration(&server.url(), &prefix, &sink, "max_bytes: 1MiB").write();
    let ingress = Process::start("ingress", written).await;
    let mut job = 0;
    while send(&ingress, large(&format!("j{job}"), 100_000)).await.status() == 204 {
        job += 1;
    }
    let (status, says) = ingress.readiness().await;
    assert_eq!((status, says.contains(events), says.contains("full")), (503, true, true), "{says}");
    jetstream(&server.url()).await.get_stream(events).await.unwrap().purge().keep(2).await.unwrap();
    until("it to be ready", async || (ingress.readiness().await.0 == 200).then_some(())).await;
}

/// As with a full disk: the server stores nothing, and reports nothing to its clients.
#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_is_not_ready_while_nats_acknowledges_nothing() {
    let (sink, prefix) = (Sink::start().await, prefix("silent"));
    let permissions = format!("permissions: {{publish: {{deny: [\"{prefix}.events.>\"]}}}}");
    let server = nats::server()
        .with(&format!(
            "accounts: {{A: {{jetstream: enabled, users: [{{user: a, password: a, {permissions}}}]}}}}"
        ))
        .with("no_auth_user: a");
    let server = server.start().await;
    let ingress = configuration(&server.url(), &prefix, &sink, "").write();
    let ingress = Process::start("ingress", ingress).await;
    assert_eq!(ingress.readiness().await, (200, "ready\n".into()));
    assert_eq!(send(&ingress, large("job", 10)).await.status(), 503);
    let (status, says) = ingress.readiness().await;
    let expected = [&streams(&prefix)[0], "timed out", "no space left on device", "Permissions Violation"];
    assert!(status == 503 && expected.iter().all(|part| says.contains(*part)), "{says}");
}

/// As an operator removes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_streams_are_gone_ends_itself_and_the_next_one_begins_with_nothing() {
    begins_with_nothing("gone", async |server, prefix| {
        let jetstream = jetstream(&server.url()).await;
        for stream in streams(prefix) {
            jetstream.delete_stream(&stream).await.unwrap();
        }
    })
    .await;
}

/// A server that has lost its volume: clients reconnect to an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_server_comes_back_empty_ends_itself_and_the_next_one_begins_with_nothing() {
    begins_with_nothing("empty", async |server, _| {
        server.stop().await;
        server.start_empty().await;
    })
    .await;
}

/// Running services whose streams are lost.
async fn begins_with_nothing(of: &str, lose: impl AsyncFnOnce(&mut Server, &str)) {
    let (sink, mut server, prefix) = (Sink::start().await, Server::start().await, prefix(of));
    let configuration = || configuration(&server.url(), &prefix, &sink, "").write();
    let ingress = Process::start("ingress", configuration()).await;
    let mut relay = Process::start("relay", configuration()).await;
    let before = ingress.openrouter("acme").send("before", "completed").await;
    relay.delivered(&before).await;
    lose(&mut server, &prefix).await;
    assert_eq!(send(&ingress, large("during", 10)).await.status(), 503);
    for process in [&ingress, &relay] {
        // A connection that was lost may take a moment to be back.
        until("it to say so", async || {
            let (status, says) = process.readiness().await;
            (status == 503 && says.contains("it is gone; a relay that is started creates it")).then_some(())
        })
        .await;
    }
    let ended = relay.ends().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error.contains("it is gone") && ended.error.contains("nats-streams-gone.md"), "{ended:?}");
    let relay = Process::start("relay", relay.kill()).await;
    assert_eq!(relay.refusals().await[0].reason, "not_stored", "what was refused meanwhile is told");
    let after = ingress.openrouter("acme").send("after", "completed").await;
    relay.delivered(&after).await;
    for process in [&ingress, &relay] {
        until("it to be ready", async || (process.readiness().await.0 == 200).then_some(())).await;
    }
}

/// Streams in memory are lost with the server, and have to be created again.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_go_on_when_a_server_comes_back_after_a_kill() {
    let (sink, mut server, prefix) = (Sink::start().await, Server::start().await, prefix("back"));
    let configuration = || configuration(&server.url(), &prefix, &sink, "").write();
    let ingress = Process::start("ingress", configuration()).await;
    let relay = Process::start("relay", configuration()).await;
    let before = ingress.openrouter("acme").send("before", "completed").await;
    relay.delivered(&before).await;
    server.kill();
    assert_eq!(ingress.openrouter("acme").try_send("meanwhile", "completed").await, Some(503));
    server.start_again().await;
    until("callbacks to be accepted again", async || {
        (ingress.openrouter("acme").try_send("after", "completed").await == Some(204)).then_some(())
    })
    .await;
    relay.delivered(&event_id("acme", "after", "completed")).await;
}

/// 64 connections, 32 to each of two ingresses, send the same few events and some of their own.
#[tokio::test(flavor = "multi_thread")]
async fn repeats_that_come_at_the_same_time_are_stored_once() {
    const OWN: usize = 20;
    const SAME: usize = 100;
    let (sink, url, prefix) = (Sink::start().await, nats::shared().await, prefix("repeats"));
    let configuration = || configuration(url, &prefix, &sink, "").write();
    let ingresses =
        [Process::start("ingress", configuration()).await, Process::start("ingress", configuration()).await];
    let relay = Process::start("relay", configuration()).await;
    let mut connections = JoinSet::new();
    for connection in 0..64 {
        let openrouter = ingresses[connection % 2].openrouter("acme");
        connections.spawn(async move {
            for index in 0..SAME {
                // Each connection has its own order, so that batches mix new and repeated events.
                let job = format!("same-{}", (index * 37 + connection * 13) % SAME);
                assert_eq!(openrouter.try_send(&job, "completed").await, Some(204));
                if index < OWN {
                    openrouter.send(&format!("own-{connection}-{index}"), "completed").await;
                }
            }
        });
    }
    connections.join_all().await;
    let expected = SAME + 64 * OWN;
    let stored = state(&jetstream(url).await, &streams(&prefix)[0]).await;
    assert_eq!((stored.messages, stored.last_sequence), (expected as u64, expected as u64));
    until("everything to be delivered", async || (sink.requests().len() >= expected).then_some(())).await;
    for job in 0..SAME {
        relay.delivered(&event_id("acme", &format!("same-{job}"), "completed")).await;
    }
    let requests = sink.requests();
    let ids: BTreeSet<_> = requests.iter().map(|request| &request.id).collect();
    assert_eq!((ids.len(), requests.len()), (expected, expected));
}

/// The owner still has the records that the server has lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_the_server_has_forgotten_runs_no_agent_again() {
    let (sink, url, prefix) = (Sink::start().await, nats::shared().await, prefix("forgotten"));
    let configuration = || configuration(url, &prefix, &sink, "").write();
    let ingress = Process::start("ingress", configuration()).await;
    let relay = Process::start("relay", configuration()).await;
    let event = ingress.openrouter("acme").send("job", "completed").await;
    assert_eq!(relay.delivered(&event).await.len(), 1);
    let events = streams(&prefix)[0].clone();
    let jetstream = jetstream(url).await;
    let first = jetstream.get_stream(&events).await.unwrap().get_raw_message(1).await.unwrap();
    let repeat = async |id: &str, change: &dyn Fn(&mut Event)| {
        let mut event = Event::decode(first.payload.clone()).unwrap();
        change(&mut event);
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let published =
            jetstream.publish_with_headers(first.subject.clone(), headers, event.encode_to_vec().into());
        let published = published.await.unwrap().await.unwrap();
        assert!(!published.duplicate);
    };
    repeat("the same, later", &|_| {}).await;
    repeat("another body", &|event| {
        event.payload = "{\"another\": true}".into();
        event.payload_sha256 = vec![7; 32].into();
    })
    .await;
    let found = relay.event_when(&event, |found| !found.conflicts.is_empty()).await;
    assert_eq!(found.conflicts.len(), 1);
    assert_eq!(found.conflicts[0].payload, "{\"another\": true}");
    assert_eq!(found.event.unwrap().payload, payload("job", "completed").to_string(), "the first one stands");
    assert_eq!(found.deliveries.len(), 1);
    assert_eq!(found.deliveries[0].state(), DeliveryState::Delivered);
    // Later events are planned, too.
    let next = ingress.openrouter("acme").send("next", "completed").await;
    relay.delivered(&next).await;
    assert_eq!(sink.requests().len(), 2);
    // And so it is for a relay that begins with nothing.
    drop(relay);
    let relay = Process::start("relay", configuration()).await;
    assert_eq!(relay.event_when(&event, |found| found.conflicts.len() == 1).await.deliveries.len(), 1);
    let last = ingress.openrouter("acme").send("last", "completed").await;
    relay.delivered(&last).await;
    assert_eq!(sink.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_larger_than_max_payload_is_413_and_harms_no_other() {
    let (sink, prefix) = (Sink::start().await, prefix("large"));
    let server = nats::server().with("max_payload: 64KB").start().await;
    let configuration = || configuration(&server.url(), &prefix, &sink, "").write();
    let ingress = Arc::new(Process::start("ingress", configuration()).await);
    let relay = Process::start("relay", configuration()).await;
    let mut together = JoinSet::new();
    for index in 0..60 {
        let ingress = Arc::clone(&ingress);
        together.spawn(async move {
            let size = [100, 40_000, 49_000, 66_000, 80_000, 500_000][index % 6];
            let job = format!("j{index}");
            let answer = send(&ingress, large(&job, size)).await;
            let status = answer.status().as_u16();
            if status == 413 {
                assert_eq!(answer.headers()["Content-Type"], "application/problem+json");
                let problem: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
                assert_eq!(problem["status"], 413, "{problem}");
            }
            (size, status, event_id("acme", &job, "completed"))
        });
    }
    // A quarantined callback is journalled, with the same result.
    for (size, status) in [(1_000, 422), (60_000, 413), (500_000, 413)] {
        assert_eq!(send(&ingress, vec![b'x'; size]).await.status(), status, "{size}");
    }
    for (size, status, event) in together.join_all().await {
        assert_eq!(status, if size < 45_000 { 204 } else { 413 }, "{size}");
        if status == 204 {
            relay.delivered(&event).await;
        }
    }
    for process in [&*ingress, &relay] {
        assert!(!process.log().iter().any(|line| line.contains("is lost")), "{:#?}", process.log());
    }
    assert!(!server.log().contains("Maximum Payload"), "{}", server.log());
}

/// A server hangs up on a client that lets 64 MiB wait, so a backlog is asked for in pieces.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_finds_a_large_backlog_is_no_slow_consumer() {
    let (sink, server, prefix) = (Sink::start().await, Server::start().await, prefix("backlog"));
    let written = || configuration(&server.url(), &prefix, &sink, "").write();
    let ingress = Process::start("ingress", written()).await;
    for index in 0..120 {
        assert_eq!(send(&ingress, large(&format!("j{index}"), 700_000)).await.status(), 204);
    }
    let relay = Process::start("relay", written()).await;
    for index in 0..120 {
        relay.delivered(&event_id("acme", &format!("j{index}"), "completed")).await;
    }
    assert!(!relay.log().iter().any(|line| line.contains("is lost")), "{:#?}", relay.log());
    assert!(!server.log().contains("Slow Consumer"), "{}", server.log());
}
