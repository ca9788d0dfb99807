//! Jobs at OpenRouter, against a stand-in for its video API.
//!
//! - [`life`]: from submit to end, by callbacks and polls. [`lost`]: lost answers and callbacks, and killed processes.
//! - [`polled`]: tenants without callbacks. [`media`]: links to files. [`keep`]: files that are kept.
//! - [`refused`]: requests that are not submitted. [`secrets`]: the key of the API.
//! - [`hermes`]: with the real Hermes. [`commands`]: by commands.

mod commands;
mod hermes;
mod keep;
mod life;
mod lost;
mod media;
mod polled;
mod refused;
mod secrets;

use talaria_proto::v1::{
    GetJobRequest, Job, JobState, SubmitJobRequest, SubmitJobResponse, VideoRequest,
    job_service_client::JobServiceClient,
};
use talaria_tests::{
    openrouter_api::OpenRouterApi,
    sink::Sink,
    stack::{Stack, openrouter_secret, stack},
    until,
};
use tonic::{Status, transport::Channel};

/// Polls soon, and often.
const FAST: &str = "poll: {first: 200ms, every: 200ms, slowest: 400ms, give_up: 1h}";

/// A stand-in for OpenRouter, a relay and an ingress in one process, and a stand-in for Hermes.
struct World {
    api: OpenRouterApi,
    stack: Stack,
    sink: Sink,
}

/// With these further keys of `openrouter` and of the route "video", a line each.
async fn world(openrouter: &str, route: &str) -> World {
    world_with(openrouter, "", route).await
}

/// With keys of `media` besides, on one line.
async fn world_with(openrouter: &str, media: &str, route: &str) -> World {
    let (api, sink) = (OpenRouterApi::start().await, Sink::start().await);
    let stack = stack()
        .with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com}")
        .tenant("acme", |t| {
            let route = format!("pace: off\n{route}");
            t.jobs(&api, openrouter).media(media).route("video", &sink.url("video"), &route)
        })
        .start()
        .await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    World { api, stack, sink }
}

/// A video of six seconds.
pub(crate) fn request(id: &str) -> SubmitJobRequest {
    SubmitJobRequest {
        tenant: "acme".into(),
        request_id: id.into(),
        video: Some(VideoRequest {
            model: "google/veo-3.1".into(),
            prompt: "a very secret prompt".into(),
            duration: Some(6),
            resolution: "720p".into(),
            ..VideoRequest::default()
        }),
        requested_by: "test".into(),
        ..SubmitJobRequest::default()
    }
}

impl World {
    async fn submit(&self, request: SubmitJobRequest) -> Result<SubmitJobResponse, Status> {
        self.stack.jobs().await.submit_job(request).await.map(tonic::Response::into_inner)
    }

    /// Submits a job that OpenRouter makes; its own id and its id there.
    async fn submitted(&self, id: &str) -> (String, String) {
        let job = self.submit(request(id)).await.unwrap().job.unwrap();
        assert_eq!(job.state(), JobState::Running, "{job:?}");
        (job.id, job.openrouter_id)
    }

    async fn job_when(&self, id: &str, is_met: impl Fn(&Job) -> bool) -> Job {
        job_when(&mut self.stack.jobs().await, id, is_met).await
    }

    async fn job_in(&self, id: &str, state: JobState) -> Job {
        self.job_when(id, |job| job.state() == state).await
    }
}

pub(crate) async fn job_when(
    jobs: &mut JobServiceClient<Channel>,
    id: &str,
    is_met: impl Fn(&Job) -> bool,
) -> Job {
    let request = GetJobRequest { job_id: id.into(), tenant: String::new() };
    until(&format!("job {id}"), async || {
        // Unavailable while its partition moves.
        let job = jobs.get_job(request.clone()).await.ok()?.into_inner().job.unwrap();
        is_met(&job).then_some(job)
    })
    .await
}
