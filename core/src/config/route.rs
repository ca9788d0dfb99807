//! A tenant's route: which events go to which Hermes, as what, and how patiently.

use super::{Header, Problem, RouteTls, secret::Origin};
use crate::{
    hermes::{
        filter::{Filter, explain::quoted},
        signature::Scheme,
        template::Template,
    },
    id::RouteKey,
    json::{Text, Value},
    network::Networks,
};
use secrecy::SecretString;
use std::{fmt, sync::Arc, time::Duration};
use url::Url;

/// A tenant's route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name within the tenant.
    pub name: String,
    /// What its name comes to in delivery ids.
    pub key: RouteKey,
    /// The webhook URL at Hermes.
    pub url: Url,
    /// The networks, beside the public one, that its tenant lets requests go to.
    pub networks: Networks,
    /// What TLS connections need beyond the system's own certificates.
    pub tls: Option<Arc<RouteTls>>,
    /// How requests are signed.
    pub signing: Scheme,
    /// With what, the newest first; none in an ingress, and none in a relay where the route is down.
    pub secrets: Vec<SecretString>,
    /// Why something of it that is secret could not be read. Only in a process that runs: it works with the secrets that could.
    pub unread: Vec<Problem>,
    /// Why no request of this route can go out, if none can: no secret could be read, or not a header or a certificate.
    pub down: Option<Problem>,
    /// Headers of the operator's own.
    pub headers: Vec<Header>,
    /// Where the newest secret comes from, to tell the operator.
    pub secret_origin: Origin,
    /// Which types it takes; every one where this is empty.
    pub events: Vec<EventPattern>,
    /// Which payloads it takes.
    pub filter: Option<Filter>,
    /// The prompt; Hermes' default one where it is empty.
    pub prompt: Template,
    /// What is sent.
    pub body: BodyMode,
    /// Whether the route at Hermes is `deliver_only`: it delivers the prompt itself, without an agent.
    pub deliver_only: bool,
    /// Templated values that are sent beside the prompt.
    pub extra: Value,
    /// How fast requests may follow each other; `None` without bound.
    pub pace: Option<Pace>,
    /// So many failures in a row shut the route for a while; `None` where failures never do.
    pub breaker: Option<u32>,
    /// How long one exchange may take, from the look-up of the name to the last byte of the answer.
    pub timeout: Duration,
    /// How many exchanges may be under way at once.
    pub in_flight: u16,
    /// Hermes' `max_body_bytes`: a longer request body is not sent.
    pub max_body_bytes: usize,
    /// When a failed attempt is repeated.
    pub retry: Retry,
    /// What is kept out of prompts.
    pub guard: Guard,
}

impl Route {
    /// Whether the route takes an event.
    pub fn wants(&self, event_type: &str, payload: &Value) -> bool {
        (self.events.is_empty() || self.events.iter().any(|pattern| pattern.matches(event_type)))
            && self.filter.as_ref().is_none_or(|filter| filter.matches(payload, &Text::from(event_type)))
    }

    /// The same with the reason. Without a payload, where that is not kept any more, a filter cannot be decided.
    pub fn explain(&self, event_type: &str, payload: Option<&Value>) -> Wanted {
        let pattern = self.events.iter().find(|pattern| pattern.matches(event_type));
        if pattern.is_none() && !self.events.is_empty() {
            let names = self.events.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Wanted::No(format!("its events are {names}, and the type is {}", quoted(event_type)));
        }
        let events =
            pattern.map_or("it takes every type".to_owned(), |pattern| format!("its events name {pattern}"));
        let Some(filter) = &self.filter else { return Wanted::Yes(events) };
        match payload.map(|payload| filter.explain(payload, &Text::from(event_type))) {
            None => Wanted::Unknown(format!(
                "{events}, but its filters cannot be decided: the event's payload is not kept any more"
            )),
            Some(None) => Wanted::Yes(format!("{events}, and its filters hold")),
            Some(Some(why)) => Wanted::No(format!("its filters do not hold: {why}")),
        }
    }

    /// The profile of Hermes that the URL names: NAME in `/p/NAME/webhooks/…`.
    pub fn hermes_profile(&self) -> Option<&str> {
        self.hermes_name()?;
        let mut before = self.url.path_segments()?.rev().skip(2);
        let profile = before.next().filter(|profile| !profile.is_empty())?;
        (before.next() == Some("p")).then_some(profile)
    }

    /// The route's name at Hermes: what stands behind `/webhooks/` in the URL.
    pub fn hermes_name(&self) -> Option<&str> {
        let mut segments = self.url.path_segments()?.rev();
        let name = segments.next().filter(|name| !name.is_empty())?;
        (segments.next() == Some("webhooks")).then_some(name)
    }
}

/// Whether a route takes an event, and why, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It does.
    Yes(String),
    /// It does not.
    No(String),
    /// What that rests on is not there any more.
    Unknown(String),
}

/// Which event types are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventPattern {
    /// `*`.
    Every,
    /// This one.
    Exactly(String),
    /// `video.generation.*`: everything that goes on behind this, up to and with the last dot.
    Below(String),
}

impl EventPattern {
    /// Whether a type is meant.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Exactly(exact) => event_type == exact,
            Self::Below(start) => {
                event_type.strip_prefix(start.as_str()).is_some_and(|rest| !rest.is_empty())
            }
        }
    }
}

/// As the operator writes it.
impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Exactly(exact) => f.write_str(exact),
            Self::Below(start) => write!(f, "{start}*"),
        }
    }
}

/// What is sent to Hermes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// OpenRouter's payload with `prompt`, `extra` and `talaria` added to it.
    Prompt,
    /// OpenRouter's exact bytes.
    Raw,
}

/// At most so many requests in any window of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many; at least 1.
    pub count: u32,
    /// In how long.
    pub window: Duration,
}

/// When a failed attempt is repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// The pauses behind the first, second, … attempt that counts. Behind the last one the delivery is parked.
    pub schedule: Vec<Duration>,
    /// Each pause is made longer or shorter by up to this share, from 0 to 0.5.
    pub jitter: f64,
    /// A delivery whose event is older than this is parked.
    pub max_age: Duration,
}

/// What is kept out of prompts. Both are on unless the operator turned them off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// A prompt that starts with `/` would be a gateway command.
    pub commands: bool,
    /// `@file:` and its like, out of the payload, would be expanded into contents.
    pub references: bool,
}
