//! One step of a delivery, before its request or after it.

use crate::decisions::{
    admission::{Admission, Decision, RouteUpdate},
    breaker::Change,
    classify::{Context, classify},
    conclude::{self, Conclusion, Timing},
    exchange::Sent,
    mask::secrets,
    retry::{is_too_old, too_old, within_age},
};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{
    config::{Retry, Route, RouteKind},
    id::DeliveryId,
};
use talaria_proto::v1::DeliveryTask;

/// A delivery and its route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InHand<'a> {
    pub task: &'a DeliveryTask,
    /// Parsed from the task.
    pub id: DeliveryId,
    pub route: &'a Route,
    /// The start of the delivery's age.
    pub age_from: Timestamp,
}

/// The step before a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Before {
    Attempt,
    /// No request is sent, and the conclusion is recorded.
    Conclude(Box<Conclusion>),
    /// The route is shut: the delivery waits as before, and nothing is recorded.
    GiveBack,
}

/// Decides the step before a request. `interrupted`: an attempt of an earlier owner has no outcome. `random`: from 0 to 1, for
/// the jitter.
pub(crate) fn before(
    InHand { task, id, route, age_from }: InHand<'_>,
    interrupted: bool,
    admission: &mut Admission,
    now: Timestamp,
    random: f64,
) -> Before {
    let conclude = |conclusion| Before::Conclude(Box::new(conclusion));
    if interrupted {
        admission.sent(now);
        let timing = Timing { now, retry: &route.retry, random, not_before: now, age_from };
        return conclude(conclude::interrupted(task, id, timing));
    }
    if is_too_old(&route.retry, age_from, now) {
        return conclude(conclude::park(task, now, too_old(&route.retry)));
    }
    match admission.admit(task, now) {
        Decision::Send => Before::Attempt,
        Decision::Shut => Before::GiveBack,
        Decision::At(slot) => {
            let slot = within_age(&route.retry, age_from, slot);
            let why = "waiting for its turn at the route's pace".to_owned();
            conclude(conclude::reschedule(task, now, slot, why, true))
        }
    }
}

/// The step of a delivery whose route is not configured any more. An interrupted attempt is recorded first, because its request
/// may have gone out; the next step parks the delivery.
pub(crate) fn without_route(
    task: &DeliveryTask,
    id: DeliveryId,
    interrupted: bool,
    now: Timestamp,
) -> Conclusion {
    if !interrupted {
        let why = "the route is not configured any more; replay once it is back".to_owned();
        return conclude::park(task, now, why);
    }
    let schedule = vec![Duration::ZERO; task.counted_attempts as usize + 1];
    let retry = Retry { schedule, jitter: 0.0, max_age: Duration::MAX };
    conclude::interrupted(
        task,
        id,
        Timing { now, retry: &retry, random: 0.0, not_before: now, age_from: now },
    )
}

/// Decides the step after a request, and the change of its route. Without an admission the route was removed or configured
/// otherwise meanwhile.
pub(crate) fn after(
    InHand { task, id, route, age_from }: InHand<'_>,
    sent: Sent,
    mut admission: Option<&mut Admission>,
    now: Timestamp,
    random: f64,
) -> (Conclusion, Option<Change>) {
    let secrets: Vec<&str> = secrets(route).collect();
    let context = Context {
        secrets: &secrets,
        is_webhook: route.kind == RouteKind::Webhook,
        deliver_only: route.deliver_only,
        idempotency_key: &id.idempotency_key(task.generation),
        lost_attempt: (task.lost_attempt > 0).then_some(task.lost_attempt),
        other_secret: admission
            .as_mut()
            .is_some_and(|admission| admission.has_other_secret(route, sent.secret, &sent.exchange)),
    };
    let verdict = classify(&sent.exchange, context);
    let update = match admission {
        Some(admission) => admission.learn(route, task, id, &verdict.next, &verdict.detail, now),
        None => RouteUpdate::superseded(&verdict.next, now),
    };
    let not_before = within_age(&route.retry, age_from, update.not_before);
    let timing = Timing { now, retry: &route.retry, random, not_before, age_from };
    (conclude::attempt(task, id, Some(sent), verdict, timing), update.change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::id::EventId;
    use talaria_proto::time::{from_proto, to_proto};
    use talaria_proto::v1::{AttemptOutcome, DeliveryState};

    #[test]
    fn a_removed_route_hides_no_attempt() {
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let id = DeliveryId::new(EventId::new("acme", "j", "t"), "r");
        let task = DeliveryTask {
            delivery_id: id.to_string(),
            generation: 1,
            counted_attempts: 10,
            due_at: Some(to_proto(now)),
            ..DeliveryTask::default()
        };
        let first = without_route(&task, id, true, now);
        assert_eq!(first.attempt.unwrap().outcome(), AttemptOutcome::Interrupted);
        let then = without_route(&first.task.unwrap(), id, false, now);
        assert_eq!((then.status.state(), then.status.attempts, then.task), (DeliveryState::Parked, 1, None));
    }

    #[test]
    fn a_fault_of_an_old_configuration_is_retried_at_once_and_shuts_nothing() {
        use crate::{
            decisions::{
                exchange::{Answer, Exchange, Timings},
                prepare::Remarks,
            },
            test_config::route,
        };
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let id = DeliveryId::new(EventId::new("acme", "j", "t"), "video");
        let task = DeliveryTask { delivery_id: id.to_string(), generation: 1, ..DeliveryTask::default() };
        let route = route("");
        let after = |status, retry_after| {
            let exchange = Exchange::Answered(Answer { status, retry_after, ..Answer::default() });
            let (timings, remarks) = (Timings::default(), Remarks::default());
            let sent = Sent { started_at: now, took: Duration::ZERO, exchange, timings, secret: 0, remarks };
            let in_hand = InHand { task: &task, id, route: &route, age_from: now };
            let (conclusion, change) = after(in_hand, sent, None, now, 0.5);
            assert_eq!(change, None);
            let task = conclusion.task.unwrap();
            (from_proto(task.due_at.as_ref()), task.counted_attempts)
        };
        for status in [401, 404, 413] {
            assert_eq!(after(status, None), (now, 0), "{status}");
        }
        let minute = Duration::from_secs(60);
        assert_eq!(after(429, Some(minute)), (talaria_core::time::after(now, minute), 0));
        let (next, counted) = after(500, None);
        assert!(next > now && counted == 1, "a failure has its pause");
    }
}
