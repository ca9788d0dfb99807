//! Many deliveries that are sent again.

use super::{are, fails, ids, on_both_buses, on_nats, prefix};
use std::time::Duration;
use talaria_core::time::since;
use talaria_proto::{
    time::from_proto,
    v1::{
        AttemptOutcome, CancelReplayJobRequest, ControlKind, DeliveryState as State, GetReplayJobRequest,
        ListControlActionsRequest, ListReplayJobsRequest, ReplayDeliveriesRequest, ReplayDeliveriesResponse,
        ReplayFilter, ReplayJob, ReplayJobState,
    },
};
use talaria_tests::{
    sink::{Does, Sink},
    stack::{Builder, Stack},
    until,
};
use tonic::{Code, Status};

on_both_buses! {
    a_dry_run_counts_the_deliveries_that_a_replay_sends_once
    a_job_goes_on_behind_where_it_was_killed_no_faster_than_its_rate
    a_job_that_is_called_off_goes_no_further
}

const PARKS: &str = "pace: off\nbreaker: off\nretry: {schedule: [1ms]}";

fn all_of(route: &str) -> ReplayDeliveriesRequest {
    ReplayDeliveriesRequest {
        filter: Some(ReplayFilter { tenant: "acme".into(), route: route.into(), ..ReplayFilter::default() }),
        requested_by: "ana".into(),
        reason: "Hermes is mended".into(),
        ..ReplayDeliveriesRequest::default()
    }
}

async fn ask(stack: &Stack, request: ReplayDeliveriesRequest) -> Result<ReplayDeliveriesResponse, Status> {
    Ok(stack.control().await.replay_deliveries(request).await?.into_inner())
}

async fn job(stack: &Stack, id: &str) -> ReplayJob {
    let request = GetReplayJobRequest { job_id: id.into() };
    until("every partition to have an owner", async || {
        match stack.control().await.get_replay_job(request.clone()).await {
            Ok(answer) => Some(answer.into_inner()).filter(|answer| !answer.incomplete)?.job,
            Err(status) => (status.code() != Code::Unavailable).then(|| panic!("{status}")),
        }
    })
    .await
}

async fn ended(stack: &Stack, id: &str) -> ReplayJob {
    until("the job to end", async || {
        Some(job(stack, id).await).filter(|job| job.state() != ReplayJobState::Running)
    })
    .await
}

/// So many events whose deliveries to route a are parked.
async fn parked(stack: &Stack, sink: &Sink, count: usize) {
    sink.set("a", fails());
    for job in 0..count {
        stack.openrouter("acme").send(&format!("job {job}"), "completed").await;
    }
    are(stack, "a", State::Parked, count).await;
    sink.set("a", Does::Accept);
}

/// Every delivery was sent under its second id, and none under a third.
fn assert_each_was_replayed_once(sink: &Sink, count: usize) {
    let ids = ids(sink, "a");
    let of = |generation: &str| ids.iter().filter(|id| id.ends_with(generation)).count();
    assert_eq!((of(".1"), of(".2"), ids.len()), (count, count, 2 * count));
}

async fn a_dry_run_counts_the_deliveries_that_a_replay_sends_once(builder: Builder) {
    let sink = Sink::start().await;
    let mut stack = builder
        .tenant("acme", |t| t.route("a", &sink.url("a"), PARKS).route("b", &sink.url("b"), "pace: off"))
        .start()
        .await;
    parked(&stack, &sink, 150).await;
    are(&stack, "b", State::Delivered, 150).await;
    let dry = ReplayDeliveriesRequest { dry_run: true, ..all_of("a") };
    let counted = ask(&stack, dry.clone()).await.unwrap();
    assert_eq!((counted.matching, counted.replayable), (150, 150));
    assert!(counted.job.is_none() && sink.requests_to("a").len() == 300, "nothing was done");
    // Other types, other states, other times.
    let narrowed = |filter: ReplayFilter| ReplayDeliveriesRequest { filter: Some(filter), ..dry.clone() };
    for (filter, expected) in [
        (ReplayFilter { event_type: "video.generation.*".into(), ..ReplayFilter::default() }, 150),
        (ReplayFilter { event_type: "image.*".into(), ..ReplayFilter::default() }, 0),
        (ReplayFilter { job_id: "job 7".into(), ..ReplayFilter::default() }, 1),
        (ReplayFilter { model: "google/veo-3.1".into(), ..ReplayFilter::default() }, 150),
        (ReplayFilter { model: "other".into(), ..ReplayFilter::default() }, 0),
        (ReplayFilter { outcomes: vec![AttemptOutcome::Failed.into()], ..ReplayFilter::default() }, 150),
        (ReplayFilter { outcomes: vec![AttemptOutcome::AnswerLost.into()], ..ReplayFilter::default() }, 0),
        (ReplayFilter { http_statuses: vec!["404".into(), "5xx".into()], ..ReplayFilter::default() }, 150),
        (ReplayFilter { http_statuses: vec!["404".into()], ..ReplayFilter::default() }, 0),
        (ReplayFilter { reason: "500".into(), ..ReplayFilter::default() }, 150),
        (ReplayFilter { reason: "timed out".into(), ..ReplayFilter::default() }, 0),
        (
            ReplayFilter {
                tenant: "acme".into(),
                states: vec![State::Parked.into(), State::Delivered.into()],
                ..ReplayFilter::default()
            },
            300,
        ),
    ] {
        assert_eq!(ask(&stack, narrowed(filter)).await.unwrap().matching, expected);
    }
    let everything = ReplayDeliveriesRequest { filter: None, ..all_of("a") };
    assert_eq!(ask(&stack, everything.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    let waiting = ReplayFilter { states: vec![State::Waiting.into()], ..ReplayFilter::default() };
    let error = ask(&stack, narrowed(waiting)).await.unwrap_err();
    assert!(error.message().contains("replay it by its id"), "{error}");

    let filter = ReplayFilter { http_statuses: vec!["5xx".into()], ..all_of("a").filter.unwrap() };
    let request = ReplayDeliveriesRequest { rate_per_minute: 60_000, filter: Some(filter), ..all_of("a") };
    let begun = ask(&stack, request).await.unwrap();
    assert_eq!((begun.matching, begun.replayable), (150, 150));
    let done = ended(&stack, &begun.job.unwrap().id).await;
    assert_eq!(done.state(), ReplayJobState::Done);
    assert_eq!((done.matched, done.replayed, done.skipped), (150, 150, 0));
    are(&stack, "a", State::Delivered, 150).await;
    assert_each_was_replayed_once(&sink, 150);
    assert_eq!(sink.requests_to("b").len(), 150, "nobody else's");
    let delivery = stack.deliveries().await.into_iter().find(|delivery| delivery.route == "a").unwrap();
    let found = stack.finished(&delivery.event_id, "a").await;
    assert_eq!(found.actions[0].replay_job_id, done.id);
    // There is nothing any more.
    let nothing = ask(&stack, all_of("a")).await.unwrap();
    assert!(nothing.matching == 0 && nothing.job.is_none());

    let listed = ListControlActionsRequest::default();
    let actions = stack.control().await.list_control_actions(listed).await.unwrap().into_inner().actions;
    assert_eq!(actions.len(), 1, "the job, and not each delivery");
    assert_eq!((actions[0].kind(), actions[0].requested_by.as_str()), (ControlKind::ReplayJobStarted, "ana"));
    assert_eq!((actions[0].tenant.as_str(), actions[0].route.as_str()), ("acme", "a"));

    // A route that is gone is passed over.
    stack.restart_with(|text| text.replace("      b:", "      c:")).await;
    let all = ReplayFilter { states: vec![State::Delivered.into()], ..ReplayFilter::default() };
    let request = ReplayDeliveriesRequest { filter: Some(all), all: true, dry_run: true, ..all_of("a") };
    let counted =
        until("it to know everything again", async || ask(&stack, request.clone()).await.ok()).await;
    assert_eq!((counted.matching, counted.replayable, counted.route_not_configured), (300, 150, 150));
}

async fn a_job_goes_on_behind_where_it_was_killed_no_faster_than_its_rate(builder: Builder) {
    let sink = Sink::start().await;
    let mut stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), PARKS)).start().await;
    parked(&stack, &sink, 120).await;
    let begun = ask(&stack, ReplayDeliveriesRequest { rate_per_minute: 1_800, ..all_of("a") }).await.unwrap();
    let id = begun.job.unwrap().id;
    for goes_as_far_as in [1, 31] {
        until("the job to go on", async || (job(&stack, &id).await.replayed >= goes_as_far_as).then_some(()))
            .await;
        stack.kill_and_restart().await;
        until("it to know everything again", async || {
            (stack.admin_get("/readyz").await.0 == 200).then_some(())
        })
        .await;
    }
    let done = ended(&stack, &id).await;
    assert_eq!((done.state(), done.replayed, done.skipped), (ReplayJobState::Done, 120, 0));
    are(&stack, "a", State::Delivered, 120).await;
    assert_each_was_replayed_once(&sink, 120);
    // Thirty a second: the fourth thirty are three seconds behind the first.
    let took = since(from_proto(done.ended_at.as_ref()), from_proto(done.started_at.as_ref()));
    assert!(took >= Duration::from_secs(3), "{took:?}");
}

async fn a_job_that_is_called_off_goes_no_further(builder: Builder) {
    let sink = Sink::start().await;
    let mut stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), PARKS)).start().await;
    parked(&stack, &sink, 20).await;
    let begun = ask(&stack, ReplayDeliveriesRequest { rate_per_minute: 60, ..all_of("a") }).await.unwrap();
    let id = begun.job.unwrap().id;
    until("the job to go on", async || (job(&stack, &id).await.replayed >= 1).then_some(())).await;
    let request =
        CancelReplayJobRequest { job_id: id.clone(), requested_by: "bob".into(), reason: String::new() };
    let mut control = stack.control().await;
    let cancelled = control.cancel_replay_job(request.clone()).await.unwrap().into_inner().job.unwrap();
    assert_eq!(cancelled.state(), ReplayJobState::Cancelled);
    assert!(cancelled.replayed < 20 && cancelled.ended_at.is_some());
    let again = control.cancel_replay_job(request.clone()).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    let unknown = CancelReplayJobRequest { job_id: "rpl_x".into(), ..request };
    assert_eq!(control.cancel_replay_job(unknown).await.unwrap_err().code(), Code::NotFound);
    let replayed = usize::try_from(cancelled.replayed).unwrap();
    are(&stack, "a", State::Delivered, replayed).await;
    // Another job goes on, and this one does not, after a restart neither.
    stack.kill_and_restart().await;
    let other = ReplayDeliveriesRequest { rate_per_minute: 60_000, ..all_of("a") };
    let other = until("it to know everything again", async || ask(&stack, other.clone()).await.ok()).await;
    assert_eq!(other.matching, 20 - cancelled.replayed);
    ended(&stack, &other.job.unwrap().id).await;
    are(&stack, "a", State::Delivered, 20).await;
    assert_each_was_replayed_once(&sink, 20);
    assert_eq!(job(&stack, &id).await, cancelled);
    let list = |page_size, page_token| ListReplayJobsRequest { page_size, page_token };
    let mut control = stack.control().await;
    let first = control.list_replay_jobs(list(1, String::new())).await.unwrap().into_inner();
    let second = control.list_replay_jobs(list(1, first.next_page_token)).await.unwrap().into_inner();
    assert_eq!((second.jobs[0].id.as_str(), second.next_page_token.as_str()), (id.as_str(), ""));
    let listed = ListControlActionsRequest::default();
    let actions = control.list_control_actions(listed).await.unwrap().into_inner().actions;
    let kinds: Vec<_> = actions.iter().map(|action| (action.kind(), action.requested_by.as_str())).collect();
    assert_eq!(
        kinds,
        [
            (ControlKind::ReplayJobStarted, "ana"),
            (ControlKind::ReplayJobCancelled, "bob"),
            (ControlKind::ReplayJobStarted, "ana"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_relay_goes_on_with_the_job_of_one_that_is_gone() {
    let sink = Sink::start().await;
    let prefix = prefix();
    let start =
        async || on_nats(&prefix).await.tenant("acme", |t| t.route("a", &sink.url("a"), PARKS)).start().await;
    let mut first = start().await;
    parked(&first, &sink, 100).await;
    let second = start().await;
    let third = start().await;
    // Asked of one that does not lead, or of the one that does; both know it.
    until("the second one to know everything", async || {
        (second.admin_get("/readyz").await.0 == 200 && third.admin_get("/readyz").await.0 == 200)
            .then_some(())
    })
    .await;
    let begun = ask(&second, ReplayDeliveriesRequest { rate_per_minute: 900, ..all_of("a") }).await.unwrap();
    let id = begun.job.unwrap().id;
    until("the job to go on", async || (job(&third, &id).await.replayed >= 16).then_some(())).await;
    first.terminate().await;
    drop(first);
    until("the job to go on", async || (job(&third, &id).await.replayed >= 31).then_some(())).await;
    drop(second);
    let done = ended(&third, &id).await;
    assert_eq!((done.state(), done.replayed), (ReplayJobState::Done, 100));
    are(&third, "a", State::Delivered, 100).await;
    assert_each_was_replayed_once(&sink, 100);
}
