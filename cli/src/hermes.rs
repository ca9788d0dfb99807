//! Subscriptions of routes at Hermes, and Talaria's extension there.
//!
//! - This file: the command that subscribes a route. [`file`]: `webhook_subscriptions.json`.
//! - [`home`]: a Hermes home on this machine. [`subscription`]: the entry that a route needs.
//! - [`disk`]: how files are written there.
//! - [`extension`]: the extension that reports how runs end, and the skill. [`yaml`]: edits of `config.yaml`.

mod disk;
pub(crate) mod extension;
pub(crate) mod file;
pub(crate) mod home;
pub(crate) mod subscription;
pub(crate) mod yaml;

use crate::Failure;
use anyhow::anyhow;
use subscription::CHAT_ID;
use talaria_core::config::{BodyMode, Route, SecretOrigin, Tenant};

/// A subscription's prompt: Talaria's, unchanged.
const PROMPT: &str = "{prompt}";

/// The name of a route at Hermes.
pub(crate) fn subscription_name(route: &Route) -> Result<&str, Failure> {
    let valid = |name: &&str| {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        name.bytes().next().is_some_and(known) && name.bytes().all(|b| known(b) || matches!(b, b'-' | b'_'))
    };
    route.hermes_name().filter(valid).ok_or_else(|| {
        Failure::Other(anyhow!(
            "the route's url is {}, and Hermes serves http://HOST:PORT/webhooks/NAME with a NAME of a-z, 0-9, - and _",
            route.url
        ))
    })
}

/// The command that subscribes a route. It refers to the secret and does not contain it.
pub(crate) fn subscribe_command(tenant: &Tenant, route: &Route, deliver: Option<&str>) -> String {
    let name = route.hermes_name().unwrap_or("NAME");
    let secret = match &route.secret_origin {
        SecretOrigin::Env(name) => format!("\"${name}\""),
        SecretOrigin::File(path) => format!("\"$(cat {})\"", quoted(&path.display().to_string())),
    };
    let mut command = format!("hermes webhook subscribe {name} --secret {secret}");
    if route.body == BodyMode::Prompt {
        command += &format!(" --prompt {}", quoted(PROMPT));
    }
    command += &format!(" --description {}", quoted(&description(tenant, route)));
    match deliver {
        Some(target) => command += &format!(" --deliver {}", quoted(target)),
        None if route.deliver_only => command += " --deliver TARGET",
        None => {}
    }
    if route.deliver_only {
        command += " --deliver-only";
    }
    if route.extra.get("chat_id").is_some() {
        command += &format!(" --deliver-chat-id {}", quoted(CHAT_ID));
    }
    command
}

fn description(tenant: &Tenant, route: &Route) -> String {
    format!("Talaria {}/{}", tenant.name, route.name)
}

/// Quotes a word for a shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b':');
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
