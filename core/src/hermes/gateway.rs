//! The webhook endpoint in a Hermes home: `config.yaml`, and `.env` beside it.
//!
//! Read as `gateway/config.py` of hermes-agent 0.19.0 reads them: `platforms` over `gateway.platforms`, their `extra`
//! merged key by key, a top-level `webhook.enabled` over both, and `WEBHOOK_ENABLED` with `WEBHOOK_PORT` over all.
//! The environment of Hermes' own process is not visible here.

use crate::json::{Object, Value};
use serde_saphyr::options::DuplicateKeyPolicy;
use std::net::IpAddr;
use url::{Host, Url};

/// Hermes' default port.
const DEFAULT_PORT: u16 = 8644;

/// The webhook endpoint of a Hermes home.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Whether it is enabled.
    pub is_enabled: bool,
    /// The address that it is bound to; `None` for every address.
    host: Option<String>,
    /// The port; `None` if it cannot be parsed.
    pub port: Option<u16>,
    /// Routes of the configuration itself, by name. They have precedence over subscriptions.
    routes: Object,
    /// Whether one gateway serves every profile, with `/p/NAME/` in URLs.
    serves_profiles: bool,
}

/// A fault of the endpoint that keeps a route's requests from arriving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The fault.
    pub what: String,
    /// The remedy.
    pub help: String,
}

impl Gateway {
    /// Parses the two files' texts, which are empty for missing files. Fails if Hermes could not read `config.yaml`.
    pub fn read(config: &str, env: &str) -> Result<Self, String> {
        let config = document(config)?;
        let (mut block, mut extra) = (Object::new(), Object::new());
        let nested = config.get("gateway").and_then(|gateway| gateway.get("platforms"));
        for platforms in [nested, config.get("platforms")].into_iter().flatten() {
            let Some(written) = platforms.get("webhook").and_then(Value::as_object) else { continue };
            if let Some(written) = written.get(b"extra".as_slice()).and_then(Value::as_object) {
                extra.extend(written.clone());
            }
            block.extend(written.clone());
        }
        let top = config.get("webhook").and_then(|webhook| webhook.get("enabled"));
        let enabled = top.or_else(|| block.get(b"enabled".as_slice()));
        let by_env = variable(env, "WEBHOOK_ENABLED").is_some_and(is_true);
        let port = match extra.get(b"port".as_slice()) {
            None => Some(DEFAULT_PORT),
            Some(Value::Integer(port)) => port.as_str().parse().ok(),
            Some(other) => other.as_str().and_then(|text| text.trim().parse().ok()),
        };
        let env_port = variable(env, "WEBHOOK_PORT").filter(|_| by_env).and_then(|port| port.parse().ok());
        let multiplex = [
            config.get("multiplex_profiles"),
            config.get("gateway").and_then(|g| g.get("multiplex_profiles")),
        ];
        Ok(Self {
            is_enabled: by_env || enabled.is_some_and(is_set),
            host: extra.get(b"host".as_slice()).and_then(Value::as_str).map(str::to_owned),
            port: env_port.or(port),
            routes: routes(&extra),
            serves_profiles: multiplex.into_iter().flatten().next().is_some_and(is_set),
        })
    }

    /// The route of this name in the configuration itself.
    pub fn static_route(&self, name: &str) -> Option<&Value> {
        self.routes.get(name.as_bytes())
    }

    /// Whether a URL leads to this port of this machine.
    pub fn is_meant_by(&self, url: &Url) -> bool {
        is_here(url) && self.port.is_some() && self.port == url.port_or_known_default()
    }

    /// Whether a URL names this machine's loopback.
    pub fn is_here(url: &Url) -> bool {
        is_here(url)
    }

    /// The faults that keep requests to a URL with this profile from arriving. Ports and addresses are compared only if the URL
    /// leads to this machine: elsewhere there may be a proxy.
    pub fn findings(&self, url: &Url, profile: Option<&str>) -> Vec<Finding> {
        let mut found = Vec::new();
        if !self.is_enabled {
            found.push(Finding {
                what: "webhooks are not enabled there, so Hermes does not listen".into(),
                help: "write platforms: {webhook: {enabled: true}}, or WEBHOOK_ENABLED=true into .env beside it, and restart \
                       the gateway; where the gateway's own environment sets WEBHOOK_ENABLED, nothing is to be done"
                    .into(),
            });
        }
        let port = url.port_or_known_default();
        if let (true, Some(listens), Some(port)) = (is_here(url), self.port, port)
            && listens != port
        {
            found.push(Finding {
                what: format!("Hermes listens on port {listens} there, and the route's url leads to port {port}"),
                help: format!("write the same port in both: {listens} in the route's url, or {port} as platforms.webhook.extra.port"),
            });
        }
        let bound =
            self.host.as_deref().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if let (true, Some(bound)) = (is_here(url), bound)
            && !bound.is_loopback()
            && !bound.is_unspecified()
        {
            found.push(Finding {
                what: format!("Hermes listens on {bound} alone there, and the route's url leads to this machine's loopback"),
                help: format!("write {bound} in the route's url, or platforms.webhook.extra.host: 127.0.0.1"),
            });
        }
        if let Some(profile) = profile.filter(|profile| *profile != "default")
            && !self.serves_profiles
        {
            found.push(Finding {
                what: format!("the route's url names the profile {profile}, and multiplex_profiles is not set there"),
                help: "write gateway: {multiplex_profiles: true}; without it Hermes 0.19 serves the route with the gateway's own \
                       profile, and a newer one answers 404 for any other"
                    .into(),
            });
        }
        found
    }
}

/// Routes, each with its secret: its own, or the one for all.
fn routes(extra: &Object) -> Object {
    let mut routes = extra.get(b"routes".as_slice()).and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(secret) = extra.get(b"secret".as_slice()) {
        for route in routes.values_mut() {
            if let Value::Object(route) = route {
                route.entry("secret".into()).or_insert_with(|| secret.clone());
            }
        }
    }
    routes
}

/// Parses `config.yaml`, which may be empty. Fails with the line of a fault, without its text.
pub fn document(text: &str) -> Result<Value, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_empty) {
        return Ok(Value::Null);
    }
    // As PyYAML, for which the last of two keys counts. Without snippets: there may be secrets in the file.
    let options =
        serde_saphyr::options! { with_snippet: false, duplicate_keys: DuplicateKeyPolicy::LastWins };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| match error.location() {
        Some(location) => format!("it is not YAML, at line {}", location.line()),
        None => "it is not YAML".to_owned(),
    })
}

/// Whether Hermes reads a value as true.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        Value::Integer(number) => number.as_str() != "0",
        other => other.as_str().is_some_and(is_true),
    }
}

fn is_true(text: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&text.trim().to_ascii_lowercase().as_str())
}

/// The last value of a variable in a `.env` file.
fn variable<'a>(env: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| {
        let line = line.trim();
        let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches(['"', '\'']))
    };
    env.lines().rev().find_map(value)
}

fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => v4.is_loopback(),
        Some(Host::Ipv6(v6)) => v6.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(config: &str, env: &str) -> Gateway {
        Gateway::read(config, env).unwrap()
    }

    fn found(config: &str, url: &str) -> Vec<String> {
        let findings = gateway(config, "").findings(&url.parse().unwrap(), None);
        findings.into_iter().map(|finding| finding.what).collect()
    }

    const HERE: &str = "http://127.0.0.1:8644/webhooks/v";

    #[test]
    fn the_endpoint_is_enabled_by_the_rules_of_hermes() {
        for (config, env, is_enabled) in [
            ("", "", false),
            ("# nothing\n", "", false),
            ("platforms: {webhook: {enabled: true}}", "", true),
            ("platforms: {webhook: {enabled: 'on'}}", "", true),
            ("gateway: {platforms: {webhook: {enabled: true}}}", "", true),
            (
                "gateway: {platforms: {webhook: {enabled: true}}}\nplatforms: {webhook: {enabled: false}}",
                "",
                false,
            ),
            ("platforms: {webhook: {enabled: false}}\nwebhook: {enabled: true}", "", true),
            ("platforms: {webhook: {enabled: true}}\nwebhook: {enabled: false}", "", false),
            ("", "# x\nexport WEBHOOK_ENABLED='true'\n", true),
            ("", "WEBHOOK_ENABLED=false", false),
            ("\u{feff}platforms: {webhook: {enabled: yes}}", "", true),
        ] {
            assert_eq!(gateway(config, env).is_enabled, is_enabled, "{config} {env}");
        }
        assert!(Gateway::read("platforms: [", "").unwrap_err().contains("not YAML"));
    }

    #[test]
    fn a_port_an_address_or_a_switch_that_differs_is_found() {
        let enabled = "platforms: {webhook: {enabled: true, extra: {port: 8644}}}";
        assert_eq!(found(enabled, HERE), Vec::<String>::new());
        assert!(found("", HERE)[0].contains("not enabled"));
        let other = "platforms: {webhook: {enabled: true, extra: {port: 9000}}}";
        assert_eq!(
            found(other, HERE),
            ["Hermes listens on port 9000 there, and the route's url leads to port 8644"]
        );
        assert!(found(other, "http://localhost:8644/webhooks/v")[0].contains("9000"));
        assert_eq!(
            found(other, "http://hermes.example.com/webhooks/v"),
            Vec::<String>::new(),
            "a proxy may stand there"
        );
        let nested = "gateway: {platforms: {webhook: {extra: {port: 1, host: 10.0.0.5}}}}\nplatforms: {webhook: {enabled: true, \
                      extra: {port: '8644'}}}";
        assert!(found(nested, HERE)[0].contains("10.0.0.5 alone"), "extra is merged key by key");
        let by_env = gateway(enabled, "WEBHOOK_ENABLED=1\nWEBHOOK_PORT=9001");
        assert_eq!(by_env.port, Some(9001));
        assert!(
            by_env.is_meant_by(&"http://[::1]:9001/".parse().unwrap())
                && !by_env.is_meant_by(&HERE.parse().unwrap())
        );
    }

    #[test]
    fn a_profile_needs_a_gateway_that_serves_profiles() {
        let url = "http://127.0.0.1:8644/p/work/webhooks/v".parse().unwrap();
        let with = |config: &str, profile| gateway(config, "").findings(&url, Some(profile)).len();
        let enabled = "platforms: {webhook: {enabled: true}}\n";
        assert_eq!((with(enabled, "work"), with(enabled, "default")), (1, 0));
        for switch in ["multiplex_profiles: true", "gateway: {multiplex_profiles: true}"] {
            assert_eq!(with(&format!("{enabled}{switch}"), "work"), 0, "{switch}");
        }
    }

    #[test]
    fn a_static_route_is_known_by_its_name() {
        let gateway = gateway("platforms: {webhook: {extra: {secret: s, routes: {v: {prompt: x}}}}}", "");
        let of = |key: &str| gateway.static_route("v").and_then(|route| route.get(key)?.as_str());
        assert_eq!((of("prompt"), of("secret")), (Some("x"), Some("s")), "with the secret for all routes");
        assert!(gateway.static_route("w").is_none());
    }
}
