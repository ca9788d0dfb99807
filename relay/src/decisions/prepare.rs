//! The request for an event's delivery to a route.

use crate::decisions::{guard, handshake, job::files, notice};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use talaria_core::{
    config::{BodyMode, Route, RouteKind},
    hermes::{
        signature::Scheme,
        template::{OURS, Prompt, Template, render_extra},
    },
    id::DeliveryId,
    json::{
        Document, Text, Value, parse,
        print::{dump_line, dump_text},
    },
    notice::is_notice,
};
use talaria_proto::v1::{DeliveryTask, Event, Job, JobFiles};
use talaria_telemetry::trace;

/// In bytes. aiohttp, on which Hermes is built, answers 400 to a longer header.
const LONGEST_HEADER: usize = 8190;

/// The most tokens without a value that are noted.
const MOST_UNFILLED: usize = 16;

/// The names of our headers in their usual case. Hermes' filters compare names exactly, and would not find `X-Github-Event` by
/// `headers.X-GitHub-Event`.
pub(crate) fn names() -> Vec<&'static str> {
    let others = [
        "Accept-Encoding",
        "Content-Type",
        "User-Agent",
        "X-GitHub-Event",
        "X-GitHub-Delivery",
        "X-Request-ID",
        trace::HEADER,
    ];
    others.into_iter().chain(Scheme::header_names()).collect()
}

/// A signed request to Hermes, or to the receiver of a webhook.
#[derive(Debug)]
pub(crate) struct HermesRequest {
    /// Names are in lower case here. On the wire they have the case in which they were configured.
    pub headers: HeaderMap,
    pub body: Bytes,
    pub remarks: Remarks,
}

/// What was made of a prompt, besides its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    /// The guard's changes.
    pub guarded: Vec<String>,
    /// Tokens of [`OURS`] in the prompt or in `extra` without a value.
    pub unfilled: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Signing {
    /// The index of the route's secret; a scheme that takes several signatures uses them all.
    pub secret: usize,
    pub now: Timestamp,
}

/// A route's prompt for a payload, and the guard's changes. `ours` has the values of tokens that begin with `talaria.`.
fn prompt(route: &Route, event_type: &str, ours: &Value, payload: &Document) -> (Text, Vec<String>) {
    let name = Text::from(route.name.as_str());
    let of_notice;
    let template = if is_notice(event_type) && route.prompt.is_default() {
        of_notice = Template::new(&Text::from(notice::PROMPT));
        &of_notice
    } else {
        &route.prompt
    };
    let prompt: Prompt = template.render_with(ours, payload.root(), &Text::from(event_type), &name);
    guard::defuse(prompt, route.guard)
}

/// Tokens of [`OURS`] without a value, such as those of a context that the job does not have.
fn unfilled(route: &Route, event_type: &str, ours: &Value, payload: &Document) -> Vec<String> {
    let extra = route.extra.as_object().into_iter().flat_map(|members| members.values());
    let extra: Vec<Template> = extra.filter_map(Value::as_text).map(Template::new).collect();
    let event_type = Text::from(event_type);
    let tokens = [&route.prompt].into_iter().chain(&extra).flat_map(Template::tokens);
    let unfilled: BTreeSet<&str> = tokens
        .filter(|token| token.starts_with(OURS))
        .filter(|token| !Template::finds(token, ours, payload.root(), &event_type))
        .collect();
    unfilled.into_iter().take(MOST_UNFILLED).map(str::to_owned).collect()
}

/// The request for the task's next attempt, or the reason why there can never be one.
pub(crate) fn request(
    route: &Route,
    event: &Event,
    task: &DeliveryTask,
    id: DeliveryId,
    job: Option<&Job>,
    traceparent: &str,
    signing: Signing,
) -> Result<HermesRequest, String> {
    let payload = parse(&event.payload).map_err(|error| format!("the payload is not JSON: {error}"))?;
    if let Some(why) = payload.unreadable_for_hermes().filter(|_| route.kind == RouteKind::Hermes) {
        return Err(why);
    }
    let (body, remarks) = match route.body {
        BodyMode::Raw => (event.payload.clone(), Remarks::default()),
        BodyMode::Prompt => {
            let talaria = talaria(event, task, job).to_string();
            let ours = parse(talaria.as_bytes()).map_err(|error| error.to_string())?;
            let (prompt, guarded) = prompt(route, &event.r#type, ours.root(), &payload);
            let unfilled = unfilled(route, &event.r#type, ours.root(), &payload);
            let body = with_prompt(route, event, &payload, (ours.root(), &talaria), &prompt)?;
            (body, Remarks { guarded, unfilled })
        }
    };
    if body.len() > route.max_body_bytes {
        return Err(format!(
            "the request would have {} bytes, and the route's max_body_bytes is {}",
            body.len(),
            route.max_body_bytes
        ));
    }
    let mut headers = match route.kind {
        RouteKind::Hermes => headers(&event.r#type, &id.idempotency_key(task.generation)),
        RouteKind::Webhook => common_headers(),
    };
    headers.extend(
        HeaderValue::from_str(traceparent)
            .ok()
            .filter(|value| !value.is_empty())
            .map(|value| (HeaderName::from_static(trace::HEADER), value)),
    );
    sign(&mut headers, route, &id.idempotency_key(task.generation), signing, &body)?;
    for own in &route.headers {
        insert(&mut headers, &own.name, own.value.expose_secret())?;
    }
    Ok(HermesRequest { headers, body, remarks })
}

/// The request of a [`handshake`].
pub(crate) fn handshake(route: &Route, key: &str, signing: Signing) -> Result<HermesRequest, String> {
    let mut headers = headers(handshake::EVENT, key);
    sign(&mut headers, route, key, signing, handshake::BODY)?;
    for own in &route.headers {
        insert(&mut headers, &own.name, own.value.expose_secret())?;
    }
    Ok(HermesRequest { headers, body: Bytes::from_static(handshake::BODY), remarks: Remarks::default() })
}

/// The member `talaria` of the body, whose values are also those of tokens.
fn talaria(event: &Event, task: &DeliveryTask, job: Option<&Job>) -> serde_json::Value {
    let mut talaria = json!({
        "event_id": event.id,
        "delivery_id": task.delivery_id,
        "tenant": task.tenant,
        "route": task.route,
        "attempt": task.attempts + 1,
        "generation": task.generation,
    });
    if let (Some(job), Some(members)) = (job, talaria.as_object_mut()) {
        // In one order, so that a repeated attempt has the same bytes.
        let context: BTreeMap<&String, &String> = job.context.iter().collect();
        let job = json!({"id": job.id, "request_id": job.request_id, "context": context});
        members.insert("job".to_owned(), job);
    }
    let kept = job.and_then(|job| job.files.as_ref());
    if let (Some(media), Some(members)) = (media(event, kept), talaria.as_object_mut()) {
        members.insert("media".to_owned(), media);
    }
    talaria
}

/// The member `media`: the links, and the kept files.
fn media(event: &Event, kept: Option<&JobFiles>) -> Option<serde_json::Value> {
    let first = event.media_urls.first()?;
    let file = |(index, url): (usize, &String)| {
        let mut file = json!({"url": url, "index": index});
        let kept = kept.and_then(|files| files.kept.iter().find(|kept| kept.index as usize == index));
        if let (Some(kept), Some(members)) = (kept, file.as_object_mut()) {
            members.insert("path".to_owned(), json!(kept.path));
            members.insert("bytes".to_owned(), json!(kept.size));
            members.insert("sha256".to_owned(), json!(HEXLOWER.encode(&kept.sha256)));
            members.insert("type".to_owned(), json!(kept.media_type));
        }
        file
    };
    let path = kept.and_then(|files| files.kept.first()).map_or("", |kept| kept.path.as_str());
    let media = json!({
        "url": first,
        "path": path,
        "note": files::note(kept),
        "files": event.media_urls.iter().enumerate().map(file).collect::<Vec<_>>(),
    });
    Some(media)
}

/// The payload with three members added at its end. Python takes the last of repeated keys, so ours count; all other bytes
/// are OpenRouter's.
fn with_prompt(
    route: &Route,
    event: &Event,
    payload: &Document,
    (ours, talaria): (&Value, &str),
    prompt: &Text,
) -> Result<Bytes, String> {
    let end = event.payload.iter().rposition(|byte| *byte == b'}');
    let members = end.and_then(|end| event.payload.get(..end));
    let (Some(members), Value::Object(object)) = (members, payload.root()) else {
        return Err("the payload is not a JSON object".into());
    };
    let extra = dump_line(&render_extra(&route.extra, ours, payload.root()));
    let comma = if object.is_empty() { "" } else { "," };
    let ours = format!("{comma}\"prompt\":{},\"extra\":{extra},\"talaria\":{talaria}}}", dump_text(prompt));
    Ok([members, ours.as_bytes()].concat().into())
}

fn common_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
        .insert(header::USER_AGENT, HeaderValue::from_static(concat!("talaria/", env!("CARGO_PKG_VERSION"))));
    // Compression does not help a short answer, and a proxy's coding can make it unreadable.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

fn headers(kind: &str, key: &str) -> HeaderMap {
    // Our own values are ASCII; a type that is no valid header value is left out.
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).ok();
    let mut headers = common_headers();
    // Hermes would otherwise take the type from the payload's `event_type` or `type`.
    if kind.len() <= LONGEST_HEADER && kind.trim() == kind {
        headers.extend(value(kind).map(|value| (HeaderName::from_static("x-github-event"), value)));
    }
    // A proxy may replace X-Request-ID.
    for name in ["x-github-delivery", "x-request-id"] {
        headers.extend(value(key).map(|value| (HeaderName::from_static(name), value)));
    }
    headers
}

/// Sets the headers of one scheme alone: Hermes uses the first of which it finds a header.
fn sign(
    headers: &mut HeaderMap,
    route: &Route,
    key: &str,
    signing: Signing,
    body: &[u8],
) -> Result<(), String> {
    let all = &route.secrets;
    let secrets = if route.signing.takes_all_secrets { Some(&all[..]) } else { all.get(signing.secret..) };
    let secrets = secrets.filter(|secrets| !secrets.is_empty()).ok_or("the route has no secret")?;
    for (name, value) in route.signing.headers(secrets, key, signing.now, body) {
        insert(headers, name, &value)?;
    }
    Ok(())
}

/// Inserts a header that may hold a secret: `Debug` does not print it.
fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let unusable = || format!("the header {name} cannot be written");
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
    let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unusable())?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests;
