//! What Hermes' answer means.
//!
//! The rules were measured against hermes-agent 0.19.0 and are tested against it. The ones that are easy to get
//! wrong:
//!
//! - 200 says nothing by itself: it is `delivered`, `duplicate` or `ignored`, and the `status` member decides.
//! - `duplicate` means that Hermes has seen this id in the last hour. On a route with an agent that is success.
//!   On a `deliver_only` route the id was recorded before the delivery ran, so it is success only if an earlier
//!   attempt of ours went unanswered; otherwise nobody can say, and we do not pretend to.
//! - Hermes' own 502 says that a `deliver_only` delivery failed, for certain, and that its id is used up: the
//!   next attempt needs a new one. A 502 of a proxy says nothing of the kind, and the next attempt needs the
//!   same one.
//! - 429 is about our pace and not about the delivery.

use serde::Deserialize;
use std::time::Duration;
use talaria_proto::v1::AttemptOutcome;

/// How much of an answer is shown.
const SHOWN: usize = 200;

/// What is shown instead of a secret.
const HIDDEN: &str = "(secret)";

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// It was not sent: no address, no connection, no TLS.
    NotSent(String),
    /// It was not sent, because the tenant does not allow where it would go.
    NotAllowed(String),
    /// It may have been sent, and no whole answer came back.
    Lost(String),
    /// An answer came.
    Answered(Answer),
}

impl Exchange {
    /// The HTTP status, where an answer came.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::NotSent(_) | Self::NotAllowed(_) | Self::Lost(_) => None,
        }
    }
}

/// An HTTP answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Retry-After, from now.
    pub retry_after: Option<Duration>,
    /// Location, of a redirect.
    pub location: Option<String>,
    /// The body, up to a cap.
    pub body: Vec<u8>,
    /// Why there is not all of it, if there is not.
    pub cut_short: Option<String>,
}

/// What is known of the delivery before the exchange.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Whether the route delivers without an agent.
    pub deliver_only: bool,
    /// What Hermes saw as the delivery's id.
    pub idempotency_key: &'a str,
    /// The earlier attempt under the same id whose answer was lost, if there was one.
    pub lost_attempt: Option<u32>,
    /// Whether the route has another secret that Hermes has not refused.
    pub other_secret: bool,
    /// What went along and is nobody's to read: an answer may repeat it.
    pub secrets: &'a [&'a str],
}

impl Context<'_> {
    /// A stranger's text, on one line, not too long, and without our secrets.
    fn shown(&self, text: &str) -> String {
        // Before it is cut off, which could leave half a secret.
        let text = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
        let mut shown: String =
            text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if text.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        shown
    }

    fn with_body(&self, text: &str, answer: &Answer) -> String {
        let body = String::from_utf8_lossy(&answer.body);
        if body.trim().is_empty() { text.to_owned() } else { format!("{text}: {}", self.shown(body.trim())) }
    }
}

/// What to make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the attempt came to.
    pub outcome: AttemptOutcome,
    /// What happened, in one sentence.
    pub detail: String,
    /// What follows.
    pub next: Next,
}

/// What follows from an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Hermes took it.
    Delivered,
    /// Hermes declined it.
    Ignored,
    /// Nobody can say.
    Ambiguous,
    /// Too fast: again when the pace allows, and it was no attempt.
    Slower {
        /// What Hermes, or a proxy, asked for.
        retry_after: Option<Duration>,
    },
    /// The route is misconfigured: its deliveries wait, and it was no attempt.
    RouteFault,
    /// Hermes may have another of the route's secrets: again at once with that one, and it was no attempt.
    OtherSecret,
    /// Again by the schedule.
    Retry {
        /// What Hermes, or a proxy, asked for.
        retry_after: Option<Duration>,
        /// What this attempt tells about its id.
        id: IdAfter,
    },
}

/// What a failed attempt tells about the id that it was sent under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdAfter {
    /// Hermes has not recorded it.
    Unused,
    /// Hermes may have recorded it, and the agent may have run.
    Unknown,
    /// Hermes has recorded it, and nothing was delivered.
    UsedUp,
}

/// The members of Hermes' answers that matter.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    status: Option<String>,
    reason: Option<String>,
    event: Option<String>,
    error: Option<String>,
    delivery_id: Option<String>,
}

/// What an exchange means.
pub fn classify(exchange: &Exchange, context: Context<'_>) -> Verdict {
    match exchange {
        Exchange::NotSent(why) => failed(format!("not sent: {why}"), None, IdAfter::Unused),
        // Waiting does not help; whoever mends it should not find all attempts used up.
        Exchange::NotAllowed(why) => fault(format!("not sent: {why}")),
        Exchange::Lost(why) => lost(format!("no answer: {why}"), None),
        Exchange::Answered(answer) => answered(answer, context),
    }
}

fn answered(answer: &Answer, context: Context<'_>) -> Verdict {
    let status = answer.status;
    let body: Body = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (status, &answer.cut_short) {
        (200..=299, Some(why)) => lost(format!("{status}, but its body did not arrive whole: {why}"), None),
        (200..=299, None) => taken(answer, &body, context),
        (300..=399, _) => {
            let target =
                answer.location.as_deref().map_or(String::new(), |to| format!(" to {}", context.shown(to)));
            fault(format!(
                "{status}: redirects{target}, which is not followed; set the route's url to where Hermes is"
            ))
        }
        (401, _) if context.other_secret => Verdict {
            outcome: AttemptOutcome::RouteFault,
            detail: context
                .with_body("401: Hermes does not accept this secret; the route's next one is tried", answer),
            next: Next::OtherSecret,
        },
        (401, _) => fault(
            context
                .with_body("401: Hermes does not accept the signature; compare the route's secret", answer),
        ),
        (403..=405, _) => {
            fault(context.with_body(&format!("{status}: Hermes does not serve this route"), answer))
        }
        (413, _) => fault(context.with_body("413: longer than Hermes takes; compare max_body_bytes", answer)),
        (429, _) => Verdict {
            outcome: AttemptOutcome::RateLimited,
            detail: "429: faster than Hermes allows".into(),
            next: Next::Slower { retry_after: answer.retry_after },
        },
        (502, None) if is_hermes_failure(&body, context) => {
            failed("502: Hermes could not deliver it".into(), answer.retry_after, IdAfter::UsedUp)
        }
        // A gateway in between gave up on Hermes, which may have gone on.
        (502 | 504 | 520..=599, _) => lost(
            context.with_body(&format!("{status} from a gateway in front of Hermes"), answer),
            answer.retry_after,
        ),
        // Hermes answers 500 and 400 before it records the id.
        _ => failed(context.with_body(&status.to_string(), answer), answer.retry_after, IdAfter::Unused),
    }
}

/// A 2xx answer that arrived whole.
fn taken(answer: &Answer, body: &Body, context: Context<'_>) -> Verdict {
    let status = answer.status;
    let foreign = body.delivery_id.as_deref().filter(|id| *id != context.idempotency_key);
    let beside = foreign.map_or(String::new(), |id| {
        format!(
            "; it saw the id {:?} instead of ours, so something in between rewrites headers",
            context.shown(id)
        )
    });
    match body.status.as_deref() {
        Some("accepted") => Verdict {
            outcome: AttemptOutcome::Accepted,
            detail: format!("{status} accepted: queued for the agent{beside}"),
            next: Next::Delivered,
        },
        Some("delivered") => {
            let hint = if context.deliver_only {
                ""
            } else {
                "; the route is deliver_only at Hermes: say so in its configuration"
            };
            Verdict {
                outcome: AttemptOutcome::Delivered,
                detail: format!("{status} delivered{hint}{beside}"),
                next: Next::Delivered,
            }
        }
        Some("ignored") => {
            let by = match (&body.reason, &body.event) {
                (Some(reason), _) => format!("by its {}", context.shown(reason)),
                (None, Some(event)) => format!("because {} is not in its events", context.shown(event)),
                (None, None) => "without a reason".into(),
            };
            Verdict {
                outcome: AttemptOutcome::Ignored,
                detail: format!("{status} ignored {by}"),
                next: Next::Ignored,
            }
        }
        Some("duplicate") => duplicate(status, foreign.is_some(), &beside, context),
        _ => Verdict {
            outcome: AttemptOutcome::NotUnderstood,
            detail: context.with_body(&format!("{status}, but not one of Hermes' answers"), answer),
            next: Next::Ambiguous,
        },
    }
}

fn duplicate(status: u16, foreign: bool, beside: &str, context: Context<'_>) -> Verdict {
    let (meaning, next) = match context.lost_attempt {
        _ if foreign => (beside.trim_start_matches("; ").to_owned(), Next::Ambiguous),
        Some(attempt) => {
            (format!("Hermes has had it since attempt {attempt}, whose answer was lost"), Next::Delivered)
        }
        None if context.deliver_only => (
            "Hermes has seen the id, but every earlier attempt was answered and none delivered it".into(),
            Next::Ambiguous,
        ),
        None => ("Hermes has had it before".into(), Next::Delivered),
    };
    Verdict { outcome: AttemptOutcome::Duplicate, detail: format!("{status} duplicate: {meaning}"), next }
}

/// Hermes' own 502, and for this very request.
fn is_hermes_failure(body: &Body, context: Context<'_>) -> bool {
    body.status.as_deref() == Some("error")
        && body.error.as_deref() == Some("Delivery failed")
        && body.delivery_id.as_deref() == Some(context.idempotency_key)
}

fn fault(detail: String) -> Verdict {
    Verdict { outcome: AttemptOutcome::RouteFault, detail, next: Next::RouteFault }
}

fn failed(detail: String, retry_after: Option<Duration>, id: IdAfter) -> Verdict {
    Verdict { outcome: AttemptOutcome::Failed, detail, next: Next::Retry { retry_after, id } }
}

fn lost(detail: String, retry_after: Option<Duration>) -> Verdict {
    let next = Next::Retry { retry_after, id: IdAfter::Unknown };
    Verdict { outcome: AttemptOutcome::AnswerLost, detail, next }
}

#[cfg(test)]
mod tests;
