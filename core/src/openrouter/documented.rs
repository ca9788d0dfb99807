//! Examples of the callbacks that OpenRouter documents. A route may expect them, and must not rely on them.

use crate::json::{Value, parse};

/// A completed job. From OpenRouter's guide to asynchronous video generation.
pub const COMPLETED: &str = r#"{"type":"video.generation.completed","created_at":"2026-04-24T12:00:00.000Z","data":{"id":"abc123","status":"completed","generation_id":"gen-xyz789","model":"google/veo-3.1","unsigned_urls":["https://openrouter.ai/api/v1/videos/abc123/content?index=0"],"usage":{"cost":0.5,"is_byok":false}}}"#;

/// A job that was not completed: `STATUS` stands for failed, cancelled or expired.
const NOT_COMPLETED: &str = r#"{"type":"video.generation.STATUS","created_at":"2026-04-24T12:00:00.000Z","data":{"id":"abc123","status":"STATUS","generation_id":"gen-xyz789","model":"google/veo-3.1","error":"The job is STATUS"}}"#;

/// The documented types. Others may be added at any time.
pub const TYPES: [&str; 4] = [
    "video.generation.completed",
    "video.generation.failed",
    "video.generation.cancelled",
    "video.generation.expired",
];

/// An example of each documented type.
pub fn examples() -> Vec<(&'static str, Value)> {
    let example = |event_type: &'static str| {
        let status = event_type.rsplit('.').next().unwrap_or_default();
        let text = match status {
            "completed" => COMPLETED.to_owned(),
            _ => NOT_COMPLETED.replace("STATUS", status),
        };
        let document = parse(text.as_bytes()).ok()?;
        Some((event_type, document.root().clone()))
    };
    TYPES.into_iter().filter_map(example).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_example_of_each_type() {
        let examples = examples();
        assert_eq!(examples.len(), TYPES.len());
        for (event_type, payload) in examples {
            assert_eq!(payload.get("type").and_then(Value::as_str), Some(event_type));
            let data = payload.get("data").unwrap();
            assert_eq!(data.get("error").is_some(), data.get("unsigned_urls").is_none(), "{event_type}");
        }
    }
}
