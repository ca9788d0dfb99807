//! The request for an event's delivery to a route.

use crate::decisions::{guard, handshake, job::files};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use talaria_core::{
    config::{BodyMode, Route},
    hermes::{
        signature::Scheme,
        template::{OURS, Prompt, Template, render_extra},
    },
    id::DeliveryId,
    json::{
        Document, Text, Value, parse,
        print::{dump_line, dump_text},
    },
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

/// A signed request to Hermes.
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
    let prompt: Prompt = route.prompt.render_with(ours, payload.root(), &Text::from(event_type), &name);
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
    if let Some(why) = payload.unreadable_for_hermes() {
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
    let mut headers = headers(&event.r#type, &id.idempotency_key(task.generation));
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

fn headers(kind: &str, key: &str) -> HeaderMap {
    // Our own values are ASCII; a type that is no valid header value is left out.
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).ok();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
        .insert(header::USER_AGENT, HeaderValue::from_static(concat!("talaria/", env!("CARGO_PKG_VERSION"))));
    // Compression does not help a short answer, and a proxy's coding can make it unreadable.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
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

/// Hermes uses the first scheme of which it finds a header, so only one scheme's headers are set.
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
mod tests {
    use super::*;
    use crate::test_config;
    use talaria_core::{hermes::signature, id::EventId};

    const BODY: &str = "{\"type\":\"video.generation.failed\", \"data\":{\"id\":\"j1\",\"cost\":1E2,\"big\":18446744073709551616123},\"prompt\":\"theirs\" }\n";

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn now() -> Timestamp {
        Timestamp::from_second(1_777_000_000).unwrap()
    }

    fn event(payload: &str) -> Event {
        Event {
            id: EventId::new("acme", "j1", "video.generation.failed").to_string(),
            r#type: "video.generation.failed".into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            ..Event::default()
        }
    }

    fn make(route: &str, event: &Event) -> Result<HermesRequest, String> {
        let route = test_config::route(route);
        let id = DeliveryId::new(event.id.parse().unwrap(), &route.name);
        let task = DeliveryTask {
            delivery_id: id.to_string(),
            tenant: "acme".into(),
            route: route.name.clone(),
            generation: 2,
            attempts: 4,
            ..DeliveryTask::default()
        };
        request(&route, event, &task, id, None, TRACE, Signing { secret: 0, now: now() })
    }

    #[test]
    fn a_prompt_body_is_the_payload_with_three_members_more() {
        let request = make(
            "prompt: 'Job {data.id} costs {data.cost}, {data.big}'\nextra: {chat_id: '{data.id}', n: 5}",
            &event(BODY),
        )
        .unwrap();
        let body = std::str::from_utf8(&request.body).unwrap();
        let (theirs, ours) = body.split_at(BODY.trim_end().len() - 1);
        assert_eq!(theirs, BODY.trim_end().trim_end_matches('}'), "byte for byte");
        assert!(ours.starts_with(r#","prompt":"Job j1 costs 100.0, 18446744073709551616123","extra":{"chat_id": "j1", "n": 5},"talaria":{"#), "{ours}");
        let read = parse(&request.body).unwrap();
        let talaria = read.root().get("talaria").unwrap();
        let keys: Vec<_> =
            talaria.as_object().unwrap().keys().map(|key| key.to_str_lossy().into_owned()).collect();
        assert_eq!(keys, ["attempt", "delivery_id", "event_id", "generation", "route", "tenant"]);
        assert_eq!(
            read.root().get("prompt").unwrap().as_str(),
            Some("Job j1 costs 100.0, 18446744073709551616123")
        );
    }

    #[test]
    fn the_links_of_a_completed_job_go_along() {
        let urls = ["https://h/media/AQ-0", "https://h/media/AQ-1"].map(str::to_owned);
        let event = Event { media_urls: urls.into(), ..event(BODY) };
        let keys = "prompt: 'See {talaria.media.url} of {talaria.media.files}'\nextra: {link: '{talaria.media.url}'}";
        let request = make(keys, &event).unwrap();
        let body: serde_json::Value =
            serde_json::from_str(&String::from_utf8_lossy(&request.body).replace("1E2", "1")).unwrap();
        let files =
            json!([{"url": "https://h/media/AQ-0", "index": 0}, {"url": "https://h/media/AQ-1", "index": 1}]);
        let note = "The file is not kept. The link fetches it.";
        let expected = json!({"url": "https://h/media/AQ-0", "path": "", "note": note, "files": files});
        assert_eq!(body["talaria"]["media"], expected);
        assert_eq!(body["extra"]["link"], "https://h/media/AQ-0");
        let prompt = body["prompt"].as_str().unwrap();
        assert!(prompt.starts_with("See https://h/media/AQ-0 of [") && prompt.contains("AQ-1"), "{prompt}");
        assert_eq!(request.remarks, Remarks::default());
        // Another event leaves the token as it is written.
        let without = make(keys, &Event { media_urls: Vec::new(), ..event }).unwrap();
        let (without, remarks) = (String::from_utf8_lossy(&without.body).into_owned(), without.remarks);
        assert!(without.contains("See {talaria.media.url}") && !without.contains("\"media\""), "{without}");
        assert_eq!(remarks.unfilled, ["talaria.media.files", "talaria.media.url"], "once each");
    }

    #[test]
    fn a_context_key_that_the_job_lacks_is_noted() {
        let route = test_config::route(
            "prompt: '{talaria.job.context.chat} {talaria.route} {data.nothing}'\nextra: {chat_id: \
             '{talaria.job.context.chat_id}', n: 5}",
        );
        let event = event(BODY);
        let id = DeliveryId::new(event.id.parse().unwrap(), &route.name);
        let task = DeliveryTask {
            delivery_id: id.to_string(),
            route: route.name.clone(),
            ..DeliveryTask::default()
        };
        let unfilled = |context: &[&str]| {
            let context = context.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect();
            let job = Job { context, ..Job::default() };
            let signing = Signing { secret: 0, now: now() };
            let made = request(&route, &event, &task, id, Some(&job), TRACE, signing).unwrap();
            made.remarks.unfilled
        };
        assert_eq!(unfilled(&[]), ["talaria.job.context.chat", "talaria.job.context.chat_id"]);
        assert_eq!(unfilled(&["chat"]), ["talaria.job.context.chat_id"]);
        assert_eq!(
            unfilled(&["chat", "chat_id"]),
            Vec::<String>::new(),
            "those of the payload are not listed"
        );
    }

    #[test]
    fn a_raw_body_is_the_payload_byte_for_byte_and_its_signature_is_hermes() {
        let request = make("body: raw", &event(BODY)).unwrap();
        assert_eq!(request.body, BODY);
        let header = |name: &str| request.headers[name].to_str().unwrap();
        assert!(signature::verify(
            &test_config::SECRET.into(),
            BODY.as_bytes(),
            header("x-hub-signature-256")
        ));
        assert!(
            header("x-github-delivery").starts_with("dlv_") && header("x-github-delivery").ends_with(".2")
        );
        assert_eq!(header("x-github-delivery"), header("x-request-id"));
        assert_eq!(header("x-github-event"), "video.generation.failed");
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("accept-encoding"), "identity");
        assert_eq!(header("traceparent"), TRACE);
    }

    #[test]
    fn each_scheme_has_its_headers_alone_and_hermes_would_accept_it() {
        for scheme in Scheme::ALL {
            let name = scheme.name;
            let request = make(&format!("signing: {name}"), &event(BODY)).unwrap();
            let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
            let own = scheme.headers(&[test_config::SECRET.into()], "id", now(), b"").len();
            assert_eq!(Scheme::header_names().filter(|name| header(name).is_some()).count(), own, "{name}");
            assert!(signature::accepts(&test_config::SECRET.into(), now(), &request.body, header), "{name}");
            assert!(!format!("{request:?}").contains(test_config::SECRET), "{name}");
            if name == "svix" {
                assert_eq!(header("svix-id"), header("x-github-delivery"));
            }
            for name in request.headers.keys() {
                assert!(names().iter().any(|written| written.eq_ignore_ascii_case(name.as_str())), "{name}");
            }
        }
    }

    #[test]
    fn the_operators_headers_go_along() {
        let request = make("headers: {X-Env: prod, Authorization: {file: secret}}", &event(BODY)).unwrap();
        assert_eq!(request.headers["x-env"], "prod");
        assert_eq!(request.headers["authorization"], test_config::SECRET);
        assert!(!format!("{request:?}").contains(test_config::SECRET));
    }

    #[test]
    fn a_request_is_signed_with_the_secret_of_the_given_index() {
        let mut route = Route::clone(&test_config::route(""));
        route.secrets.push("the old one".to_owned().into());
        let event = event(BODY);
        let id = DeliveryId::new(event.id.parse().unwrap(), &route.name);
        let make = |secret| {
            request(&route, &event, &DeliveryTask::default(), id, None, "", Signing { secret, now: now() })
        };
        for (index, secret) in [test_config::SECRET, "the old one"].into_iter().enumerate() {
            let request = make(index).unwrap();
            let signature = request.headers["x-hub-signature-256"].to_str().unwrap();
            assert!(signature::verify(&secret.into(), &request.body, signature), "{secret}");
        }
        assert_eq!(make(2).unwrap_err(), "the route has no secret");
    }

    #[test]
    fn lone_surrogates_and_quotes_go_through_whole() {
        let request =
            make("prompt: '{data.error}'", &event(r#"{"data":{"error":"a\ud83dz \"q\" \u0000"}}"#)).unwrap();
        let read = parse(&request.body).unwrap();
        assert_eq!(
            read.root().get("prompt").unwrap().as_text().unwrap().as_bytes(),
            b"a\xED\xA0\xBDz \"q\" \0"
        );
    }

    #[test]
    fn the_guards_changes_are_in_the_request() {
        let request =
            make("prompt: '{data.error}'", &event(r#"{"data":{"error":"/restart @file:x"}}"#)).unwrap();
        assert_eq!(request.remarks.guarded.len(), 2);
        let read = parse(&request.body).unwrap();
        assert_eq!(read.root().get("prompt").unwrap().as_str(), Some("> /restart @ file:x"));
    }

    #[test]
    fn a_request_that_hermes_could_never_read_is_not_sent() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(980), "]".repeat(980));
        assert!(make("body: raw", &event(&deep)).unwrap_err().contains("981 levels"));
        let long = format!("{{\"a\":{}}}", "9".repeat(4301));
        assert!(make("body: prompt", &event(&long)).unwrap_err().contains("4301 digits"));
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(600_000));
        assert!(make("prompt: '{a}'", &event(&large)).unwrap_err().contains("max_body_bytes is 1048576"));
        assert!(make("prompt: short", &event(&large)).is_ok());
    }

    #[test]
    fn a_type_that_is_no_header_is_left_to_the_payload() {
        for kind in ["a\nb", " a", "a ", &"x".repeat(9000)] {
            let event = Event { r#type: kind.into(), ..event(BODY) };
            assert!(!make("body: raw", &event).unwrap().headers.contains_key("x-github-event"), "{kind:?}");
        }
        let event = Event { r#type: "größe".into(), ..event(BODY) };
        assert_eq!(
            make("body: raw", &event).unwrap().headers["x-github-event"].as_bytes(),
            "größe".as_bytes()
        );
    }
}
