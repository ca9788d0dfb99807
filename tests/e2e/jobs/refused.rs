//! Requests that are not submitted, with the reason.

use super::{World, request, world};
use serde_json::json;
use talaria_proto::v1::{
    JobState, ListJobsRequest, ListModelsRequest, SubmitJobRequest, job_service_client::JobServiceClient,
};
use talaria_tests::{binary, openrouter_api::OnSubmit, sink::Sink, stack::stack, until};
use tonic::Code;

async fn refused(world: &World, id: &str, change: impl FnOnce(&mut SubmitJobRequest)) -> (Code, String) {
    let mut request = request(id);
    change(&mut request);
    let status = world.submit(request).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_fit_its_model_names_what_is_allowed_and_sends_nothing() {
    let world = &world("", "").await;
    let (code, message) = refused(world, "r1", |r| r.video.as_mut().unwrap().duration = Some(7)).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains('7') && message.contains("4, 6, 8"), "{message}");
    let (code, message) =
        refused(world, "r1", |r| r.video.as_mut().unwrap().model = "google/veo".into()).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("google/veo"), "{message}");
    let (code, message) = refused(world, "r 1", |_| {}).await;
    assert!(code == Code::InvalidArgument && message.starts_with("request_id"), "{message}");
    let (code, message) = refused(world, "r1", |r| r.route = "vidoe".into()).await;
    assert_eq!(code, Code::NotFound);
    assert!(message.contains("it has video"), "{message}");
    let (code, message) = refused(world, "r1", |r| {
        r.context.insert("chat-id".into(), "1".into());
    })
    .await;
    assert!(code == Code::InvalidArgument && message.contains("context"), "{message}");
    let (code, _) = refused(world, "r1", |r| r.tenant = "globex".into()).await;
    assert_eq!(code, Code::NotFound);
    assert!(world.api.jobs().is_empty());
    assert!(world.api.seen().iter().all(|seen| seen.method != "POST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_openrouter_ends_the_job_and_the_same_request_may_be_tried_again() {
    let world = &world("", "").await;
    for (answer, word) in [
        (OnSubmit::no_credits(), "Insufficient credits"),
        (OnSubmit::key_limit(), "Key limit exceeded"),
        (OnSubmit::Refuse(403, None, json!({"error": {"code": 403, "message": "moderated"}})), "moderated"),
    ] {
        world.api.on_next_submits([answer]);
        let job = world.submit(request("r1")).await.unwrap().job.unwrap();
        assert_eq!(job.state(), JobState::Refused, "{job:?}");
        assert!(job.reason.contains(word), "{}", job.reason);
        assert!(!job.reason.contains("user_2"), "{}", job.reason);
    }
    // What made no job for a moment is tried again.
    world.api.on_next_submits([OnSubmit::too_many(Some("1")), OnSubmit::in_flight_budget("1")]);
    let job = world.submit(request("r1")).await.unwrap().job.unwrap();
    assert_eq!(job.state(), JobState::Running, "{job:?}");
    assert_eq!(world.api.jobs().len(), 1);
}

/// More than an ingress submits at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_submit_for_which_there_is_no_room_is_no_job_and_may_be_tried_again() {
    let world = &world("", "").await;
    world.api.on_submit(OnSubmit::Hang);
    let slow: Vec<_> = (0..32)
        .map(|number| {
            let relay = world.stack.relay();
            tokio::spawn(async move {
                let mut jobs = JobServiceClient::connect(relay).await.unwrap();
                jobs.submit_job(request(&format!("slow-{number}"))).await.unwrap().into_inner().job.unwrap()
            })
        })
        .collect();
    let posts = || world.api.seen().iter().filter(|seen| seen.method == "POST").count();
    until("all submits to be under way", async || (posts() == 32).then_some(())).await;
    let (code, message) = refused(world, "r1", |_| {}).await;
    assert_eq!(code, Code::Unavailable);
    assert!(
        message.contains("too many requests") && message.ends_with("no job was made, try again"),
        "{message}"
    );
    let list = world.stack.jobs().await.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner();
    assert!(
        list.jobs.len() == 32 && list.jobs.iter().all(|job| job.request_id != "r1"),
        "it is not recorded"
    );
    let relay = world.stack.relay();
    let args =
        ["submit", "--model", "google/veo-3.1", "--as", "ana", "--request-id", "r2", "p", "--relay", &relay];
    let submit = binary::run(world.stack.written.path(), &args);
    let err = String::from_utf8_lossy(&submit.stderr);
    assert!(submit.status.code() == Some(5) && err.contains("--request-id r2 asks again"), "{err}");
    world.api.on_submit(OnSubmit::Accept);
    for slow in slow {
        assert_eq!(slow.await.unwrap().state(), JobState::Running);
    }
    world.submitted("r1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_refuses_with_the_sums() {
    let world = &world("budget: {per_job: 3.00, per_day: 5.00}", "").await;
    let (code, message) = refused(world, "r1", |r| r.video.as_mut().unwrap().duration = Some(8)).await;
    assert_eq!(code, Code::ResourceExhausted);
    assert!(message.contains("$3.20") && message.contains("per_job is $3.00"), "{message}");
    world.submitted("r1").await;
    world.submitted("r2").await;
    let (code, message) = refused(world, "r3", |_| {}).await;
    assert_eq!(code, Code::ResourceExhausted);
    assert!(message.contains("$4.80") && message.contains("a new day begins at"), "{message}");
    let (code, message) = refused(world, "r4", |r| {
        let video = r.video.as_mut().unwrap();
        (video.model, video.duration, video.resolution) = ("new/model".into(), None, String::new());
    })
    .await;
    assert_eq!(code, Code::ResourceExhausted);
    assert!(message.contains("without_estimate"), "{message}");
    assert_eq!(world.api.jobs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_everything_says_what_is_missing() {
    let sink = Sink::start().await;
    let stack = stack().tenant("acme", |t| t.route("video", &sink.url("video"), "")).start().await;
    let mut jobs = stack.jobs().await;
    let status = jobs.submit_job(request("r1")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("openrouter.api_key"), "{status:?}");
    let status = jobs.list_models(ListModelsRequest { tenant: "acme".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_with_what_they_cost() {
    let world = &world("", "").await;
    let asked = ListModelsRequest { tenant: "acme".into() };
    let models = world.stack.jobs().await.list_models(asked.clone()).await.unwrap().into_inner();
    let veo = models.models.iter().find(|model| model.id == "google/veo-3.1").unwrap();
    assert_eq!((veo.durations.as_slice(), veo.audio), ([4, 6, 8].as_slice(), true));
    assert_eq!((veo.second_micros_from, veo.second_micros_to), (Some(200_000), Some(600_000)));
    world.stack.jobs().await.list_models(asked).await.unwrap();
    let lists = world.api.seen().into_iter().filter(|seen| seen.path.ends_with("/videos/models"));
    assert_eq!(lists.count(), 1, "the second list is cached");
}
