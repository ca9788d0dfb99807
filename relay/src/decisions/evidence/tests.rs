use super::*;
use crate::{decisions::prepare, test_config};
use secrecy::SecretString;
use talaria_core::{
    config::Header,
    hermes::signature::Scheme,
    id::{DeliveryId, EventId},
    media::{Claims, sign},
};
use talaria_outbound::CutShort;
use talaria_proto::v1::{DeliveryTask, Event};

const OWN: &str = "Bearer swordfish-1234";

fn kept(observed: &Observed) -> AttemptEvidence {
    observed.evidence(&Mask::of(&observed.route))
}

fn link() -> String {
    let expires_at = Timestamp::from_second(1_800_000_000).unwrap();
    let claims = Claims { tenant: "acme".into(), job_id: "j".into(), index: 0, expires_at };
    format!("https://h/media/{}", sign(&"key".into(), &claims).unwrap())
}

/// A real request of a route with a secret header and a secret in its URL, whose prompt has a link.
fn observed(signing: &'static Scheme, exchange: Exchange) -> Observed {
    let keys = "prompt: 'See {talaria.media.url} of {data.id}'";
    let mut route = Route { signing, ..Route::clone(&test_config::route(keys)) };
    route.url =
        Url::parse("https://u:hunter2hunter2@h.example:8644/webhooks/video?key=hunter2hunter2#f").unwrap();
    route.headers = vec![Header { name: "X-API-Key".into(), value: SecretString::from(OWN) }];
    let event = Event {
        id: EventId::new("acme", "j", "video.generation.completed").to_string(),
        tenant: "acme".into(),
        r#type: "video.generation.completed".into(),
        payload: format!(r#"{{"type":"x","data":{{"id":"j"}},"echo":"{}"}}"#, test_config::SECRET).into(),
        media_urls: vec![link()],
        ..Event::default()
    };
    let task = DeliveryTask {
        tenant: "acme".into(),
        route: "video".into(),
        generation: 1,
        ..DeliveryTask::default()
    };
    let id = DeliveryId::new(event.id.parse().unwrap(), "video");
    let signing = prepare::Signing { secret: 0, now: Timestamp::UNIX_EPOCH };
    let request = prepare::request(&route, &event, &task, id, None, "00-trace", signing).unwrap();
    Observed {
        delivery: id.to_string(),
        tenant: "acme".into(),
        number: 1,
        started_at: Timestamp::UNIX_EPOCH,
        route: route.into(),
        headers: request.headers,
        body: request.body,
        exchange,
    }
}

fn answered(headers: &[(&str, &[u8])], body: &str) -> Exchange {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(*name).unwrap(), http::HeaderValue::from_bytes(value).unwrap());
    }
    Exchange::Answered(Answer { status: 202, headers: map, body: body.into(), ..Answer::default() })
}

fn shown(headers: &[HttpHeader]) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|it| (it.name.as_str(), if it.masked { "masked" } else { it.value.as_str() }))
        .collect()
}

#[test]
fn no_secret_is_in_the_evidence_of_any_scheme() {
    let token = link().split_off("https://h/media/".len());
    for scheme in Scheme::ALL {
        let body = format!("{} {OWN} {token} hunter2hunter2", test_config::SECRET);
        let headers: [(&str, &[u8]); 6] = [
            ("set-cookie", b"session=hunter2hunter2"),
            ("x-request-id", token.as_bytes()),
            ("server", b"swordfish-1234"),
            ("location", b"/login?token=hunter2hunter2"),
            ("www-authenticate", b"Basic hunter2hunter2"),
            ("x-unheard-of", b"\xffhunter2hunter2"),
        ];
        let observed = observed(scheme, answered(&headers, &body));
        let signatures: Vec<String> = observed
            .headers
            .iter()
            .filter(|(name, _)| !REQUEST.contains(&name.as_str()))
            .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        assert!(signatures.len() >= 2, "the signature and the own header: {}", scheme.name);
        let mut evidence = kept(&observed);
        // This secret is in the answer alone, and no secret of the configuration.
        evidence.answer_body = evidence.answer_body.replace("hunter2hunter2", "");
        let text = format!("{evidence:?}");
        for secret in [test_config::SECRET, OWN, "swordfish-1234", "hunter2hunter2", &token] {
            assert!(!text.contains(secret), "{}: {secret}: {text}", scheme.name);
        }
        for signature in signatures {
            assert!(!text.contains(&signature), "{}: {signature}: {text}", scheme.name);
        }
        let known = ["x-request-id", "server"];
        assert!(evidence.answer_headers.iter().all(|it| it.masked != known.contains(&it.name.as_str())));
    }
}

#[test]
fn the_request_is_shown_as_it_went_out() {
    let observed = observed(Scheme::DEFAULT, answered(&[("content-type", b"application/json")], "{}"));
    let evidence = kept(&observed);
    assert_eq!((evidence.method.as_str(), evidence.status), ("POST", Some(202)));
    assert_eq!(evidence.url, "https://h.example:8644/webhooks/video?(secret)");
    let length = observed.body.len().to_string();
    let headers = shown(&evidence.request_headers);
    for expected in [
        ("Host", "h.example:8644"),
        ("Content-Length", length.as_str()),
        ("Content-Type", "application/json"),
        ("X-GitHub-Event", "video.generation.completed"),
        ("X-GitHub-Delivery", &format!("{}.1", observed.delivery)),
        ("traceparent", "00-trace"),
        ("X-API-Key", "masked"),
    ] {
        assert!(headers.contains(&expected), "{expected:?}: {headers:?}");
    }
    assert!(evidence.request_body.contains("See https://h/media/(secret) of j"), "{}", evidence.request_body);
    assert_eq!(evidence.request_body_bytes, observed.body.len() as u64);
    assert_eq!(shown(&evidence.answer_headers), [("content-type", "application/json")]);
    assert_eq!((evidence.answer_body.as_str(), evidence.failure.as_str()), ("{}", ""));
}

#[test]
fn long_texts_are_cut_after_secrets_were_masked() {
    let end = "é".repeat(LONGEST_ANSWER);
    let at_the_cut = format!("{}{}{end}", "x".repeat(LONGEST_ANSWER - 4), test_config::SECRET);
    let headers: [(&str, &[u8]); 1] = [("server", &[b's'; 2 * LONGEST_VALUE])];
    let evidence = kept(&observed(Scheme::DEFAULT, answered(&headers, &at_the_cut)));
    assert_eq!((evidence.answer_body.len(), evidence.answer_body_cut), (LONGEST_ANSWER, true));
    assert!(evidence.answer_body.ends_with("x(sec"), "half of a mask, and nothing of the secret");
    assert_eq!(evidence.answer_body_bytes, at_the_cut.len() as u64);
    assert_eq!(evidence.answer_headers[0].value.len(), LONGEST_VALUE);

    let mut long = observed(Scheme::DEFAULT, Exchange::Lost("reset".into()));
    long.body = vec![b'x'; LONGEST_REQUEST].into();
    assert!(!kept(&long).request_body_cut);
    long.body = vec![b'x'; LONGEST_REQUEST + 1].into();
    assert!(kept(&long).request_body_cut && long.size() > LONGEST_REQUEST);
}

#[test]
fn many_headers_are_cut() {
    let headers: Vec<(&str, &[u8])> = vec![("via", b"1.1 proxy"); 1000];
    assert_eq!(kept(&observed(Scheme::DEFAULT, answered(&headers, ""))).answer_headers.len(), MOST_HEADERS);
}

#[test]
fn a_missing_answer_has_its_reason() {
    let cut_short = Some(CutShort::BrokenOff("reset".into()));
    let broken = Exchange::Answered(Answer { status: 200, cut_short, ..Answer::default() });
    for (exchange, status, failure) in [
        (Exchange::NotSent("refused".into()), None, "not sent: refused"),
        (Exchange::NotAllowed("private".into()), None, "not allowed: private"),
        (Exchange::Lost(format!("lost by {}", test_config::SECRET)), None, "lost by (secret)"),
        (broken, Some(200), "the answer is not complete: reset"),
    ] {
        let evidence = kept(&observed(Scheme::DEFAULT, exchange));
        assert_eq!((evidence.status, evidence.failure.as_str()), (status, failure));
    }
}
