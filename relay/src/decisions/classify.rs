//! The meaning of Hermes' answers.
//!
//! The rules were measured with hermes-agent 0.19.0 and are tested against it; the answers of newer states of its main branch
//! are read from their source. The rules that are easy to get wrong:
//!
//! - 200 means nothing by itself: the `status` member decides between `delivered`, `duplicate` and `ignored`, whatever the
//!   other members are.
//! - A 2xx answer that is no JSON object is not from Hermes: it is the page of a proxy or a parked domain, or another program
//!   on that port. Every delivery would get it, so it is a fault of the route. Hermes may have been reached behind it. A JSON
//!   object with another `status` may be from an unknown version of Hermes, and stays ambiguous.
//! - `duplicate` means that Hermes has seen this id in the last hour. On a route with an agent that is success.
//!   On a `deliver_only` route the id was recorded before the delivery ran, so it is success only if an earlier
//!   attempt of ours went unanswered; otherwise it is ambiguous.
//! - Hermes' own 502 means that a `deliver_only` delivery failed for certain and that its id is used up: the next attempt
//!   needs a new id. After a 502 of a proxy the outcome is unknown, and the next attempt needs the same id.
//! - 429 is about our pace and not about the delivery.
//!
//! [`webhook`]: the answers of other programs.

mod webhook;

use super::{
    exchange::{Answer, CutShort, Exchange},
    mask::HIDDEN,
};
use std::{borrow::Cow, time::Duration};
use talaria_core::json::{Document, Value, parse, print::python_str};
use talaria_proto::v1::AttemptOutcome;

/// The longest part of an answer that is quoted, in characters.
const LONGEST_QUOTE: usize = 200;

/// The length in bytes of the longest indivisible JSON token, `-Infinity` or an escape. In a text that was cut off, an error
/// this close to the end may come from the cut.
const LONGEST_TOKEN: usize = 12;

/// The delivery before the exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// Whether the route is a webhook, which is not Hermes'.
    pub is_webhook: bool,
    /// Whether the route delivers without an agent.
    pub deliver_only: bool,
    /// The delivery's id in the request.
    pub idempotency_key: &'a str,
    /// The earlier attempt under the same id whose answer was lost, if there was one.
    pub lost_attempt: Option<u32>,
    /// Whether the route has another secret, which Hermes has not refused.
    pub other_secret: bool,
    /// The secrets of the request: an answer may repeat them.
    pub secrets: &'a [&'a str],
}

impl Context<'_> {
    /// Text from the answer on one line, shortened, and without our secrets.
    fn sanitize(&self, text: &str) -> String {
        // Secrets go first: shortening could leave half of one.
        let text = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
        let mut quote: String =
            text.chars().take(LONGEST_QUOTE).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if text.chars().nth(LONGEST_QUOTE).is_some() {
            quote.push('…');
        }
        quote
    }

    fn with_body(&self, text: &str, answer: &Answer) -> String {
        match self.body(answer) {
            Some(body) => format!("{text}: {body}"),
            None => text.to_owned(),
        }
    }

    fn body(&self, answer: &Answer) -> Option<String> {
        if let Some(CutShort::Unreadable(why)) = &answer.cut_short {
            return Some(format!("its body cannot be read: {}", self.sanitize(why)));
        }
        let body = String::from_utf8_lossy(&answer.body);
        let body = body.trim_start_matches(BOM).trim();
        (!body.is_empty()).then(|| self.sanitize(body))
    }
}

const BOM: char = '\u{FEFF}';

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub outcome: AttemptOutcome,
    /// One sentence.
    pub detail: String,
    pub next: Next,
}

/// The consequence of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Delivered,
    Ignored,
    Ambiguous,
    /// Too fast: retried when the pace allows, and not counted.
    Slower {
        /// Asked for by Hermes or a proxy.
        retry_after: Option<Duration>,
    },
    /// The route is misconfigured: its deliveries wait, and the attempt is not counted.
    RouteFault {
        id: IdAfter,
    },
    /// Hermes may have another of the route's secrets: retried at once with that one, and not counted.
    OtherSecret,
    /// Retried by the schedule.
    Retry {
        /// Asked for by Hermes or a proxy.
        retry_after: Option<Duration>,
        id: IdAfter,
    },
}

/// The state of an id at Hermes after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdAfter {
    /// Hermes has not recorded it.
    Unused,
    /// Hermes may have recorded it, and the agent may have run.
    Unknown,
    /// Hermes has recorded it, and nothing was delivered.
    UsedUp,
}

/// The members of an answer, if it is a JSON object.
struct Members(Option<Document>);

impl Members {
    fn of(answer: &Answer) -> Self {
        let document = parse(String::from_utf8_lossy(&answer.body).as_bytes()).ok();
        Self(document.filter(|document| document.root().as_object().is_some()))
    }

    /// A member that is a string.
    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        Some(self.0.as_ref()?.root().get(name)?.as_text()?.to_str_lossy())
    }

    fn is(&self, name: &str, text: &str) -> bool {
        self.text(name).as_deref() == Some(text)
    }

    /// A member of any type as Python prints it; `None` for null.
    fn described(&self, name: &str) -> Option<String> {
        let member = self.0.as_ref()?.root().get(name).filter(|member| !matches!(member, Value::Null))?;
        Some(python_str(member).to_str_lossy().into_owned())
    }
}

/// The origin of a 2xx answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A JSON object.
    Hermes,
    /// Anything else, by its beginning.
    Foreign,
    /// The answer broke off too early.
    Unknown,
}

fn origin(answer: &Answer, members: &Members) -> Origin {
    let text = String::from_utf8_lossy(&answer.body);
    let start = text.trim_start_matches(BOM).trim_start();
    let may_be_object = start.is_empty() || start.starts_with('{');
    match &answer.cut_short {
        // A retry is safe: Hermes recognizes its id.
        Some(CutShort::BrokenOff(_)) if may_be_object => Origin::Unknown,
        _ if members.0.is_some() => Origin::Hermes,
        // An object that was cut off counts as one if there is no error before the cut.
        Some(CutShort::TooLong(_)) if start.starts_with('{') => match parse(text.as_bytes()) {
            Err(fault) if fault.offset + LONGEST_TOKEN < text.len() => Origin::Foreign,
            _ => Origin::Hermes,
        },
        _ => Origin::Foreign,
    }
}

pub(crate) fn classify(exchange: &Exchange, context: Context<'_>) -> Verdict {
    match exchange {
        Exchange::NotSent(why) => failed(format!("not sent: {why}"), None, IdAfter::Unused),
        // Only the operator can mend this, so no attempt is counted.
        Exchange::NotAllowed(why) => fault(format!("not sent: {why}"), IdAfter::Unused),
        Exchange::Lost(why) if context.is_webhook => webhook::lost(format!("no answer: {why}"), None),
        Exchange::Answered(answer) if context.is_webhook => webhook::answered(answer, context),
        Exchange::Lost(why) => lost(format!("no answer: {why}"), None),
        Exchange::Answered(answer) => answered(answer, context),
    }
}

fn answered(answer: &Answer, context: Context<'_>) -> Verdict {
    let status = answer.status;
    let members = Members::of(answer);
    let refused = |text: &str| fault(context.with_body(text, answer), IdAfter::Unused);
    match status {
        200..=299 => match (origin(answer, &members), &answer.cut_short) {
            (Origin::Hermes, _) => from_hermes(answer, &members, context),
            (Origin::Unknown, Some(why)) => lost(
                format!(
                    "{status}, but its body did not arrive whole: {}",
                    context.sanitize(&why.to_string())
                ),
                None,
            ),
            (Origin::Unknown | Origin::Foreign, _) => foreign(answer, context),
        },
        300..=399 => {
            redirects(answer, context, ", which is not followed; set the route's url to where Hermes is")
        }
        401 if context.other_secret => Verdict {
            outcome: AttemptOutcome::RouteFault,
            detail: context
                .with_body("401: Hermes does not accept this secret; the route's next one is tried", answer),
            next: Next::OtherSecret,
        },
        401 => refused("401: Hermes does not accept the signature; compare the route's secret"),
        403..=405 => {
            let hint = not_served(status, &members);
            refused(&format!("{status}: Hermes does not serve this route{hint}"))
        }
        413 => refused("413: longer than Hermes takes; compare max_body_bytes"),
        429 => Verdict {
            outcome: AttemptOutcome::RateLimited,
            detail: "429: faster than Hermes allows".into(),
            next: Next::Slower { retry_after: answer.retry_after },
        },
        502 if answer.cut_short.is_none() && is_hermes_failure(&members, context) => {
            failed("502: Hermes could not deliver it".into(), answer.retry_after, IdAfter::UsedUp)
        }
        // A gateway gave up on Hermes, which may have processed the request.
        502 | 504 | 520..=599 => lost(
            context.with_body(&format!("{status} from a gateway in front of Hermes"), answer),
            answer.retry_after,
        ),
        // Hermes answers 500, 503 and 400 before it records the id.
        _ => {
            let hint = match (status, members.text("error").as_deref()) {
                (400, Some("Cannot parse body")) => {
                    "400: Hermes cannot read the body; something in between may change it".into()
                }
                (503, Some(error)) if error.starts_with("Could not durably accept") => {
                    "503: Hermes could not write it down, and has not taken it; look at its disk".into()
                }
                _ => status.to_string(),
            };
            failed(context.with_body(&hint, answer), answer.retry_after, IdAfter::Unused)
        }
    }
}

fn redirects(answer: &Answer, context: Context<'_>, advice: &str) -> Verdict {
    let target =
        answer.location.as_deref().map_or(String::new(), |to| format!(" to {}", context.sanitize(to)));
    let detail = format!("{}: redirects{target}{advice}", answer.status);
    fault(detail, IdAfter::Unused)
}

/// A hint for the operator, by Hermes' error with 403, 404 or 405.
fn not_served(status: u16, members: &Members) -> &'static str {
    let Some(error) = members.text("error") else {
        return match status {
            404 | 405 => "; compare the route's url, which should end in /webhooks/NAME",
            _ => "",
        };
    };
    match &*error {
        "Unknown or unconfigured profile" => {
            "; it serves no profile of the name behind /p/ in the route's url"
        }
        "Webhook route is missing an HMAC secret" => "; the route has no secret there",
        error if error.starts_with("Route disabled") => "; the route is disabled there",
        error if error.starts_with("Unknown route") => {
            "; it is not subscribed there under this name, or not for the profile of the route's url"
        }
        _ => "",
    }
}

/// A 2xx answer that is not from Hermes.
fn foreign(answer: &Answer, context: Context<'_>) -> Verdict {
    let status = answer.status;
    let detail = match &answer.cut_short {
        Some(CutShort::Unreadable(why)) => format!(
            "{status}, but its body cannot be read: {}; let what stands in front of Hermes pass answers on without a \
             content coding",
            context.sanitize(why)
        ),
        _ => {
            let body = context.body(answer).unwrap_or_else(|| "nothing in its body".into());
            format!(
                "{status}, but what answers is not Hermes; compare the route's url with where Hermes' gateway \
                 listens: {body}"
            )
        }
    };
    // A proxy may have answered after it passed the request on.
    fault(detail, IdAfter::Unknown)
}

/// A 2xx answer that is a JSON object.
fn from_hermes(answer: &Answer, members: &Members, context: Context<'_>) -> Verdict {
    let status = answer.status;
    let id = members.text("delivery_id");
    let foreign = id.as_deref().filter(|id| *id != context.idempotency_key);
    let rewritten = foreign.map_or(String::new(), |id| {
        format!(
            "; it saw the id {:?} instead of ours, so something in between rewrites headers",
            context.sanitize(id)
        )
    });
    let accepted = |meaning: &str| Verdict {
        outcome: AttemptOutcome::Accepted,
        detail: format!("{status} {meaning}{rewritten}"),
        next: Next::Delivered,
    };
    match members.text("status").as_deref() {
        Some("accepted") => match members.described("cron_job") {
            Some(job) => accepted(&format!(
                "accepted: for Hermes' cron job {:?}, which runs if Hermes has one of that name",
                context.sanitize(&job)
            )),
            None => accepted("accepted: queued for the agent"),
        },
        Some("coalesced") => accepted(
            "coalesced: held for the route's quiet window at Hermes; then the agent gets it, unless a later event of \
             the same key has taken its place",
        ),
        Some("delivered") => {
            let hint = if context.deliver_only {
                ""
            } else {
                "; the route is deliver_only at Hermes: say so in its configuration"
            };
            Verdict {
                outcome: AttemptOutcome::Delivered,
                detail: format!("{status} delivered{hint}{rewritten}"),
                next: Next::Delivered,
            }
        }
        Some("ignored") => {
            let by = match (members.text("reason"), members.text("event")) {
                (Some(reason), _) => format!("by its {}", context.sanitize(&reason)),
                (None, Some(event)) => format!("because {} is not in its events", context.sanitize(&event)),
                (None, None) => "without a reason".into(),
            };
            Verdict {
                outcome: AttemptOutcome::Ignored,
                detail: format!("{status} ignored {by}"),
                next: Next::Ignored,
            }
        }
        Some("duplicate") => duplicate(status, foreign.is_some(), &rewritten, context),
        _ => Verdict {
            outcome: AttemptOutcome::NotUnderstood,
            detail: context.with_body(&format!("{status}, but not one of Hermes' answers"), answer),
            next: Next::Ambiguous,
        },
    }
}

fn duplicate(status: u16, foreign: bool, rewritten: &str, context: Context<'_>) -> Verdict {
    let (meaning, next) = match context.lost_attempt {
        _ if foreign => (rewritten.trim_start_matches("; ").to_owned(), Next::Ambiguous),
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

/// Whether a 502 is Hermes' own, for this request.
fn is_hermes_failure(members: &Members, context: Context<'_>) -> bool {
    members.is("status", "error")
        && members.is("error", "Delivery failed")
        && members.is("delivery_id", context.idempotency_key)
}

fn fault(detail: String, id: IdAfter) -> Verdict {
    Verdict { outcome: AttemptOutcome::RouteFault, detail, next: Next::RouteFault { id } }
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
