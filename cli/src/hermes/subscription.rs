//! The entry of a route in Hermes' subscriptions, and its changes to an existing entry.
//!
//! Talaria sets the keys that its promises depend on: `secret`, `prompt`, `events`, `deliver_only`, `enabled`, `profile`, `filters`,
//! `script` and `cron_job`. The operator keeps the others: `deliver`, `deliver_extra`, `skills`, `toolsets`, and unknown keys.

use super::{PROMPT, description};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};
use talaria_core::{
    config::{BodyMode, Route, Tenant},
    hermes::template::Template,
};

/// Hermes' templates for the chat of a route, and the thread in it.
pub(super) const CHAT_ID: &str = "{extra.chat_id}";
const THREAD_ID: &str = "{extra.thread_id}";

/// Characters of a value in messages.
const MAX_VALUE_CHARS: usize = 200;

/// A route, and the options for its subscription.
pub(crate) struct Needs<'a> {
    pub tenant: &'a Tenant,
    pub route: &'a Route,
    /// The target of `--deliver`.
    pub deliver: Option<&'a str>,
    /// Whether the operator's prompt and cron job are replaced.
    pub force: bool,
}

/// Why an entry is not changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The operator has set a value of his own.
    IsTheirs {
        key: &'static str,
        /// As JSON.
        value: String,
    },
    /// A direct delivery needs a target, and there is none.
    NoTarget,
}

/// Changes an entry to the route's needs. Returns a line for each replaced value, without secrets.
pub(super) fn reconcile(
    entry: &mut Map<String, Value>,
    needs: &Needs<'_>,
    now: Timestamp,
) -> Result<Vec<String>, Refusal> {
    let Needs { tenant, route, deliver, force } = needs;
    let own = own_prompt(entry.get("prompt"), route.body);
    for (key, theirs) in [("prompt", own), ("cron_job", entry.get("cron_job").filter(|job| is_truthy(job)))] {
        if let Some(value) = theirs.filter(|_| !force) {
            return Err(Refusal::IsTheirs { key, value: to_text(Some(value)) });
        }
    }
    let mut replaced = Replaced { entry, lines: Vec::new() };
    // Hermes takes one secret: the newest.
    let secret = route.secrets.first().map_or("", |secret| secret.expose_secret());
    replaced.set_secretly("secret", secret.into());
    if let Some(deliver) = deliver {
        replaced.set("deliver", (*deliver).into());
    }
    let target = replaced.entry.get("deliver").and_then(Value::as_str).unwrap_or_default();
    if route.deliver_only && matches!(target, "" | "log") {
        return Err(Refusal::NoTarget);
    }
    if route.deliver_only {
        replaced.set("deliver_only", true.into());
    } else {
        replaced.remove("deliver_only");
    }
    match (route.body, replaced.entry.get("prompt")) {
        (BodyMode::Prompt, Some(Value::String(prompt))) if wraps_ours(prompt) => {}
        (BodyMode::Prompt, _) => replaced.set("prompt", PROMPT.into()),
        // OpenRouter's payload has no `prompt`, so the agent would get the placeholder itself.
        (BodyMode::Raw, Some(Value::String(prompt)))
            if Template::new(&prompt.as_str().into()).mentions("prompt") =>
        {
            replaced.set("prompt", "".into());
        }
        (BodyMode::Raw, _) => {}
    }
    // Talaria has filtered already.
    if replaced.entry.get("events").is_some_and(is_truthy) {
        replaced.set("events", json!([]));
    }
    for key in ["filters", "script", "cron_job"] {
        replaced.remove(key);
    }
    // Hermes disables a route for `false` only.
    if replaced.entry.get("enabled") == Some(&Value::Bool(false)) {
        replaced.set("enabled", true.into());
    }
    match route.hermes_profile().filter(|profile| *profile != "default") {
        Some(profile) => replaced.set("profile", profile.into()),
        None if replaced.entry.get("profile").and_then(Value::as_str) == Some("default") => {}
        None => replaced.remove("profile"),
    }
    for (key, ours) in [("chat_id", CHAT_ID), ("thread_id", THREAD_ID)] {
        destination(&mut replaced, route, key, ours);
    }
    let Replaced { entry, lines } = replaced;
    let defaults = [
        ("description", Value::from(description(tenant, route))),
        ("events", json!([])),
        ("prompt", "".into()),
        ("skills", json!([])),
        ("deliver", "log".into()),
        ("created_at", now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()),
    ];
    for (key, value) in defaults {
        entry.entry(key).or_insert(value);
    }
    Ok(lines)
}

/// The differences between an entry and the route's needs.
pub(crate) fn against(written: &str, needs: &Needs<'_>) -> serde_json::Result<Vec<String>> {
    let mut entry = match serde_json::from_str(written)? {
        Value::Object(entry) => entry,
        _ => Map::new(),
    };
    // A value that `reconcile` would refuse to replace is a difference, too.
    let forced = Needs { force: true, ..*needs };
    match reconcile(&mut entry, &forced, Timestamp::UNIX_EPOCH) {
        Ok(lines) => Ok(lines),
        Err(Refusal::NoTarget) => Ok(vec!["deliver: a target instead of \"log\"".into()]),
        Err(Refusal::IsTheirs { key, value }) => Ok(vec![format!("{key}: the route's instead of {value}")]),
    }
}

/// Sets the chat or the thread of the route unless the operator has set another, and removes it if the route has none.
fn destination(replaced: &mut Replaced<'_>, route: &Route, key: &str, ours: &str) {
    let has_one = route.body == BodyMode::Prompt && route.extra.get(key).is_some();
    let ours = json!(ours);
    match replaced.entry.get_mut("deliver_extra") {
        Some(Value::Object(extra)) => {
            if has_one {
                extra.entry(key).or_insert(ours);
            } else if extra.get(key) == Some(&ours) {
                extra.remove(key);
                replaced.lines.push(format!("deliver_extra: no {key} instead of {}", to_text(Some(&ours))));
            }
        }
        _ if has_one => {
            replaced
                .entry
                .insert("deliver_extra".into(), Value::Object(Map::from_iter([(key.to_owned(), ours)])));
        }
        _ => {}
    }
}

/// The operator's prompt, if the route's would replace it.
fn own_prompt(prompt: Option<&Value>, body: BodyMode) -> Option<&Value> {
    // With raw bodies Hermes renders its own prompt.
    prompt.filter(|prompt| body == BodyMode::Prompt && is_truthy(prompt)).filter(|prompt| match prompt {
        Value::String(prompt) => !wraps_ours(prompt),
        _ => true,
    })
}

/// Whether a prompt is Talaria's with only literal text around it: no payload that the guard has not seen, and no prefix that
/// makes it a command or a reference.
fn wraps_ours(prompt: &str) -> bool {
    let Some((before, after)) = prompt.split_once(PROMPT) else { return false };
    let has_token = |text: &str| !Template::new(&text.into()).is_literal();
    let before_starts = before.trim_start();
    let fits = before.is_empty() || (before.ends_with(char::is_whitespace) && !before_starts.is_empty());
    fits && !before_starts.starts_with(['/', '@']) && !has_token(before) && !has_token(after)
}

/// Truth in Python.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// An entry, and a line for each replaced value.
struct Replaced<'a> {
    entry: &'a mut Map<String, Value>,
    lines: Vec<String>,
}

impl Replaced<'_> {
    fn set(&mut self, key: &str, value: Value) {
        let old = self.entry.get(key);
        if old != Some(&value) {
            self.lines.push(format!("{key}: {} instead of {}", to_text(Some(&value)), to_text(old)));
            self.entry.insert(key.to_owned(), value);
        }
    }

    /// Without the values in the line.
    fn set_secretly(&mut self, key: &str, value: Value) {
        if self.entry.get(key) != Some(&value) {
            self.lines.push(format!("{key}: the route's instead of another"));
            self.entry.insert(key.to_owned(), value);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(old) = self.entry.remove(key).filter(is_truthy) {
            self.lines.push(format!("{key}: nothing instead of {}", to_text(Some(&old))));
        }
    }
}

/// As JSON, which escapes control characters.
fn to_text(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".into() };
    let text = value.to_string();
    match text.char_indices().nth(MAX_VALUE_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_text_around_the_prompt_is_kept() {
        for prompt in
            ["{prompt}", "Hi: {prompt}", "{prompt}\n\nAnswer in German.", "A video:\n{prompt} {\"a\": 1}"]
        {
            assert!(wraps_ours(prompt), "{prompt}");
        }
        let theirs = [
            "",
            "Summarize {data.id}",
            "{prompt} {data.error}",
            "{data.error}{prompt}",
            "{prompt}{prompt}",
            "/{prompt}",
            " /skill {prompt}",
            "@file:{prompt}",
            "@image:x\n/{prompt}",
            "\n{prompt}",
            "x@file:{prompt}",
            "{__raw__}",
        ];
        for prompt in theirs {
            assert!(!wraps_ours(prompt), "{prompt}");
        }
    }
}
