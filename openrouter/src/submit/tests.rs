use super::*;
use proptest::prelude::*;
use talaria_outbound::CutShort;

fn answer(status: u16, body: &str) -> Exchange {
    Exchange::Answered(Answer { status, body: body.into(), ..Answer::default() })
}

fn plain(exchange: &Exchange) -> Try {
    read(exchange, &Hidden::default())
}

fn waiting(status: u16, seconds: u64, body: &str) -> Exchange {
    let retry_after = Some(Duration::from_secs(seconds));
    Exchange::Answered(Answer { status, retry_after, body: body.into(), ..Answer::default() })
}

fn error(message: &str) -> String {
    format!(r#"{{"error":{{"code":1,"message":"{message}"}},"user_id":"user_SECRET"}}"#)
}

fn limited(limit: &str, reason: &str) -> String {
    format!(
        r#"{{"error":{{"code":402,"message":"no","metadata":{{"limit_source":"{limit}","reason":"{reason}"}}}}}}"#
    )
}

#[test]
fn an_accepted_job_has_its_id() {
    let documented =
        r#"{"id":"gen-vid-1-abc","polling_url":"/api/v1/videos/x","status":"pending","generation_id":"g"}"#;
    let made = |status: &str| Try::Made { id: "gen-vid-1-abc".into(), status: status.into() };
    assert_eq!(plain(&answer(202, documented)), made("pending"));
    assert_eq!(plain(&answer(200, r#"{"id":"gen-vid-1-abc","status":"in_progress"}"#)), made("in_progress"));
    for status in [r#","status":7"#, r#","status":"a b""#, ""] {
        assert_eq!(plain(&answer(202, &format!(r#"{{"id":"gen-vid-1-abc"{status}}}"#))), made("pending"));
    }
}

#[test]
fn a_refusal_says_what_to_do_and_whether_to_try_again() {
    let after = |seconds| Again::After(Duration::from_secs(seconds));
    let no_credits = limited("openrouter_credits", "");
    for (exchange, again, expected) in [
        (
            Exchange::NotSent("cannot connect".into()),
            Again::Soon,
            "nothing was sent to OpenRouter: cannot connect",
        ),
        (Exchange::NotAllowed("private".into()), Again::Never, "nothing was sent to OpenRouter: private"),
        (
            answer(400, &error("Model X does not exist")),
            Again::Never,
            "OpenRouter refuses the request (400): Model X does not exist",
        ),
        (
            answer(401, &error("User not found.")),
            Again::Never,
            "OpenRouter refuses the key (401): User not found; compare openrouter.api_key",
        ),
        (answer(403, &error("Flagged")), Again::Never, "OpenRouter forbids this (403): Flagged"),
        (
            answer(404, "<html>"),
            Again::Never,
            "there is no video API there (404, with a page instead of JSON); compare openrouter.base_url",
        ),
        (
            answer(404, &error("No endpoints")),
            Again::Never,
            "OpenRouter refuses the request (404): No endpoints",
        ),
        (answer(413, ""), Again::Never, "OpenRouter refuses the request (413, with an empty body)"),
        (answer(422, &error("no")), Again::Never, "OpenRouter refuses the request (422): no"),
        (answer(429, &error("slow")), Again::Soon, "OpenRouter takes no more requests now (429): slow"),
        (waiting(429, 3, &error("slow")), after(3), "OpenRouter takes no more requests now (429): slow"),
        (waiting(503, 2, &error("down")), after(2), "OpenRouter is not available (503): down"),
        (answer(402, &no_credits), Again::Never, "the account at OpenRouter lacks credits (402): no"),
        (
            answer(402, &limited("openrouter_key_limit", "")),
            Again::Never,
            "the key's limit at OpenRouter is reached (402): no; raise it, or wait until it is reset",
        ),
        (
            waiting(402, 5, &limited("openrouter_in_flight_budget", "in_flight_budget_exhausted")),
            after(5),
            "OpenRouter waits for other jobs of the account to end (402): no",
        ),
        (
            waiting(402, 5, &limited("openrouter_in_flight_budget", "weight_exceeds_budget")),
            Again::Never,
            "the job costs more than OpenRouter lets the account have under way (402): no",
        ),
        (answer(402, &error("pay")), Again::Never, "OpenRouter demands payment (402): pay"),
    ] {
        assert_eq!(plain(&exchange), Try::Refused { why: expected.into(), again });
    }
}

#[test]
fn what_may_have_made_a_job_is_unknown() {
    let cut = |status| {
        let cut_short = Some(CutShort::BrokenOff("reset".into()));
        Exchange::Answered(Answer { status, body: br#"{"id":"a"}"#.into(), cut_short, ..Answer::default() })
    };
    for (exchange, expected) in [
        (Exchange::Lost("nothing within 60s".into()), "OpenRouter's answer was lost: nothing within 60s"),
        (answer(200, "<html>"), "OpenRouter answered 200, so it made a job, but with a page instead of JSON"),
        (answer(202, ""), "OpenRouter answered 202, so it made a job, but with an empty body"),
        (answer(202, "{}"), "OpenRouter answered 202, so it made a job, but without the job's id"),
        (answer(202, r#"{"id":7}"#), "OpenRouter answered 202, so it made a job, but without the job's id"),
        (
            answer(202, r#"{"id":".."}"#),
            "OpenRouter answered 202, so it made a job, but with an id that cannot be used",
        ),
        (cut(202), "OpenRouter answered 202, so it made a job, but with a body that broke off"),
        (
            answer(307, ""),
            "OpenRouter's answer is a redirect (307), which is not followed, and what redirects may have passed the request \
             on; compare openrouter.base_url",
        ),
        (
            answer(408, ""),
            "OpenRouter's answer does not say whether it made the job (408, with an empty body)",
        ),
        (answer(500, &error("oops")), "OpenRouter's answer does not say whether it made the job (500): oops"),
        (answer(503, &error("down")), "OpenRouter's answer does not say whether it made the job (503): down"),
        (
            answer(524, "<html>"),
            "OpenRouter's answer does not say whether it made the job (524, with a page instead of JSON)",
        ),
    ] {
        assert_eq!(plain(&exchange), Try::Unknown { why: expected.into() });
    }
}

#[test]
fn retries_are_few_and_soon() {
    let seconds = Duration::from_secs;
    for (tries, elapsed, again, expected) in [
        (1, 0, Again::Soon, Some(1)),
        (2, 2, Again::Soon, Some(4)),
        (3, 7, Again::Soon, None),
        (1, 0, Again::Never, None),
        (1, 0, Again::After(seconds(3)), Some(3)),
        (1, 0, Again::After(seconds(0)), Some(1)),
        (1, 0, Again::After(seconds(20)), Some(20)),
        (1, 1, Again::After(seconds(20)), None),
        (1, 0, Again::After(Duration::MAX), None),
        (1, 19, Again::Soon, Some(1)),
        (1, 20, Again::Soon, None),
        (2, 17, Again::Soon, None),
    ] {
        let pause_of = |left| pause(tries, seconds(elapsed), left, again);
        assert_eq!(pause_of(seconds(80)), expected.map(seconds), "{tries} {elapsed} {again:?}");
        assert_eq!(pause_of(Duration::ZERO), None);
    }
    let after_three = |left| pause(1, seconds(0), left, Again::After(seconds(3)));
    let (almost, enough) = (SUBMIT_TIMEOUT + seconds(2), SUBMIT_TIMEOUT + seconds(3));
    assert_eq!(after_three(enough), Some(seconds(3)));
    assert_eq!(after_three(almost), None, "the next try could be cut off");
}

#[test]
fn an_outcome_says_how_often_it_was_tried() {
    let refused = |why: &str| Try::Refused { why: why.into(), again: Again::Soon };
    assert_eq!(outcome(refused("no"), 1).outcome, Some(Outcome::Refused("no".into())));
    assert_eq!(outcome(refused("no"), 3).outcome, Some(Outcome::Refused("no (tried 3 times)".into())));
}

/// The statuses with which OpenRouter certainly made no job, but for 503.
const REFUSALS: [u16; 13] = [400, 401, 402, 403, 404, 405, 411, 413, 414, 415, 422, 429, 431];

fn bodies() -> impl Strategy<Value = String> {
    prop_oneof![
        r#"[\[\]{}:,"\\u0-9a-fED8.+\-ntN I]{0,60}"#,
        Just(r#"{"id":"abc","status":"pending"}"#.to_owned()),
        Just(error("x")),
        Just(limited("openrouter_in_flight_budget", "in_flight_budget_exhausted")),
        ".{0,40}",
    ]
}

proptest! {
    #[test]
    fn a_lost_or_unreadable_answer_is_never_a_refusal(
        status in 100_u16..1000, body in bodies(), seconds in prop::option::of(any::<u64>()), is_cut in any::<bool>(),
    ) {
        let cut_short = is_cut.then(|| CutShort::BrokenOff("reset".into()));
        let retry_after = seconds.map(Duration::from_secs);
        let body = body.into_bytes();
        let exchange = Exchange::Answered(Answer { status, retry_after, body, cut_short, ..Answer::default() });
        match read(&exchange, &Hidden { texts: vec!["abc"], prompt: "" }) {
            Try::Refused { again, .. } => {
                prop_assert!(REFUSALS.contains(&status) || status == 503, "{status}");
                prop_assert!(again == Again::Never || [402, 429, 503].contains(&status));
            }
            Try::Made { id, .. } => prop_assert!((200..300).contains(&status) && !is_cut && is_job_id(&id)),
            Try::Unknown { .. } => prop_assert!(!REFUSALS.contains(&status)),
        }
        let is_unknown = matches!(plain(&Exchange::Lost("x".into())), Try::Unknown { .. });
        prop_assert!(is_unknown);
    }

    #[test]
    fn tries_end_in_time(answers in prop::collection::vec((0_u64..30, 0_u64..40), 5), limit in 0_u64..100) {
        let (mut elapsed, mut tries) = (Duration::ZERO, 0);
        let limit = Duration::from_secs(limit);
        for (took, named) in answers {
            tries += 1;
            elapsed += Duration::from_secs(took);
            let left = limit.saturating_sub(elapsed);
            match pause(tries, elapsed, left, Again::After(Duration::from_secs(named))) {
                Some(pause) => elapsed += pause,
                None => break,
            }
            prop_assert!(elapsed <= RETRIES_WITHIN && elapsed + SUBMIT_TIMEOUT <= limit);
        }
        prop_assert!(tries <= MOST_TRIES);
    }
}
