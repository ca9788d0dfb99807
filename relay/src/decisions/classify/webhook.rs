//! The answers of a webhook's receiver, as Standard Webhooks say: 2xx is success, and 410 asks for nothing more.
//!
//! The receiver tells a repetition by its id, so the id stays the same whatever the answer to an earlier attempt was.

use super::{Context, IdAfter, Next, Verdict, failed, fault, redirects};
use crate::decisions::exchange::Answer;
use std::time::Duration;
use talaria_proto::v1::AttemptOutcome;

pub(super) fn answered(answer: &Answer, context: Context<'_>) -> Verdict {
    let status = answer.status;
    let with_body = |text: &str| context.with_body(text, answer);
    match status {
        200..=299 => Verdict {
            outcome: AttemptOutcome::Accepted,
            detail: format!("{status}: the receiver took it"),
            next: Next::Delivered,
        },
        300..=399 => redirects(
            answer,
            context,
            ", which is not followed; set the route's url to where the receiver is",
        ),
        401 | 403 => refused(with_body(&format!(
            "{status}: the receiver does not accept the request; compare the route's secret"
        ))),
        404 | 405 | 410 => refused(with_body(&format!(
            "{status}: the receiver takes no webhooks there; compare the route's url"
        ))),
        502 | 504 | 520..=599 => {
            lost(with_body(&format!("{status} from a gateway in front of the receiver")), answer.retry_after)
        }
        _ => failed(with_body(&status.to_string()), answer.retry_after, IdAfter::Unused),
    }
}

fn refused(detail: String) -> Verdict {
    fault(detail, IdAfter::Unused)
}

pub(super) fn lost(detail: String, retry_after: Option<Duration>) -> Verdict {
    let next = Next::Retry { retry_after, id: IdAfter::Unused };
    Verdict { outcome: AttemptOutcome::AnswerLost, detail, next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::{classify::classify, exchange::Exchange};

    const CONTEXT: Context<'_> = Context {
        is_webhook: true,
        deliver_only: false,
        idempotency_key: "dlv_x.1",
        lost_attempt: Some(1),
        other_secret: false,
        secrets: &["whsec_hidden"],
    };

    #[test]
    fn every_answer_of_a_receiver() {
        use AttemptOutcome as O;
        let fault = Next::RouteFault { id: IdAfter::Unused };
        let retry = |retry_after| Next::Retry { retry_after, id: IdAfter::Unused };
        for (status, expected) in [
            (200, (O::Accepted, Next::Delivered)),
            (204, (O::Accepted, Next::Delivered)),
            (301, (O::RouteFault, fault.clone())),
            (401, (O::RouteFault, fault.clone())),
            (404, (O::RouteFault, fault.clone())),
            (410, (O::RouteFault, fault)),
            (400, (O::Failed, retry(None))),
            (429, (O::Failed, retry(None))),
            (500, (O::Failed, retry(None))),
            (502, (O::AnswerLost, retry(None))),
        ] {
            let answer = Answer { status, body: "whsec_hidden".into(), ..Answer::default() };
            let verdict = classify(&Exchange::Answered(answer), CONTEXT);
            assert_eq!((verdict.outcome, verdict.next), expected, "{status}");
            assert!(verdict.detail.starts_with(&status.to_string()), "{}", verdict.detail);
            assert!(!verdict.detail.contains("hidden"), "{}", verdict.detail);
        }
        let later = Some(Duration::from_secs(9));
        let answer = Answer { status: 429, retry_after: later, ..Answer::default() };
        assert_eq!(classify(&Exchange::Answered(answer), CONTEXT).next, retry(later));
        let lost = classify(&Exchange::Lost("closed".into()), CONTEXT);
        assert_eq!((lost.outcome, lost.next), (O::AnswerLost, retry(None)));
    }
}
