//! What an attempt leaves behind: the facts that are journalled, and what becomes of the task.
//!
//! Every path of a delivery ends here, so that a task and the facts about it never part: each conclusion has
//! one more step than the task had, and the fact says all that the task will know.

use crate::{
    classify::{IdAfter, Next, Verdict},
    outbound::timings::Timings,
    retry::{NextAttempt, next_attempt},
};
use jiff::Timestamp;
use std::time::Duration;
use talaria_bus::time::{duration_to_proto, from_proto, since, to_proto};
use talaria_core::{config::Retry, id::DeliveryId};
use talaria_proto::v1::{
    Attempt, AttemptFinished, AttemptOutcome, DeliveryMoved, DeliveryRef, DeliveryState, DeliveryTask, Fact,
    Standing, fact::What,
};

/// Hermes forgets an id after an hour: a repeat that comes later runs again.
const HERMES_REMEMBERS: Duration = Duration::from_secs(3_600);

/// A fact, and the task as it goes on; `None` when it is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// What is journalled.
    pub fact: Fact,
    /// What waits on.
    pub task: Option<DeliveryTask>,
}

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took; `None` where nobody was there to see.
    pub took: Option<Duration>,
    /// The HTTP status, where an answer came.
    pub http_status: Option<u16>,
    /// Where the time went.
    pub timings: Option<Timings>,
    /// What the guard changed.
    pub guarded: Vec<String>,
    /// What it means.
    pub verdict: Verdict,
}

/// What the route has to say about when.
#[derive(Clone, Copy, Debug)]
pub struct Timing<'a> {
    /// Now.
    pub now: Timestamp,
    /// The route's schedule.
    pub retry: &'a Retry,
    /// From 0 to 1, for the jitter.
    pub random: f64,
    /// When pace or hold let it go on, for the verdicts that are theirs to answer.
    pub not_before: Timestamp,
    /// From when on the delivery's age counts.
    pub age_from: Timestamp,
}

/// After an attempt.
pub fn attempt(task: &DeliveryTask, id: DeliveryId, ended: Ended, timing: Timing<'_>) -> Conclusion {
    let Verdict { outcome, mut detail, next } = ended.verdict;
    let number = task.attempts + 1;
    let counted = matches!(next, Next::Retry { .. });
    let mut task = DeliveryTask {
        attempts: number,
        counted_attempts: task.counted_attempts + u32::from(counted),
        slot_reserved: false,
        ..task.clone()
    };
    let attempted_generation = task.generation;
    if next == Next::Delivered {
        // A duplicate is the lost one itself; anything else is one more.
        let gap = gap_since_lost(&task, ended.started_at).filter(|_| outcome != AttemptOutcome::Duplicate);
        if let Some(gap) = gap {
            detail += &format!(
                "; attempt {} under the same id went unanswered {} minutes before, longer than Hermes remembers: \
                 the agent may have run twice",
                task.lost_attempt,
                gap.as_secs() / 60
            );
        } else if task.unsettled_attempt > 0 {
            detail += &format!(
                "; attempt {} went unanswered long before, and nobody can say whether it ran: it may have been \
                 delivered twice",
                task.unsettled_attempt
            );
        }
    }
    let (state, reason) = match &next {
        Next::Delivered => (DeliveryState::Delivered, detail.clone()),
        Next::Ignored => (DeliveryState::Ignored, detail.clone()),
        Next::Ambiguous => (DeliveryState::Ambiguous, detail.clone()),
        Next::Slower { .. } => wait_until(&mut task, timing, format!("Hermes' rate limit: {detail}"), true),
        // 401 counts for nothing at Hermes, so the place in its window is still ours.
        Next::OtherSecret => wait_until(&mut task, timing, format!("trying another secret: {detail}"), true),
        Next::RouteFault => {
            task.route_faults += 1;
            wait_until(&mut task, timing, format!("the route is shut: {detail}"), false)
        }
        Next::Retry { retry_after, id: after } => {
            task.route_faults = 0;
            remember_id(&mut task, *after, number, ended.started_at);
            let (counted, random) = (task.counted_attempts, timing.random);
            match next_attempt(timing.retry, counted, timing.age_from, timing.now, *retry_after, random) {
                NextAttempt::At(at) => {
                    task.due_at = Some(to_proto(at));
                    (DeliveryState::Waiting, format!("retrying after attempt {number}: {detail}"))
                }
                NextAttempt::Park(why) => (DeliveryState::Parked, format!("{why}; the last one: {detail}")),
            }
        }
    };
    let attempt = Attempt {
        number,
        generation: attempted_generation,
        idempotency_key: id.idempotency_key(attempted_generation),
        started_at: Some(to_proto(ended.started_at)),
        duration: ended.took.map(duration_to_proto),
        outcome: outcome.into(),
        http_status: ended.http_status.map(u32::from),
        detail,
        counted,
        guarded: ended.guarded,
        timings: ended.timings.map(Into::into),
    };
    conclude(task, timing.now, state, reason, Some(attempt))
}

/// Put off without an attempt.
pub fn put_off(
    task: &DeliveryTask,
    now: Timestamp,
    until: Timestamp,
    reason: String,
    slot_reserved: bool,
) -> Conclusion {
    let task = DeliveryTask { due_at: Some(to_proto(until)), slot_reserved, ..task.clone() };
    conclude(task, now, DeliveryState::Waiting, reason, None)
}

/// Parked without an attempt.
pub fn park(task: &DeliveryTask, now: Timestamp, reason: String) -> Conclusion {
    conclude(task.clone(), now, DeliveryState::Parked, reason, None)
}

/// Somebody held this delivery and vanished: that was an attempt, and its answer is lost.
pub fn interrupted(task: &DeliveryTask, id: DeliveryId, timing: Timing<'_>) -> Conclusion {
    let verdict = Verdict {
        outcome: AttemptOutcome::Interrupted,
        detail: "the relay stopped before it could record an answer".into(),
        next: Next::Retry { retry_after: None, id: IdAfter::Unknown },
    };
    let started_at = from_proto(task.due_at.as_ref());
    let ended =
        Ended { started_at, took: None, http_status: None, timings: None, guarded: Vec::new(), verdict };
    let mut conclusion = attempt(task, id, ended, timing);
    if let (Some(task), Some(What::AttemptFinished(finished))) =
        (&mut conclusion.task, &mut conclusion.fact.what)
    {
        // Nothing failed over there that would be given time to recover.
        task.due_at = Some(to_proto(timing.now));
        if let Some(standing) = &mut finished.standing {
            standing.next_attempt_at = task.due_at;
        }
    }
    conclusion
}

fn wait_until(
    task: &mut DeliveryTask,
    timing: Timing<'_>,
    reason: String,
    reserved: bool,
) -> (DeliveryState, String) {
    task.due_at = Some(to_proto(timing.not_before));
    task.slot_reserved = reserved;
    (DeliveryState::Waiting, reason)
}

fn remember_id(task: &mut DeliveryTask, after: IdAfter, number: u32, started_at: Timestamp) {
    match after {
        IdAfter::Unused => {}
        IdAfter::Unknown if task.lost_attempt > 0 && gap_since_lost(task, started_at).is_none() => {}
        IdAfter::Unknown => {
            // Hermes knew nothing of an earlier one any more.
            if task.unsettled_attempt == 0 {
                task.unsettled_attempt = task.lost_attempt;
            }
            task.lost_attempt = number;
            task.lost_at = Some(to_proto(started_at));
        }
        IdAfter::UsedUp => {
            // So late Hermes knows nothing of the lost one, and its answer is about this attempt alone.
            if gap_since_lost(task, started_at).is_some() && task.unsettled_attempt == 0 {
                task.unsettled_attempt = task.lost_attempt;
            }
            task.generation += 1;
            task.lost_attempt = 0;
            task.lost_at = None;
        }
    }
}

/// How long before this attempt the first unanswered one was, if Hermes may have forgotten it.
fn gap_since_lost(task: &DeliveryTask, started_at: Timestamp) -> Option<Duration> {
    let lost_at = task.lost_at.as_ref()?;
    Some(since(started_at, from_proto(Some(lost_at)))).filter(|gap| *gap >= HERMES_REMEMBERS)
}

/// One step on, with the fact that says so.
pub(crate) fn conclude(
    mut task: DeliveryTask,
    now: Timestamp,
    state: DeliveryState,
    reason: String,
    attempt: Option<Attempt>,
) -> Conclusion {
    task.step += 1;
    let waits = state == DeliveryState::Waiting;
    let standing = Some(Standing {
        step: task.step,
        state: state.into(),
        reason,
        generation: task.generation,
        attempts: task.attempts,
        counted_attempts: task.counted_attempts,
        next_attempt_at: task.due_at.filter(|_| waits),
    });
    let delivery = Some(DeliveryRef {
        id: task.delivery_id.clone(),
        tenant: task.tenant.clone(),
        route: task.route.clone(),
    });
    let what = match attempt {
        Some(attempt) => {
            What::AttemptFinished(AttemptFinished { delivery, attempt: Some(attempt), standing })
        }
        None => What::DeliveryMoved(DeliveryMoved { delivery, standing, action: None }),
    };
    let fact = Fact { at: Some(to_proto(now)), event_seq: task.event_seq, what: Some(what) };
    Conclusion { fact, task: waits.then_some(task) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_bus::time::after;
    use talaria_core::id::EventId;

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
        Retry {
            schedule: vec![Duration::from_secs(10); 2],
            jitter: 0.0,
            max_age: Duration::from_secs(86_400),
        }
    }

    fn run(
        task: &DeliveryTask,
        outcome: AttemptOutcome,
        next: Next,
        at: Timestamp,
    ) -> (Standing, Attempt, Option<DeliveryTask>) {
        let verdict = Verdict { outcome, detail: "what happened".into(), next };
        let ended = Ended {
            started_at: at,
            took: Some(Duration::from_millis(5)),
            http_status: Some(200),
            timings: Some(Timings { reused: true, ..Timings::default() }),
            guarded: vec![],
            verdict,
        };
        let retry = retry();
        let timing = Timing {
            now: at,
            retry: &retry,
            random: 0.5,
            not_before: after(at, Duration::from_secs(99)),
            age_from: now(),
        };
        let conclusion = attempt(task, id(), ended, timing);
        let Some(What::AttemptFinished(finished)) = conclusion.fact.what else { panic!() };
        (finished.standing.unwrap(), finished.attempt.unwrap(), conclusion.task)
    }

    fn failed(id: IdAfter) -> Next {
        Next::Retry { retry_after: None, id }
    }

    #[test]
    fn each_step_is_one_more_and_the_fact_knows_what_the_task_knows() {
        let (standing, attempt, next) = run(&task(), AttemptOutcome::Failed, failed(IdAfter::Unused), now());
        let next = next.unwrap();
        assert_eq!((standing.step, next.step), (4, 4));
        assert_eq!((standing.attempts, next.attempts, attempt.number), (1, 1, 1));
        assert_eq!((standing.counted_attempts, next.counted_attempts, attempt.counted), (1, 1, true));
        assert_eq!(standing.next_attempt_at, next.due_at);
        assert_eq!(next.due_at, Some(to_proto(after(now(), Duration::from_secs(10)))));
        assert_eq!(standing.state(), DeliveryState::Waiting);
    }

    #[test]
    fn attempts_run_out_and_the_delivery_is_parked() {
        let mut task = task();
        for _ in 0..2 {
            task = run(&task, AttemptOutcome::Failed, failed(IdAfter::Unused), now()).2.unwrap();
        }
        let (standing, _, next) = run(&task, AttemptOutcome::Failed, failed(IdAfter::Unused), now());
        assert_eq!((standing.state(), next), (DeliveryState::Parked, None));
        assert_eq!(standing.reason, "all 3 attempts failed; the last one: what happened");
        assert_eq!(standing.next_attempt_at, None);
    }

    #[test]
    fn pace_and_route_faults_burn_no_attempt() {
        let mut task = task();
        for _ in 0..50 {
            let (standing, attempt, next) =
                run(&task, AttemptOutcome::RateLimited, Next::Slower { retry_after: None }, now());
            assert!(!attempt.counted && standing.reason.starts_with("Hermes' rate limit"));
            task = next.unwrap();
            assert!(task.slot_reserved);
            let (_, _, next) = run(&task, AttemptOutcome::RouteFault, Next::RouteFault, now());
            task = next.unwrap();
            assert_eq!(task.due_at, Some(to_proto(after(now(), Duration::from_secs(99)))));
        }
        assert_eq!((task.attempts, task.counted_attempts, task.route_faults), (100, 0, 50));
        let (standing, attempt, next) = run(&task, AttemptOutcome::RouteFault, Next::OtherSecret, now());
        assert!(!attempt.counted && standing.reason.starts_with("trying another secret"));
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
        let (standing, attempt, next) = run(&next, AttemptOutcome::Failed, failed(IdAfter::UsedUp), now());
        let next = next.unwrap();
        assert_eq!((attempt.generation, standing.generation, next.generation), (1, 2, 2));
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
    fn what_was_lost_for_long_is_not_forgotten_with_its_generation() {
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
        let (standing, ..) = run(&lost, AttemptOutcome::Duplicate, Next::Delivered, later);
        assert!(standing.reason.contains("attempt 1 went unanswered long before"), "{}", standing.reason);
    }

    #[test]
    fn an_interrupted_attempt_is_counted_shown_and_repeated_at_once_under_its_id() {
        let retry = retry();
        let timing = Timing { now: now(), retry: &retry, random: 0.5, not_before: now(), age_from: now() };
        let conclusion = interrupted(&task(), id(), timing);
        let next = conclusion.task.unwrap();
        assert_eq!((next.attempts, next.counted_attempts, next.lost_attempt, next.generation), (1, 1, 1, 1));
        assert_eq!(next.due_at, Some(to_proto(now())));
        let Some(What::AttemptFinished(finished)) = conclusion.fact.what else { panic!() };
        assert_eq!(finished.attempt.unwrap().outcome(), AttemptOutcome::Interrupted);
        assert_eq!(finished.standing.unwrap().next_attempt_at, Some(to_proto(now())));
    }

    #[test]
    fn what_ends_has_no_task_and_what_is_put_off_keeps_it() {
        for (next, state) in [
            (Next::Delivered, DeliveryState::Delivered),
            (Next::Ignored, DeliveryState::Ignored),
            (Next::Ambiguous, DeliveryState::Ambiguous),
        ] {
            let (standing, attempt, task) = run(&task(), AttemptOutcome::Duplicate, next, now());
            assert_eq!((standing.state(), task), (state, None));
            assert!(!attempt.counted);
        }
        assert_eq!(park(&task(), now(), "gone".into()).task, None);
        let put_off = put_off(&task(), now(), after(now(), Duration::from_secs(5)), "pace".into(), true);
        assert_eq!(
            put_off.task.map(|task| (task.attempts, task.step, task.slot_reserved)),
            Some((0, 4, true))
        );
    }
}
