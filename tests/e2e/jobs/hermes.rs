//! From the chat and back, with the real Hermes.

use super::request;
use serde_json::json;
use talaria_proto::v1::SubmitJobRequest;
use talaria_tests::{
    hermes::Gateway,
    http,
    openrouter::event_id,
    openrouter_api::{End, OpenRouterApi, VIDEO},
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
events: [video.generation.completed]
prompt: 'Your video {data.id} is {data.status}: {talaria.media.url}'
extra: {chat_id: '{talaria.job.context.chat_id}', thread_id: '{talaria.job.context.thread_id}'}";
    let stack = stack()
        .with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com}")
        .tenant("acme", |t| t.jobs(&api, "").media("mode: link").route("video", &hermes.url("video"), keys))
        .start()
        .await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    let context = [("chat_id", "-100123"), ("thread_id", "7")].map(|(key, value)| (key.into(), value.into()));
    let submit = SubmitJobRequest { context: context.into(), ..request("r1") };
    let job = stack.jobs().await.submit_job(submit).await.unwrap().into_inner().job.unwrap();
    api.end(&job.openrouter_id, End::completed(1.0)).await;
    stack.finished(&event_id("acme", &job.openrouter_id, "completed"), "video").await;
    let sent = until("the announcement", async || hermes.announcements().pop()).await;
    assert_eq!((&sent[0], &sent[1]), (&json!("-100123"), &json!("7")), "{sent}");
    let text = sent[2].as_str().unwrap();
    let begins = format!("Your video {} is completed: https://hooks.example.com/media/", job.openrouter_id);
    let token = text.strip_prefix(&begins).unwrap_or_else(|| panic!("{text}"));
    // The reader's program asks by the public name, which a proxy leads to the ingress.
    let file = http().get(format!("http://{}/media/{token}", stack.ingress())).send().await.unwrap();
    assert_eq!(file.status(), 200);
    assert_eq!(file.bytes().await.unwrap(), VIDEO);
}
