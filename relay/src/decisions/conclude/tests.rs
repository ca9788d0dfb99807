use super::*;
use crate::decisions::{
    exchange::{Answer, Exchange, Timings},
    prepare::Remarks,
};
use talaria_core::id::EventId;
use talaria_core::time::after;

fn now() -> Timestamp {
    Timestamp::from_second(1_777_000_000).unwrap()
}

fn id() -> DeliveryId {
    DeliveryId::new(EventId::new("acme", "j", "t"), "r")
}

fn task() -> DeliveryTask {
    DeliveryTask {
        delivery_id: id().to_string(),
        event_seq: 7,
        generation: 1,
        step: 3,
        received_at: Some(to_proto(now())),
        due_at: Some(to_proto(now())),
        ..DeliveryTask::default()
    }
}

fn retry() -> Retry {
    Retry { schedule: vec![Duration::from_secs(10); 2], jitter: 0.0, max_age: Duration::from_secs(86_400) }
}

fn run(
    task: &DeliveryTask,
    outcome: AttemptOutcome,
    next: Next,
    at: Timestamp,
) -> (DeliveryStatus, Attempt, Option<DeliveryTask>) {
    let verdict = Verdict { outcome, detail: "the detail".into(), next };
    let sent = Sent {
        started_at: at,
        took: Duration::from_millis(5),
        exchange: Exchange::Answered(Answer { status: 200, ..Answer::default() }),
        timings: Timings { reused: true, ..Timings::default() },
        secret: 0,
        remarks: Remarks::default(),
    };
    let retry = retry();
    let timing = Timing {
        now: at,
        retry: &retry,
        random: 0.5,
        not_before: after(at, Duration::from_secs(99)),
        age_from: now(),
    };
    let conclusion = attempt(task, id(), Some(sent), verdict, timing);
    (conclusion.status, conclusion.attempt.unwrap(), conclusion.task)
}

fn failed(id: IdAfter) -> Next {
    Next::Retry { retry_after: None, id }
}

#[test]
fn each_step_is_one_more_and_the_status_agrees_with_the_task() {
    let (status, attempt, next) = run(&task(), AttemptOutcome::Failed, failed(IdAfter::Unused), now());
    let next = next.unwrap();
    assert_eq!((status.step, next.step), (4, 4));
    assert_eq!((status.attempts, next.attempts, attempt.number), (1, 1, 1));
    assert_eq!((status.counted_attempts, next.counted_attempts, attempt.counted), (1, 1, true));
    assert_eq!(status.next_attempt_at, next.due_at);
    assert_eq!(next.due_at, Some(to_proto(after(now(), Duration::from_secs(10)))));
    assert_eq!(status.state(), DeliveryState::Waiting);
}

#[test]
fn attempts_run_out_and_the_delivery_is_parked() {
    let mut task = task();
    for _ in 0..2 {
        task = run(&task, AttemptOutcome::Failed, failed(IdAfter::Unused), now()).2.unwrap();
    }
    let (status, _, next) = run(&task, AttemptOutcome::Failed, failed(IdAfter::Unused), now());
    assert_eq!((status.state(), next), (DeliveryState::Parked, None));
    assert_eq!(status.reason, "all 3 attempts failed; the last one: the detail");
    assert_eq!(status.next_attempt_at, None);
}

const FAULT: Next = Next::RouteFault { id: IdAfter::Unused };

#[test]
fn a_request_that_a_proxy_answered_may_have_reached_hermes() {
    let foreign = Next::RouteFault { id: IdAfter::Unknown };
    let (status, attempt, next) = run(&task(), AttemptOutcome::RouteFault, foreign.clone(), now());
    let next = next.unwrap();
    assert_eq!((status.state(), attempt.counted), (DeliveryState::Waiting, false));
    assert_eq!((next.generation, next.lost_attempt, next.counted_attempts), (1, 1, 0));
    let (_, _, again) =
        run(&next, AttemptOutcome::RouteFault, foreign, after(now(), Duration::from_secs(60)));
    assert_eq!(again.unwrap().lost_attempt, 1, "the first one is remembered");
    let late = after(now(), Duration::from_secs(3_600));
    let (status, ..) = run(&next, AttemptOutcome::Accepted, Next::Delivered, late);
    assert!(status.reason.contains("the agent may have run twice"), "{}", status.reason);
    let (_, _, refused) = run(&task(), AttemptOutcome::RouteFault, FAULT, now());
    assert_eq!(refused.unwrap().lost_attempt, 0, "Hermes itself refused it");
}

#[test]
fn pace_and_route_faults_burn_no_attempt() {
    let mut task = task();
    for _ in 0..50 {
        let (status, attempt, next) =
            run(&task, AttemptOutcome::RateLimited, Next::Slower { retry_after: None }, now());
        assert!(!attempt.counted && status.reason.starts_with("Hermes' rate limit"));
        task = next.unwrap();
        assert!(task.slot_reserved);
        let (_, _, next) = run(&task, AttemptOutcome::RouteFault, FAULT, now());
        task = next.unwrap();
        assert_eq!(task.due_at, Some(to_proto(after(now(), Duration::from_secs(99)))));
    }
    assert_eq!((task.attempts, task.counted_attempts, task.route_faults), (100, 0, 50));
    let (status, attempt, next) = run(&task, AttemptOutcome::RouteFault, Next::OtherSecret, now());
    assert!(!attempt.counted && status.reason.starts_with("trying another secret"));
    assert!(attempt.timings.unwrap().reused_connection && next.unwrap().slot_reserved);
}

#[test]
fn the_generation_rises_only_when_the_attempt_provably_did_not_run() {
    let (_, attempt, next) = run(&task(), AttemptOutcome::AnswerLost, failed(IdAfter::Unknown), now());
    let next = next.unwrap();
    assert_eq!((next.generation, next.lost_attempt), (1, 1));
    assert_eq!(attempt.idempotency_key, format!("{}.1", id()));
    let (_, _, next) = run(&next, AttemptOutcome::AnswerLost, failed(IdAfter::Unknown), now());
    let mut next = next.unwrap();
    assert_eq!((next.generation, next.lost_attempt), (1, 1), "the first one is remembered");
    next.counted_attempts = 0;
    let (status, attempt, next) = run(&next, AttemptOutcome::Failed, failed(IdAfter::UsedUp), now());
    let next = next.unwrap();
    assert_eq!((attempt.generation, status.generation, next.generation), (1, 2, 2));
    assert_eq!((next.lost_attempt, next.lost_at), (0, None), "the new id is clean");
}

#[test]
fn an_acceptance_long_after_a_lost_answer_says_that_the_agent_may_have_run_twice() {
    let (_, _, next) = run(&task(), AttemptOutcome::AnswerLost, failed(IdAfter::Unknown), now());
    let next = next.unwrap();
    let soon =
        run(&next, AttemptOutcome::Accepted, Next::Delivered, after(now(), Duration::from_secs(3_599)));
    assert!(!soon.0.reason.contains("twice"));
    let late =
        run(&next, AttemptOutcome::Accepted, Next::Delivered, after(now(), Duration::from_secs(3_600)));
    assert!(
        late.0.reason.contains("attempt 1") && late.0.reason.contains("60 minutes before"),
        "{}",
        late.0.reason
    );
    assert_eq!(late.0.state(), DeliveryState::Delivered);
}

#[test]
fn an_answer_lost_long_ago_is_not_forgotten_with_its_generation() {
    let (_, _, next) = run(&task(), AttemptOutcome::AnswerLost, failed(IdAfter::Unknown), now());
    let next = next.unwrap();
    let delivered_after = |gap| {
        let at = after(now(), Duration::from_secs(gap));
        let next = DeliveryTask { counted_attempts: 0, ..next.clone() };
        let (_, _, next) = run(&next, AttemptOutcome::Failed, failed(IdAfter::UsedUp), at);
        run(&next.unwrap(), AttemptOutcome::Delivered, Next::Delivered, at).0.reason
    };
    assert!(!delivered_after(3_599).contains("twice"), "Hermes would have called it a duplicate");
    assert!(delivered_after(3_600).contains("attempt 1 went unanswered long before"));
    // Nor is the first of two, when the second one was lost as well.
    let later = after(now(), Duration::from_secs(3_600));
    let (_, _, lost) = run(&next, AttemptOutcome::AnswerLost, failed(IdAfter::Unknown), later);
    let lost = DeliveryTask { counted_attempts: 0, ..lost.unwrap() };
    assert_eq!((lost.lost_attempt, lost.unsettled_attempt), (2, 1));
    let (status, ..) = run(&lost, AttemptOutcome::Duplicate, Next::Delivered, later);
    assert!(status.reason.contains("attempt 1 went unanswered long before"), "{}", status.reason);
}

#[test]
fn an_interrupted_attempt_is_counted_shown_and_repeated_at_once_under_its_id() {
    let retry = retry();
    let timing = Timing { now: now(), retry: &retry, random: 0.5, not_before: now(), age_from: now() };
    let conclusion = interrupted(&task(), id(), timing);
    let next = conclusion.task.clone().unwrap();
    assert_eq!((next.attempts, next.counted_attempts, next.lost_attempt, next.generation), (1, 1, 1, 1));
    assert_eq!(next.due_at, Some(to_proto(now())));
    let Some(What::AttemptFinished(finished)) = conclusion.into_record().what else { panic!() };
    assert_eq!(finished.attempt.unwrap().outcome(), AttemptOutcome::Interrupted);
    assert_eq!(finished.status.unwrap().next_attempt_at, Some(to_proto(now())));
}

#[test]
fn a_delivery_that_ends_has_no_task_and_one_that_is_rescheduled_keeps_it() {
    for (next, state) in [
        (Next::Delivered, DeliveryState::Delivered),
        (Next::Ignored, DeliveryState::Ignored),
        (Next::Ambiguous, DeliveryState::Ambiguous),
    ] {
        let (status, attempt, task) = run(&task(), AttemptOutcome::Duplicate, next, now());
        assert_eq!((status.state(), task), (state, None));
        assert!(!attempt.counted);
    }
    assert_eq!(park(&task(), now(), "gone".into()).task, None);
    let later = reschedule(&task(), now(), after(now(), Duration::from_secs(5)), "pace".into(), true);
    assert_eq!(later.task.map(|task| (task.attempts, task.step, task.slot_reserved)), Some((0, 4, true)));
}
