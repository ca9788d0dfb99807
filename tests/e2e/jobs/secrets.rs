//! The key of the API goes to OpenRouter and appears nowhere else; nor do prompts.

use super::{FAST, request, world};
use std::fs;
use talaria_proto::v1::{JobState, ListJobsRequest};
use talaria_tests::openrouter_api::{End, KEY, OnPoll, OnSubmit, OpenRouterApi};

#[tokio::test(flavor = "multi_thread")]
async fn the_key_and_prompts_appear_nowhere() {
    let elsewhere = OpenRouterApi::start().await;
    let world = world(FAST, "").await;
    let (first, openrouter_id) = world.submitted("r1").await;
    // Redirects to elsewhere, refusals that repeat what was sent, lost answers.
    world.api.on_next_polls(
        &openrouter_id,
        [OnPoll::Redirect(elsewhere.base_url()), OnPoll::revoked(), OnPoll::Page(502), OnPoll::LoseAnswer],
    );
    world.job_when(&first, |job| job.polls >= 5).await;
    world.api.on_next_submits([
        OnSubmit::Redirect(elsewhere.base_url()),
        OnSubmit::Page(500),
        OnSubmit::LoseAnswer,
    ]);
    for id in ["r2", "r3", "r4"] {
        let job = world.submit(request(id)).await.unwrap().job.unwrap();
        assert_ne!(job.state(), JobState::Running, "{job:?}");
    }
    world.api.end(&openrouter_id, End::completed(1.0)).await;
    let job = world.job_in(&first, JobState::Completed).await;
    world.stack.finished(&job.event_id, "video").await;
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());

    let jobs = world.stack.jobs().await.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner();
    let mut texts = vec![("jobs", format!("{jobs:?}")), ("log", world.stack.log().join("\n"))];
    for path in ["/metrics", "/config", "/readyz"] {
        texts.push((path, world.stack.admin_get(path).await.1));
    }
    texts.push(("arguments", fs::read_to_string(format!("/proc/{}/cmdline", world.stack.pid())).unwrap()));
    for request in world.sink.requests() {
        texts.push(("Hermes", format!("{request:?}")));
    }
    for (place, text) in &texts {
        assert!(!text.contains(KEY), "the key is in {place}");
        assert!(!text.contains("very secret prompt"), "the prompt is in {place}");
    }
    // Nor in a stored file.
    for entry in fs::read_dir(world.stack.written.path().join("talaria-data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!has(KEY) && !has("very secret prompt"), "{}", path.display());
        }
    }
}
