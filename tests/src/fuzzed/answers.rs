//! OpenRouter's answers to submits, polls and the question for models.

use super::split_line;
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{json::parse, openrouter::event::Envelope};
use talaria_openrouter::{
    Again, Hidden, Job, Reading, Try, check, find, is_job_id, read_models, read_poll, read_submit,
};
use talaria_outbound::{Answer, CutShort, Exchange};
use talaria_proto::v1::{Model, VideoRequest};

const KEY: &str = "sk-or-v1-never-to-be-shown";
const PROMPT: &str = "a lighthouse at dusk, seen from a small boat";
const URL: &str = "https://hooks.example.com/callbacks/me/abc234";
const JOB: Job<'static> = Job { id: "gen-vid-1790000000-Ab3dEf6hIj9kLm2nOp5q", model: "google/veo-3.1" };

/// No message is longer, in characters. The longest of ours has about 100 beside the quoted text.
const LONGEST_MESSAGE: usize = 400;

/// Reads bytes as an answer in each way that an answer is read. The first line has the status, and may have the seconds of
/// Retry-After and the word "cut"; the rest is the body.
pub fn answers(data: &[u8]) {
    let (head, body) = split_line(data);
    let head = String::from_utf8_lossy(head);
    let mut words = head.split(' ');
    let status = words.next().and_then(|status| status.parse().ok()).unwrap_or(200);
    let rest: Vec<&str> = words.collect();
    let answer = Answer {
        status,
        retry_after: rest.iter().find_map(|word| word.parse().ok()).map(Duration::from_secs),
        body: body.to_vec(),
        cut_short: rest.contains(&"cut").then(|| CutShort::BrokenOff("reset".into())),
        ..Answer::default()
    };
    submit(&answer);
    poll(&answer);
    models(body);
}

fn hidden() -> Hidden<'static> {
    Hidden { texts: vec![KEY, URL], prompt: PROMPT }
}

/// Whether OpenRouter carried the request out, and its answer came whole.
fn is_whole_success(answer: &Answer) -> bool {
    (200..300).contains(&answer.status) && answer.cut_short.is_none()
}

/// A refusal is certain that there is no job. So neither a success, however odd, nor a failure within OpenRouter is one.
fn submit(answer: &Answer) {
    match read_submit(&Exchange::Answered(answer.clone()), &hidden()) {
        Try::Made { id, status } => {
            assert!(is_whole_success(answer) && is_job_id(&id), "{answer:?}");
            assert!((1..=64).contains(&status.len()) && status.is_ascii(), "{status:?}");
        }
        Try::Refused { why, again } => {
            let status = answer.status;
            assert!((400..500).contains(&status) && status != 408 || status == 503, "{answer:?}");
            assert!(again == Again::Never || [402, 429, 503].contains(&status), "{answer:?}");
            shown(&why);
        }
        Try::Unknown { why } => shown(&why),
    }
}

/// Only a whole answer about this very job ends it or lets it go on, and its end is the event that a callback would be.
fn poll(answer: &Answer) {
    let polling = read_poll(JOB, &Exchange::Answered(answer.clone()), Timestamp::UNIX_EPOCH, &hidden());
    match polling.reading {
        Reading::Running { status } => {
            assert!(is_about_the_job(answer), "{answer:?}");
            assert!((1..=64).contains(&status.len()) && status.is_ascii(), "{status:?}");
        }
        Reading::Ended(terminal) => {
            assert!(is_about_the_job(answer), "{answer:?}");
            let event = Envelope::read(&terminal.payload).expect("the payload of an end is an event");
            assert_eq!((event.job_id.as_str(), event.model.as_deref()), (JOB.id, Some(JOB.model)));
            assert_eq!(event.event_type, terminal.event_type);
            assert_eq!(format!("video.generation.{}", event.status), event.event_type);
            assert!(event.status == "completed" || event.error.is_some(), "an end has its reason");
        }
        Reading::NotFound { message } => {
            assert_eq!(answer.status, 404);
            shown(&message);
        }
        Reading::Denied { message } => {
            assert!([401, 403].contains(&answer.status), "{answer:?}");
            shown(&message);
        }
        Reading::Failed { message } => shown(&message),
    }
}

fn is_about_the_job(answer: &Answer) -> bool {
    let Ok(document) = parse(&answer.body) else { return false };
    let id = document.root().get("id");
    is_whole_success(answer) && id.is_none_or(|id| id.as_str() == Some(JOB.id))
}

/// Each model is found by its id, and an estimate is never below nothing.
fn models(body: &[u8]) {
    let Ok(models) = read_models(body) else { return };
    for model in models.iter().take(20) {
        assert!(find(&models, &model.id).is_ok(), "{model:?}");
        let listed = Model::from(model);
        assert!(listed.second_micros_from <= listed.second_micros_to, "{listed:?}");
        assert!(listed.durations.is_sorted(), "{listed:?}");
        let first = |values: &[String]| values.first().cloned().unwrap_or_default();
        let video = VideoRequest {
            model: model.id.clone(),
            prompt: PROMPT.into(),
            duration: listed.durations.first().copied(),
            resolution: first(&listed.resolutions),
            aspect_ratio: first(&listed.aspect_ratios),
            ..VideoRequest::default()
        };
        let estimate = check(model, &video).ok().flatten();
        assert!(estimate.is_none_or(|micros| micros >= 0), "{model:?}: {estimate:?}");
    }
}

/// A message is short, shows no control characters, and repeats nothing of the request.
fn shown(message: &str) {
    assert!(message.chars().count() <= LONGEST_MESSAGE, "{message}");
    assert!(!message.chars().any(char::is_control), "{message:?}");
    for secret in [KEY, URL, PROMPT] {
        assert!(!message.contains(secret), "{message}");
    }
}
