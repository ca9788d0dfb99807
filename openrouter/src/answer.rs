//! OpenRouter's errors, in each of their forms:
//!
//! ```json
//! {"error": {"code": 402, "message": "…", "metadata": {"limit_source": "…", …}}, "user_id": "…"}
//! {"error": "…"}
//! {"success": false, "error": {"name": "ZodError", "message": "[{\"path\": [\"size\"], \"message\": \"…\"}]"}}
//! ```
//!
//! or a page of a proxy. Only messages are quoted: other members, such as `user_id`, are about the account.

use crate::quote::{Hidden, quote};
use std::time::Duration;
use talaria_core::json::{Value, parse};
use talaria_outbound::{Answer, CutShort};

/// The longest pause that is read from a body: a day.
const LONGEST_RETRY: f64 = 86_400.0;

/// An error as far as it was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    /// The message; not quoted.
    pub message: Option<String>,
    /// `metadata.limit_source`: the limit that was reached.
    pub limit_source: Option<String>,
    /// `metadata.reason`.
    pub reason: Option<String>,
    /// How long to wait, by the body.
    pub retry_after: Option<Duration>,
}

/// Reads a body. Empty if it is not one of the forms.
pub(crate) fn error(body: &[u8]) -> ErrorBody {
    let Ok(document) = parse(body) else { return ErrorBody::default() };
    let root = document.root();
    let error = root.get("error");
    let metadata = |key: &str| error.and_then(|error| error.get("metadata")).and_then(|data| data.get(key));
    let availability = error.and_then(|error| error.get("availability"));
    let retry_after = metadata("retry_after_seconds")
        .or_else(|| availability.and_then(|availability| availability.get("retry_after")));
    ErrorBody {
        message: message(error).or_else(|| message(root.get("message"))),
        limit_source: metadata("limit_source").and_then(text),
        reason: metadata("reason").and_then(text),
        retry_after: retry_after.and_then(seconds),
    }
}

/// The message of an `error`, which is a text or an object.
pub(crate) fn message(error: Option<&Value>) -> Option<String> {
    let error = error?;
    let message = text(error).or_else(|| error.get("message").and_then(text))?;
    let message = if error.get("name").and_then(text).as_deref() == Some("ZodError") {
        faults(&message).unwrap_or(message)
    } else {
        message
    };
    (!message.trim().is_empty()).then_some(message)
}

/// The faults that a schema found: "frame_images.0.type: Invalid input".
fn faults(message: &str) -> Option<String> {
    let document = parse(message.as_bytes()).ok()?;
    let fault = |fault: &Value| {
        let path = fault.get("path").and_then(Value::as_array).unwrap_or_default();
        let path = path.iter().filter_map(|step| match step {
            Value::Integer(index) => Some(index.as_str().to_owned()),
            other => text(other),
        });
        let (path, message) = (path.collect::<Vec<_>>().join("."), fault.get("message").and_then(text)?);
        Some(if path.is_empty() { message } else { format!("{path}: {message}") })
    };
    let faults: Vec<String> = document.root().as_array()?.iter().filter_map(fault).collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}

fn text(value: &Value) -> Option<String> {
    Some(value.as_text()?.to_str_lossy().into_owned())
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds: f64 = match value {
        Value::Integer(seconds) => seconds.as_str().parse().ok()?,
        Value::Float(seconds) => *seconds,
        _ => return None,
    };
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST_RETRY)))
}

/// How long to wait, by the header or the body.
pub(crate) fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.retry_after.or_else(|| error(&answer.body).retry_after)
}

/// The status and the message, or the kind of the body, to stand after a verdict: " (402): Insufficient credits". No full stop is at
/// the end, because advice may follow.
pub(crate) fn said(answer: &Answer, hidden: &Hidden<'_>) -> String {
    let status = answer.status;
    match error(&answer.body).message {
        Some(message) => format!(" ({status}): {}", hidden.quote(message.trim().trim_end_matches('.'))),
        None => format!(" ({status}, with {})", kind(answer)),
    }
}

/// The kind of a body that has no message.
pub(crate) fn kind(answer: &Answer) -> String {
    let start = answer.body.trim_ascii_start();
    match &answer.cut_short {
        Some(CutShort::TooLong(bytes)) => return format!("a body of more than {bytes} bytes"),
        Some(CutShort::BrokenOff(_)) => return "a body that broke off".into(),
        Some(CutShort::Unreadable(why)) => return format!("a body that cannot be read: {}", quote(why)),
        None => {}
    }
    if start.is_empty() {
        "an empty body".into()
    } else if start.starts_with(b"<") {
        "a page instead of JSON".into()
    } else if parse(start).is_ok() {
        "JSON without a message".into()
    } else {
        "a body that is not JSON".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.into(), ..Answer::default() }
    }

    #[test]
    fn each_form_of_an_error_is_described() {
        for (status, body, expected) in [
            (
                400,
                r#"{"error":{"code":400,"message":"Model X does not exist","metadata":null},"user_id":"user_SECRET"}"#,
                " (400): Model X does not exist",
            ),
            (500, r#"{"error":"down"}"#, " (500): down"),
            (500, r#"{"message":"down"}"#, " (500): down"),
            (
                400,
                r#"{"success":false,"error":{"name":"ZodError","message":"[{\"code\":\"invalid_type\",\"path\":[\"frame_images\",0,\"type\"],\"message\":\"Required\"},{\"path\":[],\"message\":\"Bad\"}]"}}"#,
                " (400): frame_images.0.type: Required; Bad",
            ),
            (
                400,
                r#"{"success":false,"error":{"name":"ZodError","message":"not a list"}}"#,
                " (400): not a list",
            ),
            (404, "", " (404, with an empty body)"),
            (502, "<html><title>Bad gateway</title>", " (502, with a page instead of JSON)"),
            (500, "oops", " (500, with a body that is not JSON)"),
            (500, r#"{"user_id":"user_SECRET"}"#, " (500, with JSON without a message)"),
            (500, r#"{"error":{"message":5}}"#, " (500, with JSON without a message)"),
            (500, r#"{"error":{"message":"  "}}"#, " (500, with JSON without a message)"),
        ] {
            assert_eq!(said(&answer(status, body), &Hidden::default()), expected, "{body}");
        }
        let cut = Answer { cut_short: Some(CutShort::BrokenOff("reset".into())), ..answer(500, "{") };
        assert_eq!(said(&cut, &Hidden::default()), " (500, with a body that broke off)");
    }

    #[test]
    fn a_pause_is_in_the_header_or_in_the_body() {
        for (body, expected) in [
            (r#"{"error":{"metadata":{"retry_after_seconds":3}}}"#, Some(Duration::from_secs(3))),
            (r#"{"error":{"availability":{"retry_after":1.5}}}"#, Some(Duration::from_millis(1500))),
            (r#"{"error":{"metadata":{"retry_after_seconds":1e400}}}"#, Some(Duration::from_secs(86_400))),
            (r#"{"error":{"metadata":{"retry_after_seconds":-1}}}"#, None),
            (r#"{"error":{"metadata":{"retry_after_seconds":NaN}}}"#, None),
            (r#"{"error":{"metadata":{"retry_after_seconds":"3"}}}"#, None),
            ("{}", None),
        ] {
            assert_eq!(retry_after(&answer(429, body)), expected, "{body}");
        }
        let header = Answer { retry_after: Some(Duration::from_secs(9)), ..answer(429, "{}") };
        assert_eq!(retry_after(&header), Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_prompt_that_a_message_repeats_is_hidden() {
        let refused = answer(403, r#"{"error":{"message":"Flagged: 'a very private prompt'."}}"#);
        let hidden = Hidden { prompt: "a very private prompt", ..Hidden::default() };
        assert_eq!(said(&refused, &hidden), " (403): Flagged: '(hidden)'");
    }
}
