//! What an attempt leaves behind: the records that are journalled, and what becomes of the task.
//!
//! Every path of a delivery ends here, so that a task and the records about it never part: each conclusion has
//! one more step than the task had, and the record says all that the task will know.

use crate::{
    decisions::classify::{IdAfter, Next, Verdict},
    decisions::retry::{NextAttempt, next_attempt},
    delivery::outbound::timings::Timings,
};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{config::Retry, id::DeliveryId, time::since};
use talaria_proto::{
    time::{duration_to_proto, from_proto, to_proto},
    v1::{
        Attempt, AttemptFinished, AttemptOutcome, DeliveryMoved, DeliveryRef, DeliveryState, DeliveryStatus,
        DeliveryTask, Record, record::What,
    },
};

/// Hermes forgets an id after an hour: a repeat that comes later runs again.
const HERMES_REMEMBERS: Duration = Duration::from_secs(3_600);

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conclusion {
    /// What is journalled. It holds the task as it waits on.
    pub record: Record,
}

impl Conclusion {
    /// The delivery as it waits on; `None` when it is done.
    pub(crate) fn task(&self) -> Option<&DeliveryTask> {
        match &self.record.what {
            Some(What::AttemptFinished(finished)) => finished.task.as_ref(),
            Some(What::DeliveryMoved(moved)) => moved.task.as_ref(),
            _ => None,
        }
    }

    /// The delivery's status now.
    pub(crate) fn status(&self) -> Option<&DeliveryStatus> {
        match &self.record.what {
            Some(What::AttemptFinished(finished)) => finished.status.as_ref(),
            Some(What::DeliveryMoved(moved)) => moved.status.as_ref(),
            _ => None,
        }
    }
}

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took; `None` where its owner was gone before it ended.
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
pub(crate) struct Timing<'a> {
    /// Now.
    pub now: Timestamp,
    /// The route's schedule.
    pub retry: &'a Retry,
    /// From 0 to 1, for the jitter.
    pub random: f64,
    /// When pace or breaker let it go on, for the verdicts that are theirs to answer.
    pub not_before: Timestamp,
    /// From when on the delivery's age counts.
    pub age_from: Timestamp,
}

/// After an attempt.
pub(crate) fn attempt(task: &DeliveryTask, id: DeliveryId, ended: Ended, timing: Timing<'_>) -> Conclusion {
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
        // 401 counts for nothing at Hermes, so the slot in its window is still ours.
        Next::OtherSecret => wait_until(&mut task, timing, format!("trying another secret: {detail}"), true),
        Next::RouteFault { id: after } => {
            task.route_faults += 1;
            remember_id(&mut task, *after, number, ended.started_at);
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
pub(crate) fn put_off(
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
pub(crate) fn park(task: &DeliveryTask, now: Timestamp, reason: String) -> Conclusion {
    conclude(task.clone(), now, DeliveryState::Parked, reason, None)
}

/// An attempt of an earlier owner has no outcome: its answer is lost.
pub(crate) fn interrupted(task: &DeliveryTask, id: DeliveryId, timing: Timing<'_>) -> Conclusion {
    let verdict = Verdict {
        outcome: AttemptOutcome::Interrupted,
        detail: "the relay stopped before it could record an answer".into(),
        next: Next::Retry { retry_after: None, id: IdAfter::Unknown },
    };
    let started_at = from_proto(task.due_at.as_ref());
    let ended =
        Ended { started_at, took: None, http_status: None, timings: None, guarded: Vec::new(), verdict };
    let mut conclusion = attempt(task, id, ended, timing);
    if let Some(What::AttemptFinished(AttemptFinished { task: Some(task), status, .. })) =
        &mut conclusion.record.what
    {
        // Nothing failed at Hermes that would need time to recover.
        task.due_at = Some(to_proto(timing.now));
        if let Some(status) = status {
            status.next_attempt_at = task.due_at;
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

/// One step on, with the record that says so.
pub(crate) fn conclude(
    mut task: DeliveryTask,
    now: Timestamp,
    state: DeliveryState,
    reason: String,
    attempt: Option<Attempt>,
) -> Conclusion {
    task.step += 1;
    let waits = state == DeliveryState::Waiting;
    let status = Some(DeliveryStatus {
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
    let event_seq = task.event_seq;
    let task = waits.then_some(task);
    let what = match attempt {
        Some(attempt) => {
            What::AttemptFinished(AttemptFinished { delivery, attempt: Some(attempt), status, task })
        }
        None => What::DeliveryMoved(DeliveryMoved { delivery, status, action: None, task }),
    };
    Conclusion { record: Record { at: Some(to_proto(now)), event_seq, what: Some(what) } }
}

#[cfg(test)]
mod tests;
