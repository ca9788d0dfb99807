//! The status of a job, and the payload of its end.
//!
//! An end that a poll finds becomes the event that the callback would be: same tenant, job and type, so the same id. Its payload is
//! in the documented form of a callback, so that routes read both in the same way.

use crate::{
    answer::{error, kind, message, retry_after, said},
    quote::Hidden,
    submit::is_status,
};
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use std::time::Duration;
use talaria_core::json::{Object, Text, Value, parse, print::dump_line};
use talaria_outbound::{Answer, Exchange};

/// What came of a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polling {
    /// The outcome.
    pub reading: Reading,
    /// Ask no earlier than this from now, if OpenRouter says so.
    pub retry_after: Option<Duration>,
}

/// The outcome of a poll. A message is a whole sentence, for the job's reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The job goes on, with a status that is not terminal, or not known.
    Running {
        /// The status.
        status: String,
    },
    /// The job ended.
    Ended(Terminal),
    /// OpenRouter does not know the job.
    NotFound {
        /// That it does not, and its own words.
        message: String,
    },
    /// OpenRouter refuses the key.
    Denied {
        /// That it does, its own words, and what to do.
        message: String,
    },
    /// The status could not be read.
    Failed {
        /// The reason.
        message: String,
    },
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// The status that OpenRouter said.
    pub status: String,
    /// The type of the event.
    pub event_type: String,
    /// The payload, in the form of a callback.
    pub payload: Vec<u8>,
}

/// The polled job.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Its id at OpenRouter.
    pub id: &'a str,
    /// Its model; empty where it is not known.
    pub model: &'a str,
}

/// The type of the event of a terminal status. `None` for a status that is not terminal, or not known: the job may go on.
fn event_type(status: &str) -> Option<&'static str> {
    match status {
        "completed" => Some("video.generation.completed"),
        // "dead" is not documented; OpenRouter's own provider for the AI SDK takes it for a failure.
        "failed" | "dead" => Some("video.generation.failed"),
        "cancelled" => Some("video.generation.cancelled"),
        "expired" => Some("video.generation.expired"),
        _ => None,
    }
}

/// The meaning of an exchange about a job.
pub fn read(job: Job<'_>, exchange: &Exchange, now: Timestamp, hidden: &Hidden<'_>) -> Polling {
    let failed = |message: String| Polling { reading: Reading::Failed { message }, retry_after: None };
    match exchange {
        Exchange::NotAllowed(why) | Exchange::NotSent(why) => {
            failed(format!("OpenRouter cannot be asked: {why}"))
        }
        Exchange::Lost(why) => failed(format!("OpenRouter's answer was lost: {}", hidden.quote(why))),
        Exchange::Answered(answer) => {
            Polling { reading: of_answer(job, answer, now, hidden), retry_after: retry_after(answer) }
        }
    }
}

fn of_answer(job: Job<'_>, answer: &Answer, now: Timestamp, hidden: &Hidden<'_>) -> Reading {
    let said = said(answer, hidden);
    match answer.status {
        200..=299 => of_status(job, answer, now),
        401 | 403 => Reading::Denied {
            message: format!("OpenRouter refuses the key{said}; compare openrouter.api_key"),
        },
        // A proxy answers 404 with a page of its own.
        404 if error(&answer.body).message.is_some() => {
            Reading::NotFound { message: format!("OpenRouter does not know the job{said}") }
        }
        300..=399 => Reading::Failed {
            message: format!(
                "OpenRouter's answer is a redirect ({}), which is not followed; compare openrouter.base_url",
                answer.status
            ),
        },
        _ => Reading::Failed { message: format!("OpenRouter gave no status of the job{said}") },
    }
}

fn of_status(job: Job<'_>, answer: &Answer, now: Timestamp) -> Reading {
    let failed = |what: &str| Reading::Failed { message: format!("OpenRouter answered {what}") };
    let (Ok(document), None) = (parse(&answer.body), &answer.cut_short) else {
        return failed(&format!("{} with {}", answer.status, kind(answer)));
    };
    let root = document.root();
    // Of another job it would end the wrong one.
    if root.get("id").is_some_and(|id| id.as_str() != Some(job.id)) {
        return failed("about another job");
    }
    let Some(status) = root.get("status").and_then(Value::as_str).filter(|status| is_status(status)) else {
        return failed("without a status");
    };
    match event_type(status) {
        None => Reading::Running { status: status.into() },
        Some(event_type) => Reading::Ended(Terminal {
            status: status.into(),
            event_type: event_type.into(),
            payload: payload(job, event_type, root, now).into_bytes(),
        }),
    }
}

/// The payload that the callback of this end would have. Its time is that of the poll.
fn payload(job: Job<'_>, event_type: &str, answer: &Value, now: Timestamp) -> String {
    let text = |text: &str| Value::String(Text::from(text));
    let status = event_type.rsplit('.').next().unwrap_or_default();
    let model = if job.model.is_empty() { Value::Null } else { text(job.model) };
    let is_text = |value: &&Value| value.as_text().is_some();
    let mut data = Object::new();
    data.insert("id".into(), text(job.id));
    // Of a job that is dead, the documented word for a failure.
    data.insert("status".into(), text(status));
    let generation = answer.get("generation_id").filter(is_text).cloned();
    data.insert("generation_id".into(), generation.unwrap_or(Value::Null));
    data.insert("model".into(), model);
    if let Some(urls) = answer.get("unsigned_urls").and_then(Value::as_array) {
        let urls = urls.iter().filter(is_text).cloned().collect();
        data.insert("unsigned_urls".into(), Value::Array(urls));
    }
    if let Some(usage) = answer.get("usage").filter(|usage| usage.as_object().is_some()) {
        data.insert("usage".into(), usage.clone());
    }
    match answer.get("error") {
        None | Some(Value::Null) if status == "completed" => {}
        // The documented form is a text.
        error => {
            let said =
                message(error).or_else(|| error.filter(|error| !matches!(error, Value::Null)).map(dump_line));
            let unsaid = || format!("OpenRouter says that the job is {}, and not why", answer_status(answer));
            data.insert("error".into(), text(&said.unwrap_or_else(unsaid)));
        }
    }
    let mut members = Object::new();
    members.insert("type".into(), text(event_type));
    members.insert("created_at".into(), text(&moment(now)));
    members.insert("data".into(), Value::Object(data));
    dump_line(&Value::Object(members))
}

fn answer_status(answer: &Value) -> &str {
    answer.get("status").and_then(Value::as_str).unwrap_or_default()
}

/// As OpenRouter writes it: "2026-04-24T12:00:00.000Z".
fn moment(time: Timestamp) -> String {
    let printer = DateTimePrinter::new().precision(Some(3));
    printer.timestamp_to_string(&time)
}

#[cfg(test)]
mod tests;
