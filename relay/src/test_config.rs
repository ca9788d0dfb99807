//! Configurations for unit tests, loaded by the real loader.

use std::{fs, sync::Arc};
use talaria_core::config::{self, Config, Route};

/// The secret of every route.
pub(crate) const SECRET: &str = "hermes secret";

/// A configuration with tenant acme and route "video" with these keys.
pub(crate) fn config(route: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("secret"), SECRET).unwrap();
    let keys: String = route.lines().map(|line| format!("        {line}\n")).collect();
    let text = format!(
        "tenants:\n  acme:\n    networks: [loopback]\n    openrouter: {{secrets: [{{file: secret}}]}}\n    routes:\n      video:\n        url: \
         http://127.0.0.1:8644/webhooks/video\n        secret: {{file: secret}}\n{keys}"
    );
    let file = directory.path().join("talaria.yaml");
    fs::write(&file, text).unwrap();
    config::load(&file).unwrap()
}

/// The route "video" with these keys.
pub(crate) fn route(keys: &str) -> Arc<Route> {
    Arc::clone(config(keys).route("acme", "video").unwrap())
}
