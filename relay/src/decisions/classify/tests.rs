use super::*;

const KEY: &str = "dlv_x.1";
const AGENT: Context<'_> = Context {
    is_webhook: false,
    deliver_only: false,
    idempotency_key: KEY,
    lost_attempt: None,
    other_secret: false,
    secrets: &[],
};
const DIRECT: Context<'_> = Context { deliver_only: true, ..AGENT };
/// Hermes refused it.
const FAULT: Next = Next::RouteFault { id: IdAfter::Unused };
/// Something else answered.
const FOREIGN: (AttemptOutcome, Next) =
    (AttemptOutcome::RouteFault, Next::RouteFault { id: IdAfter::Unknown });
const AMBIGUOUS: (AttemptOutcome, Next) = (AttemptOutcome::NotUnderstood, Next::Ambiguous);

fn answer(status: u16, body: &str) -> Exchange {
    Exchange::Answered(Answer { status, body: body.into(), ..Answer::default() })
}

fn verdict(status: u16, body: &str, context: Context<'_>) -> (AttemptOutcome, Next) {
    let verdict = classify(&answer(status, body), context);
    assert!(!verdict.detail.is_empty() && !verdict.detail.contains('\n'), "{verdict:?}");
    (verdict.outcome, verdict.next)
}

fn retry(id: IdAfter) -> Next {
    Next::Retry { retry_after: None, id }
}

/// Every row of the table of Hermes' answers.
#[test]
fn every_answer_of_hermes() {
    use AttemptOutcome as O;
    let duplicate = r#"{"status":"duplicate","delivery_id":"dlv_x.1"}"#;
    let failure = r#"{"status":"error","error":"Delivery failed","delivery_id":"dlv_x.1"}"#;
    let lost_before = |context| Context { lost_attempt: Some(1), ..context };
    for (status, body, context, expected) in [
        (
            202,
            r#"{"status":"accepted","route":"r","event":"e","delivery_id":"dlv_x.1"}"#,
            AGENT,
            (O::Accepted, Next::Delivered),
        ),
        (
            200,
            r#"{"status":"delivered","route":"r","target":"log","delivery_id":"dlv_x.1"}"#,
            DIRECT,
            (O::Delivered, Next::Delivered),
        ),
        (200, r#"{"status":"ignored","event":"e"}"#, AGENT, (O::Ignored, Next::Ignored)),
        (200, r#"{"status":"ignored","reason":"filter","route":"r"}"#, AGENT, (O::Ignored, Next::Ignored)),
        (200, r#"{"status":"ignored","reason":"script","route":"r"}"#, DIRECT, (O::Ignored, Next::Ignored)),
        (200, duplicate, AGENT, (O::Duplicate, Next::Delivered)),
        (200, duplicate, lost_before(AGENT), (O::Duplicate, Next::Delivered)),
        (200, duplicate, DIRECT, (O::Duplicate, Next::Ambiguous)),
        (200, duplicate, lost_before(DIRECT), (O::Duplicate, Next::Delivered)),
        (502, failure, DIRECT, (O::Failed, retry(IdAfter::UsedUp))),
        (502, failure, AGENT, (O::Failed, retry(IdAfter::UsedUp))),
        (404, r#"{"error":"Unknown route: X"}"#, AGENT, (O::RouteFault, FAULT)),
        (403, r#"{"error":"Route disabled: X"}"#, AGENT, (O::RouteFault, FAULT)),
        (405, "405: Method Not Allowed", AGENT, (O::RouteFault, FAULT)),
        (413, r#"{"error":"Payload too large"}"#, AGENT, (O::RouteFault, FAULT)),
        (401, r#"{"error":"Invalid signature"}"#, AGENT, (O::RouteFault, FAULT)),
        (
            429,
            r#"{"error":"Rate limit exceeded"}"#,
            AGENT,
            (O::RateLimited, Next::Slower { retry_after: None }),
        ),
        (500, "500 Internal Server Error", AGENT, (O::Failed, retry(IdAfter::Unused))),
        (400, "Bad Request", AGENT, (O::Failed, retry(IdAfter::Unused))),
    ] {
        assert_eq!(verdict(status, body, context), expected, "{status} {body}");
    }
}

#[test]
fn an_answer_of_a_proxy_is_not_mistaken_for_hermes() {
    use AttemptOutcome as O;
    // A gateway's 502 and 504 leave open whether Hermes took it; so does a 502 about another id.
    for (status, body) in [
        (502, "<html>Bad Gateway</html>"),
        (502, r#"{"status":"error","error":"Delivery failed","delivery_id":"other"}"#),
        (504, ""),
        (522, ""),
    ] {
        assert_eq!(
            verdict(status, body, DIRECT),
            (O::AnswerLost, retry(IdAfter::Unknown)),
            "{status} {body}"
        );
    }
    // A proxy's 503 did not pass it on.
    assert_eq!(verdict(503, "", DIRECT), (O::Failed, retry(IdAfter::Unused)));
    for status in [301, 302, 307, 308] {
        assert_eq!(verdict(status, "", AGENT), (O::RouteFault, FAULT));
    }
    // A duplicate of another id is not about this delivery.
    assert_eq!(
        verdict(200, r#"{"status":"duplicate","delivery_id":"other"}"#, AGENT),
        (O::Duplicate, Next::Ambiguous)
    );
}

/// Default pages, parked names, captive portals, other programs.
#[test]
fn a_2xx_answer_that_is_no_json_object_is_a_fault_of_the_route() {
    for status in [200, 201, 202, 204, 226, 299] {
        for body in [
            "",
            " \r\n",
            "OK",
            "ok\n",
            "<!doctype html><title>Welcome to nginx!</title>",
            "[]",
            r#"[{"status":"accepted"}]"#,
            r#""accepted""#,
            "null",
            "202",
            "true",
            "accepted",
            "status=accepted",
            "{",
            "{{ page }}",
            r#"{"status":"accepted""#,
            r#"{"status":"accepted"} and more"#,
            "\u{FEFF}<html>",
        ] {
            for context in [AGENT, DIRECT] {
                assert_eq!(verdict(status, body, context), FOREIGN, "{status} {body}");
            }
        }
    }
    let detail = |status, body| classify(&answer(status, body), AGENT).detail;
    assert_eq!(
        detail(200, "<html>\nHello"),
        "200, but what answers is not Hermes; compare the route's url with where Hermes' gateway listens: <html> Hello"
    );
    assert!(detail(204, "").ends_with("listens: nothing in its body"), "{}", detail(204, ""));
}

/// The object may be from an unknown version of Hermes.
#[test]
fn a_json_object_with_another_status_stays_ambiguous() {
    for body in [
        "{}",
        r#"{"status":5}"#,
        r#"{"status":null}"#,
        r#"{"status":["accepted"]}"#,
        r#"{"status":"Accepted"}"#,
        r#"{"status":"ok","platform":"webhook"}"#,
        r#"{"state":"accepted"}"#,
        r#"{"status":"accepted","status":"queued"}"#,
    ] {
        for context in [AGENT, DIRECT] {
            assert_eq!(verdict(200, body, context), AMBIGUOUS, "{body}");
        }
    }
}

/// Python writes JSON that other parsers refuse, and a proxy may add members.
#[test]
fn the_status_is_read_whatever_else_is_there() {
    use AttemptOutcome as O;
    for odd in [
        "5",
        "-0.0",
        "1e999",
        "18446744073709551616",
        "NaN",
        "-Infinity",
        "null",
        "true",
        "[]",
        r#"{"a":[{"b":1}]}"#,
        r#""\ud83d""#,
        r#""\udc00\ud800""#,
        r#""\u0000""#,
        "\"\u{FEFF}\"",
        "\"\u{7F}é😀\"",
        &format!("{}1{}", "[".repeat(5000), "]".repeat(5000)),
    ] {
        for member in ["route", "event", "delivery_id", "reason", "error", "other"] {
            for (status, outcome) in [
                ("accepted", O::Accepted),
                ("delivered", O::Delivered),
                ("ignored", O::Ignored),
                ("coalesced", O::Accepted),
                ("duplicate", O::Duplicate),
            ] {
                let in_front = format!(r#"{{"{member}":{odd},"status":"{status}"}}"#);
                let behind = format!("\u{FEFF} {{\"status\":\"{status}\",\"{member}\":{odd}}}\r\n");
                for body in [in_front, behind] {
                    let found = verdict(202, &body, AGENT);
                    // An id that is text and not ours is another's.
                    let is_others = member == "delivery_id" && odd.starts_with('"') && status == "duplicate";
                    let next = match outcome {
                        O::Ignored => Next::Ignored,
                        _ if is_others => Next::Ambiguous,
                        _ => Next::Delivered,
                    };
                    assert_eq!(found, (outcome, next), "{body}");
                }
            }
        }
    }
    let twice = r#"{"event":"a","status":"queued","event":5,"event":"b","status":"accepted"}"#;
    assert_eq!(
        verdict(202, twice, AGENT),
        (O::Accepted, Next::Delivered),
        "the last one counts, as in Python"
    );
    let mut bytes = br#"{"event":"#.to_vec();
    bytes.extend(b"\"\xff\xed\xa0\xbd\",\"status\":\"accepted\"}");
    let invalid = Exchange::Answered(Answer { status: 202, body: bytes, ..Answer::default() });
    assert_eq!(classify(&invalid, AGENT).next, Next::Delivered, "invalid UTF-8 in another member");
    let failure = r#"{"x":5,"x":NaN,"status":"error","error":"Delivery failed","delivery_id":"dlv_x.1"}"#;
    assert_eq!(verdict(502, failure, DIRECT), (O::Failed, retry(IdAfter::UsedUp)));
}

#[test]
fn the_answers_of_newer_versions_are_understood() {
    use AttemptOutcome as O;
    let unused = || retry(IdAfter::Unused);
    for (status, body, outcome, next, detail) in [
        (
            202,
            r#"{"status":"coalesced","route":"r","event":"e","delivery_id":"dlv_x.1"}"#,
            O::Accepted,
            Next::Delivered,
            "202 coalesced: held for the route's quiet window",
        ),
        (
            202,
            r#"{"status":"accepted","route":"r","cron_job":"nightly","event":"e","delivery_id":"dlv_x.1"}"#,
            O::Accepted,
            Next::Delivered,
            "202 accepted: for Hermes' cron job \"nightly\", which runs if",
        ),
        (
            202,
            r#"{"status":"accepted","cron_job":7}"#,
            O::Accepted,
            Next::Delivered,
            "202 accepted: for Hermes' cron job \"7\"",
        ),
        (
            202,
            r#"{"status":"accepted","cron_job":null}"#,
            O::Accepted,
            Next::Delivered,
            "202 accepted: queued for the agent",
        ),
        (
            503,
            r#"{"error":"Could not durably accept delivery; retry"}"#,
            O::Failed,
            unused(),
            "503: Hermes could not write it down, and has not taken it",
        ),
        (503, "<html>", O::Failed, unused(), "503: <html>"),
        (400, r#"{"error":"Cannot parse body"}"#, O::Failed, unused(), "400: Hermes cannot read the body; "),
        (400, r#"{"error":"Bad request"}"#, O::Failed, unused(), "400: {"),
        (
            404,
            r#"{"error":"Unknown or unconfigured profile"}"#,
            O::RouteFault,
            FAULT,
            "404: Hermes does not serve this route; it serves no profile of the name behind /p/ in the route's url: {",
        ),
        (
            404,
            r#"{"error":"Unknown route: X"}"#,
            O::RouteFault,
            FAULT,
            "404: Hermes does not serve this route; it is not subscribed there under this name, or not for the profile",
        ),
        (
            404,
            "404: Not Found",
            O::RouteFault,
            FAULT,
            "404: Hermes does not serve this route; compare the route's url, which should end in /webhooks/NAME: 404",
        ),
        (405, "", O::RouteFault, FAULT, "405: Hermes does not serve this route; compare the route's url"),
        (
            403,
            r#"{"error":"Route disabled: X"}"#,
            O::RouteFault,
            FAULT,
            "403: Hermes does not serve this route; the route is disabled there: {",
        ),
        (
            403,
            r#"{"error":"Webhook route is missing an HMAC secret"}"#,
            O::RouteFault,
            FAULT,
            "403: Hermes does not serve this route; the route has no secret there: {",
        ),
        (403, r#"{"error":5}"#, O::RouteFault, FAULT, "403: Hermes does not serve this route: {"),
    ] {
        assert_eq!(verdict(status, body, AGENT), (outcome, next), "{status} {body}");
        let found = classify(&answer(status, body), AGENT).detail;
        assert!(found.starts_with(detail), "{found}");
    }
}

/// An answer that is cut off at any length is classified as the whole one is.
#[test]
fn the_length_of_an_answer_does_not_decide() {
    let cut = |body: &str, length: usize| {
        let cut_short = Some(CutShort::TooLong(length));
        let body = body.as_bytes()[..length].to_vec();
        classify(&Exchange::Answered(Answer { status: 200, body, cut_short, ..Answer::default() }), AGENT)
    };
    for page in [
        format!("<html>{}</html>", "x".repeat(100)),
        " ".repeat(100),
        format!("\u{FEFF}\n<html>{}", "x".repeat(100)),
        "ok ".repeat(40),
        format!("[{}]", "{},".repeat(40)),
        format!("{{{{page}}}} {}", "x".repeat(100)),
        format!("\"{}\"", "x".repeat(100)),
    ] {
        for length in 40..100 {
            let verdict = cut(&page, length);
            assert_eq!((verdict.outcome, verdict.next), FOREIGN, "{page} {length}");
        }
    }
    let object = format!(
        "{{\"message\":\"{}\",\"n\":[-1.5e+10,true,null,-Infinity,\"\\ud83d\\ude00\"],\"status\":\"fine\"}}",
        "é".repeat(20)
    );
    for length in 1..object.len() {
        let verdict = cut(&object, length);
        assert_eq!((verdict.outcome, verdict.next), AMBIGUOUS, "{length}");
    }
    let padded = format!("{{\"status\":\"accepted\"}}{}", " ".repeat(100));
    assert_eq!(cut(&padded, 100).next, Next::Delivered, "the object is whole");
}

#[test]
fn a_page_that_breaks_off_is_known_by_its_start_and_an_object_is_not() {
    let broken = |body: &str| {
        let cut_short = Some(CutShort::BrokenOff("reset".into()));
        let answer = Answer { status: 202, body: body.into(), cut_short, ..Answer::default() };
        classify(&Exchange::Answered(answer), AGENT)
    };
    for body in ["<html>", "\u{FEFF}<", "o", "[1,"] {
        let verdict = broken(body);
        assert_eq!((verdict.outcome, verdict.next), FOREIGN, "{body}");
    }
    for body in ["", " \r\n", "{", r#"{"status":"acc"#, r#"{"status":"accepted"}"#, "\u{FEFF} {"] {
        let verdict = broken(body);
        assert_eq!(verdict.next, retry(IdAfter::Unknown), "{body}");
        assert_eq!(verdict.detail, "202, but its body did not arrive whole: reset");
    }
}

#[test]
fn a_content_coding_that_is_not_read_is_named_and_its_bytes_are_not_shown() {
    let encoded = |status, body: &[u8]| {
        let cut_short = Some(CutShort::Unreadable("it is encoded as br".into()));
        let answer = Answer { status, body: body.into(), cut_short, ..Answer::default() };
        classify(&Exchange::Answered(answer), AGENT)
    };
    let verdict = encoded(202, b"");
    assert_eq!((verdict.outcome, verdict.next), FOREIGN);
    assert_eq!(
        verdict.detail,
        "202, but its body cannot be read: it is encoded as br; let what stands in front of Hermes pass answers on \
         without a content coding"
    );
    assert_eq!(encoded(500, b"\x1b\x02").detail, "500: its body cannot be read: it is encoded as br");
    assert_eq!(encoded(202, br#"{"status":"accepted"}"#).next, Next::Delivered, "all that counts was there");
}

#[test]
fn an_answer_that_breaks_off_is_lost_and_one_that_never_left_is_not() {
    let cut = |status| {
        let cut_short = Some(CutShort::BrokenOff("reset".into()));
        Exchange::Answered(Answer { status, cut_short, ..Answer::default() })
    };
    let next = |exchange: &Exchange| classify(exchange, DIRECT).next;
    assert_eq!(next(&cut(202)), retry(IdAfter::Unknown));
    assert_eq!(next(&cut(502)), retry(IdAfter::Unknown), "it may be a proxy's 502");
    assert_eq!(next(&cut(404)), FAULT, "the status is enough");
    assert_eq!(next(&Exchange::Lost("timeout".into())), retry(IdAfter::Unknown));
    assert_eq!(next(&Exchange::NotSent("refused".into())), retry(IdAfter::Unused));
}

#[test]
fn a_request_to_wait_is_passed_on() {
    let after = Some(Duration::from_secs(7));
    let ask = |status| {
        let answer = Answer { status, retry_after: after, ..Answer::default() };
        classify(&Exchange::Answered(answer), AGENT).next
    };
    assert_eq!(ask(429), Next::Slower { retry_after: after });
    assert_eq!(ask(503), Next::Retry { retry_after: after, id: IdAfter::Unused });
    assert_eq!(ask(504), Next::Retry { retry_after: after, id: IdAfter::Unknown });
}

#[test]
fn details_are_one_short_line() {
    let long = format!("a\nb\u{7}{}", "x".repeat(5000));
    let detail = classify(&answer(500, &long), AGENT).detail;
    assert!(detail.starts_with("500: a b xxx") && detail.ends_with('…') && detail.len() < 300, "{detail}");
    let moved = Answer { status: 302, location: Some("http://elsewhere/".into()), ..Answer::default() };
    assert!(classify(&Exchange::Answered(moved), AGENT).detail.contains("redirects to http://elsewhere/"));
    let filtered = classify(&answer(200, r#"{"status":"ignored","reason":"filter"}"#), AGENT).detail;
    assert_eq!(filtered, "200 ignored by its filter");
}

#[test]
fn an_address_that_the_tenant_does_not_allow_is_a_fault_of_the_route() {
    let verdict = classify(&Exchange::NotAllowed("h leads to ::1".into()), AGENT);
    assert_eq!((verdict.outcome, verdict.next), (AttemptOutcome::RouteFault, FAULT));
    assert_eq!(verdict.detail, "not sent: h leads to ::1");
}

#[test]
fn a_401_is_a_fault_of_the_route_once_no_other_secret_is_left() {
    let rotating = Context { other_secret: true, ..AGENT };
    assert_eq!(verdict(401, "{}", rotating), (AttemptOutcome::RouteFault, Next::OtherSecret));
    assert_eq!(verdict(401, "{}", AGENT), (AttemptOutcome::RouteFault, FAULT));
    assert_eq!(verdict(403, "{}", rotating).1, FAULT, "which no secret mends");
}

#[test]
fn secrets_that_an_answer_repeats_are_hidden() {
    let secrets = ["token-0123456789"];
    let context = Context { secrets: &secrets, ..AGENT };
    let echo = format!("{}token-0123456789 is not valid", "x".repeat(LONGEST_QUOTE - 5));
    for body in ["bad token-0123456789", r#"{"status":"ignored","reason":"token-0123456789"}"#, &echo] {
        for status in [200, 401, 403, 413, 500, 504] {
            let shown = classify(&answer(status, body), context).detail;
            assert!(!shown.contains("token"), "{status}: {shown}");
        }
    }
    let location = Some("https://elsewhere/?key=token-0123456789".to_owned());
    let redirect = Exchange::Answered(Answer { status: 302, location, ..Answer::default() });
    assert!(classify(&redirect, context).detail.contains("?key=(secret), which"));
}
