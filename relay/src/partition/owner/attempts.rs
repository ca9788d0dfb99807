//! Attempts under way, and the logs, traces and metrics of those that ended.

use super::Running;
use crate::partition::machine::{Account, Attempt, Outcome};
use metrics::{counter, gauge, histogram};
use opentelemetry::KeyValue;
use std::{sync::Arc, time::Duration};
use talaria_core::time::since;
use talaria_proto::time::from_proto;
use talaria_proto::v1::{AttemptOutcome, DeliveryState, Event};
use talaria_telemetry::trace::{Span, trace_id};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

/// The most ended attempts in one batch: hundreds of timeouts at once must not delay the plans and requests of others.
const BATCH: usize = 32;

pub(super) struct EndedAttempt {
    pub(super) attempt: Box<Attempt>,
    pub(super) outcome: Outcome,
    pub(super) span: Span,
    /// `None` if it is not kept any more.
    pub(super) event: Option<Arc<Event>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

pub(super) struct RunningAttempts {
    pub(super) give_up: CancellationToken,
    pub(super) ended: mpsc::UnboundedSender<EndedAttempt>,
    pub(super) endings: mpsc::UnboundedReceiver<EndedAttempt>,
}

impl Drop for RunningAttempts {
    fn drop(&mut self) {
        // The next owner marks them as interrupted.
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
            let sent = tokio::select! {
                biased;
                // The attempt stays under way in the journal, and the next owner marks it as interrupted.
                () = give_up.cancelled() => None,
                sent = sender.send(attempt, event, permit) => Some(sent),
            };
            if let Some(sent) = sent {
                // The owner may have gone.
                let _ = ended.send(sent);
            }
            gauge!("talaria_deliveries_in_hand").decrement(1);
        });
    }

    /// Concludes this ended attempt, and others that have ended already.
    pub(super) fn attempts_ended(&mut self, first: EndedAttempt) {
        let mut next = Some(first);
        let mut count = 0;
        while let Some(ended) = next {
            self.attempt_ended(ended);
            count += 1;
            let more = count < BATCH && self.machine.has_room(0);
            next = if more { self.attempts.endings.try_recv().ok() } else { None };
        }
    }

    fn attempt_ended(&mut self, ended: EndedAttempt) {
        let EndedAttempt { attempt, outcome, mut span, event, _permit } = ended;
        let now = self.now();
        let not_sent = outcome.as_ref().err().cloned();
        let was_sent = not_sent.is_none();
        let (http_status, took) =
            outcome.as_ref().map_or((None, Duration::ZERO), |sent| (sent.exchange.status(), sent.took));
        let Some(Account { task, attempt, ended }) =
            self.machine.ended(&attempt, outcome, now, rand::random())
        else {
            return;
        };
        let outcome = attempt.as_ref().map_or("not_sent", |(outcome, _)| outcome.name());
        if let Some((ended_as, _)) = &attempt {
            span.set_attributes(|| {
                let status =
                    http_status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
                [KeyValue::new("talaria.outcome", outcome)].into_iter().chain(status).collect()
            });
            if is_failure(*ended_as) {
                span.fail(outcome);
            }
            counter!("talaria_attempts_total", "outcome" => outcome).increment(1);
        }
        // From the replay, if there was one.
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
            detail = not_sent.or(attempt.map(|(_, detail)| detail)),
            state = ended.unwrap_or(DeliveryState::Waiting).name(),
            age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            trace = traceparent.as_deref().and_then(trace_id),
            "attempt"
        );
        if was_sent {
            histogram!("talaria_attempt_seconds").record(took);
        }
        if ended.is_some() {
            if !self.machine.waits(task.event_seq) {
                self.tools.recent.remove(task.event_seq);
            }
            histogram!("talaria_delivery_seconds").record(since(now, from_proto(task.received_at.as_ref())));
        }
    }
}

fn is_failure(outcome: AttemptOutcome) -> bool {
    use AttemptOutcome::{AnswerLost, Failed, NotUnderstood, RateLimited, RouteFault};
    matches!(outcome, AnswerLost | Failed | NotUnderstood | RateLimited | RouteFault)
}
