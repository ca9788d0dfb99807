use super::*;

const KEY: &str = "dlv_x.1";
const AGENT: Context<'_> = Context {
    deliver_only: false,
    idempotency_key: KEY,
    lost_attempt: None,
    other_secret: false,
    secrets: &[],
};
const DIRECT: Context<'_> = Context { deliver_only: true, ..AGENT };

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
        (404, r#"{"error":"Unknown route: X"}"#, AGENT, (O::RouteFault, Next::RouteFault)),
        (403, r#"{"error":"Route disabled: X"}"#, AGENT, (O::RouteFault, Next::RouteFault)),
        (405, "405: Method Not Allowed", AGENT, (O::RouteFault, Next::RouteFault)),
        (413, r#"{"error":"Payload too large"}"#, AGENT, (O::RouteFault, Next::RouteFault)),
        (401, r#"{"error":"Invalid signature"}"#, AGENT, (O::RouteFault, Next::RouteFault)),
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
fn what_is_not_hermes_is_not_taken_for_it() {
    use AttemptOutcome as O;
    // A 2xx of somebody else: nobody can say.
    for body in ["", "OK", "{}", "[]", r#"{"status":5}"#, r#"{"status":"ok","platform":"webhook"}"#] {
        assert_eq!(verdict(200, body, AGENT), (O::NotUnderstood, Next::Ambiguous), "{body}");
    }
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
        assert_eq!(verdict(status, "", AGENT), (O::RouteFault, Next::RouteFault));
    }
    // A duplicate of another id is not about this delivery.
    assert_eq!(
        verdict(200, r#"{"status":"duplicate","delivery_id":"other"}"#, AGENT),
        (O::Duplicate, Next::Ambiguous)
    );
}

#[test]
fn an_answer_that_breaks_off_is_lost_and_one_that_never_left_is_not() {
    let cut = |status| {
        Exchange::Answered(Answer { status, cut_short: Some("too long".into()), ..Answer::default() })
    };
    let next = |exchange: &Exchange| classify(exchange, DIRECT).next;
    assert_eq!(next(&cut(202)), retry(IdAfter::Unknown));
    assert_eq!(next(&cut(502)), retry(IdAfter::Unknown), "who knows whose 502 that was");
    assert_eq!(next(&cut(404)), Next::RouteFault, "the status says it all");
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
fn what_the_tenant_does_not_allow_is_a_fault_of_the_route() {
    let verdict = classify(&Exchange::NotAllowed("h leads to ::1".into()), AGENT);
    assert_eq!((verdict.outcome, verdict.next), (AttemptOutcome::RouteFault, Next::RouteFault));
    assert_eq!(verdict.detail, "not sent: h leads to ::1");
}

#[test]
fn a_401_is_a_fault_of_the_route_once_no_other_secret_is_left() {
    let rotating = Context { other_secret: true, ..AGENT };
    assert_eq!(verdict(401, "{}", rotating), (AttemptOutcome::RouteFault, Next::OtherSecret));
    assert_eq!(verdict(401, "{}", AGENT), (AttemptOutcome::RouteFault, Next::RouteFault));
    assert_eq!(verdict(403, "{}", rotating).1, Next::RouteFault, "which no secret mends");
}

#[test]
fn what_an_answer_repeats_of_our_secrets_is_not_shown() {
    let secrets = ["token-0123456789"];
    let context = Context { secrets: &secrets, ..AGENT };
    let echo = format!("{}token-0123456789 is not valid", "x".repeat(SHOWN - 5));
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
