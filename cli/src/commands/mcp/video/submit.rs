//! `video_submit`: submits a job, at most once for each request id.

use super::{NAME, head};
use crate::{
    Failure,
    commands::{
        mcp::{Relay, answer::Answer, read, refused::Refused},
        submit::says_that_nothing_was_made,
    },
    print::job::has_ended,
    select,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{collections::HashMap, error::Error as _};
use talaria_proto::v1::{JobState, Reference, ReferenceKind, SubmitJobRequest, VideoRequest};
use tonic::{Code, Status};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::commands::mcp) struct Submit {
    tenant: Option<String>,
    model: String,
    prompt: Option<String>,
    duration: Option<u32>,
    resolution: Option<String>,
    aspect_ratio: Option<String>,
    size: Option<String>,
    first_frame: Option<String>,
    last_frame: Option<String>,
    #[serde(default)]
    references: Vec<After>,
    generate_audio: Option<bool>,
    seed: Option<i64>,
    provider_options: Option<Map<String, Value>>,
    upscale_factor: Option<f64>,
    creativity: Option<i32>,
    #[serde(default)]
    context: HashMap<String, Plain>,
    route: Option<String>,
    request_id: Option<String>,
}

/// A reference.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    kind: KindOf,
    url: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindOf {
    Image,
    Audio,
    Video,
}

/// A value of a context. Ids of chats are often written as numbers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Plain {
    Text(String),
    Number(serde_json::Number),
    Flag(bool),
    Missing(()),
}

pub(in crate::commands::mcp) async fn submit(
    relay: &Relay,
    arguments: Map<String, Value>,
) -> Result<String, Refused> {
    let asked: Submit = read(arguments)?;
    let (tenant, route) =
        select::tenant_and_route(&relay.config, asked.tenant.as_deref(), asked.route.as_deref())?;
    let request_id =
        asked.request_id.clone().unwrap_or_else(|| format!("{NAME}-{:032x}", rand::random::<u128>()));
    let request = SubmitJobRequest {
        tenant,
        request_id: request_id.clone(),
        context: context(&asked.context),
        route,
        requested_by: NAME.to_owned(),
        without_estimate: false,
        video: Some(video(asked)),
    };
    let mut jobs = relay.submits().await?;
    let submitted =
        jobs.submit_job(request).await.map_err(|status| not_submitted(status, &request_id))?.into_inner();
    let job = submitted.job.unwrap_or_default();
    if job.state() == JobState::Refused {
        let words = if job.reason.is_empty() {
            "no job was made".to_owned()
        } else {
            format!("no job was made: {}", job.reason)
        };
        let advice = if job.try_again {
            format!("call video_submit again in a minute, with the same request_id: {request_id}")
        } else {
            format!("correct the arguments, or tell the user; request_id {request_id} may be used again.")
        };
        return Err(Refused::Relays { words, advice });
    }
    let mut answer = Answer::new();
    if submitted.known {
        answer.add("The job was known by its request id: nothing was sent, and nothing is charged again.");
    }
    head(&mut answer, &job);
    answer.add(match job.state() {
        JobState::Unknown | JobState::Submitting => {
            "OpenRouter may have made the job; its answer is not known yet. Do not submit it again under another request_id: \
             video_status shows what became of it."
        }
        state if has_ended(state) => "It has ended.",
        _ => "Its result is delivered by itself when it ends, in minutes. video_status shows its state meanwhile.",
    });
    Ok(answer.finish(""))
}

fn video(asked: Submit) -> VideoRequest {
    let reference = |After { kind, url }| {
        let kind = match kind {
            KindOf::Image => ReferenceKind::Image,
            KindOf::Audio => ReferenceKind::Audio,
            KindOf::Video => ReferenceKind::Video,
        };
        Reference { kind: kind.into(), url }
    };
    VideoRequest {
        model: asked.model,
        prompt: asked.prompt.unwrap_or_default(),
        duration: asked.duration,
        resolution: asked.resolution.unwrap_or_default(),
        aspect_ratio: asked.aspect_ratio.unwrap_or_default(),
        size: asked.size.unwrap_or_default(),
        first_frame: asked.first_frame.unwrap_or_default(),
        last_frame: asked.last_frame.unwrap_or_default(),
        references: asked.references.into_iter().map(reference).collect(),
        generate_audio: asked.generate_audio,
        seed: asked.seed,
        provider_options: asked.provider_options.map_or_else(String::new, |it| Value::from(it).to_string()),
        upscale_factor: asked.upscale_factor,
        creativity: asked.creativity,
    }
}

/// The values for templates. A chat without a thread has an empty one: a value that is missing would leave its token in braces, and
/// Hermes would look for a thread of that name.
fn context(given: &HashMap<String, Plain>) -> HashMap<String, String> {
    let text = |value: &Plain| match value {
        Plain::Text(text) => text.clone(),
        Plain::Number(number) => number.to_string(),
        Plain::Flag(flag) => flag.to_string(),
        Plain::Missing(()) => String::new(),
    };
    let mut context: HashMap<_, _> = given.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    if context.contains_key("chat_id") {
        context.entry("thread_id".to_owned()).or_default();
    }
    context
}

/// Says whether a job may have been made, and how to ask again.
fn not_submitted(status: Status, request_id: &str) -> Refused {
    // A status that the relay sent has no source.
    let (code, is_from_relay) = (status.code(), status.source().is_none());
    let failure = Failure::from(status);
    let again = format!(
        "call video_submit again with the same arguments and request_id {request_id}, which is never a second job"
    );
    let advice = match (code, &failure) {
        (Code::AlreadyExists, _) => "repeat the first request as it was, or choose another request_id for another job.".to_owned(),
        (Code::ResourceExhausted, _) => {
            "no job was made. A shorter or smaller video may fit the budget, and a size of the model instead of resolution and \
             aspect_ratio may make a cost known; otherwise tell the user."
                .to_owned()
        }
        (Code::Unavailable, Failure::Unreachable(why)) if is_from_relay && says_that_nothing_was_made(why) => {
            format!("no job was made: {again}.")
        }
        (Code::DeadlineExceeded, _) | (_, Failure::Unreachable(_)) => {
            format!("a job may have been made: {again}.")
        }
        _ => return failure.into(),
    };
    Refused::with(&failure, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(arguments: Value) -> Result<Submit, String> {
        let Value::Object(arguments) = arguments else { panic!() };
        read(arguments).map_err(|refused| refused.text())
    }

    #[test]
    fn a_chat_has_a_thread_even_if_it_has_none() {
        let given =
            asked(json!({"model": "m", "context": {"chat_id": -100_123, "platform": "telegram"}})).unwrap();
        let context = context(&given.context);
        assert_eq!(context["chat_id"], "-100123");
        assert_eq!((context["platform"].as_str(), context["thread_id"].as_str()), ("telegram", ""));
        let given = asked(json!({"model": "m", "context": {"chat_id": "1", "thread_id": 7}})).unwrap();
        assert_eq!(super::context(&given.context)["thread_id"], "7");
        assert!(super::context(&asked(json!({"model": "m"})).unwrap().context).is_empty());
    }

    #[test]
    fn a_request_has_what_was_given_and_nothing_else() {
        let given = json!({"model": "m", "prompt": "p", "duration": 6, "generate_audio": false, "seed": null,
            "provider_options": {"x": {"negativePrompt": "rain"}}, "references": [{"kind": "audio", "url": "https://h/a"}]});
        let video = video(asked(given).unwrap());
        assert_eq!((video.duration, video.generate_audio, video.seed), (Some(6), Some(false), None));
        assert_eq!(video.provider_options, "{\"x\":{\"negativePrompt\":\"rain\"}}");
        assert_eq!(video.references[0].kind(), ReferenceKind::Audio);
        assert!(video.size.is_empty());
        for (wrong, says) in [
            (json!({}), "missing field `model`"),
            (
                json!({"model": "m", "without_estimate": true}),
                "unknown field `without_estimate`, expected one of",
            ),
            (json!({"model": "m", "duration": "long"}), "invalid type"),
            (json!({"model": "m", "references": [{"kind": "smell", "url": "u"}]}), "unknown variant `smell`"),
        ] {
            let said = asked(wrong).unwrap_err();
            assert!(said.contains(says) && said.contains("call again"), "{says}: {said}");
        }
    }

    #[test]
    fn a_lost_answer_is_no_reason_for_another_id() {
        for (status, says) in [
            (
                Status::unavailable("no ingress answers, and no job was made"),
                "Next step: no job was made: call video_submit again",
            ),
            (
                Status::unavailable("it may still be done"),
                "Next step: a job may have been made: call video_submit again",
            ),
            (Status::deadline_exceeded("too late"), "a job may have been made"),
            (Status::already_exists("another request"), "choose another request_id"),
            (Status::resource_exhausted("the budget"), "tell the user"),
            (Status::invalid_argument("duration is 5"), "correct the arguments"),
            (Status::permission_denied("scope read"), "TALARIA_TOKEN_FILE"),
        ] {
            let said = not_submitted(status, "r-1").text();
            assert!(said.contains(says), "{says}: {said}");
        }
    }
}
