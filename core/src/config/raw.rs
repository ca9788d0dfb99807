//! The written file. Unknown keys are errors; optional values are an `Option`.
//!
//! Every key is documented in `deploy/talaria.example.yaml`.

use super::{
    numbers,
    own_keys::File,
    problem::{Error, Problem},
    secret::{self, Origin, written_instead},
    yaml,
};
use crate::json::Value;
use serde::{
    Deserialize, Deserializer, de,
    de::value::{MapAccessDeserializer, SeqAccessDeserializer},
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;
use std::{fmt, marker::PhantomData, path::Path};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    pub ingress: Ingress,
    pub relay: Relay,
    pub console: Console,
    pub admin: Admin,
    pub tunnel: Tunnel,
    pub bus: Option<Spanned<Bus>>,
    pub data_dir: Option<Spanned<String>>,
    pub retention: Option<Spanned<String>>,
    pub telemetry: Option<Telemetry>,
    pub tenants: Named<Tenant>,
    /// The problems of numbers, which only their spelling shows.
    #[serde(skip)]
    pub numbers: Vec<Problem>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ingress {
    pub listen: Option<Spanned<String>>,
    pub public_url: Option<Spanned<String>>,
    pub max_body_bytes: Option<Spanned<String>>,
    pub body_timeout: Option<Spanned<String>>,
    pub linger: Option<Spanned<String>>,
    pub max_head_bytes: Option<Spanned<String>>,
    pub max_headers: Option<Spanned<usize>>,
    pub head_timeout: Option<Spanned<String>>,
    pub idle_timeout: Option<Spanned<String>>,
    pub trusted_proxies: Option<Vec<Spanned<String>>>,
    pub client_address: Option<Spanned<String>>,
    pub limits: Limits,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub connections: Option<Spanned<usize>>,
    pub connections_per_address: Option<Spanned<usize>>,
    pub bodies: Option<Spanned<String>>,
    pub storing: Option<Spanned<usize>>,
    pub per_address: Option<Spanned<String>>,
    pub refused_per_address: Option<Spanned<String>>,
    pub per_tenant: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Relay {
    pub grpc: Option<Spanned<String>>,
    pub tls: Option<Spanned<RelayTls>>,
    pub tokens: Vec<Token>,
    pub drain: Option<Spanned<String>>,
    pub in_flight: Option<Spanned<usize>>,
    pub evidence: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RelayTls {
    pub cert: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
    pub client_ca: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub name: Spanned<String>,
    pub scope: Spanned<String>,
    pub tenant: Option<Spanned<String>>,
    pub hashes: Spanned<Vec<Spanned<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Console {
    pub listen: Option<Spanned<String>>,
    pub names: Vec<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    pub listen: Option<Spanned<String>>,
    pub counted_tenants: Option<Spanned<usize>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tunnel {
    pub cloudflared: Option<Spanned<String>>,
    pub token: Option<Spanned<Origin>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    pub otlp: Spanned<String>,
    pub sample: Option<Spanned<String>>,
    #[serde(default)]
    pub headers: Named<Spanned<HeaderValue>>,
    pub ca: Option<Spanned<String>>,
}

/// `embedded`, or a map with the one key `nats`.
pub(super) enum Bus {
    Embedded,
    Nats(Box<Nats>),
}

/// Not derived, so that the error for `bus: nats` names the missing part and its location.
impl<'de> Deserialize<'de> for Bus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BusVisitor;

        impl<'de> Visitor<'de> for BusVisitor {
            type Value = Bus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a bus: embedded, or {nats: {servers: [URL]}}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bus, E> {
                match text {
                    "embedded" => Ok(Bus::Embedded),
                    _ => Err(E::custom("unknown bus: write embedded, or {nats: {servers: [URL]}}")),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Bus, A::Error> {
                #[derive(Deserialize)]
                #[serde(rename_all = "lowercase")]
                enum Key {
                    Nats,
                }

                let one = || de::Error::custom("a bus has the one key nats");
                let (Key::Nats, nats) = members.next_entry()?.ok_or_else(one)?;
                if members.next_key::<Key>()?.is_some() { Err(one()) } else { Ok(Bus::Nats(nats)) }
            }
        }

        deserializer.deserialize_any(BusVisitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nats {
    pub servers: Spanned<Vec<Spanned<String>>>,
    pub creds: Option<Spanned<Origin>>,
    pub nkey: Option<Spanned<Origin>>,
    pub tls: Option<Tls>,
    pub replicas: Option<Spanned<usize>>,
    pub prefix: Option<Spanned<String>>,
    pub max_bytes: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub ca: Option<Spanned<String>>,
    pub cert: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tenant {
    pub openrouter: Spanned<OpenRouter>,
    pub media: Option<Spanned<Media>>,
    #[serde(default)]
    pub networks: Vec<Spanned<String>>,
    #[serde(default)]
    pub routes: Named<Route>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenRouter {
    #[serde(default)]
    pub secrets: Vec<Spanned<Origin>>,
    pub tolerance: Option<Spanned<String>>,
    pub api_key: Option<Spanned<Origin>>,
    pub base_url: Option<Spanned<String>>,
    pub poll: Option<Spanned<Poll>>,
    pub budget: Option<Spanned<Budget>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Poll {
    pub first: Option<Spanned<String>>,
    pub every: Option<Spanned<String>>,
    pub slowest: Option<Spanned<String>>,
    pub give_up: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Budget {
    pub per_job: Option<Spanned<String>>,
    pub per_day: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Media {
    pub mode: Option<Spanned<String>>,
    pub link_life: Option<Spanned<String>>,
    pub max_bytes: Option<Spanned<String>>,
    pub wait: Option<Spanned<String>>,
    pub directory: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub kind: Option<Spanned<String>>,
    pub url: Spanned<String>,
    pub secret: Spanned<Secrets>,
    pub signing: Option<Spanned<String>>,
    #[serde(default)]
    pub headers: Named<Spanned<HeaderValue>>,
    pub tls: Option<Tls>,
    #[serde(default)]
    pub events: Vec<Spanned<String>>,
    pub filters: Option<Spanned<Value>>,
    pub prompt: Option<Spanned<String>>,
    pub body: Option<Spanned<String>>,
    #[serde(default)]
    pub deliver_only: bool,
    pub extra: Option<Spanned<Value>>,
    pub pace: Option<Spanned<String>>,
    pub timeout: Option<Spanned<String>>,
    pub breaker: Option<Spanned<String>>,
    pub runs: Option<Spanned<String>>,
    pub in_flight: Option<Spanned<u16>>,
    pub max_body_bytes: Option<Spanned<String>>,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default)]
    pub guard: Guard,
}

/// One secret, or several while one is rotated.
pub(super) enum Secrets {
    One(Origin),
    Several(Vec<Spanned<Origin>>),
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretsVisitor;

        impl<'de> Visitor<'de> for SecretsVisitor {
            type Value = Secrets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{env: NAME}, {file: PATH}, or a list of them")
            }

            written_instead!(secret::SHAPE; visit_str &str, visit_bool bool, visit_f64 f64, visit_i64 i64, visit_u64 u64, visit_i128 i128, visit_u128 u128);

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Secrets, A::Error> {
                Origin::deserialize(MapAccessDeserializer::new(members)).map(Secrets::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Secrets, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(items)).map(Secrets::Several)
            }
        }

        deserializer.deserialize_any(SecretsVisitor)
    }
}

/// A header's value, written or named like a secret.
pub(super) enum HeaderValue {
    Written(String),
    Named(Origin),
}

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        const SHAPE: &str = "a header's value is text (in quotes where it looks like something else), {env: NAME} or {file: PATH}";

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = HeaderValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, {env: NAME} or {file: PATH}")
            }

            written_instead!(SHAPE; visit_bool bool, visit_f64 f64, visit_i64 i64, visit_u64 u64, visit_i128 i128, visit_u128 u128);

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderValue, E> {
                Ok(HeaderValue::Written(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<HeaderValue, A::Error> {
                Origin::deserialize(MapAccessDeserializer::new(members)).map(HeaderValue::Named)
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    pub schedule: Option<Spanned<Vec<Spanned<String>>>>,
    pub jitter: Option<Spanned<String>>,
    pub max_age: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Guard {
    pub commands: Option<bool>,
    pub references: Option<bool>,
}

/// A map from names to values, in the order of the file and with the locations of the names.
pub(super) struct Named<T>(pub Vec<(Spanned<String>, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Named<T>, A::Error> {
                let mut named = Vec::new();
                while let Some(member) = members.next_entry()? {
                    named.push(member);
                }
                Ok(Named(named))
            }
        }

        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

/// Parses the file. The parser stops at the first fault.
pub(super) fn parse(path: &Path, text: &str) -> Result<Config, Error> {
    // Without snippets: a line of the file may have a secret by mistake.
    let options = serde_saphyr::options! { with_snippet: false };
    let parsed = serde_saphyr::from_str_with_options(text, options);
    let File(mut config) = parsed.map_err(|error| Error::invalid(path, vec![yaml::problem(text, &error)]))?;
    config.numbers = numbers::problems(text);
    Ok(config)
}
