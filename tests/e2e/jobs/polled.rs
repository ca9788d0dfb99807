//! Tenants without signing secrets: their jobs end by polls alone.

use super::{FAST, World};
use serde_json::Value;
use talaria_core::openrouter::signature;
use talaria_proto::v1::{JobSource, JobState};
use talaria_tests::{
    binary, http,
    openrouter::payload,
    openrouter_api::{End, OpenRouterApi},
    sink::Sink,
    stack::{openrouter_secret, stack},
    until,
};

async fn world() -> World {
    let (api, sink) = (OpenRouterApi::start().await, Sink::start().await);
    let stack = stack()
        .with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com}")
        .tenant("acme", |t| t.jobs(&api, FAST).only_polls().route("video", &sink.url("video"), "pace: off"))
        .start()
        .await;
    // The workspace has a default URL, and signs.
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    api.default_callback("/callbacks/acme");
    World { api, stack, sink }
}

/// The output of a command that has to succeed.
fn works(world: &World, args: &[&str]) -> String {
    let output = binary::run(world.stack.written.path(), args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_a_callback_ends_by_a_poll_and_is_delivered() {
    let world = world().await;
    let (id, openrouter_id) = world.submitted("r1").await;
    assert_eq!(world.api.job(&openrouter_id).callback_url(), None);
    assert_eq!(world.api.end(&openrouter_id, End::completed(2.0)).await, Some(401));
    let job = world.job_in(&id, JobState::Completed).await;
    assert_eq!((job.source(), job.callback_at, job.cost_micros), (JobSource::Poll, None, Some(2_000_000)));
    world.stack.finished(&job.event_id, "video").await;
    assert_eq!(world.sink.requests_to("video").len(), 1);
    let relay = world.stack.relay();
    let shown = works(&world, &["status", &id, "--relay", &relay]);
    assert!(shown.contains("COMPLETED by polling") && !shown.contains("no callback came"), "{shown}");
    until("the refusal", async || {
        let refused = works(&world, &["status", "--refused", "--relay", &relay]);
        refused.contains("the tenant only polls: it has no openrouter.secrets").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_gets_the_answer_of_an_unknown_tenant() {
    let world = world().await;
    let answer = async |path: &str, secret: Option<&str>| {
        let body = payload("j1", "completed").to_string();
        let mut request = http().post(format!("http://{}{path}", world.stack.ingress()));
        if let Some(secret) = secret {
            let signed = signature::sign(&secret.into(), jiff::Timestamp::now(), body.as_bytes());
            request = request.header(signature::HEADER, signed);
        }
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for secret in [None, Some("guessed"), Some("nobody's")] {
        let known = answer("/callbacks/acme", secret).await;
        assert_eq!(known.0, 401);
        assert_eq!(known, answer("/callbacks/globex", secret).await);
        assert_eq!(known, answer("/callbacks/acme/abc234", secret).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_doctor_say_that_a_tenant_only_polls() {
    let world = world().await;
    let checked = works(&world, &["check"]);
    assert!(checked.contains("tenant acme polls only: "), "{checked}");
    world.submitted("r1").await;
    let relay = world.stack.relay();
    let doctor = binary::run(world.stack.written.path(), &["doctor", "--json", "--relay", &relay]);
    let found: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let jobs: Vec<_> =
        found["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == "jobs").collect();
    assert_eq!(jobs.len(), 2, "{found:#}");
    assert!(jobs.iter().all(|finding| finding["level"] == "ok"), "{jobs:?}");
    assert!(jobs[0]["what"].as_str().unwrap().contains("acme: polls only"), "{jobs:?}");
    let sent = binary::run(world.stack.written.path(), &["send"]);
    assert!(String::from_utf8_lossy(&sent.stderr).contains("the tenant acme only polls"), "{sent:?}");
}
