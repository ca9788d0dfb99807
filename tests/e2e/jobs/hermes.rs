//! From the chat and back, with the real Hermes.

use super::request;
use serde_json::json;
use talaria_proto::v1::SubmitJobRequest;
use talaria_tests::{
    hermes::Gateway,
    openrouter::event_id,
    openrouter_api::{End, OpenRouterApi},
    sink::SECRET,
    stack::{openrouter_secret, stack},
    until,
};

/// The route and the subscription of docs/jobs.md.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_is_announced_in_the_chat_where_it_was_asked_for() {
    let announce = json!({
        "secret": SECRET, "prompt": "{prompt}", "deliver_only": true, "deliver": "telegram",
        "deliver_extra": {"chat_id": "{extra.chat_id}", "thread_id": "{extra.thread_id}"},
    });
    let (api, hermes) =
        (OpenRouterApi::start().await, Gateway::start(json!({"video": announce}), 1000).await);
    let keys = "deliver_only: true
prompt: 'Your video {data.id} is {data.status}.'
extra: {chat_id: '{talaria.job.context.chat_id}', thread_id: '{talaria.job.context.thread_id}'}";
    let stack = stack()
        .with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com}")
        .tenant("acme", |t| t.jobs(&api, "").route("video", &hermes.url("video"), keys))
        .start()
        .await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    let context = [("chat_id", "-100123"), ("thread_id", "7")].map(|(key, value)| (key.into(), value.into()));
    let submit = SubmitJobRequest { context: context.into(), ..request("r1") };
    let job = stack.jobs().await.submit_job(submit).await.unwrap().into_inner().job.unwrap();
    api.end(&job.openrouter_id, End::completed(1.0)).await;
    stack.finished(&event_id("acme", &job.openrouter_id, "completed"), "video").await;
    let sent = until("the announcement", async || hermes.announcements().pop()).await;
    let text = format!("Your video {} is completed.", job.openrouter_id);
    assert_eq!(sent, json!(["-100123", "7", text]));
}
