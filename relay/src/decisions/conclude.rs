//! The conclusion of a delivery's step: its status, its next task, and the record of both.
//!
//! Every path of a delivery ends here, so that a task and the records about it agree: each conclusion has one more step than
//! the task had, and its record holds the whole next task.

use crate::decisions::{
    classify::{IdAfter, Next, Verdict},
    exchange::{Sent, timings_to_proto},
    retry::{NextAttempt, next_attempt},
};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::time::since;
use talaria_core::{config::Retry, id::DeliveryId};
use talaria_proto::time::{duration_to_proto, from_proto, to_proto};
use talaria_proto::v1::{
    Attempt, AttemptFinished, AttemptOutcome, ControlAction, DeliveryMoved, DeliveryRef, DeliveryState,
    DeliveryStatus, DeliveryTask, Record, record::What,
};

/// Hermes forgets an id after an hour: a later repetition runs again.
const HERMES_REMEMBERS: Duration = Duration::from_secs(3_600);

/// The result of one step of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conclusion {
    pub at: Timestamp,
    pub event_seq: u64,
    pub delivery: DeliveryRef,
    pub status: DeliveryStatus,
    /// The next task; `None` when the delivery is done.
    pub task: Option<DeliveryTask>,
    /// The attempt that ended, if there was one.
    pub attempt: Option<Attempt>,
    /// The operator's action that caused a step without an attempt.
    pub action: Option<ControlAction>,
}

impl Conclusion {
    pub(crate) fn into_record(self) -> Record {
        let Self { at, event_seq, delivery, status, task, attempt, action } = self;
        let (delivery, status) = (Some(delivery), Some(status));
        let what = if attempt.is_some() {
            What::AttemptFinished(AttemptFinished { delivery, attempt, status, task })
        } else {
            What::DeliveryMoved(DeliveryMoved { delivery, status, action, task })
        };
        Record { at: Some(to_proto(at)), event_seq, what: Some(what) }
    }
}

/// The times by which the next attempt is scheduled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing<'a> {
    pub now: Timestamp,
    pub retry: &'a Retry,
    /// From 0 to 1, for the jitter.
    pub random: f64,
    /// The earliest next attempt by the route's pace or breaker.
    pub not_before: Timestamp,
    /// The start of the delivery's age.
    pub age_from: Timestamp,
}

/// Concludes an attempt. `sent` is `None` where its owner was gone before it ended.
pub(crate) fn attempt(
    task: &DeliveryTask,
    id: DeliveryId,
    sent: Option<Sent>,
    verdict: Verdict,
    timing: Timing<'_>,
) -> Conclusion {
    let Verdict { outcome, mut detail, next } = verdict;
    let started_at = sent.as_ref().map_or_else(|| from_proto(task.due_at.as_ref()), |sent| sent.started_at);
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
        // A duplicate is the lost attempt itself; any other outcome is another run.
        let gap = gap_since_lost(&task, started_at).filter(|_| outcome != AttemptOutcome::Duplicate);
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
        // Hermes does not count a 401, so the slot is still reserved.
        Next::OtherSecret => wait_until(&mut task, timing, format!("trying another secret: {detail}"), true),
        Next::RouteFault { id: after } => {
            task.route_faults += 1;
            remember_id(&mut task, *after, number, started_at);
            wait_until(&mut task, timing, format!("the route is shut: {detail}"), false)
        }
        Next::Retry { retry_after, id: after } => {
            task.route_faults = 0;
            remember_id(&mut task, *after, number, started_at);
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
    let timings = sent.as_ref().map(|sent| timings_to_proto(&sent.timings));
    let duration = sent.as_ref().map(|sent| duration_to_proto(sent.took));
    let http_status = sent.as_ref().and_then(|sent| sent.exchange.status()).map(u32::from);
    let remarks = sent.map(|sent| sent.remarks).unwrap_or_default();
    let attempt = Attempt {
        number,
        generation: attempted_generation,
        idempotency_key: id.idempotency_key(attempted_generation),
        started_at: Some(to_proto(started_at)),
        duration,
        outcome: outcome.into(),
        http_status,
        detail,
        counted,
        timings,
        guarded: remarks.guarded,
        unfilled: remarks.unfilled,
    };
    conclude(task, timing.now, state, reason, Some(attempt))
}

/// Reschedules a delivery without an attempt.
pub(crate) fn reschedule(
    task: &DeliveryTask,
    now: Timestamp,
    until: Timestamp,
    reason: String,
    slot_reserved: bool,
) -> Conclusion {
    let task = DeliveryTask { due_at: Some(to_proto(until)), slot_reserved, ..task.clone() };
    conclude(task, now, DeliveryState::Waiting, reason, None)
}

/// Parks a delivery without an attempt.
pub(crate) fn park(task: &DeliveryTask, now: Timestamp, reason: String) -> Conclusion {
    conclude(task.clone(), now, DeliveryState::Parked, reason, None)
}

/// Concludes an attempt of an earlier owner that has no outcome: its answer is lost.
pub(crate) fn interrupted(task: &DeliveryTask, id: DeliveryId, timing: Timing<'_>) -> Conclusion {
    let verdict = Verdict {
        outcome: AttemptOutcome::Interrupted,
        detail: "the relay stopped before it could record an answer".into(),
        next: Next::Retry { retry_after: None, id: IdAfter::Unknown },
    };
    let mut conclusion = attempt(task, id, None, verdict, timing);
    if let Some(task) = &mut conclusion.task {
        // Hermes did not fail and needs no time to recover.
        task.due_at = Some(to_proto(timing.now));
        conclusion.status.next_attempt_at = task.due_at;
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
            // Hermes had forgotten an earlier one.
            if task.unsettled_attempt == 0 {
                task.unsettled_attempt = task.lost_attempt;
            }
            task.lost_attempt = number;
            task.lost_at = Some(to_proto(started_at));
        }
        IdAfter::UsedUp => {
            // By then Hermes had forgotten the lost one, and its answer is about this attempt alone.
            if gap_since_lost(task, started_at).is_some() && task.unsettled_attempt == 0 {
                task.unsettled_attempt = task.lost_attempt;
            }
            task.generation += 1;
            task.lost_attempt = 0;
            task.lost_at = None;
        }
    }
}

/// The time from the first unanswered attempt to this one, if Hermes may have forgotten it.
fn gap_since_lost(task: &DeliveryTask, started_at: Timestamp) -> Option<Duration> {
    let lost_at = task.lost_at.as_ref()?;
    Some(since(started_at, from_proto(Some(lost_at)))).filter(|gap| *gap >= HERMES_REMEMBERS)
}

/// Moves a delivery on by one step.
pub(crate) fn conclude(
    mut task: DeliveryTask,
    now: Timestamp,
    state: DeliveryState,
    reason: String,
    attempt: Option<Attempt>,
) -> Conclusion {
    task.step += 1;
    let waits = state == DeliveryState::Waiting;
    let status = DeliveryStatus {
        step: task.step,
        state: state.into(),
        reason,
        generation: task.generation,
        attempts: task.attempts,
        counted_attempts: task.counted_attempts,
        next_attempt_at: task.due_at.filter(|_| waits),
    };
    let delivery =
        DeliveryRef { id: task.delivery_id.clone(), tenant: task.tenant.clone(), route: task.route.clone() };
    let event_seq = task.event_seq;
    let task = waits.then_some(task);
    Conclusion { at: now, event_seq, delivery, status, task, attempt, action: None }
}

#[cfg(test)]
mod tests;
