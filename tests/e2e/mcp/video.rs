//! From a chat to a video, and back.

use super::{Client, after};
use crate::access::entry;
use serde_json::json;
use talaria_tests::{
    openrouter_api::{End, OnSubmit, OpenRouterApi},
    sink::Sink,
    stack::{Stack, openrouter_secret, stack},
    until,
};

const PUBLIC: &str = "https://hooks.example.com";

/// A stand-in for OpenRouter, a relay and an ingress in one process, and a stand-in for Hermes.
struct World {
    api: OpenRouterApi,
    stack: Stack,
    sink: Sink,
}

/// With these keys of `openrouter`, and these top-level keys.
async fn world(openrouter: &str, top: &str) -> World {
    let (api, sink) = (OpenRouterApi::start().await, Sink::start().await);
    let route = "pace: off\nevents: [video.generation.completed]\nprompt: '{talaria.job.context.platform} \
                 {talaria.job.context.chat_id}/{talaria.job.context.thread_id}: {talaria.media.url}'";
    let stack = stack()
        .with(&format!("ingress: {{listen: 127.0.0.1:0, public_url: {PUBLIC}}}\n{top}"))
        .tenant("acme", |t| {
            t.jobs(&api, openrouter).media("mode: link").route("video", &sink.url("video"), route)
        })
        .start()
        .await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    World { api, stack, sink }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_asks_for_a_video_and_gets_it() {
    let world = world("", "").await;
    let mut client = Client::start(&world.stack, &[]).await;
    let models = client.works("video_models", json!({"model": "veo-3.1"})).await;
    let model =
        models.lines().find(|line| line.starts_with("google/veo-3.1;")).unwrap_or_else(|| panic!("{models}"));
    for says in
        ["seconds 4, 6, 8", "resolutions 720p, 1080p, 4K", "takes generate_audio", "price 0.20–0.60 $/s"]
    {
        assert!(model.contains(says), "{says}: {model}");
    }
    let wrong = client.fails("video_models", json!({"model": "google/veo-3.2"})).await;
    assert!(wrong.contains("there is google/veo-3.1"), "{wrong}");

    let mut video = json!({"model": "google/veo-3.1", "prompt": "a lighthouse", "duration": 6, "resolution": "720p",
        "request_id": "chat-7", "context": {"platform": "telegram", "chat_id": -100_123}});
    let submitted = client.works("video_submit", video.clone()).await;
    assert!(submitted.contains("RUNNING") && submitted.contains("request_id: chat-7"), "{submitted}");
    assert!(
        submitted.contains("estimate: $2.40") && submitted.contains("delivered by itself"),
        "{submitted}"
    );
    let job = after(&submitted, "job ").to_owned();
    let at_openrouter = after(&submitted, "id at OpenRouter: ").to_owned();
    let again = client.works("video_submit", video.clone()).await;
    assert!(again.contains("nothing was sent") && again.contains(&job), "{again}");
    video["prompt"] = "a storm".into();
    let other = client.fails("video_submit", video.clone()).await;
    assert!(other.contains("choose another request_id"), "{other}");
    assert_eq!(world.api.jobs().len(), 1);

    let running = client.works("video_status", json!({"job": job})).await;
    assert!(running.contains("RUNNING") && running.contains("context chat_id: -100123"), "{running}");
    let early = client.fails("video_link", json!({"job": job})).await;
    assert!(early.contains("a link comes when it has completed"), "{early}");
    let waits = client.works("why", json!({"id": job})).await;
    assert!(waits.contains("No callback came for it yet"), "{waits}");

    world.api.end(&at_openrouter, End::completed(2.5)).await;
    let sent = until("the prompt", async || world.sink.requests_to("video").pop()).await.prompt();
    let begins = format!("telegram -100123/: {PUBLIC}/media/");
    assert!(sent.starts_with(&begins), "without a thread, an empty one: {sent}");
    let (client, job) = (&mut client, &job);
    let delivered = until("the delivery", async || {
        let status = client.works("video_status", json!({"job": job})).await;
        status.contains(" DELIVERED to acme/video: ").then_some(status)
    })
    .await;
    assert!(delivered.contains("COMPLETED") && delivered.contains("cost: $2.50"), "{delivered}");
    for name in [job.as_str(), &at_openrouter] {
        let link = client.works("video_link", json!({"job": name})).await;
        assert!(link.contains(&format!("file 0: {PUBLIC}/media/")) && link.contains(" (until "), "{link}");
    }
    let listed = client.works("deliveries", json!({"filter": {"job": job, "states": ["delivered"]}})).await;
    assert!(listed.starts_with("1 delivery:\n") || listed.contains("\n1 delivery:\n"), "{listed}");
    let delivery = format!("dlv_{}", after(&listed, "dlv_"));
    for id in [&delivery, job] {
        let why = client.works("why", json!({"id": id})).await;
        assert!(why.contains("route acme/video takes it") && why.contains("attempt 1 at "), "{id}: {why}");
    }
    let unknown = client.fails("video_status", json!({"job": "gen-vid-nowhere"})).await;
    assert!(unknown.contains("no job gen-vid-nowhere is known"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_job_says_so_and_what_to_do() {
    let world = world("budget: {per_job: 3.00}", "").await;
    let mut client = Client::start(&world.stack, &[]).await;
    let video = |more: serde_json::Value| {
        let mut video =
            json!({"model": "google/veo-3.1", "prompt": "p", "duration": 6, "resolution": "720p"});
        video.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        video
    };
    for (more, says) in [
        (json!({"duration": 5}), "duration is 5, and google/veo-3.1 takes 4, 6, 8"),
        (json!({"aspect_ratio": "1:1"}), "aspect_ratio is \"1:1\""),
        (json!({"first_frame": "/etc/passwd"}), "first_frame is no https URL"),
        (json!({"resolution": "4K", "duration": 8}), "the budget"),
        (json!({"model": "new/model"}), "no job was made"),
        (json!({"without_estimate": true}), "unknown field `without_estimate`"),
        (json!({"request_id": "a b"}), "request_id has 1 to 128"),
        (json!({"tenant": "nobody"}), "nobody"),
    ] {
        let said = client.fails("video_submit", video(more.clone())).await;
        assert!(said.contains(says), "{more}: {said}");
    }
    assert!(world.api.jobs().is_empty());
    world.api.on_next_submits([OnSubmit::no_credits()]);
    let said = client.fails("video_submit", video(json!({"request_id": "r-1"}))).await;
    assert!(said.contains("no job was made") && said.contains("r-1 may be used again"), "{said}");
    let made = client.works("video_submit", video(json!({"request_id": null}))).await;
    assert_eq!(after(&made, "request_id: ").len(), "mcp-".len() + 32, "a random one is made: {made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_decides_what_an_agent_may_do() {
    let tokens = [("reader", "read"), ("agent", "submit")]
        .map(|(name, scope)| entry(name, scope, Some("acme"), &[name]))
        .join(", ");
    let world = world("", &format!("relay: {{grpc: 127.0.0.1:0, tokens: [{tokens}]}}")).await;
    let video = json!({"model": "google/veo-3.1", "prompt": "p", "duration": 6, "resolution": "720p"});
    let mut nobody = Client::start(&world.stack, &[]).await;
    let said = nobody.fails("deliveries", json!({})).await;
    assert!(said.contains("tell the operator of Talaria") && said.contains("TALARIA_TOKEN_FILE"), "{said}");
    let mut reader = Client::start_with(&world.stack, &[("TALARIA_TOKEN", "reader")], &[]).await;
    assert!(reader.works("deliveries", json!({})).await.contains("No deliveries match."));
    let said = reader.fails("video_submit", video.clone()).await;
    assert!(said.contains("scope") && said.contains("tell the operator"), "{said}");
    let mut agent =
        Client::start_with(&world.stack, &[("TALARIA_TOKEN", "agent")], &["--allow", "control"]).await;
    let made = agent.works("video_submit", video).await;
    assert!(made.contains("RUNNING"), "{made}");
    let said = agent.fails("plan_pause", json!({"target": "other", "reason": "r"})).await;
    assert!(said.contains("is for the tenant acme alone"), "{said}");
    let plan = agent.works("plan_pause", json!({"target": "acme", "reason": "r"})).await;
    let said = agent.fails("confirm", json!({"code": after(&plan, "confirm with code ")})).await;
    assert!(said.contains("scope control") || said.contains("control"), "{said}");
}
