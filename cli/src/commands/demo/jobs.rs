//! The second part of the demo: two jobs from submit to file, one by its callback, and one whose callback is lost.

use super::print_line;
use crate::{
    Failure,
    callback::{payload, post},
    client::ask,
    print::{
        BOLD, DIM, Screen,
        job::{has_ended, show, state_line},
    },
    standin::openrouter::{MODEL, StandIn},
};
use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use secrecy::SecretString;
use talaria_core::money::dollars;
use talaria_proto::v1::{
    FilesState, Job, JobState, SubmitJobRequest, VideoRequest, WatchJobRequest,
    job_service_client::JobServiceClient,
};
use tonic::transport::Channel;
use url::Url;

/// Submits two jobs and follows them until their files are kept.
pub(super) async fn jobs(
    mut relay: JobServiceClient<Channel>,
    openrouter: &StandIn,
    ingress: &Url,
    secret: &SecretString,
) -> Result<(), Failure> {
    print_line(format_args!("\n{BOLD}Jobs{BOLD:#}, from submit to file, at a stand-in OpenRouter:\n"))?;
    let first = submit(&mut relay, "a paper boat on a lake").await?;
    let path = openrouter.complete(&first.openrouter_id);
    let mut url = ingress.clone();
    url.set_path(&path);
    let body = payload("video.generation.completed", &first.openrouter_id, Timestamp::now());
    let answer = post(&url, secret, &body).await?;
    print_line(format_args!("its callback, on the path of its own: answered {}", answer.status))?;
    ended(&mut relay, &first).await?;
    let second = submit(&mut relay, "the same boat at night").await?;
    openrouter.complete(&second.openrouter_id);
    print_line(format_args!("its callback is lost: Talaria asks OpenRouter, and finds the end"))?;
    ended(&mut relay, &second).await
}

async fn submit(relay: &mut JobServiceClient<Channel>, prompt: &str) -> Result<Job, Failure> {
    let video = VideoRequest {
        model: MODEL.to_owned(),
        prompt: prompt.to_owned(),
        duration: Some(4),
        ..VideoRequest::default()
    };
    let request = SubmitJobRequest {
        tenant: "demo".to_owned(),
        request_id: format!("demo-{:016x}", rand::random::<u64>()),
        video: Some(video),
        context: [("who".to_owned(), "you".to_owned())].into(),
        requested_by: "the demo".to_owned(),
        ..SubmitJobRequest::default()
    };
    let job = ask(relay.submit_job(request)).await?.job.unwrap_or_default();
    let estimate = job.estimate_micros.map(dollars).unwrap_or_default();
    print_line(format_args!("submitted {DIM}{prompt:?}{DIM:#}: {}, about {estimate}", state_line(&job)))?;
    if job.state() == JobState::Running { Ok(job) } else { Err(anyhow!("the job was not made").into()) }
}

async fn ended(relay: &mut JobServiceClient<Channel>, job: &Job) -> Result<(), Failure> {
    let request = WatchJobRequest { job_id: job.id.clone(), tenant: String::new() };
    let mut changes = ask(relay.watch_job(request)).await?;
    let mut last = job.clone();
    let is_fetching =
        |job: &Job| job.files.as_ref().is_some_and(|files| files.state() == FilesState::Fetching);
    while !has_ended(last.state()) || is_fetching(&last) {
        let change = changes.message().await?.context("the relay hung up")?;
        last = change.job.unwrap_or_default();
    }
    print_line(format_args!(""))?;
    let mut out = anstream::stdout().lock();
    show(&mut out, &last, Screen::stdout(false))?;
    drop(out);
    print_line(format_args!(""))?;
    if last.state() == JobState::Completed {
        Ok(())
    } else {
        Err(anyhow!("{} did not end well", last.id).into())
    }
}
