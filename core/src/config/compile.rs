//! From what was written to what it means. Collects every problem instead of stopping at the first.

use super::{
    Addresses, Admin, BodyMode, BusKind, Config, DEFAULT_TOLERANCE, EventPattern, Guard, Missing, NAMES,
    Pace, Problem, Relay, Retry, Role, Route, Tenant, access, filesystem, ingress, is_name, nats, outbound,
    path::below,
    problem::Problems,
    raw, secret,
    secret::Origin,
    telemetry, tokens, tunnel,
    value::{
        DAY, HOUR, MINUTE, SECOND, body_limit, breaker, duration, event_pattern, exchanges, extra,
        hermes_url, listen, pace, percent,
    },
};
use crate::{
    hermes::{command::is_command, filter::Filter, template::Template},
    id::RouteKey,
    json::{Object, Text, Value},
    network::Networks,
};
use secrecy::SecretString;
use serde_saphyr::{Location, Spanned};
use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use url::Url;

/// 1 s, 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h, 4 h, 8 h.
const DEFAULT_SCHEDULE: [u64; 10] = [1, 5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800];
const DEFAULT_JITTER: f64 = 0.2;
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(3 * 86_400);
/// Hermes' own default limit.
const DEFAULT_PACE: Pace = Pace { count: 30, window: MINUTE };
/// Hermes' own default for `max_body_bytes`, and ours.
pub(super) const DEFAULT_MAX_BODY: usize = 1_048_576;

const INGRESS_PORT: u16 = 8080;
const GRPC_PORT: u16 = 50051;
const ADMIN_PORT: u16 = 9090;

/// Failures in a row that shut a route.
const DEFAULT_BREAKER: u32 = 5;
/// Exchanges of all routes together.
const DEFAULT_IN_FLIGHT: usize = 4096;

/// An exchange that takes longer keeps one of its route's `in_flight`, and a relay that leaves waits for it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// What every part of the file is read by.
#[derive(Clone, Copy)]
struct Scope<'a> {
    /// Where relative paths start.
    base: &'a Path,
    /// Whose secrets are read.
    role: Role,
    /// Nothing is tried for longer than it is kept.
    retention: Duration,
    /// What becomes of a tenant or a route without secrets.
    missing: Missing,
}

pub(super) fn addresses(raw: &raw::Config) -> Result<Addresses, Vec<Problem>> {
    let mut problems = Problems::default();
    let addresses = Addresses {
        ingress: listen(&mut problems, raw.ingress.listen.as_ref(), "ingress.listen", INGRESS_PORT),
        grpc: listen(&mut problems, raw.relay.grpc.as_ref(), "relay.grpc", GRPC_PORT),
        grpc_tls: raw.relay.tls.is_some(),
        admin: listen(&mut problems, raw.admin.listen.as_ref(), "admin.listen", ADMIN_PORT),
    };
    if problems.0.is_empty() { Ok(addresses) } else { Err(problems.0) }
}

/// What of it can be read, in a file that is wrong somewhere.
pub(super) fn guessed_addresses(document: &Value) -> Addresses {
    let part = |part: &str, key: &str| document.get(part).and_then(|part| part.get(key));
    let address = |name: &str, key: &str, port: u16| {
        let written = part(name, key).and_then(|written| written.as_str()?.parse().ok());
        written.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    Addresses {
        ingress: address("ingress", "listen", INGRESS_PORT),
        grpc: address("relay", "grpc", GRPC_PORT),
        grpc_tls: part("relay", "tls").is_some(),
        admin: address("admin", "listen", ADMIN_PORT),
    }
}

/// `None` where the bus is NATS.
pub(super) fn data_dir(raw: &raw::Config, base: &Path) -> Option<PathBuf> {
    let is_embedded = raw.bus.as_ref().is_none_or(|bus| matches!(bus.value, raw::Bus::Embedded));
    is_embedded.then(|| directory(raw, base))
}

fn directory(raw: &raw::Config, base: &Path) -> PathBuf {
    below(base, raw.data_dir.as_ref().map_or("talaria-data", |path| path.value.as_str()))
}

pub(super) fn config(
    raw: raw::Config,
    base: &Path,
    role: Role,
    missing: Missing,
) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems(raw.numbers.clone());
    let mut warnings = Problems::default();
    let p = &mut problems;

    let retention = duration(p, raw.retention.as_ref(), "retention", 7 * DAY, SECOND..=3_650 * DAY);
    let scope = Scope { base, role, retention, missing };
    let ingress = ingress::compile(p, &mut warnings, &raw.ingress);
    let for_tunnel = (raw.ingress.public_url.is_some(), ingress.public_url.as_ref());
    let tenants = raw.tenants.0.iter().map(|(name, _)| name.value.as_str()).collect();
    let mut config = Config {
        tunnel: tunnel::compile(p, &mut warnings, &raw.tunnel, for_tunnel, base, role),
        ingress,
        relay: Relay {
            grpc: listen(p, raw.relay.grpc.as_ref(), "relay.grpc", GRPC_PORT),
            tls: access::tls(p, &mut warnings, raw.relay.tls.as_ref(), base, role),
            tokens: access::tokens(p, &mut warnings, &raw.relay.tokens, &tenants),
            drain: duration(p, raw.relay.drain.as_ref(), "drain", 30 * SECOND, Duration::ZERO..=HOUR),
            in_flight: p.or(raw.relay.in_flight.as_ref(), DEFAULT_IN_FLIGHT, |n| exchanges(*n)),
        },
        admin: Admin { listen: listen(p, raw.admin.listen.as_ref(), "admin.listen", ADMIN_PORT) },
        bus: compile_bus(p, &mut warnings, raw.bus.as_ref(), scope),
        data_dir: directory(&raw, base),
        retention,
        telemetry: raw
            .telemetry
            .as_ref()
            // A command leaves no trace, and needs nothing for it.
            .filter(|_| role != Role::Sender)
            .and_then(|raw| telemetry::compile(p, &mut warnings, raw, base))
            .map(Arc::new),
        tenants: BTreeMap::new(),
        warnings: Vec::new(),
    };
    access::check(p, &mut warnings, &config.relay, &raw.relay);
    let listens = [
        ("ingress.listen", raw.ingress.listen.as_ref(), config.ingress.listen),
        ("relay.grpc", raw.relay.grpc.as_ref(), config.relay.grpc),
        ("admin.listen", raw.admin.listen.as_ref(), config.admin.listen),
    ];
    for (index, (key, written, address)) in listens.iter().enumerate() {
        let same = listens.iter().take(index).find(|(_, _, other)| other == address && address.port() != 0);
        if let (Some((other, ..)), Some(written)) = (same, written) {
            p.add(written, format!("{key} is the same address as {other}"), "name another port");
        }
    }
    if let Some(written) = raw.data_dir.as_ref().filter(|written| written.value.is_empty()) {
        p.add(written, "data_dir is empty", "name a directory, such as ./talaria-data");
    }
    if role.has_relay()
        && let Some(kind) = filesystem::shared(&config.data_dir)
    {
        let problem = Problem::at(
            raw.data_dir.as_ref().map_or(Location::UNKNOWN, |written| written.referenced),
            format!("data_dir is on a filesystem ({kind}) on whose locks and syncs SQLite cannot rely"),
            "put it on a disk of this machine; see docs/errors/data-directory-shared.md",
        );
        warnings.0.push(problem);
    }
    let names_a_user = |path: &str| path.starts_with('~') && path != "~" && !path.starts_with("~/");
    if let Some(written) = raw.data_dir.as_ref().filter(|written| names_a_user(&written.value)) {
        let help = "write the whole path; ~/ is the home of the user that this runs as";
        p.add(written, "data_dir names another user's home, which is not looked up", help);
    }
    for (name, tenant) in raw.tenants.0 {
        check_name(p, &name, "tenant");
        let tenant = compile_tenant(p, &mut warnings, &name.value, tenant, scope);
        config.tenants.insert(name.value, Arc::new(tenant));
    }
    if config.tenants.values().all(|tenant| tenant.down().is_some()) {
        p.0.extend(config.tenants.values().flat_map(|tenant| tenant.unread.iter().cloned()));
    }
    if config.routes().all(|(_, route)| route.down.is_some()) {
        p.0.extend(config.routes().flat_map(|(_, route)| route.unread.iter().cloned()));
    }
    if config.tenants.is_empty() {
        let what = "no tenants: nothing could come in".to_owned();
        let help = "add one under tenants:, as deploy/talaria.example.yaml shows".to_owned();
        p.0.push(Problem { line: 0, column: 0, what, help });
    }
    let count = config.routes().count();
    if let Some(written) = raw.relay.in_flight.as_ref().filter(|written| written.value < count) {
        let what =
            format!("relay.in_flight is less than the {count} routes: those that hang can stop the others");
        warnings.add(written, what, "write as many as there are routes, or more");
    }
    config.warnings = warnings.0;
    if problems.0.is_empty() { Ok(config) } else { Err(problems.0) }
}

fn compile_bus(
    p: &mut Problems,
    warnings: &mut Problems,
    raw: Option<&Spanned<raw::Bus>>,
    scope: Scope<'_>,
) -> BusKind {
    match raw.map(|bus| &bus.value) {
        Some(raw::Bus::Nats(nats)) => BusKind::Nats(Arc::new(nats::compile(p, warnings, nats, scope.base))),
        None | Some(raw::Bus::Embedded) => {
            if scope.role.is_alone() {
                let place = raw.map_or(Location::UNKNOWN, |bus| bus.referenced);
                let help = "run `talaria up`, or name a NATS server under bus.nats";
                p.0.push(Problem::at(place, "the embedded bus is for one process", help));
            }
            BusKind::Embedded
        }
    }
}

fn compile_tenant(
    p: &mut Problems,
    warnings: &mut Problems,
    name: &str,
    raw: raw::Tenant,
    scope: Scope<'_>,
) -> Tenant {
    let origins = &raw.openrouter.secrets;
    if origins.value.is_empty() {
        let help = "name at least one: an event without a verified signature is never accepted";
        p.add(origins, format!("tenant {name} has no OpenRouter secret"), help);
    }
    let (secrets, unread) = openrouter_secrets(p, warnings, name, &origins.value, scope);
    let networks = outbound::networks(p, &raw.networks);
    let mut routes = BTreeMap::new();
    let mut keys = HashMap::new();
    for (route_name, route) in raw.routes.0 {
        check_name(p, &route_name, "route");
        let route = compile_route(p, warnings, name, &route_name, &route, networks.as_ref(), scope);
        if let Some(other) = keys.insert(route.key, route_name.value.clone()) {
            let what = format!("the route names {other} and {} come to the same key", route_name.value);
            p.add(&route_name, what, "rename one of them");
        }
        routes.insert(route_name.value, Arc::new(route));
    }
    Tenant {
        name: name.to_owned(),
        secrets,
        unread,
        secret_origin: origins
            .value
            .first()
            .map_or(Origin::Env(String::new()), |origin| origin.value.below(scope.base)),
        tolerance: duration(
            p,
            raw.openrouter.tolerance.as_ref(),
            "tolerance",
            DEFAULT_TOLERANCE,
            SECOND..=DAY,
        ),
        routes,
    }
}

/// The secrets that can be read, and why others cannot. None of them for a relay, and never empty ones: by an empty secret anybody
/// could sign.
fn openrouter_secrets(
    p: &mut Problems,
    warnings: &mut Problems,
    tenant: &str,
    origins: &[Spanned<Origin>],
    scope: Scope<'_>,
) -> (Vec<SecretString>, Vec<Problem>) {
    let (mut secrets, mut faults) = (Vec::new(), Problems::default());
    for origin in origins.iter().filter(|_| scope.role.has_ingress()) {
        let before = faults.0.len();
        let secret = secret::read(&mut faults, warnings, origin, scope.base);
        if faults.0.len() == before {
            secrets.push(secret);
        }
    }
    if scope.missing == Missing::Refused {
        p.0.append(&mut faults.0);
        return (secrets, Vec::new());
    }
    let becomes =
        if secrets.is_empty() { "its callbacks are answered 503" } else { "its other ones are used" };
    warnings.0.extend(
        faults
            .0
            .iter()
            .cloned()
            .map(|fault| Problem { what: format!("tenant {tenant}: {}; {becomes}", fault.what), ..fault }),
    );
    (secrets, faults.0)
}

fn compile_route(
    p: &mut Problems,
    warnings: &mut Problems,
    tenant: &str,
    name: &Spanned<String>,
    raw: &raw::Route,
    networks: Option<&Networks>,
    scope: Scope<'_>,
) -> Route {
    let nowhere = || Url::parse("http://127.0.0.1").ok();
    let written_url = p.or(Some(&raw.url), None, |text| hermes_url(text).map(Some));
    if let (Some(url), Some(networks)) = (&written_url, networks) {
        outbound::check_url(p, tenant, &name.value, &raw.url, url, networks);
    }
    #[expect(clippy::expect_used, reason = "a constant that parses")]
    let url = written_url.or_else(nowhere).expect("http://127.0.0.1 is a URL");
    let signing = outbound::scheme(p, raw, &url);
    let mut unread = Problems::default();
    let (secrets, secret_origin) =
        outbound::secrets(p, &mut unread, warnings, &raw.secret, signing, scope.base, scope.role);
    let without_secret = unread.0.first().filter(|_| secrets.is_empty()).cloned();
    // Each of these belongs to every request.
    let mut needed = Problems::default();
    let headers = outbound::headers(p, &mut needed, warnings, &raw.headers, scope.base, scope.role);
    let tls = outbound::tls(p, &mut needed, warnings, raw.tls.as_ref(), &url, scope.base, scope.role);
    let down = needed.0.first().cloned().or(without_secret);
    unread.0.append(&mut needed.0);
    let (unread, down) = if scope.missing == Missing::Refused {
        p.0.append(&mut unread.0);
        (Vec::new(), None)
    } else {
        let becomes = if down.is_some() {
            "the route is down, and what is for it waits"
        } else {
            "its other ones are used"
        };
        warnings.0.extend(unread.0.iter().cloned().map(|fault| Problem {
            what: format!("route {tenant}/{}: {}; {becomes}", name.value, fault.what),
            ..fault
        }));
        (unread.0, down)
    };
    let prompt = Template::new(&Text::from(raw.prompt.as_ref().map_or("", |prompt| prompt.value.as_str())));
    let body = p.or(raw.body.as_ref(), BodyMode::Prompt, |mode| match mode.as_str() {
        "prompt" => Ok(BodyMode::Prompt),
        "raw" => Ok(BodyMode::Raw),
        _ => Err(("unknown body".into(), "write body: prompt or body: raw".into())),
    });
    let guard = Guard {
        commands: raw.guard.commands.unwrap_or(true),
        references: raw.guard.references.unwrap_or(true),
    };
    if let Some(written) = &raw.prompt {
        if body == BodyMode::Raw {
            let what = format!("route {tenant}/{} sends raw bodies, so its prompt is never used", name.value);
            warnings.add(written, what, "leave prompt out, or write body: prompt");
        }
        if guard.commands && prompt.leading_text().is_some_and(is_command) {
            let what = format!(
                "the prompt of route {tenant}/{} starts with / as Hermes reads it, which the guard defuses",
                name.value
            );
            warnings.add(written, what, "if a gateway command is meant, write guard: {commands: false}");
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
    tokens::check_types(warnings, &raw.events, &events);
    if body == BodyMode::Prompt {
        let of = format!("route {tenant}/{}", name.value);
        tokens::check_route(warnings, &of, raw, &tokens::taken(&events, filter.as_ref()));
    }
    let in_flight = p.or(raw.in_flight.as_ref(), 16, |n| match *n {
        n @ 1..=1024 => Ok(n),
        _ => Err(("in_flight is out of range".into(), "write a number from 1 to 1024".into())),
    });
    Route {
        key: RouteKey::new(&name.value),
        name: name.value.clone(),
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
        pace: p.or(raw.pace.as_ref(), Some(DEFAULT_PACE), |text| pace(text)),
        breaker: p.or(raw.breaker.as_ref(), Some(DEFAULT_BREAKER), |text| breaker(text)),
        timeout: duration(p, raw.timeout.as_ref(), "timeout", 30 * SECOND, SECOND / 10..=LONGEST_TIMEOUT),
        in_flight,
        max_body_bytes: p.or(raw.max_body_bytes.as_ref(), DEFAULT_MAX_BODY, |text| body_limit(text)),
        retry: compile_retry(p, &raw.retry, scope.retention),
        guard,
    }
}

fn compile_retry(p: &mut Problems, raw: &raw::Retry, retention: Duration) -> Retry {
    let schedule = match &raw.schedule {
        None => DEFAULT_SCHEDULE.map(Duration::from_secs).to_vec(),
        Some(pauses) => {
            let pauses = pauses.value.iter();
            pauses
                .map(|pause| duration(p, Some(pause), "schedule", SECOND, Duration::ZERO..=7 * DAY))
                .collect()
        }
    };
    let max_age = DEFAULT_MAX_AGE.min(retention);
    Retry {
        schedule,
        jitter: p.or(raw.jitter.as_ref(), DEFAULT_JITTER, |text| percent(text)),
        max_age: duration(p, raw.max_age.as_ref(), "max_age", max_age, SECOND..=retention),
    }
}

/// Names stand in URLs, in subjects and on disk.
fn check_name(p: &mut Problems, name: &Spanned<String>, kind: &str) {
    if !is_name(&name.value) {
        p.add(name, format!("{:?} is not a {kind} name", name.value), format!("use {NAMES}"));
    }
}
