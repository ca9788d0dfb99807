//! The evidence of attempts: the requests and answers of a delivery.

use super::{
    cluster::{name, two_relays},
    commands::{err, json, works},
};
use serde_json::json;
use std::{fs, path::PathBuf};
use talaria_proto::v1::{Delivery, GetEvidenceRequest, GetEvidenceResponse};
use talaria_tests::{
    binary::run,
    nats,
    openrouter::event_id,
    sink::{self, Does, Sink},
    stack::{Builder, Stack, stack},
    until,
};
use tonic::{Code, Status};

const KEPT: &str = "relay: {grpc: 127.0.0.1:0, evidence: 1h}";

async fn evidence(stack: &Stack, delivery: &str, attempt: u32) -> Result<GetEvidenceResponse, Status> {
    let request = GetEvidenceRequest { delivery_id: delivery.into(), attempt };
    Ok(stack.status().await.get_evidence(request).await?.into_inner())
}

fn file(stack: &Stack) -> PathBuf {
    stack.written.path().join("talaria-data/evidence.db")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_answers_are_shown_on_the_embedded_bus() {
    requests_and_answers_are_shown(stack()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_answers_are_shown_on_nats() {
    let prefix = format!("evidence-{:016x}", rand::random::<u64>());
    let servers = nats::shared().await;
    requests_and_answers_are_shown(
        stack().with(&format!("bus: {{nats: {{servers: [\"{servers}\"], prefix: {prefix}}}}}")),
    )
    .await;
}

async fn requests_and_answers_are_shown(builder: Builder) {
    let sink = Sink::start().await;
    let boom = json!({"error": format!("boom for {}", sink::SECRET)});
    sink.set("r", Does::Answer(500, boom));
    let keys = "pace: off\nretry: {schedule: [1s, 1s, 1s]}\nprompt: 'Video {data.id}'\nheaders: {X-Proxy: {file: hermes}}";
    let mut stack = builder.with(KEPT).tenant("acme", |t| t.route("r", &sink.url("r"), keys)).start().await;
    let event = stack.openrouter("acme").send("job 1", "completed").await;
    stack.delivery_when(&event, "r", |delivery| delivery.attempts == 1).await;
    sink.set("r", Does::Accept);
    let delivery = stack.finished(&event, "r").await.delivery.unwrap();
    let count = delivery.attempts as usize;

    let found = evidence(&stack, &delivery.id, 0).await.unwrap();
    assert_eq!((found.attempts.len(), found.missing.len(), found.incomplete), (count, 0, false));
    let requests = sink.requests_to("r");
    for (shown, sent) in found.attempts.iter().zip(&requests) {
        assert_eq!(shown.request_body.as_bytes(), sent.body, "as Hermes got it");
        for header in &shown.request_headers {
            let got = sent.headers.get(&header.name).unwrap();
            let is_secret = ["X-Hub-Signature-256", "X-Proxy"].contains(&header.name.as_str());
            assert_eq!(header.masked, is_secret, "{}", header.name);
            assert_eq!(header.value, if is_secret { "" } else { got.to_str().unwrap() }, "{}", header.name);
        }
        assert_eq!(shown.request_headers.len(), sent.headers.len(), "{:?}", sent.headers);
    }
    let (first, last) = (&found.attempts[0], &found.attempts[count - 1]);
    assert_eq!((first.number, first.status, last.status), (1, Some(500), Some(202)));
    assert_eq!(first.answer_body, r#"{"error":"boom for (secret)"}"#);
    assert_eq!((first.method.as_str(), first.url.as_str()), ("POST", sink.url("r").as_str()));

    // One attempt, and one that there is not.
    let second = evidence(&stack, &delivery.id, 2).await.unwrap();
    assert_eq!((&second.attempts[..], second.missing.len()), (&found.attempts[1..2], 0));
    assert_eq!(evidence(&stack, &delivery.id, 99).await.unwrap().missing, [99]);
    let unknown = delivery.id.replace(&delivery.id[4..12], "aaaaaaaa");
    assert_eq!(evidence(&stack, &unknown, 0).await.unwrap_err().code(), Code::NotFound);

    // The command.
    let (directory, relay) = (stack.written.path(), stack.relay());
    let status = |args: &[&'static str]| {
        let mut all = vec!["status", &delivery.id, "--evidence", "--relay", &relay];
        all.extend(args);
        works(directory, &all)
    };
    let said = status(&[]);
    for part in [
        "\nattempt 1  ",
        "X-Hub-Signature-256: (masked)",
        "Video job 1",
        "\nanswer 500\n",
        "boom for (secret)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(sink::SECRET), "{said}");
    assert!(!status(&["--attempt", "2"]).contains("attempt 1"));
    let document = json(directory, &["status", &delivery.id, "--evidence", "--json", "--relay", &relay]);
    assert_eq!(document["attempts"][0]["status"], 500);
    assert_eq!((&document["missing"], &document["incomplete"]), (&json!([]), &json!(false)));
    let of_an_event = run(directory, &["status", &event, "--evidence", "--relay", &relay]);
    assert_eq!(of_an_event.status.code(), Some(2));
    assert!(err(&of_an_event).contains("--evidence needs a delivery (dlv_…)"), "{}", err(&of_an_event));

    // It outlives a restart, and is gone when it is turned off: at once, and at a start.
    stack.terminate().await;
    stack.kill_and_restart().await;
    stack.event(&event).await;
    let again =
        until("the delivery to be known", async || evidence(&stack, &delivery.id, 0).await.ok()).await;
    assert_eq!(again.attempts, found.attempts);
    stack.rewrite(|text| text.replace("evidence: 1h", "evidence: off"));
    until("the file to be removed", async || (!file(&stack).exists()).then_some(())).await;
    let gone = evidence(&stack, &delivery.id, 0).await.unwrap();
    assert_eq!((gone.attempts.len(), gone.missing.len()), (0, count));
    fs::write(file(&stack), "of an earlier run").unwrap();
    stack.kill_and_restart().await;
    assert!(!file(&stack).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_relay_shows_the_evidence_of_all() {
    let sink = Sink::start().await;
    let [first, second] = two_relays(&sink, "pace: off").await;
    let mut deliveries: Vec<Delivery> = Vec::new();
    for tenant in 0..12 {
        first.openrouter(&name(tenant)).send("job", "completed").await;
        let event = event_id(&name(tenant), "job", "completed");
        deliveries.push(second.finished(&event, "r").await.delivery.unwrap());
    }
    for delivery in &deliveries {
        let (one, other) = (
            evidence(&first, &delivery.id, 0).await.unwrap(),
            evidence(&second, &delivery.id, 0).await.unwrap(),
        );
        assert_eq!(one, other);
        assert_eq!((one.attempts.len(), one.missing.len(), one.incomplete), (1, 0, false));
        assert!(one.attempts[0].request_body.contains(&delivery.id));
    }

    // The evidence of a relay that is gone is missing, and the rest is there.
    drop(first);
    let mut found = Vec::new();
    for delivery in &deliveries {
        let answer = until("the partition to have an owner", async || {
            let answer = evidence(&second, &delivery.id, 0).await.ok()?;
            (!answer.incomplete).then_some(answer)
        })
        .await;
        assert_eq!(answer.attempts.len() + answer.missing.len(), 1);
        found.push(answer.attempts.len());
    }
    assert!(found.contains(&0) && found.contains(&1), "{found:?}");
}
