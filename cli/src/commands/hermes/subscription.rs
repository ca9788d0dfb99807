//! What a route needs of its subscription at Hermes, and what of an entry that is there already is replaced for it.
//!
//! What the promises rest on is made as the route needs it: `secret`, `prompt`, `events`, `deliver_only`, `enabled`,
//! `profile`, `filters`, `script` and `cron_job`. What only says where an answer goes and how the agent works stays the
//! operator's: `deliver`, `deliver_extra`, `skills`, `toolsets`, and every other key.

use super::{PROMPT, description};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};
use talaria_core::{
    config::{BodyMode, Route, Tenant},
    hermes::template::Template,
};

/// Where Hermes reads a route's own chat from.
pub(super) const CHAT_ID: &str = "{extra.chat_id}";

/// How much of a value is shown.
const SHOWN: usize = 200;

/// What a subscription is made for.
pub(super) struct Needs<'a> {
    pub tenant: &'a Tenant,
    pub route: &'a Route,
    /// Where the operator wants answers to go, if it was said.
    pub deliver: Option<&'a str>,
    /// Whether what is the operator's own is replaced, too.
    pub force: bool,
}

/// Why an entry cannot be made what the route needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The operator's own stands where the route's would.
    IsTheirs {
        /// The key.
        key: &'static str,
        /// What stands there, as JSON.
        value: String,
    },
    /// A direct delivery needs a target, and there is none.
    NoTarget,
}

/// Makes an entry what the route needs. A line for each key that is replaced, without any secret.
pub(super) fn reconcile(
    entry: &mut Map<String, Value>,
    needs: &Needs<'_>,
    now: Timestamp,
) -> Result<Vec<String>, Refusal> {
    let Needs { tenant, route, deliver, force } = needs;
    let own = own_prompt(entry.get("prompt"), route.body);
    for (key, theirs) in
        [("prompt", own), ("cron_job", entry.get("cron_job").filter(|job| is_something(job)))]
    {
        if let Some(value) = theirs.filter(|_| !force) {
            return Err(Refusal::IsTheirs { key, value: shown(Some(value)) });
        }
    }
    let mut replaced = Replaced { entry, lines: Vec::new() };
    // Hermes has one, so while there are two it is to have the new one.
    let secret = route.secrets.first().map_or("", |secret| secret.expose_secret());
    replaced.set_quietly("secret", secret.into());
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
        // There is no member of that name in OpenRouter's own bytes: the agent would be sent the word itself.
        (BodyMode::Raw, Some(Value::String(prompt)))
            if Template::new(&prompt.as_str().into()).mentions("prompt") =>
        {
            replaced.set("prompt", "".into());
        }
        (BodyMode::Raw, _) => {}
    }
    // Talaria has chosen already; Hermes takes all that it sends.
    if replaced.entry.get("events").is_some_and(is_something) {
        replaced.set("events", json!([]));
    }
    for key in ["filters", "script", "cron_job"] {
        replaced.remove(key);
    }
    // Only this switches a route off.
    if replaced.entry.get("enabled") == Some(&Value::Bool(false)) {
        replaced.set("enabled", true.into());
    }
    match route.hermes_profile().filter(|profile| *profile != "default") {
        Some(profile) => replaced.set("profile", profile.into()),
        None if replaced.entry.get("profile").and_then(Value::as_str) == Some("default") => {}
        None => replaced.remove("profile"),
    }
    chat_id(&mut replaced, route);
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

/// What of a route that is written like a subscription is not as ours needs it.
pub(super) fn against(written: &str, needs: &Needs<'_>) -> serde_json::Result<Vec<String>> {
    // What is no object has nothing that is needed.
    let mut entry = match serde_json::from_str(written)? {
        Value::Object(entry) => entry,
        _ => Map::new(),
    };
    // It is only compared: what would be refused is a difference like the others.
    let forced = Needs { force: true, ..*needs };
    match reconcile(&mut entry, &forced, Timestamp::UNIX_EPOCH) {
        Ok(lines) => Ok(lines),
        Err(Refusal::NoTarget) => Ok(vec!["deliver: a target instead of \"log\"".into()]),
        Err(Refusal::IsTheirs { key, value }) => Ok(vec![format!("{key}: the route's instead of {value}")]),
    }
}

/// The chat that the route says, where the operator has written no other; and not where the route says none.
fn chat_id(replaced: &mut Replaced<'_>, route: &Route) {
    let is_said = route.body == BodyMode::Prompt && route.extra.get("chat_id").is_some();
    let ours = json!(CHAT_ID);
    match replaced.entry.get_mut("deliver_extra") {
        Some(Value::Object(extra)) => {
            if is_said {
                extra.entry("chat_id").or_insert(ours);
            } else if extra.get("chat_id") == Some(&ours) {
                extra.remove("chat_id");
                replaced.lines.push(format!("deliver_extra: no chat_id instead of {}", shown(Some(&ours))));
            }
        }
        _ if is_said => {
            replaced.entry.insert("deliver_extra".into(), json!({"chat_id": CHAT_ID}));
        }
        _ => {}
    }
}

/// A prompt that was written for this subscription, and that the route's would replace.
fn own_prompt(prompt: Option<&Value>, body: BodyMode) -> Option<&Value> {
    // With raw bodies it is Hermes that renders, and the prompt there is the only one.
    prompt.filter(|prompt| body == BodyMode::Prompt && is_something(prompt)).filter(|prompt| match prompt {
        Value::String(prompt) => !wraps_ours(prompt),
        _ => true,
    })
}

/// Whether it is our prompt whole, with at most fixed words around it: nothing of a payload that the guard has not seen, and
/// no words in front of it that would make it a command or a reference.
fn wraps_ours(prompt: &str) -> bool {
    let Some((before, after)) = prompt.split_once(PROMPT) else { return false };
    let has_token = |text: &str| !Template::new(&text.into()).is_literal();
    let before_starts = before.trim_start();
    let fits = before.is_empty() || (before.ends_with(char::is_whitespace) && !before_starts.is_empty());
    fits && !before_starts.starts_with(['/', '@']) && !has_token(before) && !has_token(after)
}

/// Whether Python takes it for true.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// An entry, and what was replaced in it.
struct Replaced<'a> {
    entry: &'a mut Map<String, Value>,
    lines: Vec<String>,
}

impl Replaced<'_> {
    fn set(&mut self, key: &str, value: Value) {
        let old = self.entry.get(key);
        if old != Some(&value) {
            self.lines.push(format!("{key}: {} instead of {}", shown(Some(&value)), shown(old)));
            self.entry.insert(key.to_owned(), value);
        }
    }

    /// The same, without showing what it was or is.
    fn set_quietly(&mut self, key: &str, value: Value) {
        if self.entry.get(key) != Some(&value) {
            self.lines.push(format!("{key}: the route's instead of another"));
            self.entry.insert(key.to_owned(), value);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(old) = self.entry.remove(key).filter(is_something) {
            self.lines.push(format!("{key}: nothing instead of {}", shown(Some(&old))));
        }
    }
}

/// As JSON, in which nothing moves a terminal's cursor.
fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".into() };
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_words_around_our_prompt_keep_the_promise() {
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
