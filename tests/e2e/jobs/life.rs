//! From submit to end.

use super::{FAST, World, request, world};
use serde_json::json;
use talaria_proto::v1::{
    ExplainRequest, JobSource, JobState, ListCostsRequest, ListJobsRequest, StopJobRequest, SubmitJobRequest,
    TrackJobRequest, WatchJobRequest, explain_request::Subject,
};
use talaria_tests::{
    openrouter::event_id,
    openrouter_api::{End, OpenRouterApi},
    sink::Sink,
    stack::{openrouter_secret, stack},
};
use tonic::Code;

const CHAT: &str = "extra: {chat_id: '{talaria.job.context.chat_id}'}\nprompt: 'Job {talaria.job.id} of {talaria.job.context.who}'";

fn with_context(id: &str) -> SubmitJobRequest {
    let context = [("chat_id", "-100123"), ("who", "Ann")].map(|(key, value)| (key.into(), value.into()));
    SubmitJobRequest { context: context.into(), ..request(id) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_by_its_callback_and_its_context_comes_along() {
    let World { api, stack, sink } = &world("", CHAT).await;
    let answer = stack.jobs().await.submit_job(with_context("r1")).await.unwrap().into_inner();
    let job = answer.job.unwrap();
    assert!(!answer.known && job.state() == JobState::Running, "{job:?}");
    assert_eq!(job.estimate_micros, Some(2_400_000), "six seconds with sound");
    assert!(job.callback_token.is_empty() && job.request_sha256.is_empty(), "these are the journal's");
    let made = api.job(&job.openrouter_id);
    assert_eq!(made.request["prompt"], "a very secret prompt");
    let url = made.callback_url().unwrap().to_owned();
    assert!(url.starts_with("https://hooks.example.com/callbacks/acme/"), "{url}");

    let mut watch = stack
        .jobs()
        .await
        .watch_job(WatchJobRequest { job_id: job.id.clone(), tenant: String::new() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().job.unwrap().state(), JobState::Running);
    assert_eq!(api.end(&job.openrouter_id, End::completed(2.5)).await, Some(204));
    let mut last = None;
    while let Some(change) = watch.message().await.unwrap() {
        last = change.job;
    }
    let ended = last.unwrap();
    assert_eq!((ended.state(), ended.source()), (JobState::Completed, JobSource::Callback));
    assert_eq!((ended.cost_micros, ended.polls), (Some(2_500_000), 0));
    let event = event_id("acme", &job.openrouter_id, "completed");
    assert_eq!(ended.event_id, event);

    stack.finished(&event, "video").await;
    let requests = sink.requests_to("video");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].prompt(), format!("Job {} of Ann", job.id));
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(body["extra"], json!({"chat_id": "-100123"}));
    assert_eq!(body["talaria"]["job"]["context"], json!({"chat_id": "-100123", "who": "Ann"}));

    let costs = stack.jobs().await.list_costs(ListCostsRequest::default()).await.unwrap().into_inner();
    let [cost] = &costs.costs[..] else { panic!("{costs:?}") };
    assert_eq!((cost.events, cost.without_cost, cost.cost_micros), (1, 0, 2_500_000));
    assert_eq!((cost.model.as_str(), cost.routes.as_str()), ("google/veo-3.1", "video"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_id_is_the_same_job_also_after_a_restart() {
    let mut world = world("", "").await;
    let (id, _) = world.submitted("r1").await;
    for _ in 0..2 {
        let again = world.submit(request("r1")).await.unwrap();
        assert!(again.known);
        assert_eq!(again.job.unwrap().id, id);
        let mut other = request("r1");
        other.video.as_mut().unwrap().prompt = "another".into();
        let refused = world.submit(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
        world.stack.kill_and_restart().await;
    }
    assert_eq!(world.api.jobs().len(), 1);
    let list = world.stack.jobs().await.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_finds_the_end_and_a_later_callback_is_no_conflict() {
    let world = world(FAST, "").await;
    world.api.lose_callbacks(true);
    let (id, openrouter_id) = world.submitted("r1").await;
    world.api.end(&openrouter_id, End::completed(2.0)).await;
    let job = world.job_in(&id, JobState::Completed).await;
    assert_eq!((job.source(), job.callback_at), (JobSource::Poll, None));
    assert!(job.polls > 0);
    world.api.lose_callbacks(false);
    assert_eq!(world.api.call_back(&openrouter_id).await, Some(204));
    let job = world.job_when(&id, |job| job.callback_at.is_some()).await;
    assert_eq!(job.source(), JobSource::Poll);
    let event = world.stack.event(&job.event_id).await;
    assert!(event.conflicts.is_empty(), "{event:?}");
    world.stack.finished(&job.event_id, "video").await;
    assert_eq!(world.sink.requests().len(), 1, "the agent ran once");
    assert!(world.api.job(&openrouter_id).polls > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_of_openrouter_is_an_end_or_none() {
    let world = world(FAST, "").await;
    world.api.lose_callbacks(true);
    for (status, state) in [
        ("failed", JobState::Failed),
        ("cancelled", JobState::Cancelled),
        ("expired", JobState::Expired),
        ("dead", JobState::Failed),
    ] {
        let (id, openrouter_id) = world.submitted(status).await;
        world.api.run(&openrouter_id, "dreaming");
        let job = world.job_when(&id, |job| job.openrouter_status == "dreaming").await;
        assert_eq!(job.state(), JobState::Running, "an unknown status is no end");
        world.api.end(&openrouter_id, End::with_error(status, "moderated")).await;
        let job = world.job_in(&id, state).await;
        assert_eq!(job.reason, "moderated");
        world.stack.finished(&job.event_id, "video").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracked_job_is_looked_for_until_it_is_stopped() {
    let world = world(FAST, CHAT).await;
    world.api.lose_callbacks(true);
    let track = TrackJobRequest {
        tenant: "acme".into(),
        openrouter_id: "not-there".into(),
        context: with_context("").context,
        requested_by: "test".into(),
        ..TrackJobRequest::default()
    };
    let tracked = world.stack.jobs().await.track_job(track).await.unwrap().into_inner().job.unwrap();
    assert!(tracked.tracked && tracked.state() == JobState::Running);
    let unknown = world.job_when(&tracked.id, |job| job.polls > 0).await;
    assert!(
        unknown.reason.starts_with("OpenRouter does not know the job (404): Job not-there"),
        "{unknown:?}"
    );
    let stop = StopJobRequest {
        job_id: tracked.id.clone(),
        requested_by: "ann".into(),
        reason: "a slip".into(),
        ..StopJobRequest::default()
    };
    let stopped = world.stack.jobs().await.stop_job(stop.clone()).await.unwrap().into_inner().job.unwrap();
    assert_eq!(stopped.state(), JobState::Stopped);
    assert!(stopped.reason.contains("its cost stays"), "{}", stopped.reason);
    let again = world.stack.jobs().await.stop_job(stop).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_to_the_route_that_it_names_alone() {
    let (api, sink) = (OpenRouterApi::start().await, Sink::start().await);
    let stack = stack()
        .with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com}")
        .tenant("acme", |t| {
            t.jobs(&api, "").route("one", &sink.url("one"), "").route("two", &sink.url("two"), "")
        })
        .start()
        .await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    let submit = SubmitJobRequest { route: "two".into(), ..request("r1") };
    let job = stack.jobs().await.submit_job(submit).await.unwrap().into_inner().job.unwrap();
    api.end(&job.openrouter_id, End::completed(1.0)).await;
    let event = event_id("acme", &job.openrouter_id, "completed");
    stack.finished(&event, "two").await;
    assert_eq!(stack.event(&event).await.deliveries.len(), 1);
    assert!(sink.requests_to("one").is_empty());
    let explained = stack
        .control()
        .await
        .explain(ExplainRequest { subject: Some(Subject::EventId(event)), tenant: String::new() })
        .await
        .unwrap()
        .into_inner();
    let routes = &explained.explanations[0].routes;
    let one = routes.iter().find(|route| route.route == "one").unwrap();
    assert_eq!(
        (one.why.as_str(), one.difference.as_str()),
        ("its job was submitted for the route two alone", "")
    );
}
