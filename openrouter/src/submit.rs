//! What an exchange means for a submit: whether OpenRouter made a job, and whether to send the request again.
//!
//! Each submit that OpenRouter carries out is a job that costs, and OpenRouter knows no idempotency key for requests. So a request
//! is sent again only where certainly no job was made, and an outcome counts as a refusal only then.
//!
//! | Outcome | Means |
//! |---|---|
//! | no connection; an address that is not allowed | no job: nothing was sent |
//! | 400, 401, 402, 403, 404, 405, 411, 413, 414, 415, 422, 429, 431 | no job: refused before any work |
//! | 503 with Retry-After | no job: turned away |
//! | 2xx with an id | a job |
//! | 2xx without a readable id | unknown: a job was probably made |
//! | a redirect | unknown: what redirects may have passed the request on |
//! | 408, 503 without Retry-After, other 4xx and 5xx | unknown: it may have failed after the job was made |
//! | a timeout, a connection that broke off | unknown: the request may have been carried out |

use crate::{
    answer::{self, kind, said},
    client::{SUBMIT_TIMEOUT, is_job_id},
    quote::Hidden,
};
use std::time::Duration;
use talaria_core::json::{Value, parse};
use talaria_outbound::{Answer, Exchange};
use talaria_proto::v1::{Made, Submitted, submitted::Outcome};

/// How often a request is sent at most.
const MOST_TRIES: u32 = 3;

/// The last try begins within this time.
const RETRIES_WITHIN: Duration = Duration::from_secs(20);

/// The pauses before the second and the third try, where OpenRouter names none.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// In bytes. A status is a word.
const LONGEST_STATUS: usize = 64;

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Try {
    /// OpenRouter made the job.
    Made {
        /// The job's id.
        id: String,
        /// Its status.
        status: String,
    },
    /// OpenRouter certainly made no job.
    Refused {
        /// The reason, in one sentence.
        why: String,
        /// Whether another try can succeed soon.
        again: Again,
    },
    /// OpenRouter may have made the job.
    Unknown {
        /// Why that is not known, in one sentence.
        why: String,
    },
}

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The refusal is final.
    Never,
    /// After the usual pause.
    Soon,
    /// No earlier than OpenRouter says.
    After(Duration),
}

/// The meaning of an exchange.
pub fn read(exchange: &Exchange, hidden: &Hidden<'_>) -> Try {
    match exchange {
        Exchange::NotAllowed(why) => refused(format!("nothing was sent to OpenRouter: {why}"), Again::Never),
        Exchange::NotSent(why) => refused(format!("nothing was sent to OpenRouter: {why}"), Again::Soon),
        Exchange::Lost(why) => unknown(format!("OpenRouter's answer was lost: {}", hidden.quote(why))),
        Exchange::Answered(answer) => of_answer(answer, hidden),
    }
}

fn refused(why: String, again: Again) -> Try {
    Try::Refused { why, again }
}

fn unknown(why: String) -> Try {
    Try::Unknown { why }
}

fn of_answer(answer: &Answer, hidden: &Hidden<'_>) -> Try {
    let said = said(answer, hidden);
    let pause = answer::retry_after(answer);
    let again = pause.map_or(Again::Soon, Again::After);
    match answer.status {
        200..=299 => made(answer),
        300..=399 => unknown(format!(
            "OpenRouter's answer is a redirect ({}), which is not followed, and what redirects may have passed the request \
             on; compare openrouter.base_url",
            answer.status
        )),
        401 => refused(format!("OpenRouter refuses the key{said}; compare openrouter.api_key"), Again::Never),
        402 => of_payment(answer, &said, again),
        403 => refused(format!("OpenRouter forbids this{said}"), Again::Never),
        // A path that is not the API's is answered with a page.
        404 | 405 if answer::error(&answer.body).message.is_none() => {
            refused(format!("there is no video API there{said}; compare openrouter.base_url"), Again::Never)
        }
        400 | 404 | 405 | 411 | 413..=415 | 422 | 431 => {
            refused(format!("OpenRouter refuses the request{said}"), Again::Never)
        }
        429 => refused(format!("OpenRouter takes no more requests now{said}"), again),
        503 if pause.is_some() => refused(format!("OpenRouter is not available{said}"), again),
        _ => unknown(format!("OpenRouter's answer does not say whether it made the job{said}")),
    }
}

/// A 402: the account is empty, the key's limit is reached, or too much is under way.
fn of_payment(answer: &Answer, said: &str, again: Again) -> Try {
    let error = answer::error(&answer.body);
    match (error.limit_source.as_deref(), error.reason.as_deref()) {
        (Some("openrouter_in_flight_budget"), reason) if reason != Some("weight_exceeds_budget") => {
            refused(format!("OpenRouter waits for other jobs of the account to end{said}"), again)
        }
        (Some("openrouter_in_flight_budget"), _) => refused(
            format!("the job costs more than OpenRouter lets the account have under way{said}"),
            Again::Never,
        ),
        (Some("openrouter_key_limit"), _) => refused(
            format!("the key's limit at OpenRouter is reached{said}; raise it, or wait until it is reset"),
            Again::Never,
        ),
        (Some("openrouter_credits"), _) => {
            refused(format!("the account at OpenRouter lacks credits{said}"), Again::Never)
        }
        _ => refused(format!("OpenRouter demands payment{said}"), Again::Never),
    }
}

fn made(answer: &Answer) -> Try {
    let status = answer.status;
    let lost = |what: &str| unknown(format!("OpenRouter answered {status}, so it made a job, but {what}"));
    if answer.cut_short.is_some() {
        return lost(&format!("with {}", kind(answer)));
    }
    let Ok(document) = parse(&answer.body) else { return lost(&format!("with {}", kind(answer))) };
    let text = |key: &str| document.root().get(key).and_then(Value::as_str).map(str::to_owned);
    match text("id") {
        Some(id) if is_job_id(&id) => {
            let status = text("status").filter(|status| is_status(status));
            Try::Made { id, status: status.unwrap_or_else(|| "pending".into()) }
        }
        Some(_) => lost("with an id that cannot be used"),
        None => lost("without the job's id"),
    }
}

/// Whether a text can be a status.
pub(crate) fn is_status(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_STATUS && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The pause before the next try, after this many tries of which the last one ended this long after the first one began. `left` is
/// the time for the whole submit that is left. `None` if there is no next one: also if it could be cut off by the end of that time,
/// because then the outcome would be unknown, and now it is certain that there is no job.
pub(crate) fn pause(tries: u32, elapsed: Duration, left: Duration, again: Again) -> Option<Duration> {
    let usual = PAUSES.get(usize::try_from(tries).ok()?.checked_sub(1)?)?;
    let pause = match again {
        Again::Never => return None,
        Again::Soon => *usual,
        Again::After(named) => named.max(*usual),
    };
    let is_soon = elapsed.checked_add(pause)? <= RETRIES_WITHIN;
    let has_time = pause.checked_add(SUBMIT_TIMEOUT)? <= left;
    (tries < MOST_TRIES && is_soon && has_time).then_some(pause)
}

/// The outcome of a submit whose last try this was.
pub(crate) fn outcome(last: Try, tries: u32) -> Submitted {
    let outcome = match last {
        Try::Made { id, status } => Outcome::Made(Made { openrouter_id: id, status }),
        Try::Refused { why, .. } if tries > 1 => Outcome::Refused(format!("{why} (tried {tries} times)")),
        Try::Refused { why, .. } => Outcome::Refused(why),
        Try::Unknown { why } => Outcome::Unknown(why),
    };
    Submitted { outcome: Some(outcome) }
}

#[cfg(test)]
mod tests;
