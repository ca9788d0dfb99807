//! The payload of a callback.
//!
//! ```json
//! {"type": "video.generation.completed", "created_at": "…",
//!  "data": {"id": "<job>", "status": "completed", "generation_id": "…", "model": "…",
//!           "unsigned_urls": ["…"], "error": "…", "usage": {…}}}
//! ```
//!
//! An event must have only `type` and `data.id`; `type` is an open list, and every kind of generation uses the same envelope.
//! Other members are read if they have the documented form, and ignored otherwise.

use crate::{
    json::{Document, ParseError, Value, parse, print::dump_sorted},
    money,
    notice::is_notice,
};
use thiserror::Error;

/// The members of a payload that describe the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `type`, not empty.
    pub event_type: String,
    /// `data.id`, not empty.
    pub job_id: String,
    /// `data.status`, or the last word of `type`.
    pub status: String,
    /// `data.generation_id`.
    pub generation_id: Option<String>,
    /// `data.model`.
    pub model: Option<String>,
    /// `created_at`, unparsed.
    pub created_at: Option<String>,
    /// The strings in `data.unsigned_urls`.
    pub unsigned_urls: Vec<String>,
    /// `data.error`: its text, or its JSON if it is not a string.
    pub error: Option<String>,
    /// `data.usage.cost`, in millionths of a US dollar.
    pub cost_micros: Option<i64>,
}

/// Why a body is not an event.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotAnEvent {
    /// Not JSON at all.
    #[error("the body is not JSON: {0}")]
    NotJson(#[from] ParseError),
    /// JSON, but of another kind.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// A required member is missing or of another kind.
    #[error("`{0}` must be a non-empty string")]
    Lacks(&'static str),
    /// Its type is one of a notice, which only Talaria makes.
    #[error("`type` begins with talaria., as only Talaria's own notices do")]
    IsNotice,
}

impl Envelope {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, NotAnEvent> {
        Self::from_document(&parse(body)?)
    }

    /// Reads a parsed body.
    pub fn from_document(document: &Document) -> Result<Self, NotAnEvent> {
        let payload = document.root();
        if payload.as_object().is_none() {
            return Err(NotAnEvent::NotAnObject);
        }
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let required = |value: Option<&Value>, name| {
            text(value).filter(|text| !text.is_empty()).ok_or(NotAnEvent::Lacks(name))
        };
        let data = |key: &str| payload.get("data").and_then(|data| data.get(key));

        let event_type = required(payload.get("type"), "type")?;
        if is_notice(&event_type) {
            return Err(NotAnEvent::IsNotice);
        }
        let job_id = required(data("id"), "data.id")?;
        let last_word = || event_type.rsplit('.').next().unwrap_or_default().to_owned();
        Ok(Self {
            status: text(data("status")).unwrap_or_else(last_word),
            job_id,
            generation_id: text(data("generation_id")),
            model: text(data("model")),
            created_at: text(payload.get("created_at")),
            unsigned_urls: data("unsigned_urls")
                .and_then(Value::as_array)
                .map(|urls| urls.iter().filter_map(|url| text(Some(url))).collect())
                .unwrap_or_default(),
            error: match data("error") {
                None | Some(Value::Null) => None,
                Some(Value::String(error)) => Some(error.to_str_lossy().into_owned()),
                Some(other) => Some(dump_sorted(other)),
            },
            cost_micros: data("usage").and_then(|usage| usage.get("cost")).and_then(micros),
            event_type,
        })
    }

    /// The documented value of [`super::IDEMPOTENCY_KEY_HEADER`].
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.job_id, self.status)
    }
}

/// A number of dollars in micros, rounded half away from zero; `None` if it is not finite, negative or too large.
fn micros(dollars: &Value) -> Option<i64> {
    let amount = match dollars {
        Value::Integer(dollars) => money::parse(dollars.as_str()),
        // Printed with the digits that identify it, and without an exponent: as it was written, for all that costs have.
        Value::Float(dollars) => money::parse(&dollars.abs().to_string()).filter(|_| *dollars >= 0.0),
        _ => None,
    };
    amount.map(|amount| amount.micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Envelope, String> {
        Envelope::read(body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_the_documented_payload() {
        let envelope = read(
            r#"{"type":"video.generation.completed","created_at":"2026-04-24T12:00:00.000Z",
              "data":{"id":"abc123","status":"completed","generation_id":"gen-xyz789","model":"google/veo-3.1",
              "unsigned_urls":["https://openrouter.ai/api/v1/videos/abc123/content?index=0"],
              "usage":{"cost":0.5,"is_byok":false}}}"#,
        )
        .unwrap();
        assert_eq!(envelope.idempotency_key(), "abc123-completed");
        assert_eq!(envelope.generation_id.as_deref(), Some("gen-xyz789"));
        assert_eq!(envelope.unsigned_urls.len(), 1);
        assert_eq!(envelope.error, None);
        assert_eq!(envelope.cost_micros, Some(500_000));
    }

    #[test]
    fn reads_any_type_and_ignores_unknown_members() {
        let envelope = read(
            r#"{"type":"image.batch.partially done ✓","data":{"id":"j","model":null,"generation_id":5,
              "unsigned_urls":[1,"u"],"error":{"code":1}},"more":NaN}"#,
        )
        .unwrap();
        assert_eq!(envelope.status, "partially done ✓");
        assert_eq!((envelope.model, envelope.generation_id), (None, None));
        assert_eq!(envelope.unsigned_urls, ["u"]);
        assert_eq!(envelope.error.as_deref(), Some(r#"{"code": 1}"#));
        assert_eq!(read(r#"{"type":"plain","data":{"id":"j"}}"#).unwrap().status, "plain");
    }

    #[test]
    fn a_cost_is_rounded_to_millionths_of_a_dollar() {
        for (cost, expected) in [
            ("0.5", Some(500_000)),
            ("0", Some(0)),
            ("-0.0", Some(0)),
            ("12", Some(12_000_000)),
            ("1e-7", Some(0)),
            ("0.0000005", Some(1)),
            ("0.0000015", Some(2)),
            ("0.00000149", Some(1)),
            ("1.005e0", Some(1_005_000)),
            ("0.30000000000000004", Some(300_000)),
            ("-0.5", None),
            ("-1", None),
            ("NaN", None),
            ("Infinity", None),
            ("1e309", None),
            ("1e300", None),
            ("99999999999999999999", None),
            ("null", None),
            ("true", None),
            (r#""0.5""#, None),
            ("[0.5]", None),
        ] {
            let body = format!(r#"{{"type":"t","data":{{"id":"j","usage":{{"cost":{cost}}}}}}}"#);
            assert_eq!(read(&body).unwrap().cost_micros, expected, "{cost}");
        }
        for usage in ["null", "{}", "5"] {
            let body = format!(r#"{{"type":"t","data":{{"id":"j","usage":{usage}}}}}"#);
            assert_eq!(read(&body).unwrap().cost_micros, None, "{usage}");
        }
    }

    #[test]
    fn a_missing_member_is_an_error() {
        for (body, why) in [
            ("", "the body is not JSON: byte 0: expected a JSON value"),
            ("[]", "the body is not a JSON object"),
            ("{}", "`type` must be a non-empty string"),
            (r#"{"type":"","data":{"id":"j"}}"#, "`type` must be a non-empty string"),
            (r#"{"type":5,"data":{"id":"j"}}"#, "`type` must be a non-empty string"),
            (r#"{"type":"\ud800","data":{"id":"j"}}"#, "`type` must be a non-empty string"),
            (
                r#"{"type":"talaria.route.shut","data":{"id":"j"}}"#,
                "`type` begins with talaria., as only Talaria's own notices do",
            ),
            (r#"{"type":"t"}"#, "`data.id` must be a non-empty string"),
            (r#"{"type":"t","data":[]}"#, "`data.id` must be a non-empty string"),
            (r#"{"type":"t","data":{"id":7}}"#, "`data.id` must be a non-empty string"),
            (r#"{"type":"t","data":{"id":""}}"#, "`data.id` must be a non-empty string"),
        ] {
            assert_eq!(read(body).unwrap_err(), why, "{body}");
        }
    }
}
