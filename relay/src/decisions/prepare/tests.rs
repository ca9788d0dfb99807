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
    let keys =
        "prompt: 'See {talaria.media.url} of {talaria.media.files}'\nextra: {link: '{talaria.media.url}'}";
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
    let task =
        DeliveryTask { delivery_id: id.to_string(), route: route.name.clone(), ..DeliveryTask::default() };
    let unfilled = |context: &[&str]| {
        let context = context.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect();
        let job = Job { context, ..Job::default() };
        let signing = Signing { secret: 0, now: now() };
        let made = request(&route, &event, &task, id, Some(&job), TRACE, signing).unwrap();
        made.remarks.unfilled
    };
    assert_eq!(unfilled(&[]), ["talaria.job.context.chat", "talaria.job.context.chat_id"]);
    assert_eq!(unfilled(&["chat"]), ["talaria.job.context.chat_id"]);
    assert_eq!(unfilled(&["chat", "chat_id"]), Vec::<String>::new(), "those of the payload are not listed");
}

#[test]
fn a_raw_body_is_the_payload_byte_for_byte_and_its_signature_is_hermes() {
    let request = make("body: raw", &event(BODY)).unwrap();
    assert_eq!(request.body, BODY);
    let header = |name: &str| request.headers[name].to_str().unwrap();
    assert!(signature::verify(&test_config::SECRET.into(), BODY.as_bytes(), header("x-hub-signature-256")));
    assert!(header("x-github-delivery").starts_with("dlv_") && header("x-github-delivery").ends_with(".2"));
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
    assert_eq!(read.root().get("prompt").unwrap().as_text().unwrap().as_bytes(), b"a\xED\xA0\xBDz \"q\" \0");
}

#[test]
fn the_guards_changes_are_in_the_request() {
    let request = make("prompt: '{data.error}'", &event(r#"{"data":{"error":"/restart @file:x"}}"#)).unwrap();
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
    assert_eq!(make("body: raw", &event).unwrap().headers["x-github-event"].as_bytes(), "größe".as_bytes());
}
