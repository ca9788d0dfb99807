use super::*;
use crate::test_config::{SECRET, config, route};
use serde_json::json;
use talaria_core::{
    id::EventId,
    report::{ID, SIGNATURE, TIMESTAMP, sign},
};

fn now() -> Timestamp {
    Timestamp::from_second(1_777_000_000).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    after(now(), Duration::from_secs(seconds))
}

fn id() -> DeliveryId {
    DeliveryId::new(EventId::new("acme", "j", "t"), "video")
}

fn report(with: Value) -> Value {
    let mut report =
        json!({"delivery": id().idempotency_key(1), "outcome": "finished", "ended_at": now().to_string()});
    let (Value::Object(report), Value::Object(with)) = (&mut report, with) else { panic!() };
    report.extend(with);
    Value::Object(std::mem::take(report))
}

fn read_with(with: Value) -> Result<(DeliveryId, Run), String> {
    read("r-1", report(with).to_string().as_bytes(), &Mask::of(&route("")), now())
}

fn run(with: Value) -> Run {
    read_with(with).unwrap().1
}

fn fault(with: Value) -> String {
    read_with(with).unwrap_err()
}

#[test]
fn a_report_is_read_whole() {
    let (delivery, run) = read_with(json!({
        "outcome": "failed", "session": "s1", "duration_ms": 41_000, "answer": "no", "calls": 3, "unknown": [1],
        "error": {"status": 401, "message": "no key"}, "tokens": {"input": 1, "output": 2},
    }))
    .unwrap();
    assert_eq!(delivery, id());
    let expected = Run {
        outcome: RunOutcome::Failed.into(),
        command: String::new(),
        session: "s1".into(),
        ended_at: Some(to_proto(now())),
        duration: Some(duration_to_proto(Duration::from_secs(41))),
        answer: "no".into(),
        error_status: Some(401),
        error: "no key".into(),
        input_tokens: Some(1),
        output_tokens: Some(2),
        calls: Some(3),
        report_id: "r-1".into(),
        generation: 1,
    };
    assert_eq!(run, expected);
    let least = self::run(json!({"session": null, "error": null, "tokens": null, "duration_ms": null}));
    assert_eq!((least.outcome(), least.duration, least.calls), (RunOutcome::Finished, None, None));
}

#[test]
fn members_of_another_outcome_are_left_out() {
    let finished = run(json!({"error": {"status": 401, "message": "x"}, "command": "help"}));
    assert_eq!((finished.error_status, finished.error.as_str(), finished.command.as_str()), (None, "", ""));
    assert_eq!(run(json!({"outcome": "command", "command": "/help"})).command, "help");
}

#[test]
fn what_is_no_report_is_refused_with_the_reason() {
    let key = id().idempotency_key(1);
    for delivery in [
        json!(id().to_string()),
        json!(key.clone() + "x"),
        json!(key.replace(".1", ".0")),
        json!(key.replace(".1", ".01")),
        json!(1),
        json!(null),
    ] {
        assert!(fault(json!({"delivery": delivery})).starts_with("delivery is not the id"), "{delivery}");
    }
    for (with, why) in [
        (json!({"outcome": "none"}), "outcome is not finished"),
        (json!({"outcome": "FINISHED"}), "outcome is not finished"),
        (json!({"outcome": null}), "outcome is not finished"),
        (json!({"outcome": "command"}), "command has no name"),
        (json!({"outcome": "command", "command": "/"}), "command has no name"),
        (json!({"ended_at": "yesterday"}), "ended_at is not a time"),
        (json!({"ended_at": at(301).to_string()}), "ended_at is more than 300 s in the future"),
        (json!({"duration_ms": -1}), "duration_ms is not a whole number"),
        (json!({"duration_ms": 1.5}), "duration_ms is not a whole number"),
        (json!({"duration_ms": u64::MAX}), "duration_ms is more than a year"),
        (json!({"answer": {}}), "answer is not a text"),
        (json!({"tokens": 3}), "tokens is not a JSON object"),
        (json!({"outcome": "failed", "error": "x"}), "error is not a JSON object"),
        (json!({"outcome": "failed", "error": {"status": 7}}), "error.status is not an HTTP status"),
    ] {
        assert!(fault(with.clone()).starts_with(why), "{with}");
    }
    let deep = "[".repeat(10_000);
    for body in ["", "[]", "{", "{} {}", "\u{0}", &deep] {
        let found = read("r", body.as_bytes(), &Mask::of(&route("")), now());
        assert_eq!(found, Err("the body is not a JSON object".to_owned()), "{body:.9}");
    }
    assert!(read_with(json!({"ended_at": at(300).to_string()})).is_ok());
}

#[test]
fn texts_are_bounded_on_one_line_and_without_secrets() {
    let long = "é".repeat(5_000);
    let run = run(json!({
        "outcome": "failed", "session": long, "answer": format!(" a\n\u{1b}[2Jb{long}"),
        "error": {"message": format!("401 for {SECRET}")},
    }));
    assert_eq!(run.session.chars().count(), LONGEST_SESSION);
    assert!(run.answer.starts_with("a  [2Jbé") && run.answer.chars().count() == LONGEST_TEXT);
    assert_eq!(run.error, "401 for (secret)");
    let command = self::run(json!({"outcome": "command", "command": "x".repeat(900)})).command;
    assert_eq!(command.len(), LONGEST_COMMAND);
}

#[test]
fn only_the_routes_secrets_sign_a_report_and_only_in_time() {
    let (config, body) = (config(""), b"{}");
    let is_genuine = |secret: &str, age: i64, named: &str| {
        let sent = Timestamp::from_second(now().as_second() - age).unwrap();
        let (time, signature) = (sent.as_second().to_string(), sign(&secret.into(), "r", sent, body));
        let header = |name: &str| match name {
            ID => Some("r"),
            TIMESTAMP => Some(time.as_str()),
            SIGNATURE => Some(signature.as_str()),
            _ => None,
        };
        let signed = Signed::parse(header).unwrap();
        is_genuine(&config, config.route("acme", named).map(AsRef::as_ref), &signed, body, now())
    };
    assert!(is_genuine(SECRET, 0, "video") && is_genuine(SECRET, 300, "video"));
    assert!(!is_genuine(SECRET, 301, "video") && !is_genuine(SECRET, -301, "video"));
    assert!(!is_genuine("other", 0, "video"));
    for secret in [SECRET, "no route's", ""] {
        assert!(!is_genuine(secret, 0, "unknown"), "{secret}");
    }
    assert!(!is_genuine("no route's", 0, "video"), "the stand-in is no secret");
}

#[test]
fn a_later_end_or_a_newer_generation_replaces_and_nothing_else_does() {
    let run =
        |generation, seconds| Run { generation, ended_at: Some(to_proto(at(seconds))), ..Run::default() };
    assert!(replaces(None, &run(1, 0)));
    for (known, new, expected) in [
        (run(1, 5), run(1, 6), true),
        (run(1, 5), run(2, 6), true),
        (run(1, 5), run(2, 4), true),
        (run(1, 5), run(1, 5), false),
        (run(1, 5), run(1, 4), false),
        (run(2, 5), run(1, 9), false),
    ] {
        assert_eq!(replaces(Some(&known), &new), expected, "{known:?} {new:?}");
    }
}

#[test]
fn a_generation_was_sent_once_its_attempt_was_begun() {
    let delivery = |generation, attempts| Delivery { generation, attempts, ..Delivery::default() };
    let attempt = |generation| Attempt { generation, ..Attempt::default() };
    assert!(!was_sent(&delivery(1, 0), &[], false, 1), "planned");
    assert!(was_sent(&delivery(1, 0), &[], true, 1), "under way");
    assert!(was_sent(&delivery(1, 1), &[attempt(1)], false, 1));
    assert!(was_sent(&delivery(2, 1), &[attempt(1)], false, 1));
    assert!(!was_sent(&delivery(2, 1), &[attempt(1)], false, 2), "replayed, and not sent yet");
    assert!(!was_sent(&delivery(2, 1), &[attempt(1)], true, 3));
    assert!(was_sent(&delivery(2, 3), &[], false, 2), "carried without its attempts");
    assert!(!was_sent(&delivery(2, 3), &[], false, 3));
}

#[test]
fn a_run_is_overdue_after_the_time_of_its_route() {
    let delivered = Delivery {
        state: DeliveryState::Delivered.into(),
        generation: 2,
        updated_at: Some(to_proto(now())),
        ..Delivery::default()
    };
    let hour = Some(Duration::from_secs(3_600));
    let is_overdue =
        |delivery: &Delivery, keys: &str, seconds| overdue(delivery, Some(&route(keys)), at(seconds));
    assert_eq!(is_overdue(&delivered, "runs: 1h", 3_601), hour);
    assert_eq!(is_overdue(&delivered, "runs: 1h", 3_600), None);
    assert_eq!(is_overdue(&delivered, "", 9_999), None, "off by default");
    assert_eq!(is_overdue(&delivered, "runs: off", 9_999), None);
    assert_eq!(overdue(&delivered, None, at(9_999)), None, "not configured any more");
    let of = |generation| Delivery { run: Some(Run { generation, ..Run::default() }), ..delivered.clone() };
    assert_eq!(is_overdue(&of(2), "runs: 1h", 9_999), None);
    assert_eq!(is_overdue(&of(1), "runs: 1h", 9_999), hour, "a run of an earlier generation");
    let waits = Delivery { state: DeliveryState::Waiting.into(), ..delivered };
    assert_eq!(is_overdue(&waits, "runs: 1h", 9_999), None);
}

#[test]
fn a_run_is_described_in_one_clause() {
    for (with, text) in [
        (json!({}), "run finished"),
        (json!({"duration_ms": 41_000}), "run finished in 41 s"),
        (json!({"outcome": "failed"}), "run failed"),
        (json!({"outcome": "failed", "duration_ms": 3_000}), "run failed after 3.0 s"),
        (json!({"outcome": "failed", "error": {"status": 401}}), "run failed: 401"),
        (
            json!({"outcome": "failed", "error": {"message": "no key", "status": 401}}),
            "run failed: 401 no key",
        ),
        (json!({"outcome": "interrupted", "duration_ms": 3_000}), "run interrupted after 3.0 s"),
        (
            json!({"outcome": "command", "command": "help"}),
            "the prompt was taken as the command /help: a fault of the guard",
        ),
    ] {
        assert_eq!(describe_run(&run(with.clone())), text, "{with}");
    }
    let within = |seconds| Some(duration_to_proto(Duration::from_secs(seconds)));
    let delivery =
        |generation, run, run_overdue| Delivery { generation, run, run_overdue, ..Delivery::default() };
    let finished = Some(run(json!({})));
    assert_eq!(describe_run_of(&delivery(1, None, None)), None);
    assert_eq!(describe_run_of(&delivery(1, finished.clone(), None)).unwrap(), "run finished");
    assert_eq!(describe_run_of(&delivery(1, None, within(3_600))).unwrap(), "no run reported within 1 h");
    assert_eq!(
        describe_run_of(&delivery(2, finished.clone(), within(90))).unwrap(),
        "no run reported within 90 s"
    );
    assert_eq!(
        describe_run_of(&delivery(2, finished, None)).unwrap(),
        "before it was sent again: run finished"
    );
}
