//! Configurations for unit tests, loaded by the real loader.

use std::sync::Arc;
use talaria_core::config::{Config, Route, testing};

/// The secret of every route.
pub(crate) const SECRET: &str = "hermes secret";

/// A configuration with tenant acme and route "video" with these keys.
pub(crate) fn config(route: &str) -> Config {
    let keys: String = route.lines().map(|line| format!("        {line}\n")).collect();
    let text = format!(
        "tenants:\n  acme:\n    networks: [loopback]\n    openrouter: {{secrets: [{{file: secret}}]}}\n    routes:\n      video:\n        url: \
         http://127.0.0.1:8644/webhooks/video\n        secret: {{file: secret}}\n{keys}"
    );
    testing::config(&text, SECRET)
}

/// The route "video" with these keys.
pub(crate) fn route(keys: &str) -> Arc<Route> {
    Arc::clone(config(keys).route("acme", "video").unwrap())
}
