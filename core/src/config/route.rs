//! Routes: the events, the target and the retries of a tenant's deliveries.

use super::{
    EventPattern, Header, Missing, Problem, RouteTls,
    compile::{Compiler, DEFAULT_MAX_BODY},
    outbound,
    problem::Problems,
    raw,
    secret::Origin,
    tokens,
    value::{body_limit, breaker, event_pattern, extra, hermes_url, http_url, pace, percent, runs},
};
use crate::{
    hermes::{
        command::is_command,
        filter::{Filter, explain::quoted},
        signature::Scheme,
        template::Template,
    },
    id::RouteKey,
    json::{Object, Text, Value},
    network::Networks,
    notice::{self, NoticeKind},
    time::{DAY, MINUTE, SECOND},
};
use secrecy::SecretString;
use serde_saphyr::Spanned;
use std::{fmt, sync::Arc, time::Duration};
use url::Url;

/// 1 s, 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h, 4 h, 8 h.
const DEFAULT_SCHEDULE: [u64; 10] = [1, 5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800];
const DEFAULT_JITTER: f64 = 0.2;
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(3 * 86_400);
/// Hermes' own default limit.
const DEFAULT_PACE: Pace = Pace { count: 30, window: MINUTE };
/// Consecutive failures that shut a route.
const DEFAULT_BREAKER: u32 = 5;
/// A longer exchange occupies one of its route's `in_flight`, and a leaving relay waits for it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// A tenant's route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name within the tenant.
    pub name: String,
    /// The hash of its name in delivery ids.
    pub key: RouteKey,
    /// Who takes its requests.
    pub kind: RouteKind,
    /// The URL at Hermes, or of the webhook.
    pub url: Url,
    /// The networks, beside the public one, that its tenant allows.
    pub networks: Networks,
    /// Certificates beside the system's own.
    pub tls: Option<Arc<RouteTls>>,
    /// The signing scheme.
    pub signing: &'static Scheme,
    /// The signing secrets, the newest first; empty in an ingress, and in a relay if none could be read.
    pub secrets: Vec<SecretString>,
    /// Why other secrets or files could not be read. Only in a running process, which works with the readable ones.
    pub unread: Vec<Problem>,
    /// Why no request of this route can go out: no secret could be read, or not every header and certificate.
    pub down: Option<Problem>,
    /// The operator's own headers.
    pub headers: Vec<Header>,
    /// The origin of the newest secret, for messages to the operator.
    pub secret_origin: Origin,
    /// The event types that it matches; every type if this is empty.
    pub events: Vec<EventPattern>,
    /// The payloads that it matches.
    pub filter: Option<Filter>,
    /// The prompt; Hermes' default prompt if it is empty.
    pub prompt: Template,
    /// The request's body.
    pub body: BodyMode,
    /// Whether the route at Hermes is `deliver_only`: it delivers the prompt itself, without an agent.
    pub deliver_only: bool,
    /// Templated values that are sent beside the prompt.
    pub extra: Value,
    /// The limit of requests in a time; `None` without limit.
    pub pace: Option<Pace>,
    /// The number of consecutive failures that shut the route; `None` if failures never do.
    pub breaker: Option<u32>,
    /// The time after its delivery in which the end of the agent's run is reported; `None` if no report is expected.
    pub runs: Option<Duration>,
    /// The timeout of one exchange, from the look-up of the name to the last byte of the answer.
    pub timeout: Duration,
    /// The most exchanges in flight.
    pub in_flight: u16,
    /// Hermes' `max_body_bytes`: a longer request body is not sent.
    pub max_body_bytes: usize,
    /// The retries of a failed attempt.
    pub retry: Retry,
    /// The protection of prompts.
    pub guard: Guard,
}

/// A route as it is written.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub tenant: &'a str,
    pub name: &'a Spanned<String>,
    pub raw: &'a raw::Route,
    /// The networks of its tenant; `None` if one of them is not valid.
    pub networks: Option<&'a Networks>,
    /// The tokens of `talaria.` that the files of completed jobs have, by its tenant's `media`.
    pub media_tokens: &'static [&'static str],
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}/{}", self.tenant, self.name.value)
    }
}

pub(super) fn compile(c: &mut Compiler<'_>, written: Written<'_>) -> Route {
    let Written { name, raw, networks, .. } = written;
    let kind = kind(&mut c.problems, raw);
    let url = url(c, written, kind);
    let signing = match kind {
        RouteKind::Hermes => outbound::scheme(&mut c.problems, raw, &url),
        RouteKind::Webhook => Scheme::STANDARD,
    };
    let mut unread = Problems::default();
    let (secrets, secret_origin) = outbound::secrets(c, &mut unread, &raw.secret, signing);
    let without_secret = unread.0.first().filter(|_| secrets.is_empty()).cloned();
    // Every request needs all headers and certificates.
    let mut needed = Problems::default();
    let reads_secrets = c.role.has_relay();
    let headers = outbound::headers(c, &mut needed, &raw.headers, reads_secrets);
    let tls = outbound::tls(c, &mut needed, raw.tls.as_ref(), &url);
    let down = needed.0.first().cloned().or(without_secret);
    unread.0.append(&mut needed.0);
    let consequence = if down.is_some() {
        "the route is down, and what is for it waits"
    } else {
        "its other ones are used"
    };
    let unread = c.unread(&written, unread, consequence);
    let down = down.filter(|_| c.missing == Missing::Tolerated);
    let runs = expected_runs(c, written);
    let p = &mut c.problems;
    let prompt = Template::new(&Text::from(raw.prompt.as_ref().map_or("", |prompt| prompt.value.as_str())));
    let default_body = if kind == RouteKind::Webhook { BodyMode::Raw } else { BodyMode::Prompt };
    let body = p.or(raw.body.as_ref(), default_body, |mode| match mode.as_str() {
        "prompt" => Ok(BodyMode::Prompt),
        "raw" => Ok(BodyMode::Raw),
        _ => Err(("unknown body".into(), "write body: prompt or body: raw".into())),
    });
    let guard = Guard {
        commands: raw.guard.commands.unwrap_or(true),
        references: raw.guard.references.unwrap_or(true),
    };
    if let Some(prompt_text) = raw.prompt.as_ref().filter(|_| kind == RouteKind::Hermes) {
        if body == BodyMode::Raw {
            let what = format!("{written} sends raw bodies, so its prompt is never used");
            c.warnings.add(prompt_text, what, "leave prompt out, or write body: prompt");
        }
        if guard.commands && prompt.leading_text().is_some_and(is_command) {
            let what =
                format!("the prompt of {written} starts with / as Hermes reads it, which the guard defuses");
            let help = "if a gateway command is meant, write guard: {commands: false}";
            c.warnings.add(prompt_text, what, help);
        }
    }
    let events: Vec<EventPattern> = raw
        .events
        .iter()
        .map(|text| p.or(Some(text), EventPattern::Every, |text| event_pattern(text)))
        .collect();
    let filter = p.or(raw.filters.as_ref(), None, |filters| {
        Filter::compile(filters).map(Some).map_err(|what| (what, "see docs/configuration.md#filters".into()))
    });
    tokens::check_types(&mut c.warnings, &raw.events, &events);
    warn_if_mixed(&mut c.warnings, written, &events);
    if body == BodyMode::Prompt {
        let examples = tokens::matching_examples(&events, filter.as_ref());
        tokens::check_route(&mut c.warnings, written, &examples);
    }
    let in_flight = p.or(raw.in_flight.as_ref(), 16, |n| match *n {
        n @ 1..=1024 => Ok(n),
        _ => Err(("in_flight is out of range".into(), "write a number from 1 to 1024".into())),
    });
    Route {
        key: RouteKey::new(&name.value),
        name: name.value.clone(),
        kind,
        networks: networks.cloned().unwrap_or_default(),
        tls,
        url,
        signing,
        secrets,
        unread,
        down,
        secret_origin,
        headers,
        events,
        filter,
        prompt,
        body,
        deliver_only: raw.deliver_only,
        extra: p.or(raw.extra.as_ref(), Value::Object(Object::new()), extra),
        pace: p.or(raw.pace.as_ref(), Some(DEFAULT_PACE).filter(|_| kind == RouteKind::Hermes), |text| {
            pace(text)
        }),
        breaker: p.or(raw.breaker.as_ref(), Some(DEFAULT_BREAKER), |text| breaker(text)),
        runs,
        timeout: p.duration(raw.timeout.as_ref(), "timeout", 30 * SECOND, SECOND / 10..=LONGEST_TIMEOUT),
        in_flight,
        max_body_bytes: p.or(raw.max_body_bytes.as_ref(), DEFAULT_MAX_BODY, |text| body_limit(text)),
        retry: retry(p, &raw.retry, c.retention),
        guard,
    }
}

/// The time in which a run is reported. A route that delivers without an agent has no runs.
fn expected_runs(c: &mut Compiler<'_>, written: Written<'_>) -> Option<Duration> {
    let within = c.problems.or(written.raw.runs.as_ref(), None, |text| runs(text));
    let key = written.raw.runs.as_ref().filter(|_| within.is_some())?;
    if written.raw.deliver_only {
        let what = format!("{written} is deliver_only, so no agent runs and no run is reported");
        c.problems.add(key, what, "leave runs out");
    } else if c.role.has_relay() && !c.has_console {
        let what =
            format!("{written} expects reports of runs, which come to console.listen, and that is off");
        c.warnings.add(key, what, "write console.listen; see docs/runs.md");
    }
    within
}

fn url(c: &mut Compiler<'_>, written: Written<'_>, kind: RouteKind) -> Url {
    let Written { raw, networks, .. } = written;
    let nowhere = || Url::parse("http://127.0.0.1").ok();
    let written_url = c.problems.or(Some(&raw.url), None, |text| match kind {
        RouteKind::Hermes => hermes_url(text).map(Some),
        RouteKind::Webhook => {
            http_url(text, "https://example.com/hooks", "the receiver knows us by the signature").map(Some)
        }
    });
    if let (Some(url), Some(networks)) = (&written_url, networks) {
        outbound::check_url(&mut c.problems, written, url, networks, kind);
    }
    #[expect(clippy::expect_used, reason = "a constant that parses")]
    written_url.or_else(nowhere).expect("http://127.0.0.1 is a URL")
}

/// The kind, and the faults of keys that only Hermes' routes have.
fn kind(p: &mut Problems, raw: &raw::Route) -> RouteKind {
    let kind = p.or(raw.kind.as_ref(), RouteKind::Hermes, |text| match text.as_str() {
        "hermes" => Ok(RouteKind::Hermes),
        "webhook" => Ok(RouteKind::Webhook),
        _ => Err(("unknown kind".into(), "write kind: hermes or kind: webhook".into())),
    });
    if let Some(written) = raw.kind.as_ref().filter(|_| kind == RouteKind::Webhook) {
        let keys = [
            ("signing", raw.signing.as_ref().map(|key| key.referenced)),
            ("prompt", raw.prompt.as_ref().map(|key| key.referenced)),
            ("body", raw.body.as_ref().map(|key| key.referenced)),
            ("extra", raw.extra.as_ref().map(|key| key.referenced)),
            ("runs", raw.runs.as_ref().map(|key| key.referenced)),
            ("deliver_only", raw.deliver_only.then_some(written.referenced)),
        ];
        for (key, location) in keys.into_iter().filter_map(|(key, location)| Some((key, location?))) {
            let what = format!(
                "a webhook has no {key}: it gets the event's own bytes, signed as Standard Webhooks say"
            );
            p.0.push(Problem::at(location, what, "leave it out"));
        }
    }
    kind
}

/// No notice is made about a route that takes notices.
fn warn_if_mixed(warnings: &mut Problems, route: Written<'_>, events: &[EventPattern]) {
    let takes_notices = |pattern: &&EventPattern| pattern.takes_notices();
    let notices = events.iter().filter(takes_notices).count();
    if let Some(written) = route.raw.events.first().filter(|_| notices > 0 && notices < events.len()) {
        let what = format!("{route} takes notices and other events, and no notice is made about it");
        warnings.add(written, what, "let a route of its own take the notices; see docs/notices.md");
    }
}

fn retry(p: &mut Problems, raw: &raw::Retry, retention: Duration) -> Retry {
    let schedule = match &raw.schedule {
        None => DEFAULT_SCHEDULE.map(Duration::from_secs).to_vec(),
        Some(delays) => {
            let delays = delays.value.iter();
            delays
                .map(|delay| p.duration(Some(delay), "schedule", SECOND, Duration::ZERO..=7 * DAY))
                .collect()
        }
    };
    let max_age = DEFAULT_MAX_AGE.min(retention);
    Retry {
        schedule,
        jitter: p.or(raw.jitter.as_ref(), DEFAULT_JITTER, |text| percent(text, 50)),
        max_age: p.duration(raw.max_age.as_ref(), "max_age", max_age, SECOND..=retention),
    }
}

impl Route {
    /// Whether the route matches an event.
    pub fn wants(&self, event_type: &str, payload: &Value) -> bool {
        self.takes(event_type)
            && self.filter.as_ref().is_none_or(|filter| filter.matches(payload, &Text::from(event_type)))
    }

    /// Whether the route matches events of a type. Only a pattern that names them matches notices.
    fn takes(&self, event_type: &str) -> bool {
        let takes_all = self.events.is_empty() && !notice::is_notice(event_type);
        takes_all || self.events.iter().any(|pattern| pattern.matches(event_type))
    }

    /// Whether it takes notices of any kind. None is made about such a route, so that no notice leads to another.
    pub fn takes_notices(&self) -> bool {
        self.events.iter().any(EventPattern::takes_notices)
    }

    /// Whether it takes notices of a kind, by their type alone.
    pub fn takes_notice(&self, kind: NoticeKind) -> bool {
        self.takes(kind.event_type())
    }

    /// The same with the reason. A filter cannot be decided without the payload, which may have been deleted.
    pub fn explain(&self, event_type: &str, payload: Option<&Value>) -> Wanted {
        let pattern = self.events.iter().find(|pattern| pattern.matches(event_type));
        if !self.takes(event_type) {
            if self.events.is_empty() {
                return Wanted::No(
                    "it takes every type but notices, for which its events must name them".into(),
                );
            }
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

    /// The profile of Hermes in the URL: NAME in `/p/NAME/webhooks/…`.
    pub fn hermes_profile(&self) -> Option<&str> {
        self.hermes_name()?;
        let mut before = self.url.path_segments()?.rev().skip(2);
        let profile = before.next().filter(|profile| !profile.is_empty())?;
        (before.next() == Some("p")).then_some(profile)
    }

    /// The route's name at Hermes: the segment after `/webhooks/` in the URL.
    pub fn hermes_name(&self) -> Option<&str> {
        if self.kind != RouteKind::Hermes {
            return None;
        }
        let mut segments = self.url.path_segments()?.rev();
        let name = segments.next().filter(|name| !name.is_empty())?;
        (segments.next() == Some("webhooks")).then_some(name)
    }
}

/// Who takes a route's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// A webhook of Hermes.
    Hermes,
    /// Any other program. It gets the event's bytes, signed as Standard Webhooks say.
    Webhook,
}

/// Whether a route matches an event, with the reason for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It matches.
    Yes(String),
    /// It does not match.
    No(String),
    /// The payload was deleted.
    Unknown(String),
}

/// The body of a request to Hermes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// OpenRouter's payload with `prompt`, `extra` and `talaria` added to it.
    Prompt,
    /// OpenRouter's exact bytes.
    Raw,
}

/// The most requests in any window of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The number of requests, at least 1.
    pub count: u32,
    /// The length of the window.
    pub window: Duration,
}

/// The retries of a failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// The delays after the first, second, … attempt that counts. After the last one the delivery is parked.
    pub schedule: Vec<Duration>,
    /// Each delay is varied by up to this share, from 0 to 0.5.
    pub jitter: f64,
    /// A delivery whose event is older than this is parked.
    pub max_age: Duration,
}

/// The protection of prompts. Both parts are on unless the operator turned them off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Defuses a prompt that starts with `/`, which would be a gateway command.
    pub commands: bool,
    /// Defuses `@file:` and similar references in the payload, which Hermes would expand into contents.
    pub references: bool,
}
