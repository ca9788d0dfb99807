//! What an operator does to deliveries: calling off, sending again, and how fast many are sent again.

use crate::decisions::conclude::{Conclusion, conclude};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{id::DeliveryId, time::after};
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{
        ControlAction, ControlKind, Delivery, DeliveryState, DeliveryTask, Event, Record, ReplayJob,
        record::What,
    },
};

/// The most that are replayed in one commit, so that it stays small and nothing else waits for it.
const LARGEST_STEP: u32 = 100;

/// The request of an operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    /// When.
    pub now: Timestamp,
    /// Who, as they call themselves.
    pub by: &'a str,
    /// The name of the token that they showed, or empty.
    pub token: &'a str,
    /// Why; may be empty.
    pub reason: &'a str,
    /// The replay job that does it, or empty.
    pub job: &'a str,
}

impl Wish<'_> {
    /// What is journalled of it.
    pub(crate) fn action(&self, kind: ControlKind, tenant: &str, route: &str) -> ControlAction {
        ControlAction {
            kind: kind.into(),
            at: Some(to_proto(self.now)),
            requested_by: self.by.to_owned(),
            token_name: self.token.to_owned(),
            reason: self.reason.to_owned(),
            tenant: tenant.to_owned(),
            route: route.to_owned(),
            delivery_id: String::new(),
            replay_job_id: self.job.to_owned(),
        }
    }

    /// "cancelled by ana with token ops: no longer wanted".
    pub(crate) fn told(&self, what: &str) -> String {
        let by = who(self.by, self.token);
        match (self.job, self.reason) {
            ("", "") => format!("{what} by {by}"),
            ("", reason) => format!("{what} by {by}: {reason}"),
            (job, _) => format!("{what} by {by} ({job})"),
        }
    }
}

/// "ana", or "ana with token ops": as they call themselves, and what was verified of them.
pub fn who(requested_by: &str, token_name: &str) -> String {
    match token_name {
        "" => requested_by.to_owned(),
        token => format!("{requested_by} with token {token}"),
    }
}

/// A delivery that is called off.
pub(crate) fn cancelled(task: &DeliveryTask, wish: Wish<'_>) -> Conclusion {
    let conclusion = conclude(task.clone(), wish.now, DeliveryState::Cancelled, wish.told("cancelled"), None);
    signed(conclusion, task, wish, ControlKind::Cancelled)
}

/// A delivery that is sent again. Hermes has to take it for a new one, so it has a new id; its schedule and its age begin
/// anew; its attempts are counted on, so that each keeps its number.
pub(crate) fn again(task: &DeliveryTask, wish: Wish<'_>) -> Conclusion {
    let task = DeliveryTask {
        generation: task.generation + 1,
        counted_attempts: 0,
        route_faults: 0,
        lost_attempt: 0,
        lost_at: None,
        slot_reserved: false,
        due_at: Some(to_proto(wish.now)),
        age_from: Some(to_proto(wish.now)),
        ..task.clone()
    };
    let conclusion = conclude(task.clone(), wish.now, DeliveryState::Waiting, wish.told("replayed"), None);
    signed(conclusion, &task, wish, ControlKind::Replayed)
}

/// A delivery to a route that did not want its event when that came: as `again` makes it, it is its first one.
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

/// With who asked for it.
fn signed(mut conclusion: Conclusion, task: &DeliveryTask, wish: Wish<'_>, kind: ControlKind) -> Conclusion {
    if let Some(What::DeliveryMoved(moved)) = &mut conclusion.record.what {
        let action = wish.action(kind, &task.tenant, &task.route);
        moved.action = Some(ControlAction { delivery_id: task.delivery_id.clone(), ..action });
    }
    conclusion
}

/// A delivery that has ended, as the task that it was.
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

/// How many a job replays in one go, and how long it then waits.
pub(crate) fn step(rate_per_minute: u32) -> (usize, Duration) {
    let count = (rate_per_minute / 60).clamp(1, LARGEST_STEP);
    let pause = Duration::from_secs(60) * count / rate_per_minute.max(1);
    (usize::try_from(count).unwrap_or(1), pause)
}

/// When a job goes on: told by what is journalled of it alone, so that another relay goes on no faster. Should that
/// relay's clock be behind, it waits no longer than one pause.
pub(crate) fn next_step(job: &ReplayJob, now: Timestamp) -> Timestamp {
    if job.cursor.is_none() {
        return now;
    }
    let (_, pause) = step(job.rate_per_minute);
    after(from_proto(job.updated_at.as_ref()), pause).min(after(now, pause))
}

/// A record that is about no event.
pub(crate) fn record(now: Timestamp, what: What) -> Record {
    Record { at: Some(to_proto(now)), event_seq: 0, what: Some(what) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::time::before;
    use talaria_proto::v1::{DeliveryStatus, ReplayCursor};

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
        let Some(What::DeliveryMoved(moved)) = conclusion.record.what.clone() else { panic!() };
        (moved.status.unwrap(), moved.action.unwrap())
    }

    const WISH: Wish<'_> = Wish { now: Timestamp::UNIX_EPOCH, by: "ana", token: "", reason: "", job: "" };

    #[test]
    fn what_is_sent_again_has_a_new_id_and_begins_anew() {
        let wish = Wish { now: now(), reason: "Hermes is mended", ..WISH };
        let conclusion = again(&task(), wish);
        let next = conclusion.task().cloned().unwrap();
        assert_eq!((next.generation, next.step, next.attempts, next.counted_attempts), (3, 12, 9, 0));
        assert_eq!((next.lost_attempt, next.slot_reserved), (0, false));
        assert_eq!(next.age_from, Some(to_proto(now())));
        assert_eq!(next.due_at, Some(to_proto(now())));
        let (status, action) = moved(&conclusion);
        assert_eq!((status.step, status.generation, status.state()), (12, 3, DeliveryState::Waiting));
        assert_eq!(status.next_attempt_at, Some(to_proto(now())));
        assert_eq!(status.reason, "replayed by ana: Hermes is mended");
        assert_eq!((action.kind(), action.delivery_id.as_str()), (ControlKind::Replayed, "dlv_x"));
        let with_token = Wish { now: now(), token: "ops", reason: "x", ..WISH };
        let (status, action) = moved(&again(&task(), with_token));
        assert_eq!(status.reason, "replayed by ana with token ops: x");
        assert_eq!((action.requested_by.as_str(), action.token_name.as_str()), ("ana", "ops"));
        let (status, action) = moved(&again(&task(), Wish { now: now(), job: "rpl_1", ..WISH }));
        assert_eq!(
            (status.reason.as_str(), action.replay_job_id.as_str()),
            ("replayed by ana (rpl_1)", "rpl_1")
        );
    }

    #[test]
    fn what_is_called_off_ends_and_says_by_whom() {
        let conclusion = cancelled(&task(), Wish { now: now(), ..WISH });
        let (status, action) = moved(&conclusion);
        assert_eq!(conclusion.task(), None);
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
}
