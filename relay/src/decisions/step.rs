//! One step of a delivery: what becomes of it before a request, and what after.

use crate::{
    decisions::admission::{Admission, Answer, Lesson},
    decisions::breaker::Change,
    decisions::classify::{Context, Exchange, Verdict, classify},
    decisions::conclude::{self, Conclusion, Ended, Timing},
    decisions::retry::{is_too_old, too_old, within_age},
    delivery::outbound::timings::Timings,
};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use std::time::Duration;
use talaria_core::{
    config::{Retry, Route},
    id::DeliveryId,
};
use talaria_proto::v1::DeliveryTask;

/// What is shorter is a word that an answer may well contain, such as `Bearer` or `prod`.
const SHORTEST_SECRET: usize = 8;

/// A delivery in hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InHand<'a> {
    /// What it is.
    pub task: &'a DeliveryTask,
    /// Its id, read.
    pub id: DeliveryId,
    /// Its route.
    pub route: &'a Route,
    /// From when on its age counts.
    pub age_from: Timestamp,
}

/// What becomes of it before a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Before {
    /// A request goes out.
    Attempt,
    /// None does, and this is recorded.
    Conclude(Box<Conclusion>),
    /// The route is shut: it waits as before, and nothing is recorded.
    GiveBack,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// When it went out.
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What came back.
    pub exchange: Exchange,
    /// Where the time went.
    pub timings: Timings,
    /// Which of the route's secrets it was signed with.
    pub secret: usize,
    /// What the guard changed in it.
    pub guarded: Vec<String>,
}

/// What follows from it.
#[derive(Clone, Debug)]
pub(crate) struct After {
    /// What is recorded of the delivery.
    pub conclusion: Conclusion,
    /// What changed about its route.
    pub change: Option<Change>,
    /// What the answer means.
    pub verdict: Verdict,
}

/// Before a request. `interrupted` says that an attempt of an earlier owner has no outcome; `random` is from 0 to 1, for
/// jitter.
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
        Answer::Go => Before::Attempt,
        Answer::Shut => Before::GiveBack,
        Answer::At(place) => {
            let place = within_age(&route.retry, age_from, place);
            let why = "waiting for its turn at the route's pace".to_owned();
            conclude(conclude::put_off(task, now, place, why, true))
        }
    }
}

/// Instead of a request, where no route is configured any more. An attempt that was interrupted is recorded first, because
/// its request may have gone out; the delivery is parked with its next step.
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

/// After a request. Without an admission the route was removed or configured otherwise meanwhile.
pub(crate) fn after(
    InHand { task, id, route, age_from }: InHand<'_>,
    sent: Sent,
    mut admission: Option<&mut Admission>,
    now: Timestamp,
    random: f64,
) -> After {
    let Sent { started_at, took, exchange, timings, secret, guarded } = sent;
    let secrets: Vec<&str> = secrets(route).collect();
    let context = Context {
        secrets: &secrets,
        deliver_only: route.deliver_only,
        idempotency_key: &id.idempotency_key(task.generation),
        lost_attempt: (task.lost_attempt > 0).then_some(task.lost_attempt),
        other_secret: admission
            .as_mut()
            .is_some_and(|admission| admission.has_other_secret(route, secret, &exchange)),
    };
    let verdict = classify(&exchange, context);
    let lesson = match admission {
        Some(admission) => admission.learn(route, task, id, &verdict.next, &verdict.detail, now),
        None => Lesson::superseded(&verdict.next, now),
    };
    let ended = Ended {
        started_at,
        took: Some(took),
        http_status: exchange.status(),
        timings: Some(timings),
        guarded,
        verdict: verdict.clone(),
    };
    let not_before = within_age(&route.retry, age_from, lesson.not_before);
    let timing = Timing { now, retry: &route.retry, random, not_before, age_from };
    After { conclusion: conclude::attempt(task, id, ended, timing), change: lesson.change, verdict }
}

/// What of a request is nobody's to read: of a header each word, because whoever refuses `Bearer TOKEN` names the token.
fn secrets(route: &Route) -> impl Iterator<Item = &str> {
    let headers = route.headers.iter().flat_map(|header| header.value.expose_secret().split(' '));
    let secrets = route.secrets.iter().map(ExposeSecret::expose_secret);
    secrets.chain(headers).filter(|secret| secret.len() >= SHORTEST_SECRET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::id::EventId;
    use talaria_proto::{
        time::{from_proto, to_proto},
        v1::{AttemptOutcome, DeliveryState, record::What},
    };

    #[test]
    fn a_route_that_is_gone_hides_no_attempt() {
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
        let Some(What::AttemptFinished(finished)) = first.record.what.clone() else { panic!() };
        assert_eq!(finished.attempt.unwrap().outcome(), AttemptOutcome::Interrupted);
        let then = without_route(first.task().unwrap(), id, false, now);
        let Some(What::DeliveryMoved(moved)) = then.record.what.clone() else { panic!() };
        let status = moved.status.unwrap();
        assert_eq!((status.state(), status.attempts, then.task().cloned()), (DeliveryState::Parked, 1, None));
    }

    #[test]
    fn what_a_route_met_that_is_configured_otherwise_since_is_tried_at_once_and_shuts_nothing() {
        use crate::{decisions::classify::Answer, testing::route};
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let id = DeliveryId::new(EventId::new("acme", "j", "t"), "video");
        let task = DeliveryTask { delivery_id: id.to_string(), generation: 1, ..DeliveryTask::default() };
        let route = route("");
        let after = |status, retry_after| {
            let exchange = Exchange::Answered(Answer { status, retry_after, ..Answer::default() });
            let (timings, guarded) = (Timings::default(), Vec::new());
            let sent = Sent { started_at: now, took: Duration::ZERO, exchange, timings, secret: 0, guarded };
            let in_hand = InHand { task: &task, id, route: &route, age_from: now };
            let after = after(in_hand, sent, None, now, 0.5);
            assert_eq!(after.change, None);
            let task = after.conclusion.task().unwrap().clone();
            (from_proto(task.due_at.as_ref()), task.counted_attempts)
        };
        for status in [401, 404, 413] {
            assert_eq!(after(status, None), (now, 0), "{status}");
        }
        let minute = Duration::from_secs(60);
        assert_eq!(after(429, Some(minute)), (talaria_core::time::after(now, minute), 0));
        let (next, counted) = after(500, None);
        assert!(next > now && counted == 1, "a failure has its pause, whoever failed");
    }
}
