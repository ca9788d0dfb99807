use super::*;
use proptest::prelude::*;
use talaria_core::{
    id::EventId,
    openrouter::{documented, event::Envelope},
};
use talaria_outbound::CutShort;

const JOB: Job<'static> = Job { id: "abc123", model: "google/veo-3.1" };

fn now() -> Timestamp {
    "2026-04-24T12:00:00Z".parse().unwrap()
}

fn answered(status: u16, body: &str) -> Reading {
    let answer = Answer { status, body: body.into(), ..Answer::default() };
    read(JOB, &Exchange::Answered(answer), now(), &Hidden::default()).reading
}

fn terminal(body: &str) -> Terminal {
    match answered(200, body) {
        Reading::Ended(terminal) => terminal,
        other => panic!("{other:?}"),
    }
}

/// The answer to a poll that says the same as a callback's data.
fn polled(data: &str) -> String {
    data.replacen('{', r#"{"polling_url":"/api/v1/videos/abc123","#, 1)
}

#[test]
fn the_payload_of_an_end_is_that_of_its_callback() {
    let poll = polled(
        r#"{"id":"abc123","status":"completed","generation_id":"gen-xyz789",
          "unsigned_urls":["https://openrouter.ai/api/v1/videos/abc123/content?index=0"],
          "usage":{"cost":0.5,"is_byok":false},"urls":["https://storage.example.com/a-secret"]}"#,
    );
    let terminal = terminal(&poll);
    assert_eq!(
        (terminal.status.as_str(), terminal.event_type.as_str()),
        ("completed", "video.generation.completed")
    );
    let (ours, documented) =
        (parse(&terminal.payload).unwrap(), parse(documented::COMPLETED.as_bytes()).unwrap());
    assert!(ours.root().python_eq(documented.root()), "{}", String::from_utf8_lossy(&terminal.payload));
}

#[test]
fn an_end_with_an_error_says_it_as_a_text() {
    for (status, error, event_type, expected) in [
        ("failed", r#","error":"no faces""#, "video.generation.failed", "no faces"),
        ("failed", r#","error":{"code":1,"message":"no faces"}"#, "video.generation.failed", "no faces"),
        ("failed", r#","error":{"code":1}"#, "video.generation.failed", r#"{"code": 1}"#),
        (
            "cancelled",
            r#","error":null"#,
            "video.generation.cancelled",
            "OpenRouter says that the job is cancelled, and not why",
        ),
        ("expired", "", "video.generation.expired", "OpenRouter says that the job is expired, and not why"),
        ("dead", "", "video.generation.failed", "OpenRouter says that the job is dead, and not why"),
    ] {
        let terminal = terminal(&format!(r#"{{"id":"abc123","status":"{status}"{error},"usage":null}}"#));
        assert_eq!((terminal.status.as_str(), terminal.event_type.as_str()), (status, event_type));
        let envelope = Envelope::read(&terminal.payload).unwrap();
        assert_eq!(envelope.error.as_deref(), Some(expected));
        assert_eq!(format!("video.generation.{}", envelope.status), event_type);
    }
}

#[test]
fn a_model_that_is_not_known_is_null() {
    let answer = Answer { status: 200, body: br#"{"status":"completed"}"#.into(), ..Answer::default() };
    let job = Job { id: "j", model: "" };
    let Reading::Ended(terminal) = read(job, &Exchange::Answered(answer), now(), &Hidden::default()).reading
    else {
        panic!()
    };
    assert_eq!(
        String::from_utf8(terminal.payload).unwrap(),
        r#"{"type": "video.generation.completed", "created_at": "2026-04-24T12:00:00.000Z", "data": {"id": "j", "status": "completed", "generation_id": null, "model": null}}"#
    );
}

#[test]
fn a_status_that_is_not_known_runs_on() {
    for status in ["pending", "in_progress", "validating", "canceled", "COMPLETED"] {
        let running = Reading::Running { status: status.into() };
        assert_eq!(answered(200, &format!(r#"{{"id":"abc123","status":"{status}"}}"#)), running);
    }
}

#[test]
fn other_answers_end_no_job() {
    let failed = |message: &str| Reading::Failed { message: message.into() };
    for (status, body, expected) in [
        (200, r#"{"id":"other","status":"completed"}"#, failed("OpenRouter answered about another job")),
        (200, r#"{"id":7,"status":"completed"}"#, failed("OpenRouter answered about another job")),
        (200, r#"{"id":"abc123"}"#, failed("OpenRouter answered without a status")),
        (200, r#"{"id":"abc123","status":"a b"}"#, failed("OpenRouter answered without a status")),
        (200, "<html>", failed("OpenRouter answered 200 with a page instead of JSON")),
        (200, "", failed("OpenRouter answered 200 with an empty body")),
        (
            404,
            r#"{"error":{"message":"Job abc123 not found","code":404}}"#,
            Reading::NotFound {
                message: "OpenRouter does not know the job (404): Job abc123 not found".into(),
            },
        ),
        (404, "<html>", failed("OpenRouter gave no status of the job (404, with a page instead of JSON)")),
        (
            401,
            r#"{"error":{"message":"User not found.","code":401}}"#,
            Reading::Denied {
                message: "OpenRouter refuses the key (401): User not found; compare openrouter.api_key"
                    .into(),
            },
        ),
        (
            302,
            "",
            failed(
                "OpenRouter's answer is a redirect (302), which is not followed; compare openrouter.base_url",
            ),
        ),
        (500, r#"{"error":"down"}"#, failed("OpenRouter gave no status of the job (500): down")),
    ] {
        assert_eq!(answered(status, body), expected, "{status} {body}");
    }
    let cut = Answer {
        status: 200,
        body: br#"{"id":"abc123","status":"completed"}"#.into(),
        cut_short: Some(CutShort::BrokenOff("reset".into())),
        ..Answer::default()
    };
    let reading = read(JOB, &Exchange::Answered(cut), now(), &Hidden::default()).reading;
    assert_eq!(reading, failed("OpenRouter answered 200 with a body that broke off"));
    let not_sent = read(JOB, &Exchange::NotSent("no route".into()), now(), &Hidden::default()).reading;
    assert_eq!(not_sent, failed("OpenRouter cannot be asked: no route"));
}

#[test]
fn a_pause_that_openrouter_names_comes_along() {
    let retry_after = Some(Duration::from_secs(30));
    let busy = Answer { status: 429, retry_after, ..Answer::default() };
    assert_eq!(read(JOB, &Exchange::Answered(busy), now(), &Hidden::default()).retry_after, retry_after);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{1,20}", "[a-zA-Z0-9_-]{1,20}"]
}

proptest! {
    #[test]
    fn no_answer_panics(status in 100_u16..1000, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let answer = Answer { status, body, ..Answer::default() };
        read(JOB, &Exchange::Answered(answer), now(), &Hidden::default());
    }

    /// A poll and the callback of the same end are the same event, and its payload says the same.
    #[test]
    fn an_end_is_the_event_of_its_callback(
        id in "[!-~]{1,40}", model in prop::option::of(text()), generation in prop::option::of(text()),
        urls in prop::collection::vec(text(), 0..3), error in prop::option::of(text()),
        status in prop::sample::select(vec!["completed", "failed", "cancelled", "expired"]), micros in 0_i64..100_000_000,
    ) {
        let is_completed = status == "completed";
        let error = error.filter(|error| !error.trim().is_empty()).unwrap_or_else(|| "why".into());
        let mut data = serde_json::json!({
            "id": id, "status": status, "generation_id": generation, "model": model,
            "usage": {"cost": f64::from(u32::try_from(micros).unwrap()) / 1e6, "is_byok": false},
        });
        if is_completed {
            data["unsigned_urls"] = serde_json::json!(urls);
        } else {
            data["error"] = serde_json::json!(error);
        }
        let event_type = format!("video.generation.{status}");
        let callback = serde_json::json!({"type": event_type, "created_at": "2026-04-24T12:00:00.000Z", "data": data});
        let mut poll = data;
        poll.as_object_mut().unwrap().remove("model");
        let answer = Answer { status: 200, body: poll.to_string().into_bytes(), ..Answer::default() };
        let job = Job { id: &id, model: model.as_deref().unwrap_or_default() };
        let Reading::Ended(terminal) = read(job, &Exchange::Answered(answer), now(), &Hidden::default()).reading else { panic!() };
        let ours = Envelope::read(&terminal.payload).unwrap();
        let theirs = Envelope::read(callback.to_string().as_bytes()).unwrap();
        let event = |envelope: &Envelope| EventId::new("me", &envelope.job_id, &envelope.event_type).to_string();
        prop_assert_eq!(event(&ours), event(&theirs));
        prop_assert_eq!(ours, theirs);
    }
}
