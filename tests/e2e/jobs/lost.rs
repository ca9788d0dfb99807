//! Lost answers, lost callbacks, and killed processes: no job is made twice, and none is forgotten.

use super::{FAST, request, world, world_with};
use rand::Rng as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use talaria_proto::v1::{
    FilesState, Job, JobState, ListJobsRequest, SubmitJobRequest, TrackJobRequest,
    job_service_client::JobServiceClient,
};
use talaria_tests::{
    fleet::{self, Ledger},
    nats::Server,
    openrouter_api::{End, OnContent, OnSubmit, OpenRouterApi, VIDEO},
    seeded,
    stack::openrouter_secret,
    until, until_within,
};
use tonic::transport::Channel;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_never_asked_for_again_and_a_callback_claims_the_job() {
    let world = world(FAST, "").await;
    for (id, lost) in [("lost", OnSubmit::LoseAnswer), ("cut", OnSubmit::CutAnswer)] {
        world.api.on_next_submits([lost]);
        let job = world.submit(request(id)).await.unwrap().job.unwrap();
        assert_eq!(job.state(), JobState::Unknown, "{job:?}");
        assert!(world.submit(request(id)).await.unwrap().known);
        let made = world.api.jobs().pop().unwrap();
        assert_eq!(world.api.end(&made.id, End::completed(1.0)).await, Some(204));
        let claimed = world.job_in(&job.id, JobState::Completed).await;
        assert_eq!(claimed.openrouter_id, made.id);
    }
    assert_eq!(world.api.jobs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_another_job_has_is_no_answer_and_a_callback_claims_the_job() {
    let world = world(FAST, "").await;
    let (first, first_id) = world.submitted("first").await;
    // A proxy answers with the answer to the first submit.
    world.api.on_next_submits([OnSubmit::MakeAnd(202, json!({"id": first_id, "status": "pending"}))]);
    let second = world.submit(request("second")).await.unwrap().job.unwrap();
    assert_eq!((second.state(), second.openrouter_id.as_str()), (JobState::Unknown, ""), "{second:?}");
    assert!(second.reason.contains(&format!("{first_id}, which {first} has already")), "{}", second.reason);
    let made = world.api.jobs().pop().unwrap();
    assert_eq!(world.api.end(&made.id, End::completed(1.0)).await, Some(204));
    assert_eq!(world.job_in(&second.id, JobState::Completed).await.openrouter_id, made.id);
    assert_eq!(world.job_in(&first, JobState::Running).await.openrouter_id, first_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_answer_was_lost_and_its_tracked_twin_end_together() {
    let world = world("poll: {first: 1h, every: 1h, slowest: 1h}", "").await;
    world.api.on_next_submits([OnSubmit::LoseAnswer]);
    let lost = world.submit(request("lost")).await.unwrap().job.unwrap();
    let made = world.api.jobs().pop().unwrap();
    let track = TrackJobRequest {
        tenant: "acme".into(),
        openrouter_id: made.id.clone(),
        requested_by: "test".into(),
        ..TrackJobRequest::default()
    };
    let tracked = world.stack.jobs().await.track_job(track).await.unwrap().into_inner().job.unwrap();
    world.job_when(&tracked.id, |job| job.polls > 0).await;
    assert_eq!(world.api.end(&made.id, End::completed(1.0)).await, Some(204));
    let ends = [
        world.job_in(&lost.id, JobState::Completed).await,
        world.job_in(&tracked.id, JobState::Completed).await,
    ];
    assert_eq!(ends[0].event_id, ends[1].event_id);
    until("the log", async || {
        world.stack.log().iter().any(|line| line.contains("two jobs are one at OpenRouter")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_before_the_answer_joins_its_job() {
    let world = world(FAST, "").await;
    world.api.on_next_submits([OnSubmit::CallbackFirst(End::completed(1.5))]);
    let job = world.submit(request("r1")).await.unwrap().job.unwrap();
    let job = world.job_in(&job.id, JobState::Completed).await;
    assert_eq!((job.cost_micros, job.openrouter_id), (Some(1_500_000), world.api.jobs()[0].id.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_an_end_is_abandoned_and_a_late_callback_still_ends_it() {
    let world = world("poll: {first: 100ms, every: 100ms, slowest: 100ms, give_up: 1s}", "").await;
    let (id, openrouter_id) = world.submitted("r1").await;
    let job = world.job_in(&id, JobState::Abandoned).await;
    assert!(job.reason.contains("did not say how it ended"), "{}", job.reason);
    world.api.on_next_submits([OnSubmit::LoseAnswer]);
    let unknown = world.submit(request("r2")).await.unwrap().job.unwrap();
    let unknown = world.job_in(&unknown.id, JobState::Abandoned).await;
    assert!(unknown.reason.contains("look at OpenRouter's activity"), "{}", unknown.reason);
    assert_eq!(world.api.end(&openrouter_id, End::completed(1.0)).await, Some(204));
    world.job_in(&id, JobState::Completed).await;
}

/// All jobs.
async fn jobs(client: &mut JobServiceClient<Channel>) -> Vec<Job> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListJobsRequest { page_size: 1000, page_token, ..ListJobsRequest::default() };
        let Ok(page) = client.list_jobs(request).await else { return Vec::new() };
        let page = page.into_inner();
        if page.incomplete {
            return Vec::new();
        }
        all.extend(page.jobs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// The jobs, once each has its end, and each file is kept.
async fn ended(client: &mut JobServiceClient<Channel>, count: usize) -> Vec<Job> {
    // An ingress that was killed never answers its question, whose deadline is 90 s.
    until_within(Duration::from_secs(240), "the ends of the jobs", async || {
        let ledger = jobs(client).await;
        let has_end = |job: &Job| match job.state() {
            JobState::Submitting | JobState::Running => false,
            JobState::Completed => job.files.as_ref().is_some_and(|files| files.state() == FilesState::Kept),
            _ => true,
        };
        (ledger.len() == count && ledger.iter().all(has_end)).then_some(ledger)
    })
    .await
}

/// Compares the jobs that the stand-in made with the ledger: none was made twice, and each is known or named as unknown.
fn balanced(api: &OpenRouterApi, ledger: &[Job]) {
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    for job in api.jobs() {
        *made.entry(job.request["prompt"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    for (prompt, times) in &made {
        assert_eq!(*times, 1, "{prompt} was made twice");
    }
    let at_openrouter: BTreeSet<String> = api.jobs().into_iter().map(|job| job.id).collect();
    let known: BTreeSet<String> =
        ledger.iter().map(|job| job.openrouter_id.clone()).filter(|id| !id.is_empty()).collect();
    assert!(known.is_subset(&at_openrouter), "a job that was not made");
    let digest = Sha256::digest(VIDEO);
    for job in ledger.iter().filter(|job| job.state() == JobState::Completed) {
        let kept = &job.files.as_ref().unwrap().kept;
        assert!(kept.len() == 1 && kept[0].sha256 == digest.as_slice(), "{job:?}");
    }
    let unnamed = at_openrouter.difference(&known).count();
    let unknown = ledger
        .iter()
        .filter(|job| {
            job.openrouter_id.is_empty() && matches!(job.state(), JobState::Unknown | JobState::Abandoned)
        })
        .count();
    assert!(unnamed <= unknown, "{unnamed} jobs are in no ledger, and {unknown} are named as unknown");
    eprintln!(
        "{} jobs were made, {} are in the ledger, {unknown} of them unknown",
        at_openrouter.len(),
        ledger.len()
    );
}

fn numbered(tenant: &str, number: usize) -> SubmitJobRequest {
    let mut request = SubmitJobRequest { tenant: tenant.into(), ..request(&format!("r{number}")) };
    request.video.as_mut().unwrap().prompt = format!("{tenant} {number}");
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_made_twice_or_lost_when_the_process_is_killed_again_and_again() {
    let mut random = seeded("no_job_is_made_twice_or_lost_when_the_process_is_killed_again_and_again");
    let mut world = world_with(FAST, "mode: keep", "").await;
    world.api.on_content(OnContent::Slow(Duration::from_millis(60)));
    world.api.end_after(Duration::from_millis(300), End::completed(0.5));
    let mut number = 0;
    while number < 200 {
        let relay = world.stack.relay();
        let batch = random.random_range(8..20);
        let submits: Vec<_> = (number..number + batch)
            .map(|number| {
                let (relay, request) = (relay.clone(), numbered("acme", number));
                tokio::spawn(async move {
                    let mut jobs = JobServiceClient::connect(relay).await.ok()?;
                    jobs.submit_job(request).await.ok()
                })
            })
            .collect();
        number += batch;
        tokio::time::sleep(Duration::from_millis(random.random_range(5..400))).await;
        world.stack.kill_and_restart().await;
        world.api.callbacks_to(world.stack.ingress(), &openrouter_secret("acme"));
        for submit in submits {
            let _ = submit.await;
        }
        // A client that got no answer asks again, under the same id.
        for number in number - batch..number {
            let again = world.submit(numbered("acme", number)).await.unwrap().job.unwrap();
            assert_ne!(again.state(), JobState::Refused, "{again:?}");
        }
    }
    let mut client = world.stack.jobs().await;
    balanced(&world.api, &ended(&mut client, number).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_made_twice_or_lost_over_nats_when_parts_are_killed() {
    let mut random = seeded("no_job_is_made_twice_or_lost_over_nats_when_parts_are_killed");
    let (server, hermes, api) = (Server::start().await, Ledger::start().await, OpenRouterApi::start().await);
    let mut fleet = fleet::fleet(&hermes)
        .over(&[server.url()])
        .tenants(4)
        .routes(1)
        .relays(2)
        .ingresses(2)
        .jobs(&api, FAST)
        .media("mode: keep, wait: 2s")
        .start()
        .await;
    api.callbacks_to(fleet.ingresses[0].ingress(), &openrouter_secret("tenant-0"));
    api.on_content(OnContent::Slow(Duration::from_millis(60)));
    // Callbacks of other tenants are signed with a secret that is not theirs, and refused: polls find their ends.
    api.end_after(Duration::from_millis(300), End::completed(0.5));
    let mut number = 0;
    while number < 200 {
        let relays: Vec<String> = fleet.live_relays().map(fleet::Part::relay).collect();
        let submits: Vec<_> = (number..number + 12)
            .map(|number| {
                let request = numbered(&format!("tenant-{}", number % 4), number);
                let relay = relays[number % relays.len()].clone();
                tokio::spawn(async move {
                    let mut jobs = JobServiceClient::connect(relay).await.ok()?;
                    jobs.submit_job(request).await.ok()
                })
            })
            .collect();
        number += 12;
        tokio::time::sleep(Duration::from_millis(random.random_range(5..400))).await;
        let victim = random.random_range(0..4);
        let part = match victim {
            0 | 1 => &mut fleet.ingresses[victim],
            _ => &mut fleet.relays[victim - 2],
        };
        part.kill();
        part.start_again().await;
        api.callbacks_to(fleet.ingresses[0].ingress(), &openrouter_secret("tenant-0"));
        for submit in submits {
            let _ = submit.await;
        }
    }
    let mut client = JobServiceClient::connect(fleet.relays[0].relay()).await.unwrap();
    // Those that were not recorded are submitted again, under the same ids.
    for number in 0..number {
        let request = numbered(&format!("tenant-{}", number % 4), number);
        // An ingress that was killed never answers its question, whose deadline is 90 s.
        until_within(Duration::from_secs(150), "a submit", async || {
            let job = client.submit_job(request.clone()).await.ok()?.into_inner().job?;
            (job.state() != JobState::Submitting).then_some(())
        })
        .await;
    }
    balanced(&api, &ended(&mut client, number).await);
}
