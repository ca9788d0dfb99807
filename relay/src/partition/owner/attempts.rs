//! Attempts that are under way, and what logs, traces and metrics say of those that ended.

use super::Running;
use crate::{
    delivery::attempt::Made,
    partition::machine::{Account, Attempt, Outcome},
};
use metrics::{counter, gauge, histogram};
use opentelemetry::KeyValue;
use talaria_core::time::since;
use talaria_proto::{
    time::from_proto,
    v1::{AttemptOutcome, DeliveryState},
};
use talaria_telemetry::trace::trace_id;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

/// Ended attempts that are taken in one go: when hundreds of timeouts fall together, what is planned and sent for others
/// does not wait for all of them.
const ENDED: usize = 32;

/// An attempt that has ended.
pub(super) struct AttemptEnded {
    attempt: Box<Attempt>,
    made: Made,
    _permit: OwnedSemaphorePermit,
}

/// Attempts that are under way.
pub(super) struct Attempts {
    pub(super) give_up: CancellationToken,
    pub(super) ended: mpsc::UnboundedSender<AttemptEnded>,
    pub(super) endings: mpsc::UnboundedReceiver<AttemptEnded>,
}

impl Drop for Attempts {
    fn drop(&mut self) {
        // What the journal says about them is for the next owner to find out.
        self.give_up.cancel();
    }
}

impl Running {
    pub(super) fn attempt(&mut self, attempt: Box<Attempt>) {
        // Attempts and permits are in the same order.
        let Some(permit) = self.promised.pop_front() else { return };
        let (sender, ended) = (self.tools.sender.clone(), self.attempts.ended.clone());
        let (give_up, event) = (self.attempts.give_up.clone(), self.tools.recent.get(attempt.key.event_seq));
        gauge!("talaria_deliveries_in_hand").increment(1);
        tokio::spawn(async move {
            let made = tokio::select! {
                biased;
                // What is given up stays under way for the next owner, which marks it as interrupted.
                () = give_up.cancelled() => None,
                made = sender.send(&attempt, event) => Some(made),
            };
            if let Some(made) = made {
                // The owner may have gone.
                let _ = ended.send(AttemptEnded { attempt, made, _permit: permit });
            }
            gauge!("talaria_deliveries_in_hand").decrement(1);
        });
    }

    /// Takes attempts that ended: this one, and some that are there already.
    pub(super) fn attempts_ended(&mut self, first: AttemptEnded) {
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(AttemptEnded { attempt, made, _permit }) = next {
            self.attempt_ended(&attempt, made);
            taken += 1;
            let more = taken < ENDED && self.machine.has_room(0);
            next = if more { self.attempts.endings.try_recv().ok() } else { None };
        }
    }

    fn attempt_ended(&mut self, attempt: &Attempt, made: Made) {
        let Made { outcome, mut span, http_status, took, event } = made;
        let now = self.now();
        let not_sent = match &outcome {
            Outcome::NotSent(why) => Some(why.clone()),
            Outcome::Sent(_) => None,
        };
        let was_sent = not_sent.is_none();
        let Some(Account { task, verdict, ended }) =
            self.machine.ended(attempt, outcome, now, rand::random())
        else {
            return;
        };
        let outcome = verdict.as_ref().map_or("not_sent", |verdict| outcome_name(verdict.outcome));
        if let Some(verdict) = &verdict {
            span.set_attributes(|| {
                let status =
                    http_status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
                [KeyValue::new("talaria.outcome", outcome)].into_iter().chain(status).collect()
            });
            if is_failure(verdict.outcome) {
                span.fail(outcome);
            }
            counter!("talaria_attempts_total", "outcome" => outcome).increment(1);
        }
        // What was replayed counts from then on.
        let age = since(now, from_proto(task.age_from.as_ref().or(task.received_at.as_ref())));
        let traceparent = span.traceparent();
        tracing::info!(
            delivery = task.delivery_id,
            tenant = task.tenant,
            route = task.route,
            kind = event.as_ref().map(|event| event.r#type.as_str()),
            attempt = task.attempts + 1,
            outcome,
            http_status,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            detail = not_sent.or(verdict.map(|verdict| verdict.detail)),
            state = ended.unwrap_or(DeliveryState::Waiting).name(),
            age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            trace = traceparent.as_deref().and_then(trace_id),
            "attempt"
        );
        if was_sent {
            histogram!("talaria_attempt_seconds").record(took);
        }
        if let Some(state) = ended {
            if !self.machine.waits(task.event_seq) {
                self.tools.recent.remove(task.event_seq);
            }
            counter!("talaria_deliveries_total", "state" => state.name()).increment(1);
            histogram!("talaria_delivery_seconds").record(since(now, from_proto(task.received_at.as_ref())));
        }
    }
}

/// The contract's name, in lower case and without what all of them begin with.
fn outcome_name(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Unspecified => "unspecified",
        AttemptOutcome::Accepted => "accepted",
        AttemptOutcome::Delivered => "delivered",
        AttemptOutcome::Duplicate => "duplicate",
        AttemptOutcome::Ignored => "ignored",
        AttemptOutcome::RateLimited => "rate_limited",
        AttemptOutcome::RouteFault => "route_fault",
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::AnswerLost => "answer_lost",
        AttemptOutcome::Interrupted => "interrupted",
        AttemptOutcome::NotUnderstood => "not_understood",
    }
}

fn is_failure(outcome: AttemptOutcome) -> bool {
    use AttemptOutcome::{AnswerLost, Failed, NotUnderstood, RateLimited, RouteFault};
    matches!(outcome, AnswerLost | Failed | NotUnderstood | RateLimited | RouteFault)
}
