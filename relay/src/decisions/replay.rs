//! Cancelled and replayed deliveries, and the rate of a replay job.

use crate::decisions::{
    audit::AuditInfo,
    conclude::{Conclusion, conclude},
};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::id::DeliveryId;
use talaria_core::time::after;
use talaria_proto::time::{from_proto, to_proto};
use talaria_proto::v1::{
    ControlAction, ControlKind, Delivery, DeliveryState, DeliveryTask, Event, ReplayJob,
};

/// The most replays in one commit, so that it stays small and delays nothing else.
const LARGEST_STEP: u32 = 100;

pub(crate) fn cancelled(task: &DeliveryTask, audit: &AuditInfo, now: Timestamp) -> Conclusion {
    let reason = audit.describe("cancelled");
    let conclusion = conclude(task.clone(), now, DeliveryState::Cancelled, reason, None);
    with_action(conclusion, audit, ControlKind::Cancelled)
}

/// Replays a delivery. It gets a new generation, so that Hermes runs it again; its schedule and its age start again; its
/// attempts are numbered on.
pub(crate) fn again(task: &DeliveryTask, audit: &AuditInfo, now: Timestamp) -> Conclusion {
    let task = DeliveryTask {
        generation: task.generation + 1,
        counted_attempts: 0,
        route_faults: 0,
        lost_attempt: 0,
        lost_at: None,
        slot_reserved: false,
        due_at: Some(to_proto(now)),
        age_from: Some(to_proto(now)),
        ..task.clone()
    };
    let conclusion = conclude(task, now, DeliveryState::Waiting, audit.describe("replayed"), None);
    with_action(conclusion, audit, ControlKind::Replayed)
}

/// The task of a delivery that was not planned, for [`again`].
pub(crate) fn unplanned(event: &Event, event_seq: u64, id: DeliveryId, route: &str) -> DeliveryTask {
    DeliveryTask {
        delivery_id: id.to_string(),
        event_seq,
        tenant: event.tenant.clone(),
        route: route.to_owned(),
        received_at: event.received_at,
        ..DeliveryTask::default()
    }
}

fn with_action(conclusion: Conclusion, audit: &AuditInfo, kind: ControlKind) -> Conclusion {
    let delivery = &conclusion.delivery;
    let action = audit.action(conclusion.at, kind, &delivery.tenant, &delivery.route);
    let action = ControlAction { delivery_id: delivery.id.clone(), ..action };
    Conclusion { action: Some(action), ..conclusion }
}

/// The task of a delivery that has ended, for [`again`].
pub(crate) fn ended(delivery: &Delivery, event_seq: u64, step: u32) -> DeliveryTask {
    DeliveryTask {
        delivery_id: delivery.id.clone(),
        event_seq,
        tenant: delivery.tenant.clone(),
        route: delivery.route.clone(),
        received_at: delivery.received_at,
        generation: delivery.generation,
        attempts: delivery.attempts,
        counted_attempts: delivery.counted_attempts,
        step,
        ..DeliveryTask::default()
    }
}

/// The number of replays in one step of a job, and the pause after it.
pub(crate) fn step(rate_per_minute: u32) -> (usize, Duration) {
    let count = (rate_per_minute / 60).clamp(1, LARGEST_STEP);
    let pause = Duration::from_secs(60) * count / rate_per_minute.max(1);
    (usize::try_from(count).unwrap_or(1), pause)
}

/// The time of a job's next step, computed from its record alone, so that another relay goes on at the same rate. A relay whose
/// clock is behind waits for one pause at most.
pub(crate) fn next_step(job: &ReplayJob, now: Timestamp) -> Timestamp {
    if job.cursor.is_none() {
        return now;
    }
    let (_, pause) = step(job.rate_per_minute);
    after(from_proto(job.updated_at.as_ref()), pause).min(after(now, pause))
}

/// A rate, divided in proportion to the matches of each part, with the remainder to those that lose most by rounding; at least 1
/// each, so that the sum may be a little higher.
pub(crate) fn divided(rate: u32, matching: &[u64]) -> Vec<u32> {
    let total: u128 = matching.iter().copied().map(u128::from).sum::<u128>().max(1);
    let exact = |count: u64| u128::from(rate) * u128::from(count);
    let floor = |count: u64| u32::try_from(exact(count) / total).unwrap_or(rate);
    let mut rates: Vec<u32> = matching.iter().map(|count| floor(*count)).collect();
    let mut rest = rate.saturating_sub(rates.iter().sum());
    let mut by_loss: Vec<_> = rates.iter_mut().zip(matching).collect();
    by_loss.sort_by_key(|(_, count)| std::cmp::Reverse(exact(**count) % total));
    for (rate, _) in by_loss {
        if rest > 0 {
            *rate += 1;
            rest -= 1;
        }
        *rate = (*rate).max(1);
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use talaria_core::time::before;
    use talaria_proto::v1::{DeliveryStatus, ReplayCursor, record::What};

    fn now() -> Timestamp {
        Timestamp::from_second(1_777_000_000).unwrap()
    }

    fn task() -> DeliveryTask {
        DeliveryTask {
            delivery_id: "dlv_x".into(),
            event_seq: 7,
            tenant: "acme".into(),
            route: "a".into(),
            generation: 2,
            attempts: 9,
            counted_attempts: 4,
            step: 11,
            lost_attempt: 8,
            slot_reserved: true,
            ..DeliveryTask::default()
        }
    }

    fn moved(conclusion: &Conclusion) -> (DeliveryStatus, ControlAction) {
        let Some(What::DeliveryMoved(moved)) = conclusion.clone().into_record().what else { panic!() };
        (moved.status.unwrap(), moved.action.unwrap())
    }

    fn audit(token: &str, reason: &str, job: &str) -> AuditInfo {
        AuditInfo { by: "ana".into(), token: token.into(), reason: reason.into(), job: job.into() }
    }

    #[test]
    fn a_replay_has_a_new_generation_and_starts_again() {
        let conclusion = again(&task(), &audit("", "Hermes is mended", ""), now());
        let next = conclusion.task.clone().unwrap();
        assert_eq!((next.generation, next.step, next.attempts, next.counted_attempts), (3, 12, 9, 0));
        assert_eq!((next.lost_attempt, next.slot_reserved), (0, false));
        assert_eq!(next.age_from, Some(to_proto(now())));
        assert_eq!(next.due_at, Some(to_proto(now())));
        let (status, action) = moved(&conclusion);
        assert_eq!((status.step, status.generation, status.state()), (12, 3, DeliveryState::Waiting));
        assert_eq!(status.next_attempt_at, Some(to_proto(now())));
        assert_eq!(status.reason, "replayed by ana: Hermes is mended");
        assert_eq!((action.kind(), action.delivery_id.as_str()), (ControlKind::Replayed, "dlv_x"));
        let (status, action) = moved(&again(&task(), &audit("ops", "x", ""), now()));
        assert_eq!(status.reason, "replayed by ana with token ops: x");
        assert_eq!((action.requested_by.as_str(), action.token_name.as_str()), ("ana", "ops"));
        let (status, action) = moved(&again(&task(), &audit("", "", "rpl_1"), now()));
        assert_eq!(
            (status.reason.as_str(), action.replay_job_id.as_str()),
            ("replayed by ana (rpl_1)", "rpl_1")
        );
    }

    #[test]
    fn a_cancelled_delivery_ends_and_tells_by_whom() {
        let conclusion = cancelled(&task(), &audit("", "", ""), now());
        let (status, action) = moved(&conclusion);
        assert_eq!(conclusion.task, None);
        assert_eq!((status.state(), status.step), (DeliveryState::Cancelled, 12));
        assert_eq!((status.reason.as_str(), action.kind()), ("cancelled by ana", ControlKind::Cancelled));
    }

    #[test]
    fn a_job_is_no_faster_than_its_rate() {
        for (rate, count, millis) in
            [(600, 10, 1_000), (60_000, 100, 100), (1, 1, 60_000), (90, 1, 666), (0, 1, 60_000)]
        {
            let (step, pause) = step(rate);
            assert_eq!((step, pause.as_millis()), (count, millis), "{rate}");
        }
        let updated_at = Some(to_proto(now()));
        let fresh = ReplayJob { rate_per_minute: 60, updated_at, ..ReplayJob::default() };
        assert_eq!(next_step(&fresh, now()), now());
        let begun = ReplayJob { cursor: Some(ReplayCursor::default()), ..fresh };
        let second = Duration::from_secs(1);
        assert_eq!(next_step(&begun, now()), after(now(), second));
        let late = after(now(), Duration::from_secs(500));
        assert!(next_step(&begun, late) < late, "at once");
        let early = before(now(), Duration::from_secs(500));
        assert_eq!(next_step(&begun, early), after(early, second), "a clock that is behind");
    }

    #[test]
    fn a_rate_is_divided_by_the_matches() {
        assert_eq!(divided(600, &[10]), [600]);
        assert_eq!(divided(600, &[1, 3]), [150, 450]);
        assert_eq!(divided(10, &[1, 1, 1]), [4, 3, 3], "nothing of it is lost");
        assert_eq!(divided(100, &[1_000_000, 1]), [100, 1], "the smallest goes on, too");
        assert_eq!(divided(1, &[5, 5, 5]), [1, 1, 1]);
        assert_eq!(divided(60_000, &[u64::MAX, u64::MAX]), [30_000, 30_000]);
        assert!(divided(1, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn a_divided_rate_is_the_rate(rate in 1_u32..60_000, matching in prop::collection::vec(1_u64..1_000_000, 1..64)) {
            let rates = divided(rate, &matching);
            let sum: u32 = rates.iter().sum();
            prop_assert!(rates.iter().all(|rate| *rate >= 1));
            prop_assert!(sum >= rate && sum < rate + 64, "{sum}");
            let mut by_count: Vec<_> = matching.iter().zip(&rates).collect();
            by_count.sort();
            let is_fair = |two: &[(&u64, &u32)]| two[0].0 == two[1].0 || two[0].1 <= two[1].1;
            prop_assert!(by_count.windows(2).all(is_fair), "a part with more matches is not slower");
        }
    }
}
