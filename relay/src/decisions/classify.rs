//! What Hermes' answer means.
//!
//! The rules were measured against hermes-agent 0.19.0 and are tested against it; what newer states of its main branch answer
//! is read from their source. The ones that are easy to get wrong:
//!
//! - 200 says nothing by itself: it is `delivered`, `duplicate` or `ignored`, and the `status` member decides. It is read by
//!   itself, whatever the other members are.
//! - A 2xx answer that is no JSON object is not Hermes': a proxy's page, a parked name, another program on that port. Every
//!   delivery would meet it, so it is a fault of the route, however long the page is. It does not say whether Hermes was
//!   reached behind it. A JSON object with another `status` may be a Hermes' that we do not know, and stays ambiguous.
//! - `duplicate` means that Hermes has seen this id in the last hour. On a route with an agent that is success.
//!   On a `deliver_only` route the id was recorded before the delivery ran, so it is success only if an earlier
//!   attempt of ours went unanswered; otherwise it is unknown, and we do not pretend to know.
//! - Hermes' own 502 says that a `deliver_only` delivery failed, for certain, and that its id is used up: the
//!   next attempt needs a new one. A 502 of a proxy says nothing of the kind, and the next attempt needs the
//!   same one.
//! - 429 is about our pace and not about the delivery.

use std::{borrow::Cow, fmt, time::Duration};
use talaria_core::json::{Document, Value, parse, print::python_str};
use talaria_proto::v1::AttemptOutcome;

/// How much of an answer is shown.
const SHOWN: usize = 200;

/// What is shown instead of a secret.
const HIDDEN: &str = "(secret)";

/// The longest piece of JSON that can only be read whole, `-Infinity` or an escape: so far before its end a text that was cut
/// can seem to be wrong.
const LONGEST_TOKEN: usize = 12;

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
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
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::NotSent(_) | Self::NotAllowed(_) | Self::Lost(_) => None,
        }
    }
}

/// An HTTP answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub status: u16,
    /// Retry-After, from now.
    pub retry_after: Option<Duration>,
    /// Location, of a redirect.
    pub location: Option<String>,
    /// The body without its content coding, up to a cap.
    pub body: Vec<u8>,
    /// Why there is not all of it, if there is not.
    pub cut_short: Option<CutShort>,
}

/// Why there is not all of an answer's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CutShort {
    /// It goes on behind so many bytes, which are all that is read.
    TooLong(usize),
    /// It stopped coming.
    BrokenOff(String),
    /// Its content coding could not be undone.
    Unreadable(String),
}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "it is longer than {bytes} bytes"),
            Self::BrokenOff(why) | Self::Unreadable(why) => f.write_str(why),
        }
    }
}

/// What is known of the delivery before the exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// Whether the route delivers without an agent.
    pub deliver_only: bool,
    /// What Hermes saw as the delivery's id.
    pub idempotency_key: &'a str,
    /// The earlier attempt under the same id whose answer was lost, if there was one.
    pub lost_attempt: Option<u32>,
    /// Whether the route has another secret that Hermes has not refused.
    pub other_secret: bool,
    /// The secrets of the request: an answer may repeat them.
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
        match self.body(answer) {
            Some(body) => format!("{text}: {body}"),
            None => text.to_owned(),
        }
    }

    /// What there is to show of a body.
    fn body(&self, answer: &Answer) -> Option<String> {
        if let Some(CutShort::Unreadable(why)) = &answer.cut_short {
            return Some(format!("its body cannot be read: {}", self.shown(why)));
        }
        let body = String::from_utf8_lossy(&answer.body);
        let body = body.trim_start_matches(BOM).trim();
        (!body.is_empty()).then(|| self.shown(body))
    }
}

const BOM: char = '\u{FEFF}';

/// What to make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What the attempt came to.
    pub outcome: AttemptOutcome,
    /// What happened, in one sentence.
    pub detail: String,
    /// What follows.
    pub next: Next,
}

/// What follows from an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Hermes took it.
    Delivered,
    /// Hermes declined it.
    Ignored,
    /// Unknown.
    Ambiguous,
    /// Too fast: again when the pace allows, and it was no attempt.
    Slower {
        /// What Hermes, or a proxy, asked for.
        retry_after: Option<Duration>,
    },
    /// The route is misconfigured: its deliveries wait, and it was no attempt.
    RouteFault {
        /// What this attempt tells about its id.
        id: IdAfter,
    },
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

    /// A member's text. One that is no text says nothing.
    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        Some(self.0.as_ref()?.root().get(name)?.as_text()?.to_str_lossy())
    }

    fn is(&self, name: &str, text: &str) -> bool {
        self.text(name).as_deref() == Some(text)
    }

    /// A member in words, whatever it is. Null is none.
    fn described(&self, name: &str) -> Option<String> {
        let member = self.0.as_ref()?.root().get(name).filter(|member| !matches!(member, Value::Null))?;
        Some(python_str(member).to_str_lossy().into_owned())
    }
}

/// Whose a 2xx answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A JSON object: Hermes', or as good as.
    Hermes,
    /// Anything else, which its start can show.
    Foreign,
    /// It broke off before that could be told.
    Unknown,
}

fn source(answer: &Answer, members: &Members) -> Source {
    let text = String::from_utf8_lossy(&answer.body);
    let start = text.trim_start_matches(BOM).trim_start();
    let may_be_object = start.is_empty() || start.starts_with('{');
    match &answer.cut_short {
        // Whatever came of it: Hermes knows a repeat by its id.
        Some(CutShort::BrokenOff(_)) if may_be_object => Source::Unknown,
        _ if members.0.is_some() => Source::Hermes,
        // An object whose end was not read is one nevertheless, as long as nothing in front of the end is wrong.
        Some(CutShort::TooLong(_)) if start.starts_with('{') => match parse(text.as_bytes()) {
            Err(fault) if fault.offset + LONGEST_TOKEN < text.len() => Source::Foreign,
            _ => Source::Hermes,
        },
        _ => Source::Foreign,
    }
}

/// What an exchange means.
pub(crate) fn classify(exchange: &Exchange, context: Context<'_>) -> Verdict {
    match exchange {
        Exchange::NotSent(why) => failed(format!("not sent: {why}"), None, IdAfter::Unused),
        // Waiting does not help, so no attempt is used up before the operator has mended it.
        Exchange::NotAllowed(why) => fault(format!("not sent: {why}"), IdAfter::Unused),
        Exchange::Lost(why) => lost(format!("no answer: {why}"), None),
        Exchange::Answered(answer) => answered(answer, context),
    }
}

fn answered(answer: &Answer, context: Context<'_>) -> Verdict {
    let status = answer.status;
    let members = Members::of(answer);
    let refused = |text: &str| fault(context.with_body(text, answer), IdAfter::Unused);
    match status {
        200..=299 => match (source(answer, &members), &answer.cut_short) {
            (Source::Hermes, _) => taken(answer, &members, context),
            (Source::Unknown, Some(why)) => lost(
                format!("{status}, but its body did not arrive whole: {}", context.shown(&why.to_string())),
                None,
            ),
            (Source::Unknown | Source::Foreign, _) => foreign(answer, context),
        },
        300..=399 => {
            let target =
                answer.location.as_deref().map_or(String::new(), |to| format!(" to {}", context.shown(to)));
            let detail = format!(
                "{status}: redirects{target}, which is not followed; set the route's url to where Hermes is"
            );
            fault(detail, IdAfter::Unused)
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
        // A gateway in between gave up on Hermes, which may have gone on.
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

/// What to look at, by what Hermes says with 403, 404 or 405.
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

/// A 2xx answer that Hermes did not write.
fn foreign(answer: &Answer, context: Context<'_>) -> Verdict {
    let status = answer.status;
    let detail = match &answer.cut_short {
        Some(CutShort::Unreadable(why)) => format!(
            "{status}, but its body cannot be read: {}; let what stands in front of Hermes pass answers on without a \
             content coding",
            context.shown(why)
        ),
        _ => {
            let body = context.body(answer).unwrap_or_else(|| "nothing in its body".into());
            format!(
                "{status}, but what answers is not Hermes; compare the route's url with where Hermes' gateway \
                 listens: {body}"
            )
        }
    };
    // What wrote it may stand in front of Hermes, and may have passed the request on.
    fault(detail, IdAfter::Unknown)
}

/// A 2xx answer that is a JSON object.
fn taken(answer: &Answer, members: &Members, context: Context<'_>) -> Verdict {
    let status = answer.status;
    let id = members.text("delivery_id");
    let foreign = id.as_deref().filter(|id| *id != context.idempotency_key);
    let beside = foreign.map_or(String::new(), |id| {
        format!(
            "; it saw the id {:?} instead of ours, so something in between rewrites headers",
            context.shown(id)
        )
    });
    let accepted = |what: &str| Verdict {
        outcome: AttemptOutcome::Accepted,
        detail: format!("{status} {what}{beside}"),
        next: Next::Delivered,
    };
    match members.text("status").as_deref() {
        Some("accepted") => match members.described("cron_job") {
            Some(job) => accepted(&format!(
                "accepted: for Hermes' cron job {:?}, which runs if Hermes has one of that name",
                context.shown(&job)
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
                detail: format!("{status} delivered{hint}{beside}"),
                next: Next::Delivered,
            }
        }
        Some("ignored") => {
            let by = match (members.text("reason"), members.text("event")) {
                (Some(reason), _) => format!("by its {}", context.shown(&reason)),
                (None, Some(event)) => format!("because {} is not in its events", context.shown(&event)),
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
